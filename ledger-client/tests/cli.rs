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
