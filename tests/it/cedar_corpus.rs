//! Cedar's own test cases, through the slices that every decision goes through, and through Cedar's own authorizer beside them.
//!
//! The cases are the Cedar project's: a few written by hand, many found by fuzzing. Our rules about bundles are bypassed, and so is
//! our one deliberate difference, because both stand before and after this function.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use cedar_policy::{Context, Entities, EntityUid, PolicySet, Request, Schema};
use policy_engine::evaluate::cedar::{Slices, evaluate};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    policies: String,
    entities: String,
    schema: String,
    requests: Vec<CaseRequest>,
}

#[derive(Deserialize)]
struct CaseRequest {
    principal: serde_json::Value,
    action: serde_json::Value,
    resource: serde_json::Value,
    context: serde_json::Value,
    #[serde(rename = "validateRequest", default = "yes")]
    validate: bool,
    decision: String,
    reason: Vec<String>,
    errors: Vec<String>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    cases: usize,
    requests: usize,
    allowed: usize,
    erring: usize,
}

/// Runs one case; `text` finds a file of it.
fn run(name: &str, case: &str, text: impl Fn(&str) -> String, counts: &mut Counts) {
    let case: Case = serde_json::from_str(case).unwrap();
    let (schema, _) = Schema::from_cedarschema_str(&text(&case.schema)).unwrap();
    let policies = PolicySet::from_str(&text(&case.policies)).unwrap();
    let entities = Entities::from_json_str(&text(&case.entities), Some(&schema)).unwrap();
    let slices = Slices::new(&policies);
    counts.cases += 1;
    for (index, asked) in case.requests.into_iter().enumerate() {
        let uid = |json| EntityUid::from_json(json).unwrap();
        let action = uid(asked.action);
        let context = Context::from_json_value(asked.context, Some((&schema, &action))).unwrap();
        let validated = asked.validate.then_some(&schema);
        let (principal, resource) = (uid(asked.principal), uid(asked.resource));
        let request = Request::new(principal, action, resource, context, validated).unwrap();
        let answer = slices.answer(&entities, &request);
        assert_eq!(
            answer,
            evaluate(&policies, &entities, &request),
            "{name}, request {index}"
        );
        let sorted = |mut ids: Vec<String>| {
            ids.sort_unstable();
            ids
        };
        let place = format!("{name}, request {index}");
        assert_eq!(
            answer.is_allow,
            asked.decision == "allow",
            "{place}: decision"
        );
        assert_eq!(
            answer.determining,
            sorted(asked.reason),
            "{place}: determining policies"
        );
        assert_eq!(
            answer.erring,
            sorted(asked.errors),
            "{place}: erring policies"
        );
        counts.requests += 1;
        counts.allowed += usize::from(answer.is_allow);
        counts.erring += usize::from(!answer.erring.is_empty());
    }
}

/// The vectors, if they are beside the repository.
fn vectors() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/vectors/cedar");
    if !path.is_dir() {
        eprintln!("SKIPPED: Cedar's test cases are not at ../shared/data/vectors/cedar");
        return None;
    }
    Some(path)
}

#[test]
fn cases_written_by_hand_are_decided_as_cedar_decides_them() {
    let Some(vectors) = vectors() else { return };
    let mut counts = Counts::default();
    let mut paths = Vec::new();
    for folder in std::fs::read_dir(vectors.join("tests")).unwrap() {
        let files = std::fs::read_dir(folder.unwrap().path()).unwrap();
        paths.extend(files.map(|file| file.unwrap().path()));
    }
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    paths.sort_unstable();
    for path in paths {
        let case = std::fs::read_to_string(&path).unwrap();
        let text = |file: &str| std::fs::read_to_string(vectors.join(file)).unwrap();
        run(&path.display().to_string(), &case, text, &mut counts);
    }
    assert_eq!((counts.cases, counts.requests), (22, 74), "{counts:?}");
    println!("{counts:?}");
}

#[test]
fn cases_found_by_fuzzing_are_decided_as_cedar_decides_them() {
    let Some(vectors) = vectors() else { return };
    let packed = std::fs::File::open(vectors.join("corpus.tar.gz")).unwrap();
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(packed))
        .entries()
        .unwrap()
    {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let name = name.to_owned();
        let mut text = String::new();
        if entry.header().entry_type().is_file() {
            entry.read_to_string(&mut text).unwrap();
            files.insert(name, text);
        }
    }
    let mut counts = Counts::default();
    for (name, case) in &files {
        if name.ends_with(".json") && !name.ends_with(".entities.json") {
            let text = |path: &str| files[path.rsplit('/').next().unwrap()].clone();
            run(name, case, text, &mut counts);
        }
    }
    let expected = Counts {
        cases: 1_968,
        requests: 15_744,
        allowed: 9_444,
        erring: 936,
    };
    assert_eq!(counts, expected);
}
