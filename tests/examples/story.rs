//! `make demo`: one story, from a registered agent to evidence that somebody tampers with.
//!
//! Everything is real: keys, signatures, rules, entries, proofs, and the client that verifies them. What is not there yet is the
//! cluster: the keys of three nodes cosign in this one process, and the ledger is in memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use countersign_tests::kit::{Ask, SECOND, World, authorize_body, bundle, decision_of, outcome_of};
use ledger_core::evidence::{self, Sources};
use ledger_core::id::{Identity, SessionId};
use ledger_core::machine::Appended;
use ledger_proto::v1::{self, CompartmentKind, GatewayPermission, Verdict, command::Body};
use prost::Message;

type Failure = Box<dyn std::error::Error>;

/// Six lines of rule: two payments an hour, and only for tickets that the task is about.
const RULES: &str = r#"@id("two-an-hour")
permit (principal, action == Countersign::Action::"bank/pay", resource)
when temporal { count_within(1h, Countersign::Action::"bank/pay"::allowed{}) < 2 };
@id("only-payees-of-the-task")
forbid (principal, action == Countersign::Action::"bank/pay", resource)
unless { context.session.grants.hasTag("payees") && context.session.grants.getTag("payees").contains(context.input.to) };
"#;

fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let mut world = World::new();
    say(
        "A ledger begins: an admin, an operator `olive`, three nodes. Any two of the three make a quorum.",
    );
    show(&world.trust_policy());

    say(
        "Olive's agent gets an identity and a key of its own; the tool gateway in front of the bank gets one too.",
    );
    world.agent("invoice-bot");
    world.gateway(
        "bank-gateway",
        "invoice-bot",
        &[GatewayPermission::Authorize, GatewayPermission::Record],
    );

    say("Six lines of rule, published and activated:");
    show(RULES);
    world.policy("team", &bundle("agent", RULES));

    say("Olive opens a session for one task: pay alice and bob. Nobody else.");
    let session = open_session(&mut world);

    say("The agent asks before it acts.");
    let first = pay(&mut world, session, "alice", 120);
    say("A mail it reads tells it to pay mallory. It asks for that, too.");
    pay(&mut world, session, "mallory", 9_000);
    say("The second payment of the task, and then a third within the hour: the cap bites.");
    pay(&mut world, session, "bob", 80);
    pay(&mut world, session, "alice", 120);

    say(
        "The gateway records what was executed. It was not what was authorized, and that stays visible for ever.",
    );
    record(&mut world, &first);

    say("Somebody pulls the brake. The next action stops before any rule is asked.");
    world.govern(Body::SetHalt(v1::SetHalt {
        id: "incident-1".to_owned(),
        scope: Some(v1::HaltScope {
            target: Some(v1::halt_scope::Target::Namespace("team".to_owned())),
        }),
        expires_at_us: 0,
    }));
    pay(&mut world, session, "alice", 1);

    say(
        "Two of three nodes cosign the ledger. One file and one trust policy now prove the first payment to anybody, offline:",
    );
    let (file, trust) = write_evidence(&world, &first, folder.path())?;
    verify(&file, &trust)?;

    say("The same evidence with one byte changed:");
    tamper(&file, |bytes| {
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
    })?;
    verify(&file, &trust)?;

    say("And with the namespace changed by somebody who knows how to compute the digest again:");
    forge(&world, &first, &file)?;
    verify(&file, &trust)?;
    Ok(())
}

fn open_session(world: &mut World) -> SessionId {
    let payees = v1::StringSet {
        name: "payees".to_owned(),
        values: vec!["alice".to_owned(), "bob".to_owned()],
    };
    let context = v1::SessionContext {
        purpose: "pay the invoices of November".to_owned(),
        grants: vec![payees],
        ..v1::SessionContext::default()
    };
    world.session_with("invoice-bot", &context)
}

fn pay(world: &mut World, session: SessionId, to: &str, amount: u64) -> Appended {
    world.now_us += 5 * SECOND;
    let input = format!("{{\"to\": \"{to}\", \"amount\": {amount}}}");
    let ask = Ask::new(
        Identity::Agent("invoice-bot".to_owned()),
        authorize_body("invoice-bot", session, "bank/pay"),
    );
    let answer = world.must(ask.with(CompartmentKind::Input, input.as_bytes()));
    let decision = decision_of(&answer.entry);
    let rules = decision
        .rules
        .as_ref()
        .map(|rules| rules.ids.join(", "))
        .unwrap_or_default();
    let verdict = decision
        .verdict()
        .as_str_name()
        .trim_start_matches("VERDICT_");
    let reason = decision
        .reason()
        .as_str_name()
        .trim_start_matches("DECISION_REASON_");
    let by = if rules.is_empty() {
        String::new()
    } else {
        format!(" by rule `{rules}`")
    };
    show(&format!(
        "bank/pay {input}\n  {verdict}: {reason}{by}   (entry {})",
        answer.index
    ));
    assert_eq!(
        decision.verdict() == Verdict::Allow,
        decision.permit_expires_at_us > 0
    );
    answer
}

fn record(world: &mut World, first: &Appended) {
    world.now_us += SECOND;
    let ask = Ask::new(
        Identity::Gateway("bank-gateway".to_owned()),
        Body::Record(v1::Record {
            decision_index: first.index.0,
            status: v1::ExecutionStatus::Succeeded.into(),
            started_at_us: world.now_us,
            executed_input_digest: blake3::hash(b"another amount").as_bytes().to_vec(),
            ..v1::Record::default()
        }),
    );
    let outcome = world.must(ask);
    let drift: Vec<&str> = outcome_of(&outcome.entry)
        .drift()
        .map(|drift| drift.as_str_name())
        .collect();
    show(&format!(
        "outcome of entry {}: SUCCEEDED, {}   (entry {})",
        first.index,
        drift.join(", "),
        outcome.index
    ));
}

fn write_evidence(
    world: &World,
    first: &Appended,
    folder: &Path,
) -> Result<(PathBuf, PathBuf), Failure> {
    let checkpoint = world.checkpoint(&[1, 3]);
    let sources = Sources {
        state: &world.state,
        checkpoint: &checkpoint,
        trust_checkpoints: &[],
        compartments: &[CompartmentKind::Input],
    };
    let evidence = evidence::decision(sources, first.index)?;
    let (file, trust) = (folder.join("payment.evidence"), folder.join("trust.policy"));
    std::fs::write(&file, evidence::encode(&evidence))?;
    std::fs::write(&trust, world.trust_policy())?;
    Ok((file, trust))
}

fn tamper(file: &Path, change: impl Fn(&mut Vec<u8>)) -> Result<(), Failure> {
    let mut bytes = std::fs::read(file)?;
    change(&mut bytes);
    std::fs::write(file, bytes)?;
    Ok(())
}

/// Changes the signed request inside the entry, keeps everything else, and computes the file's digest again.
fn forge(world: &World, first: &Appended, file: &Path) -> Result<(), Failure> {
    let checkpoint = world.checkpoint(&[1, 3]);
    let sources = Sources {
        state: &world.state,
        checkpoint: &checkpoint,
        trust_checkpoints: &[],
        compartments: &[],
    };
    let mut evidence = evidence::decision(sources, first.index)?;
    for proven in &mut evidence.entries {
        if proven.index == first.index.0 {
            let mut entry = v1::Entry::decode(proven.entry.as_slice())?;
            if let Some(v1::entry::Body::Decision(decision)) = &mut entry.body {
                decision.namespace = "another-team".to_owned();
            }
            proven.entry = entry.encode_to_vec();
        }
    }
    std::fs::write(file, evidence::encode(&evidence))?;
    Ok(())
}

/// Runs the client that a user would run.
fn verify(file: &Path, trust: &Path) -> Result<(), Failure> {
    let client = std::env::current_exe()?.with_file_name("../ledger-client");
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let output = Command::new(client)
        .arg("verify")
        .arg(file)
        .arg("--trust")
        .arg(trust)
        .output()?;
    let told = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    let told = String::from_utf8_lossy(&told).replace(&*file.to_string_lossy(), &name);
    let code = output.status.code().unwrap_or(-1);
    show(&format!(
        "$ ledger-client verify {name} --trust trust.policy\n{}\nexit code {code}",
        told.trim_end()
    ));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a story is told on standard output")]
fn say(text: &str) {
    println!("\n{text}");
}

#[expect(clippy::print_stdout, reason = "a story is told on standard output")]
fn show(text: &str) {
    for line in text.trim_end().lines() {
        println!("    {line}");
    }
}
