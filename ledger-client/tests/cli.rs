//! The command line, run as users run it: exit codes, where output goes, and what a mistake is told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const HEADER: &str = "name = \"bank\"\nhistory = \"agent\"\n\n[[manifest]]\nfile = \"tools.json\"\nserver = \"bank\"\n";
const TOOLS: &str = r#"{"tools": [{"name": "pay", "inputSchema": {"type": "object",
  "properties": {"to": {"type": "string"}, "amount": {"type": "integer"}}, "required": ["to", "amount"]}}]}"#;
const RULE: &str = "permit (principal, action == Countersign::Action::\"bank/pay\", resource);\n";

/// A folder of its own for each test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("bundle/rules")).unwrap();
        Self(path)
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.0.join(path), text).unwrap();
    }

    /// A bundle with these rules.
    fn bundle(&self, rules: &str) -> PathBuf {
        self.write("bundle/bundle.toml", HEADER);
        self.write("bundle/tools.json", TOOLS);
        self.write("bundle/rules/pay.cedar", rules);
        self.0.join("bundle")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(arguments: &[&str], path: &Path) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_ledger-client"))
        .args(arguments)
        .arg(path)
        .env_remove("COUNTERSIGN_TRUST")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn a_sound_bundle_passes_check_and_has_one_digest() {
    let folder = Folder::new("sound");
    let bundle = folder.bundle(&format!("@id(\"pay\")\n{RULE}"));
    assert_eq!(
        run(&["policy", "check"], &bundle),
        (0, String::new(), String::new())
    );

    let out = folder.0.join("bank.bundle");
    let out = out.to_str().unwrap();
    let (code, digest, _) = run(&["policy", "pack", "--out", out], &bundle);
    assert_eq!((code, digest.trim().len()), (0, 64));
    let packed = std::fs::read(out).unwrap();
    assert_eq!(
        policy_engine::BundleDigest::of(&packed).to_string(),
        digest.trim()
    );

    let (code, json, _) = run(&["--json", "policy", "pack", "--out", out], &bundle);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json["digest"].as_str().unwrap()), (0, digest.trim()));
    assert_eq!(json["bytes"], packed.len());
}

#[test]
fn a_finding_names_file_line_and_mend() {
    let folder = Folder::new("finding");
    let bundle = folder.bundle(&format!(
        "@id(\"pay\")\n{}",
        RULE.replace("bank/pay", "bank/pai")
    ));
    let (code, text, errors) = run(&["policy", "check"], &bundle);
    assert_eq!((code, errors.as_str()), (3, ""));
    assert!(text.starts_with("rules/pay.cedar:"), "{text}");
    let (code, json, _) = run(&["--json", "policy", "check"], &bundle);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let finding = &json["findings"][0];
    assert_eq!((code, finding["severity"].as_str().unwrap()), (3, "error"));
    assert!(!finding["mend"].as_str().unwrap().is_empty());
}

#[test]
fn missing_ids_are_found_and_fixed() {
    let folder = Folder::new("ids");
    let bundle = folder.bundle(RULE);
    assert_eq!(run(&["policy", "check"], &bundle).0, 3);
    assert_eq!(run(&["policy", "check", "--fix"], &bundle).0, 0);
    let fixed = std::fs::read_to_string(bundle.join("rules/pay.cedar")).unwrap();
    assert!(fixed.starts_with("@id(\"pay-1\")"), "{fixed}");
    assert!(fixed.ends_with(RULE), "{fixed}");
}

#[test]
fn cases_are_run_and_failures_are_shown() {
    let folder = Folder::new("cases");
    let bundle = folder.bundle(&format!("@id(\"pay\")\n{RULE}"));
    let (code, text, _) = run(&["policy", "test"], &bundle);
    assert_eq!((code, text.trim()), (0, "0 cases, 0 failed steps"));
}

#[test]
fn a_failed_step_is_told_as_a_diff() {
    let folder = Folder::new("case-diff");
    let bundle = folder.bundle(&format!("@id(\"pay\")\n{RULE}"));
    std::fs::create_dir_all(bundle.join("tests")).unwrap();
    folder.write(
        "bundle/tests/pay.json",
        r#"{"cases": [{"name": "c", "steps": [{"at_s": 0, "request": {"action": "bank/pay",
            "input": {"to": "x", "amount": 1}}, "expect": {"verdict": "DENY", "rules": ["no"]}}]}]}"#,
    );
    let (code, text, _) = run(&["policy", "test"], &bundle);
    assert_eq!(code, 3);
    assert_eq!(
        text,
        "--- expected\n+++ decided\ntests/pay.json: case \"c\", step 0, bank/pay\n  - verdict DENY\n  + verdict ALLOW\n    \
         reason  ALLOWED_BY_POLICY\n  - rule    no\n  + rule    pay\n1 cases, 1 failed steps\n"
    );
    let (_, json, _) = run(&["--json", "policy", "test"], &bundle);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["failures"][0]["decided"]["rules"][0], "pay");
    assert_eq!(json["failures"][0]["step"], 0);
}

#[test]
fn a_new_bundle_passes_check_and_is_never_half_there() {
    let folder = Folder::new("new");
    folder.write("tools.json", TOOLS);
    let manifest = folder.0.join("tools.json");
    let manifest = manifest.to_str().unwrap();
    let bundle = folder.0.join("mine");
    let new = ["policy", "new", "--manifest", manifest, "--server", "bank"];
    let (code, text, errors) = run(&new, &bundle);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(text.lines().count(), 4, "{text}");
    let (code, text, _) = run(&["policy", "check"], &bundle);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("no rule is about `bank/pay`"), "{text}");
    let (code, text, _) = run(&["policy", "test"], &bundle);
    assert_eq!((code, text.as_str()), (0, "1 cases, 0 failed steps\n"));

    let (code, _, errors) = run(&new, &bundle);
    assert_eq!(code, 2);
    assert!(
        errors.contains("is there already; name a new folder"),
        "{errors}"
    );
    folder.write("tools.json", "{");
    let (code, _, errors) = run(&new, &folder.0.join("other"));
    assert_eq!(code, 64);
    assert!(errors.contains("malformed at line 1"), "{errors}");
    folder.write("tools.json", TOOLS);
    // A file where a folder should be: nothing is left behind.
    let (code, _, errors) = run(&new, &folder.0.join("tools.json/below"));
    assert_eq!(code, 1);
    assert!(errors.contains("cannot be written"), "{errors}");
    let left = std::fs::read_dir(&folder.0).unwrap().count();
    assert_eq!(left, 3, "bundle, mine and tools.json");
}

const TRACE: &str = concat!(
    r#"{"suite":"s","agent":"a","session":"1","tool":"bank/pay","args":{"to":"x","amount":1}}"#,
    "\n",
    r#"{"suite":"s","agent":"a","session":"1","tool":"bank/pay","args":{"to":"x","amount":50}}"#,
    "\n",
    r#"{"suite":"s","agent":"a","session":"2","tool":"bank/pay","args":{"to":"x","amount":2}}"#,
    "\n",
);

#[test]
fn two_bundles_are_compared_on_their_own_pasts() {
    let folder = Folder::new("diff");
    folder.write("trace.jsonl", TRACE);
    let before = folder.bundle(&format!("@id(\"pay\")\n{RULE}"));
    let after = folder.0.join("after");
    std::fs::create_dir_all(after.join("rules")).unwrap();
    folder.write("after/bundle.toml", HEADER);
    folder.write("after/tools.json", TOOLS);
    folder.write(
        "after/rules/pay.dw",
        "@id(\"pay\") permit (principal, action == Countersign::Action::\"bank/pay\", resource)
         when temporal { count_within(1h, Countersign::Action::\"bank/pay\"::allowed{}) < 1 };
         @id(\"small\") forbid (principal, action == Countersign::Action::\"bank/pay\", resource)
         when { context.input.amount > 10 };",
    );
    let trace = folder.0.join("trace.jsonl");
    let trace = trace.to_str().unwrap();
    let before = before.to_str().unwrap();
    let compare = ["policy", "diff", "--traces", trace, before];
    let (code, text, errors) = run(&compare, &after);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(
        text.ends_with("3 actions, 2 decided differently, 0 left out\n"),
        "{text}"
    );
    let (_, json, _) = run(&[&["--json"], compare.as_slice()].concat(), &after);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let changes = json["changes"].as_array().unwrap();
    let places: Vec<_> = changes
        .iter()
        .map(|change| change["place"].clone())
        .collect();
    assert_eq!(places, [2, 3]);
    assert_eq!(changes[0]["after_rules"][0], "small");
    assert_eq!(changes[1]["after_reason"], "NO_MATCHING_PERMIT");
    let rules: Vec<_> = json["by_rule"].as_array().unwrap().iter().collect();
    assert!(
        rules
            .iter()
            .any(|row| row["rule"] == "+small" && row["actions"] == 1),
        "{json}"
    );
    assert!(
        rules
            .iter()
            .any(|row| row["rule"] == "-pay" && row["actions"] == 2),
        "{json}"
    );
    // The same bundle decides the same.
    let (_, text, _) = run(&compare, Path::new(before));
    assert_eq!(text, "3 actions, 0 decided differently, 0 left out\n");
    // Without a past there is nothing to compare.
    assert_eq!(run(&["policy", "diff", before], &after).0, 2);
}

#[test]
fn what_nobody_used_is_named_with_the_tightest_scope() {
    let folder = Folder::new("unused");
    folder.write("trace.jsonl", TRACE);
    let bundle = folder.bundle(&format!(
        "@id(\"pay\")\n{RULE}@id(\"never\") forbid (principal, action, resource) when {{ context.session has purpose && context.session.purpose == \"x\" }};\n"
    ));
    let trace = folder.0.join("trace.jsonl");
    let trace = trace.to_str().unwrap();
    let (code, text, errors) = run(&["policy", "unused", "--traces", trace], &bundle);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(
        text.contains("1 of 2 rules never determined a decision"),
        "{text}"
    );
    let (_, json, _) = run(&["--json", "policy", "unused", "--traces", trace], &bundle);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rules"][0]["rule"], "pay");
    assert_eq!(json["rules"][0]["decisions"], 3);
    assert_eq!(json["rules"][1]["decisions"], 0);
    assert_eq!(json["namespaces"][0]["scope"][0], "bank/pay");
    assert_eq!(
        json["namespaces"][0]["unused_actions"],
        serde_json::json!([])
    );
}

/// A disk without room: no file may become longer than nothing, and standard output is full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_sentence_and_nothing_half_written() {
    let folder = Folder::new("full");
    let bundle = folder.bundle(&format!("@id(\"pay\")\n{RULE}"));
    let before = std::fs::read_dir(&folder.0).unwrap().count();
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_ledger-client"))
        .args(["policy", "pack", "--out"])
        .args([&folder.0.join("bank.bundle"), &bundle])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(
        errors.contains("bank.bundle cannot be written: File too large"),
        "{errors}"
    );
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), before);

    // Standard output on a full disk.
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ledger-client"))
        .args(["policy", "schema"])
        .arg(&bundle)
        .stdout(full)
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors.contains("the output cannot be written: No space left"),
        "{errors}"
    );
}

#[test]
fn the_generated_schema_holds_the_tools() {
    let folder = Folder::new("schema");
    let bundle = folder.bundle(&format!("@id(\"pay\")\n{RULE}"));
    let (code, text, _) = run(&["policy", "schema"], &bundle);
    assert_eq!(code, 0);
    assert!(text.contains("action \"bank/pay\" in [CallTool]"), "{text}");
}

#[test]
fn mistakes_have_their_own_exit_codes() {
    let folder = Folder::new("mistakes");
    let missing = folder.0.join("no such bundle");
    let (code, text, errors) = run(&["policy", "check"], &missing);
    assert_eq!((code, text.as_str()), (64, ""));
    assert!(
        errors.starts_with("ledger-client: ") && errors.contains("cannot be read"),
        "{errors}"
    );

    folder.write("trust.policy", "quorum");
    folder.write("file.evidence", "nothing");
    let (trust, evidence) = (
        folder.0.join("trust.policy"),
        folder.0.join("file.evidence"),
    );
    let (code, _, errors) = run(&["verify", "--trust", trust.to_str().unwrap()], &evidence);
    assert_eq!(code, 64, "{errors}");
    folder.write("trust.policy", "quorum none\n");
    let (code, _, errors) = run(&["verify", "--trust", trust.to_str().unwrap()], &evidence);
    assert_eq!(code, 14, "{errors}");
    assert!(errors.contains("not an evidence file"), "{errors}");
    assert_eq!(run(&["verify"], &evidence).0, 2);
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    let folder = Folder::new("links");
    let bundle = folder.bundle(&format!("@id(\"pay\")\n{RULE}"));
    std::os::unix::fs::symlink("/etc/hostname", bundle.join("rules/link.cedar")).unwrap();
    let (code, _, errors) = run(&["policy", "check"], &bundle);
    assert_eq!(code, 64);
    assert!(
        errors.contains("link.cedar is neither a file nor a folder"),
        "{errors}"
    );
}

#[test]
fn an_explanation_is_read_as_it_is_written_here() {
    let folder = Folder::new("explain");
    let bundle = folder.bundle(
        "@id(\"small\")\npermit (principal, action == Countersign::Action::\"bank/pay\", resource)
when { context.input.amount < 100 && principal.hasTag(\"team\") }
unless { context.input.to == \"mallory\" || principal.getTag(\"team\") == \"x\" };\n",
    );
    folder.write(
        "bundle/rules/cap.dw",
        "@id(\"cap\") permit (principal, action == Countersign::Action::\"bank/pay\", resource)
when temporal { count_within(1h, Countersign::Action::\"bank/pay\"::request{}) < 2 };\n",
    );
    let pay = r#"{"action": "bank/pay", "input": {"to": "mallory", "amount": 500}}"#;
    let cases = format!(
        "{{\"cases\": [{{\"name\": \"twice\", \"steps\": [{{\"at_s\": 0, \"request\": {pay}}}, {{\"at_s\": 5, \"request\": {pay}}}]}}]}}"
    );
    folder.write("cases.json", &cases);
    let file = folder.0.join("cases.json");
    let file = file.to_str().unwrap();
    let (code, out, err) = run(&["policy", "explain", "--cases", file], &bundle);
    assert_eq!((code, err.as_str()), (3, ""), "{out}");
    assert_eq!(out, EXPLAINED);

    let first = [
        "policy", "explain", "--cases", file, "--step", "0", "--json",
    ];
    let (code, out, _) = run(&first, &bundle);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["rules"]), (0, &serde_json::json!(["cap"])));

    for (more, what) in [
        (vec!["--step", "2"], "requests nothing there"),
        (
            vec!["--case", "thrice"],
            "name one of the cases with --case: \"twice\"",
        ),
    ] {
        let arguments = [vec!["policy", "explain", "--cases", file], more].concat();
        let (code, out, err) = run(&arguments, &bundle);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains(what), "{err}");
    }
    folder.write("cases.json", "{\"cases\": [{}]}");
    let (code, _, err) = run(&["policy", "explain", "--cases", file], &bundle);
    assert_eq!(code, 64, "{err}");
    let (code, _, err) = run(&["policy", "explain"], &bundle);
    assert_eq!(code, 2);
    assert!(err.contains("name a file of them with --cases"), "{err}");
}

const EXPLAINED: &str = r#"twice, step 1
DENY: NO_MATCHING_PERMIT
no permit: cap (rules/cap.dw:1)
  FAILS          2: when temporal { count_within(1h, Countersign::Action::"bank/pay"::request{}) < 2 }
no permit: small (rules/pay.cedar:1)
  FAILS          3: when context.input.amount < 100
  FAILS          3: when principal.hasTag("team")
  FAILS          4: unless context.input.to == "mallory"
  NOT_REACHED    4: unless principal.getTag("team") == "x"
permits: 0 held, 2 failed, 0 are about something else
facts read, and who vouches for them:
  context.input.amount = 500: only the agent
  context.input.to = "mallory": only the agent
  principal.getTag("team") is absent: the registry
history counted:
  cap: `temporal { count_within(1h, Countersign::Action::"bank/pay"::request{}) < 2 }` is false
    count of bank/pay::request within 3600 s: 2
"#;
