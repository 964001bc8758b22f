//! Real manifests and real arguments: the tools of AgentDojo, and what its tasks call them with.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use dogwood_language::{LoweredPolicySet, PolicySchema, ServiceSchema, Validator};
use policy_engine::{Bundle, Diagnostic, Json, Severity, Value};

const HEADER: &[u8] =
    b"name = \"agentdojo\"\nhistory = \"agent\"\n[[manifest]]\nfile = \"manifest.json\"\n";

/// A file of the data that others made, which is not part of this repository.
fn shared(path: &str) -> Option<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let content = fs::read(folder.join(path)).ok();
    if content.is_none() {
        eprintln!("SKIPPED: ../shared/data/{path} is absent");
    }
    content
}

fn bundle(manifest: Vec<u8>) -> Result<Bundle, Vec<Diagnostic>> {
    Bundle::from_files(BTreeMap::from([
        ("bundle.toml".to_owned(), HEADER.to_vec()),
        ("manifest.json".to_owned(), manifest),
    ]))
}

#[test]
fn every_tool_of_agentdojo_becomes_an_action_that_cedar_and_dogwood_accept() {
    let Some(manifest) = shared("context/agentdojo_tools.json") else {
        return;
    };
    let bundle = bundle(manifest).unwrap();
    let actions: Vec<&str> = bundle.shapes().iter().map(|(action, _)| action).collect();
    let of = |server: &str| {
        actions
            .iter()
            .filter(|action| action.starts_with(server))
            .count()
    };
    assert_eq!(
        [
            of("banking/"),
            of("slack/"),
            of("travel/"),
            of("workspace/")
        ],
        [11, 11, 28, 24]
    );
    assert_eq!(actions.len(), 74);

    // One property has no exact type: the attachments of the two `send_email` are open objects.
    let warnings: Vec<_> = bundle.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (warning, server) in warnings.iter().zip(["travel", "workspace"]) {
        let about = format!("tool `{server}/send_email` at `/attachments/*`");
        assert!(warning.contains(&about), "{warning}");
    }
    assert!(
        bundle
            .warnings()
            .iter()
            .all(|warning| warning.severity == Severity::Warning)
    );

    let schema = PolicySchema::from_cedarschema_str(&bundle.schema().text).unwrap();
    for action in &actions {
        let rules = format!(
            r#"@id("one") permit(principal, action == Countersign::Action::"{action}", resource)
               when temporal {{ formerly within 1h Countersign::Action::"{action}"::request{{ }} }};"#
        );
        let lowered =
            LoweredPolicySet::from_str(&rules, &ServiceSchema::defaults(), &schema).unwrap();
        let result = Validator::new().validate(&lowered);
        assert!(result.validation_passed(), "{action}: {result:?}");
    }
}

/// How many calls of a trace map to values, how many do not, and how many name no tool.
fn map_all(trace: &str) -> Option<[usize; 3]> {
    let bundle = bundle(shared("context/agentdojo_tools.json")?).unwrap();
    let trace = shared(trace)?;
    let [mut mapped, mut mismatched, mut unknown] = [0; 3];
    for line in trace
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let call = Json::parse(line, 1 << 20).unwrap();
        let text = |name| call.get(name).and_then(Json::as_str).unwrap();
        let action = format!("{}/{}", text("suite"), text("tool"));
        let Some(schema) = bundle.shapes().get(&action) else {
            unknown += 1;
            continue;
        };
        match schema.input.map(call.get("args").unwrap()) {
            Ok(value) => {
                assert_eq!(Value::from_bytes(&value.to_bytes()), Ok(value));
                mapped += 1;
            }
            Err(_) => mismatched += 1,
        }
    }
    Some([mapped, mismatched, unknown])
}

#[test]
fn real_arguments_become_values() {
    if let Some(counts) = map_all("traces/agentdojo-gt.jsonl") {
        assert_eq!(counts, [290, 0, 0]);
    }
}

#[test]
fn what_models_get_wrong_is_a_mismatch_and_never_a_crash() {
    if let Some(counts) = map_all("traces/agentdojo-runs.jsonl") {
        // 47 calls have an argument that their tool does not list, 117 more one of the wrong type or miss one.
        assert_eq!(counts, [8_708, 164, 1]);
    }
}
