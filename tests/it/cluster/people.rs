//! Who may act and what stops them: keys, operators, agents, gateways and halts, each told by what it changes for whoever asks
//! next.

use std::collections::BTreeMap;

use countersign_tests::cluster::Cluster;
use countersign_tests::cluster::cli::{Cli, Said};
use countersign_tests::cluster::client::now_us;
use countersign_tests::cluster::people::Actor;
use countersign_tests::kit::{DAY, SECOND};
use ledger_core::id::Identity;
use serde_json::{Value, json};

use super::commands::{fails, one_agent_of_one_node};

/// A ledger with an agent and its owner, who have key files. One node: who may act is no question of how many there are.
pub(super) async fn one_node() -> (Cluster, Cli, Actor) {
    let (cluster, cli, actor) = one_agent_of_one_node().await;
    let _ = cli.key_file("olive.key", &Identity::Operator("olive".to_owned()));
    (cluster, cli, actor)
}

pub(super) fn write(cli: &Cli, name: &str, text: &str) {
    std::fs::write(cli.folder.join(name), text).expect("a file");
}

/// Makes a key, and the enrolment beside it.
fn new_key(cli: &Cli, identity: &str, name: &str) -> Value {
    let key = format!("{name}.key");
    let said = cli.must(&["key", "new", "--identity", identity, "--out", &key]);
    write(cli, &format!("{name}.json"), &said.out);
    said.json()
}

/// Asks to read for the agent, signed with a key.
fn reads(cli: &Cli, actor: &Actor, key: &str) -> Said {
    let session = hex::encode(actor.session.to_vec());
    let who = ["authorize", "--key", key, "--agent", &actor.agent];
    let what = ["--session", &session, "--action", "bank/read", "--json"];
    let input = ["--input", r#"{"doc":"a"}"#];
    cli.run(&[&who[..], &what, &input].concat())
}

/// Demands that reading is decided so, and gives the index of the decision.
fn decides(cli: &Cli, actor: &Actor, key: &str, code: i32, reason: &str) -> u64 {
    let said = reads(cli, actor, key);
    assert_eq!(said.code, code, "{key}: {said:?}");
    let decision = said.json();
    assert_eq!(decision["reason"], reason, "{key}: {said:?}");
    decision["index"].as_u64().expect("an index")
}

fn allows(cli: &Cli, actor: &Actor, key: &str) -> u64 {
    decides(cli, actor, key, 0, "ALLOWED_BY_POLICY")
}

/// Demands that nothing is decided, because the key is not to be used.
fn refuses(cli: &Cli, actor: &Actor, key: &str, why: &str) {
    let said = reads(cli, actor, key);
    assert_eq!(said.code, 8, "{key}: {said:?}");
    assert!(said.err.contains(why), "{key}: no {why}: {said:?}");
    assert_eq!(said.out, "", "{key}");
}

/// What a list says of one: null if it is not in it.
fn listed(cli: &Cli, what: &str, id: &str) -> Value {
    let all = cli.must(&[what, "list", "--json"]).json();
    let rows = all[format!("{what}s")].as_array().expect("rows");
    let found = rows.iter().find(|row| row["id"] == id);
    found.cloned().unwrap_or_default()
}

/// The keys of an identity, and whether each is retired.
fn retired(cli: &Cli, identity: &str) -> BTreeMap<String, bool> {
    let all = cli.must(&["key", "list", identity, "--json"]).json();
    let keys = all["keys"].as_array().expect("keys");
    let one = |key: &Value| (key_id(key), key["retired"].as_bool().expect("yes or no"));
    keys.iter().map(one).collect()
}

/// The command that tells how a decision was carried out, signed with a key.
const fn recording<'a>(decision: &'a str, key: &'a str) -> [&'a str; 7] {
    [
        "record", decision, "--key", key, "--status", "failed", "--json",
    ]
}

fn key_id(key: &Value) -> String {
    key["key_id"].as_str().expect("a key id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_takes_over_and_the_old_one_is_refused_once_it_is_retired() {
    let (_cluster, cli, actor) = one_node().await;
    let made = new_key(&cli, "agent:agent-0", "new");
    refuses(&cli, &actor, "new.key", "KEY_UNKNOWN");
    // Whoever has lost the enrolment makes it again from the key.
    let again = cli.must(&["key", "enrol", "new.key", "--days", "7"]);
    write(&cli, "new.json", &again.out);
    let again = again.json();
    for field in ["identity", "origin", "public_key", "proof_of_possession"] {
        assert_eq!(again[field], made[field], "{field}");
    }
    let time = |field: &str| again[field].as_u64().expect("a time");
    assert_eq!(time("not_after_us") - time("not_before_us"), 7 * DAY);

    let added = cli.must(&["key", "add", "new.json", "--json"]).json();
    let (old, new) = (
        key_id(&cli.must(&["key", "enrol", "agent.key"]).json()),
        key_id(&made),
    );
    assert_eq!(key_id(&added), new);
    for key in ["new.key", "agent.key"] {
        allows(&cli, &actor, key);
    }
    let keys = |ended| BTreeMap::from([(old.clone(), ended), (new.clone(), false)]);
    assert_eq!(retired(&cli, "agent:agent-0"), keys(false));

    cli.must(&["key", "retire", &old]);
    allows(&cli, &actor, "new.key");
    refuses(&cli, &actor, "agent.key", "KEY_NOT_ACTIVE");
    assert_eq!(retired(&cli, "agent:agent-0"), keys(true));
    let shown = cli.must(&["key", "list", "agent:agent-0"]).out;
    for line in [format!("{old}  retired\n"), format!("{new}  active\n")] {
        assert!(shown.contains(&line), "{line:?} is not in: {shown}");
    }
    let retire = |key: &str| cli.run(&["key", "retire", key]);
    let (twice, unclear) = (retire(&old), retire("new.key"));
    assert_eq!((twice.code, unclear.code), (2, 2));
    assert!(twice.err.contains("FAILED_PRECONDITION"), "{twice:?}");
    assert!(unclear.err.contains("32 hexadecimal digits"), "{unclear:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolment_is_good_for_its_own_identity_kind_and_ledger() {
    let (_cluster, cli, _) = one_node().await;
    let before = retired(&cli, "agent:agent-0");
    let made = new_key(&cli, "agent:agent-0", "new");
    let text = made.to_string();
    let origin = made["origin"].as_str().expect("an origin");
    write(
        &cli,
        "elsewhere.json",
        &text.replace(origin, "ledger.test/other"),
    );
    write(
        &cli,
        "stolen.json",
        &text.replace("agent:agent-0", "operator:olive"),
    );
    write(&cli, "garbage.json", "{}");
    // Once a key belongs to somebody it never belongs to anybody again.
    let taken = cli.must(&["key", "enrol", "agent.key"]).out;
    write(&cli, "taken.json", &taken);
    let add = |file: &'static str| ["key", "add", file];
    let elsewhere = "is for the ledger ledger.test/other, not for";
    fails(&cli, &add("elsewhere.json"), 64, elsewhere);
    fails(&cli, &add("garbage.json"), 64, "is not an enrolment");
    fails(&cli, &add("stolen.json"), 2, "KEY_REFUSED");
    fails(&cli, &add("taken.json"), 2, "KEY_REFUSED");

    new_key(&cli, "operator:rita", "rita");
    let team = ["--namespace", "team", "--owner", "olive"];
    let agent = [&["agent", "register", "rita.json"], &team[..]].concat();
    fails(&cli, &agent, 2, "operator:rita, not of an agent");
    let gateway = [
        &["gateway", "register", "new.json", "--may", "record"],
        &team[..],
    ]
    .concat();
    fails(&cli, &gateway, 2, "agent:agent-0, not of a gateway");
    let operator = ["operator", "register", "new.json"];
    fails(&cli, &operator, 2, "agent:agent-0, not of an operator");
    let boss = ["operator", "register", "rita.json", "--role", "boss"];
    fails(&cli, &boss, 2, "`boss` is no role");

    let agent = Identity::Agent("agent-0".to_owned());
    let key = std::fs::read_to_string(cli.key_file("bare.key", &agent)).expect("a key file");
    let (_, bare) = key.split_once('\n').expect("a line with the identity");
    write(&cli, "bare.key", bare);
    let bare = ["key", "enrol", "bare.key"];
    fails(&cli, &bare, 64, "does not say whose key it is");

    assert_eq!(retired(&cli, "agent:agent-0"), before);
    assert_eq!(listed(&cli, "operator", "rita"), Value::Null);
    cli.must(&["key", "add", "new.json"]);
    assert_eq!(retired(&cli, "agent:agent-0").len(), before.len() + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_acts_while_it_is_active_and_within_its_roles() {
    let (_cluster, cli, actor) = one_node().await;
    new_key(&cli, "operator:rita", "rita");
    let register = ["operator", "register", "rita.json", "--name", "Rita"];
    let roles = [
        "--role",
        "responder@team",
        "--role",
        "auditor",
        "--group",
        "finance",
    ];
    cli.must(&[&register[..], &roles].concat());
    let row = |status: &str| {
        json!({
            "id": "rita", "name": "Rita", "status": status,
            "roles": ["responder@team", "auditor@*"], "groups": ["finance"],
        })
    };
    assert_eq!(listed(&cli, "operator", "rita"), row("ACTIVE"));
    let halt = [
        "halt",
        "set",
        "h",
        "--agent",
        "agent-0",
        "--operator",
        "rita.key",
    ];
    let halts = || {
        cli.must(&halt);
        decides(&cli, &actor, "agent.key", 3, "HALTED");
    };
    halts();
    // A responder stops; that it goes on is for an admin to say.
    let clear = ["halt", "clear", "h", "--operator", "rita.key"];
    fails(&cli, &clear, 8, "NOT_PERMITTED");
    cli.must(&["halt", "clear", "h"]);

    let set = |how: &str| cli.must(&["operator", how, "rita", "--json"]).json();
    assert_eq!(set("suspend")["status"], "SUSPENDED");
    assert_eq!(listed(&cli, "operator", "rita"), row("SUSPENDED"));
    fails(&cli, &halt, 8, "NOT_PERMITTED");
    allows(&cli, &actor, "agent.key");
    assert_eq!(set("resume")["status"], "ACTIVE");
    halts();
    cli.must(&["halt", "clear", "h"]);

    assert_eq!(set("revoke")["status"], "REVOKED");
    assert_eq!(listed(&cli, "operator", "rita"), row("REVOKED"));
    fails(&cli, &halt, 8, "KEY_NOT_ACTIVE");
    allows(&cli, &actor, "agent.key");
    let keys = retired(&cli, "operator:rita");
    assert_eq!(keys.into_values().collect::<Vec<_>>(), [true]);
    let resume = ["operator", "resume", "rita"];
    fails(&cli, &resume, 2, "FAILED_PRECONDITION");
    let last = ["operator", "suspend", "root"];
    fails(&cli, &last, 2, "LAST_ADMIN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_suspended_goes_on_and_is_stopped_for_good() {
    let (_cluster, cli, actor) = one_node().await;
    let before = allows(&cli, &actor, "agent.key").to_string();
    let suspend = ["agent", "suspend", "agent-0", "--reason", "it is odd"];
    let suspended = cli.must(&[&suspend[..], &["--json"]].concat()).json();
    assert_eq!(suspended["status"], "SUSPENDED");
    let show = || cli.must(&["agent", "show", "agent-0", "--json"]).json();
    let expected = json!({
        "id": "agent-0", "namespace": "team", "owner": "olive",
        "status": "SUSPENDED", "groups": [], "index": suspended["index"], "session_issuers": "ANYBODY",
    });
    assert_eq!(show(), expected);
    let entry = suspended["index"].to_string();
    let why = cli.must(&["payload", "show", &entry]).out;
    assert_eq!(why, "REASON: it is odd\n");
    decides(&cli, &actor, "agent.key", 3, "AGENT_SUSPENDED");
    // What was allowed before may have been done.
    let recorded = cli.must(&recording(&before, "agent.key")).json();
    let notices = ["SUSPENDED_SINCE", "SELF_REPORTED", "INPUT_NOT_STATED"];
    assert_eq!(recorded["notices"], json!(notices));
    assert_eq!(recorded["drift"], json!([]));

    // An owner lets go on what it stopped itself, and not what an admin stopped.
    let owner = |how: &'static str| ["agent", how, "agent-0", "--operator", "olive.key"];
    fails(&cli, &owner("resume"), 8, "NOT_PERMITTED");
    decides(&cli, &actor, "agent.key", 3, "AGENT_SUSPENDED");
    cli.must(&["agent", "resume", "agent-0"]);
    allows(&cli, &actor, "agent.key");
    cli.must(&owner("suspend"));
    decides(&cli, &actor, "agent.key", 3, "AGENT_SUSPENDED");
    cli.must(&owner("resume"));
    allows(&cli, &actor, "agent.key");

    fails(&cli, &owner("revoke"), 8, "NOT_PERMITTED");
    assert_eq!(show()["status"], "ACTIVE");
    cli.must(&["agent", "revoke", "agent-0"]);
    refuses(&cli, &actor, "agent.key", "KEY_NOT_ACTIVE");
    assert_eq!(show()["status"], "REVOKED");
    assert_eq!(listed(&cli, "agent", "agent-0"), show());
    let resume = ["agent", "resume", "agent-0"];
    fails(&cli, &resume, 2, "FAILED_PRECONDITION");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_asks_and_records_while_it_is_active_and_as_far_as_it_may() {
    let (_cluster, cli, actor) = one_node().await;
    let register = |name: &str, may: &[&str]| {
        new_key(&cli, &format!("gateway:{name}"), name);
        let file = format!("{name}.json");
        let who = ["gateway", "register", &file, "--agent", "agent-0", "--json"];
        let team = ["--namespace", "team", "--owner", "olive"];
        cli.must(&[&who[..], &team, may].concat()).json()
    };
    let gate = register("gate", &["--may", "authorize", "--may", "record"]);
    register("scribe", &["--may", "record"]);
    let row = json!({
        "id": "gate", "namespace": "team", "owner": "olive",
        "status": "ACTIVE", "index": gate["index"],
    });
    assert_eq!(listed(&cli, "gateway", "gate"), row);
    let index = allows(&cli, &actor, "gate.key").to_string();
    let entry = cli.must(&["entry", "show", &index, "--json"]).json();
    assert_eq!(entry["author"], "gateway:gate");
    assert_eq!(entry["agent"], "agent-0");
    decides(&cli, &actor, "scribe.key", 3, "PRESENTER_NOT_PERMITTED");

    let set = |how: &str| cli.must(&["gateway", how, "gate", "--json"]).json();
    let drift = |key: &str| cli.must(&recording(&index, key)).json()["drift"].clone();
    assert_eq!(set("suspend")["status"], "SUSPENDED");
    decides(&cli, &actor, "gate.key", 3, "PRESENTER_NOT_PERMITTED");
    // Whoever says what was done is heard, and it is written down that it was not the one to say it.
    assert_eq!(drift("gate.key"), json!(["WRONG_RECORDER"]));
    assert_eq!(set("resume")["status"], "ACTIVE");
    allows(&cli, &actor, "gate.key");
    assert_eq!(drift("scribe.key"), json!([]));
    assert_eq!(drift("gate.key"), json!(["ALREADY_RECORDED"]));

    assert_eq!(set("revoke")["status"], "REVOKED");
    refuses(&cli, &actor, "gate.key", "KEY_NOT_ACTIVE");
    fails(&cli, &recording(&index, "gate.key"), 8, "KEY_NOT_ACTIVE");
    assert_eq!(listed(&cli, "gateway", "gate")["status"], "REVOKED");
    let resume = ["gateway", "resume", "gate"];
    fails(&cli, &resume, 2, "FAILED_PRECONDITION");
    allows(&cli, &actor, "agent.key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_stops_what_its_scope_names_until_it_is_cleared() {
    let (_cluster, cli, actor) = one_node().await;
    let before = allows(&cli, &actor, "agent.key").to_string();
    let scopes: [(&[&str], &str, bool); 6] = [
        (&["--everything"], "everything", true),
        (&["--namespace", "team"], "namespace team", true),
        (&["--agent", "agent-0"], "agent agent-0", true),
        (&["--group", "crew"], "group crew", false),
        (&["--action", "bank/*"], "action bank/*", true),
        (&["--action", "bank/pay"], "action bank/pay", false),
    ];
    for (scope, shown, stops) in scopes {
        let set = [&["halt", "set", "h", "--json"], scope].concat();
        let index = cli.must(&set).json()["index"].clone();
        let halt = json!({ "id": "h", "scope": shown, "expires_at_us": 0, "index": index });
        assert_eq!(listed(&cli, "halt", "h"), halt);
        if stops {
            decides(&cli, &actor, "agent.key", 3, "HALTED");
        } else {
            allows(&cli, &actor, "agent.key");
        }
        cli.must(&["halt", "clear", "h"]);
        assert_eq!(listed(&cli, "halt", "h"), Value::Null, "{shown}");
        allows(&cli, &actor, "agent.key");
    }

    let set = ["halt", "set", "fire", "--everything"];
    cli.must(&set);
    fails(&cli, &set, 2, "ALREADY_EXISTS");
    let open = ["session", "open", "--agent", "agent-0", "--scope", "*"];
    let halted = cli.run(&open);
    assert_ne!(halted.code, 0, "{halted:?}");
    assert!(halted.err.contains("HALTED"), "{halted:?}");
    // It stops what begins, and not the telling of what was done.
    let recorded = cli.must(&recording(&before, "agent.key")).json();
    let notices = ["HALTED_SINCE", "SELF_REPORTED", "INPUT_NOT_STATED"];
    assert_eq!(recorded["notices"], json!(notices));
    cli.must(&["halt", "clear", "fire"]);
    fails(&cli, &["halt", "clear", "fire"], 2, "NOT_FOUND");
    cli.must(&open);

    let unknown = ["halt", "set", "h", "--agent", "agent-9"];
    fails(&cli, &unknown, 2, "NOT_FOUND");
    cli.must(&["halt", "set", "h", "--agent", "agent-0", "--ttl", "3600"]);
    let ends = listed(&cli, "halt", "h")["expires_at_us"].as_u64();
    let rest = ends.expect("a time") - now_us();
    assert!((3_000 * SECOND..=3_600 * SECOND).contains(&rest), "{rest}");
    decides(&cli, &actor, "agent.key", 3, "HALTED");
}
