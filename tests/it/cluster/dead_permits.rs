//! Permits that have ended, given again as if they were new by whoever stands between client and node, without any key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_tests::cluster::cli::{Cli, Said};
use countersign_tests::cluster::client::now_us;
use countersign_tests::cluster::liar::Liar;
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY, SOON};
use countersign_tests::kit::{bundle, key};
use ledger_client::{Author, Client, Question, Settings, Trust, paths};
use ledger_core::id::Identity;
use ledger_proto::v1;
use ledger_proto::v1::command::Body;
use prost::Message as _;

/// Permits end after so many seconds: long enough to be used at once on a busy machine, short enough to be waited for.
const PERMIT_S: u64 = 10;

/// What a proxy did with an answer.
type Captured = Arc<Mutex<Option<Vec<u8>>>>;

/// Three nodes whose permits end soon, a proxy before one of them, and an agent with its command line.
struct Stage {
    cluster: Cluster,
    actor: Actor,
    cli: Cli,
    liar: Liar,
}

impl Stage {
    async fn new() -> Self {
        let cluster = Cluster::start(Options::default()).await;
        let rules = format!(
            "@id(\"read\") @permit_ttl(\"{PERMIT_S}\") permit (principal, action == Countersign::Action::\"bank/read\", resource);"
        );
        let mut actors = cluster.settle(1, &bundle("agent", &rules)).await;
        let actor = actors.pop().expect("an actor");
        let cli = Cli::of_admin(&cluster);
        let _ = cli.key_file("agent.key", &Identity::Agent(actor.agent.clone()));
        let liar = Liar::before(cluster.file(1).client).await;
        cli.must(&["checkpoint"]);
        Self {
            cluster,
            actor,
            cli,
            liar,
        }
    }

    /// Asks to read through the proxy, and nobody else.
    fn asks(&self, more: &[&str]) -> Said {
        let session = hex::encode(self.actor.session.to_vec());
        let endpoint = self.liar.endpoint();
        let who = ["authorize", "--key", "agent.key", "--session", &session];
        let what = ["--action", "bank/read", "--input", r#"{"doc":"a"}"#];
        let how = ["--json", "--endpoints", &endpoint];
        self.cli.run(&[&who[..], &what, &how, more].concat())
    }

    /// The proxy keeps the first answer, and loses all on the way.
    fn captures(&self) -> Captured {
        let captured = Captured::default();
        let kept = Arc::clone(&captured);
        self.liar.garbles(paths::AUTHORIZE, move |said| {
            kept.lock().expect("a lock").get_or_insert(said);
            vec![0xff; 100]
        });
        captured
    }

    /// The proxy gives these bytes for each answer to come.
    fn gives(&self, answer: &v1::AuthorizeResponse) {
        self.liar.invents(paths::AUTHORIZE, answer);
    }

    /// Everything is halted, the agent suspended, and the permit ended.
    async fn is_dead(&self, ends_at_us: u64) {
        self.cluster
            .govern(Body::SetHalt(v1::SetHalt {
                id: "stop".to_owned(),
                scope: Some(v1::HaltScope {
                    target: Some(v1::halt_scope::Target::Everything(true)),
                }),
                expires_at_us: 0,
            }))
            .await;
        self.cluster
            .govern(Body::SetStatus(v1::SetStatus {
                identity: Some(Identity::Agent(self.actor.agent.clone()).to_message()),
                status: v1::IdentityStatus::Suspended.into(),
            }))
            .await;
        until("the permit has ended", SOON, async || {
            (now_us() > ends_at_us).then_some(())
        })
        .await;
    }
}

fn answer_in(captured: &Captured) -> v1::AuthorizeResponse {
    let bytes = captured.lock().expect("a lock").clone();
    let bytes = bytes.expect("an answer was captured");
    v1::AuthorizeResponse::decode(bytes.as_slice()).expect("an answer")
}

fn decision_in(answer: &v1::AuthorizeResponse) -> v1::Decision {
    let receipt = answer.receipt.as_ref().expect("a receipt");
    let entry = receipt.entry.as_ref().expect("an entry");
    let entry = v1::Entry::decode(entry.entry.as_slice()).expect("an entry");
    match entry.body {
        Some(v1::entry::Body::Decision(decision)) => decision,
        other => panic!("no decision: {other:?}"),
    }
}

/// The request id that a command told to send again.
fn told_id(said: &Said) -> String {
    let id = said.err.split("send request ").nth(1).expect("an id");
    id.split(' ').next().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_that_ended_is_no_yes_whoever_gives_it_again() {
    let stage = Stage::new().await;
    let captured = stage.captures();
    let said = stage.asks(&["--timeout", "3"]);
    assert_eq!(said.code, 7, "{said:?}");
    let id = told_id(&said);
    let first = answer_in(&captured);
    assert!(!first.replayed);
    let decision = decision_in(&first);
    assert_eq!(decision.verdict(), v1::Verdict::Allow);

    // What the proxy gives is genuine to the last byte, so that it is a yes while the permit lives.
    stage.gives(&first);
    let with_id = ["--request-id", id.as_str()];
    let said = stage.asks(&with_id);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.json()["level"], "COSIGNED");
    assert_eq!(said.json()["replayed"], false);

    stage.is_dead(decision.permit_expires_at_us).await;
    let said = stage.asks(&with_id);
    assert_eq!(said.code, 3, "{said:?}");
    let answer = said.json();
    assert_eq!(
        (&answer["permitted"], &answer["level"]),
        (&false.into(), &"COSIGNED".into())
    );
    let why = answer["refusal"].as_str().expect("a reason");
    assert!(why.contains("has ended"), "{why}");

    // What is said of now without a proof does not give the yes back.
    let lives = v1::AuthorizeResponse {
        replayed: true,
        now: Some(v1::Liveness {
            time_us: 1,
            permit_lives: true,
            agent_active: true,
            session_open: true,
            ..v1::Liveness::default()
        }),
        ..first
    };
    stage.gives(&lives);
    let said = stage.asks(&with_id);
    assert_eq!(said.code, 3, "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_now_without_a_proof_only_takes_a_yes_away() {
    let stage = Stage::new().await;
    let identity = Identity::Agent(stage.actor.agent.clone());
    let author = Author::new(identity.clone(), Arc::new(key(&identity.to_string())));
    let trust = Trust::new(stage.cluster.policy.clone(), None).expect("a trust policy");
    let mut settings = Settings::new(vec![stage.liar.endpoint()]);
    settings.timeout = RECOVERY;
    let client = Client::new(settings, trust, Some(author.expect("a good key")));
    let client = client.expect("a client");
    let (agent, session) = (&stage.actor.agent, stage.actor.session);
    let question = Question::new(agent, session, "bank/read", r#"{"doc":"a"}"#);
    let signed = client.sign_one(question.ask()).expect("signs");

    let captured = Captured::default();
    let kept = Arc::clone(&captured);
    stage.liar.garbles(paths::AUTHORIZE, move |said| {
        *kept.lock().expect("a lock") = Some(said.clone());
        said
    });
    let decision = client.ask(&signed).await.expect("an answer");
    assert!(decision.permits_now(), "{:?}", decision.refusal());
    let first = answer_in(&captured);
    let lives = v1::Liveness {
        time_us: decision.proven.entry.time_us,
        permit_lives: true,
        agent_active: true,
        session_open: true,
        ..v1::Liveness::default()
    };
    let with = |change: fn(&mut v1::Liveness)| {
        let mut now = lives;
        change(&mut now);
        Some(now)
    };
    let ended = |now: &mut v1::Liveness| now.time_us += PERMIT_S * 1_000_000;
    let cases = BTreeMap::from([
        ("all is well", (with(|_| ()), true)),
        ("nothing is said", (None, true)),
        ("it has ended", (with(ended), false)),
        ("the permit", (with(|now| now.permit_lives = false), false)),
        ("the agent", (with(|now| now.agent_active = false), false)),
        ("the session", (with(|now| now.session_open = false), false)),
        ("a halt", (with(|now| now.halted = true), false)),
    ]);
    for (what, (now, permits)) in cases {
        let answer = v1::AuthorizeResponse {
            now,
            ..first.clone()
        };
        stage.gives(&answer);
        let decision = client.ask(&signed).await.expect("an answer");
        assert_eq!(decision.permits_now(), permits, "{what}");
    }
    // Of an earlier call, and nothing is said of now.
    let mut replayed = first.clone();
    replayed.replayed = true;
    stage.gives(&replayed);
    let decision = client.ask(&signed).await.expect("an answer");
    assert!(!decision.permits_now());

    // The same bytes in the same process, and in another one that finds them on disk.
    stage.gives(&first);
    let kept = signed.to_kept_bytes();
    stage.is_dead(decision.decision.permit_expires_at_us).await;
    let decision = client.ask(&signed).await.expect("an answer");
    assert!(!decision.permits_now());
    let restored = ledger_client::Signed::from_kept_bytes(&kept).expect("kept");
    let decision = client.ask(&restored).await.expect("an answer");
    let why = decision.refusal().expect("a refusal");
    assert!(why.contains("has ended"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_can_be_repeated_whatever_ended_the_first_try() {
    let stage = Stage::new().await;
    let id = "11".repeat(16);
    let with_id = ["--request-id", id.as_str()];
    stage.liar.is_silent(paths::AUTHORIZE);
    let session = hex::encode(stage.actor.session.to_vec());
    let endpoint = stage.liar.endpoint();
    let words = [
        &["authorize", "--key", "agent.key", "--session", &session][..],
        &["--action", "bank/read", "--input", r#"{"doc":"a"}"#],
        &["--endpoints", &endpoint],
        &with_id,
    ];
    let mut child = stage.cli.command(&words.concat());
    let mut child = child.spawn().expect("it starts");
    stage.liar.is_asked().await;
    child.kill().expect("it runs");
    let ended = child.wait().expect("it ends");
    assert!(!ended.success());
    let kept = std::fs::read_dir(stage.cli.folder.join("state")).expect("a folder");
    let ledger = kept.last().expect("a ledger").expect("a ledger").path();
    assert!(ledger.join("requests").join(&id).exists());

    // Whether the first sending made the entry or the second, it is one entry, and the third finds it too.
    stage.liar.is_honest();
    let second = stage.asks(&with_id);
    assert_eq!(second.code, 0, "{second:?}");
    let third = stage.asks(&with_id);
    assert_eq!(third.code, 0, "{third:?}");
    assert_eq!(second.json()["index"], third.json()["index"]);
    assert_eq!(third.json()["replayed"], true);

    // Interrupted, it says what to send again.
    stage.liar.is_silent(paths::AUTHORIZE);
    let other = "22".repeat(16);
    let words = [&words[..3].concat()[..], &["--request-id", other.as_str()]].concat();
    let mut child = stage.cli.command(&words);
    child.stderr(std::process::Stdio::piped());
    let child = child.spawn().expect("it starts");
    until("the request is sent", SOON, async || {
        ledger.join("requests").join(&other).exists().then_some(())
    })
    .await;
    let pid = child.id().to_string();
    tokio::time::timeout(Duration::from_secs(5), stage.liar.is_asked())
        .await
        .expect("it is asked");
    let sent = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status()
        .expect("kill runs");
    assert!(sent.success());
    let said: Said = child.wait_with_output().expect("it ends").into();
    assert_eq!(said.code, 130, "{said:?}");
    assert!(
        said.err.contains(&format!("send request {other} again")),
        "{said:?}"
    );
}
