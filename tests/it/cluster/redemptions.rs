//! Permits that are used once, by processes that do not know of each other.

use std::process::Stdio;
use std::sync::Arc;

use countersign_tests::cluster::cli::{Cli, Said};
use countersign_tests::cluster::liar::Liar;
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::{Cluster, Options, RECOVERY};
use countersign_tests::kit::key;
use ledger_client::{Author, Client, Execution, Question, Settings, Trust, paths};
use ledger_core::id::Identity;
use ledger_proto::v1::{self, Drift, ExecutionStatus, RedemptionReason, command::Body};
use serde_json::Value;

const INPUT: &str = r#"{"doc":"a"}"#;
const REDEEM: [&str; 6] = [
    "--input",
    INPUT,
    "--key",
    "agent.key",
    "--json",
    "--level=cosigned",
];

/// Three nodes, an agent, and its command line.
struct Stage {
    cluster: Cluster,
    actor: Actor,
    cli: Cli,
    session: String,
}

impl Stage {
    async fn new() -> Self {
        let (cluster, mut actors) = Cluster::with_actors(Options::default(), 1).await;
        let actor = actors.pop().expect("an actor");
        let cli = Cli::of_admin(&cluster);
        let _ = cli.key_file("agent.key", &Identity::Agent(actor.agent.clone()));
        Self {
            session: hex::encode(actor.session.to_vec()),
            cluster,
            actor,
            cli,
        }
    }

    fn asks(&self, more: &[&str]) -> Said {
        let who = [
            "authorize",
            "--key",
            "agent.key",
            "--session",
            &self.session,
        ];
        let what = ["--action", "bank/read", "--input", INPUT, "--json"];
        self.cli.run(&[&who[..], &what, more].concat())
    }

    /// A permit that was asked for under this id.
    fn permit(&self, id: &str) -> String {
        let said = self.asks(&["--request-id", id]);
        assert_eq!(said.code, 0, "{said:?}");
        said.json()["index"].to_string()
    }

    fn redeem(&self, index: &str) -> Said {
        self.cli.run(&[&["redeem", index][..], &REDEEM].concat())
    }

    /// The same by many processes at once.
    fn race(&self, index: &str, processes: usize) -> Vec<Said> {
        let words = [&["redeem", index][..], &REDEEM].concat();
        let start = || {
            let mut command = self.cli.command(&words);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("it starts")
        };
        let running: Vec<_> = (0..processes).map(|_| start()).collect();
        let ended = running.into_iter().map(|child| child.wait_with_output());
        ended.map(|said| said.expect("it ends").into()).collect()
    }

    async fn halt(&self) {
        let halt = v1::SetHalt {
            id: "stop".to_owned(),
            scope: Some(v1::HaltScope {
                target: Some(v1::halt_scope::Target::Everything(true)),
            }),
            expires_at_us: 0,
        };
        self.cluster.govern(Body::SetHalt(halt)).await;
    }

    fn client(&self) -> Client {
        let identity = Identity::Agent(self.actor.agent.clone());
        let author = Author::new(identity.clone(), Arc::new(key(&identity.to_string())));
        let trust = Trust::new(self.cluster.policy.clone(), None).expect("a trust policy");
        let nodes = self.cluster.nodes().into_iter();
        let endpoints = nodes.map(|node| self.cluster.endpoint(node)).collect();
        let mut settings = Settings::new(endpoints);
        settings.timeout = RECOVERY;
        let client = Client::new(settings, trust, Some(author.expect("a good key")));
        client.expect("a client")
    }
}

fn reason(said: &Said) -> Value {
    said.json()["reason"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_processes_with_the_same_kept_request_one_redeems() {
    let stage = Stage::new().await;
    for round in 1..=3 {
        let id = format!("{round:032x}");
        let index = stage.permit(&id);
        // Whoever has the kept request gets the same yes again.
        let again = stage.asks(&["--request-id", &id]);
        assert_eq!((again.code, &again.json()["replayed"]), (0, &true.into()));

        let said = stage.race(&index, 4);
        let winners: Vec<&Said> = said.iter().filter(|said| said.code == 0).collect();
        let [winner] = winners.as_slice() else {
            panic!("not one winner: {said:?}");
        };
        let won = winner.json();
        assert_eq!(won["permitted"], true);
        assert_eq!(won["level"], "COSIGNED");
        for loser in said.iter().filter(|said| said.code != 0) {
            assert_eq!(loser.code, 3, "{loser:?}");
            assert_eq!(reason(loser), "ALREADY_REDEEMED", "{loser:?}");
            assert_eq!(loser.json()["redeemed_by"], won["index"]);
            assert_eq!(loser.json()["permitted"], false);
        }
        // From now on the decision is a yes for nobody.
        let again = stage.asks(&["--request-id", &id]);
        assert_eq!(again.code, 3, "{again:?}");

        let record = [
            "record",
            &index,
            "--key",
            "agent.key",
            "--status",
            "succeeded",
        ];
        let recorded = stage
            .cli
            .must(&[&record[..], &["--input", INPUT, "--json"]].concat());
        assert_eq!(recorded.json()["drift"], Value::Array(Vec::new()));
        let evidence = format!("evidence-{round}");
        stage.cli.must(&["prove", &index, "--out", &evidence]);
        let proof = stage
            .cli
            .must(&["verify", &evidence, "--trust", "trust-policy"]);
        let by = format!("agent `{}`", stage.actor.agent);
        for words in ["redemption", "redeemed at", "redeemed by", &by] {
            assert!(proof.out.contains(words), "no {words}: {proof:?}");
        }
    }
    stage.cli.must(&["audit", "--replay"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_that_is_given_again_after_a_halt_cannot_be_redeemed() {
    let stage = Stage::new().await;
    let index = stage.permit(&"ab".repeat(16));
    let other = stage.permit(&"cd".repeat(16));
    let changed = ["redeem", &index, "--input", r#"{"doc":"b"}"#];
    let changed = [&changed[..], &REDEEM[2..]].concat();
    let said = stage.cli.run(&changed);
    assert_eq!((said.code, reason(&said)), (3, "STATE_DRIFT".into()));
    assert_eq!(said.json()["state_drift"][0], "INPUT_CHANGED");

    // The answer to one redemption is none to another, whoever passes it on.
    let liar = Liar::before(stage.cluster.file(1).client).await;
    liar.repeats(paths::REDEEM);
    let endpoint = liar.endpoint();
    let through = |index| {
        let more = ["--endpoints", endpoint.as_str()];
        let words = [&["redeem", index][..], &REDEEM, &more].concat();
        stage.cli.run(&words)
    };
    let said = through(&index);
    assert_eq!((said.code, reason(&said)), (0, "REDEEMED".into()));
    let said = through(&index);
    assert_eq!((said.code, said.out.as_str()), (14, ""), "{said:?}");
    assert!(said.err.contains("answers another request"), "{said:?}");

    stage.halt().await;
    let said = stage.redeem(&other);
    assert_eq!((said.code, reason(&said)), (3, "STATE_DRIFT".into()));
    assert_eq!(said.json()["state_drift"][0], "HALTED");
    let why = said.json()["refusal"].to_string();
    assert!(why.contains("STATE_DRIFT of HALTED"), "{why}");
}

/// The ledger's time can stand still, or be put right, while a permit waits: the clocks of who asked go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_that_ended_by_the_clocks_of_who_asked_is_not_redeemed() {
    let stage = Stage::new().await;
    let index = stage.permit(&"ab".repeat(16));
    let mut ledgers = std::fs::read_dir(stage.cli.folder.join("state")).expect("a folder");
    let ledger = ledgers.next().expect("one").expect("a folder").path();
    let file = ledger.join("permits").join(format!("{index}.json"));
    let kept = std::fs::read(&file).expect("a permit");
    let mut older: Value = serde_json::from_slice(&kept).expect("a permit");
    let sent = &mut older["sent"];
    let sent_us = sent["first_sent_at_us"].as_u64().expect("a time");
    sent["first_sent_at_us"] = (sent_us - 3_600_000_000).into();
    std::fs::write(&file, older.to_string()).expect("a file");
    let size = stage.cluster.converge().await;
    let said = stage.redeem(&index);
    assert_eq!((said.code, said.out.as_str()), (3, ""), "{said:?}");
    assert!(said.err.contains("has ended"), "{said:?}");
    assert_eq!(stage.cluster.converge().await, size, "nothing was sent");
    std::fs::write(&file, kept).expect("a file");
    let said = stage.redeem(&index);
    assert_eq!((said.code, reason(&said)), (0, "REDEEMED".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_namespace_demands_it_only_the_redemption_is_a_yes() {
    let stage = Stage::new().await;
    let update = v1::UpdateNamespace {
        name: "team".to_owned(),
        owners: vec!["olive".to_owned()],
        single_use: true,
    };
    stage.cluster.govern(Body::UpdateNamespace(update)).await;
    let said = stage.asks(&[]);
    assert_eq!(said.code, 3, "{said:?}");
    let answer = said.json();
    assert_eq!(answer["verdict"], "ALLOW");
    assert_eq!(answer["permitted"], false);
    assert_eq!(answer["single_use"], true);
    let why = answer["refusal"].as_str().expect("a reason");
    assert!(why.contains("redeem the permit before you act"), "{why}");
    let index = answer["index"].to_string();
    let said = stage.redeem(&index);
    assert_eq!(said.code, 0, "{said:?}");

    let client = stage.client();
    let question = || {
        let (agent, session) = (&stage.actor.agent, stage.actor.session);
        Question::new(agent, session, "bank/read", INPUT)
    };
    let decision = client.authorize(question()).await.expect("an answer");
    assert!(!decision.permits_now());
    assert!(decision.clone().require().is_err());
    let permit = decision.require_redeemable().expect("a permit");
    assert!(!permit.holds());
    // Two tasks that hold the same permit.
    let (one, two) = tokio::join!(permit.redeem(&client, INPUT), permit.redeem(&client, INPUT));
    let both = [one.expect("an answer"), two.expect("an answer")];
    let yes = both.iter().filter(|one| one.permits_now()).count();
    assert_eq!(yes, 1, "{both:?}");
    let refused = both.iter().find(|one| !one.permits_now()).expect("one");
    assert_eq!(refused.reason(), RedemptionReason::AlreadyRedeemed);
    let won = both.iter().find(|one| one.permits_now()).expect("one");
    let execution = || Execution::of(&permit, ExecutionStatus::Succeeded, INPUT);
    let recorded = client.record(execution().redeemed_by(won)).await;
    assert_eq!(recorded.expect("an answer").drift, []);
    let recorded = client.record(execution()).await.expect("an answer");
    assert!(recorded.drift.contains(&Drift::NotRedeemed));
}
