//! The SDK against real processes, and against a cluster that lies.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_tests::cluster::liar::Liar;
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY};
use countersign_tests::kit::key;
use ledger_client::{Author, Client, Error, Execution, Level, Question, Settings, Trust, paths};
use ledger_core::hash::{Hash, TreeSize};
use ledger_core::id::Identity;
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::Note;
use ledger_proto::v1::{Drift, ExecutionStatus, Verdict};

/// A client of the cluster that speaks for an agent.
fn client(cluster: &Cluster, actor: &Actor, memory: Option<PathBuf>) -> Client {
    let endpoints = cluster
        .nodes()
        .into_iter()
        .map(|node| cluster.endpoint(node));
    let mut settings = Settings::new(endpoints.collect());
    settings.timeout = RECOVERY;
    client_with(cluster, actor, settings, memory)
}

/// The same for whoever takes the word of one node.
fn provisional(cluster: &Cluster, actor: &Actor) -> Client {
    let mut settings = Settings::new(vec![cluster.endpoint(1)]);
    settings.timeout = RECOVERY;
    settings.level = Level::Committed;
    client_with(cluster, actor, settings, None)
}

fn client_with(
    cluster: &Cluster,
    actor: &Actor,
    settings: Settings,
    memory: Option<PathBuf>,
) -> Client {
    let identity = Identity::Agent(actor.agent.clone());
    let signer = Arc::new(key(&identity.to_string()));
    let author = Author::new(identity, signer).expect("a good key");
    let trust = Trust::new(cluster.policy.clone(), memory).expect("a trust policy");
    Client::new(settings, trust, Some(author)).expect("a client")
}

fn read(actor: &Actor) -> Question {
    Question::new(&actor.agent, actor.session, "bank/read", r#"{"doc":"a"}"#)
}

fn pay(actor: &Actor, to: &str) -> Question {
    let input = format!(r#"{{"to":"{to}","amount":1}}"#);
    Question::new(&actor.agent, actor.session, "bank/pay", input)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_proven_allow_is_a_yes() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let actor = actors.first().expect("an actor");
    let client = client(&cluster, actor, None);

    let decision = client.authorize(read(actor)).await.expect("an answer");
    assert!(decision.permits_now());
    let index = decision.proven.index;
    let permit = decision.require().expect("a yes");
    let recorded = client
        .record(Execution::of(
            &permit,
            ExecutionStatus::Succeeded,
            r#"{"doc":"a"}"#,
        ))
        .await
        .expect("an answer");
    assert_eq!(recorded.drift, []);
    let other = client
        .record(Execution::of(
            &permit,
            ExecutionStatus::Succeeded,
            r#"{"doc":"b"}"#,
        ))
        .await
        .expect("an answer");
    assert!(
        other.drift.contains(&Drift::InputChanged),
        "{:?}",
        other.drift
    );

    let denied = client
        .authorize(pay(actor, "mallory"))
        .await
        .expect("an answer");
    assert_eq!(denied.verdict(), Verdict::Deny);
    assert_eq!(denied.rules(), ["never-mallory"]);
    assert!(!denied.permits_now());
    let why = denied.require().expect_err("no yes").to_string();
    assert!(
        why.contains("FORBIDDEN_BY_POLICY by never-mallory"),
        "{why}"
    );

    // The same bytes name the same entry, and others under the same id are refused.
    let mut again = read(actor);
    again.request_id = Some([7; 16]);
    let signed = client.sign_one(again.ask()).expect("signs");
    let first = client.ask(&signed).await.expect("an answer");
    let second = client.ask(&signed).await.expect("an answer");
    assert!(!first.replayed && second.replayed);
    assert_eq!(first.proven.index, second.proven.index);
    assert!(first.proven.index > index && second.permits_now());
    let mut reused = pay(actor, "bob");
    reused.request_id = Some([7; 16]);
    let error = client.authorize(reused).await.expect_err("the id is taken");
    assert!(matches!(error, Error::Invalid(_)), "{error}");

    // What one node vouched for is vouched for by a quorum soon.
    let provisional = provisional(&cluster, actor);
    let decision = provisional.authorize(read(actor)).await;
    let decision = decision.expect("an answer");
    assert!(decision.permits_now() && decision.proven.level == Level::Committed);
    let mut upgrades = provisional.upgrades();
    let target = decision.proven.checkpoint.size().0;
    let done = upgrades.wait_for(|state| state.cosigned_size >= target && state.waiting == 0);
    let state = tokio::time::timeout(RECOVERY, done)
        .await
        .expect("in time")
        .expect("a state");
    assert_eq!(state.alarm, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_answered_in_order_and_a_dead_leader_is_a_wait() {
    let (mut cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let actor = actors.first().expect("an actor").clone();
    let client = client(&cluster, &actor, None);
    let questions: Vec<Question> = (0..70)
        .map(|n| {
            if n % 2 == 0 {
                read(&actor)
            } else {
                pay(&actor, "mallory")
            }
        })
        .collect();
    let answers = client.authorize_batch(questions).await;
    assert_eq!(answers.len(), 70);
    for (n, answer) in answers.into_iter().enumerate() {
        let permitted = answer.expect("an answer").permits_now();
        assert_eq!(permitted, n % 2 == 0, "{n}");
    }
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let decision = client.authorize(read(&actor)).await.expect("an answer");
    assert!(decision.permits_now());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_breaks_in_the_middle_keeps_what_was_answered() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let actor = actors.first().expect("an actor");
    let liar = Liar::before(cluster.file(1).client).await;
    let mut answered = 0;
    liar.garbles(paths::AUTHORIZE_BATCH, move |said| {
        answered += 1;
        if answered == 1 { said } else { vec![0xff; 100] }
    });
    let mut settings = Settings::new(vec![liar.endpoint()]);
    settings.timeout = Duration::from_secs(3);
    let client = client_with(&cluster, actor, settings, None);
    let questions = (0..130).map(|_| read(actor)).collect();
    let answers = client.authorize_batch(questions).await;
    assert_eq!(answers.len(), 130);
    let mut unknown = BTreeSet::new();
    for (n, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(decision) => assert!(n < 64 && decision.permits_now(), "{n}"),
            Err(Error::Undetermined { request_id, .. }) => {
                assert!((64..128).contains(&n), "{n}");
                unknown.insert(request_id);
            }
            Err(Error::Unavailable(what)) => assert!(n >= 128 && what.contains("not sent"), "{n}"),
            Err(other) => panic!("{n}: {other}"),
        }
    }
    assert_eq!(unknown.len(), 64, "each has an id of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_was_cut_short_or_forked_is_refused() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let actor = actors.first().expect("an actor");
    let folder = tempfile::tempdir().expect("a folder");
    let memory = folder.path().join("checkpoint");
    let first = client(&cluster, actor, Some(memory.clone()));
    let decision = first.authorize(read(actor)).await.expect("an answer");
    let size = decision.proven.checkpoint.size().0;
    let seen = until("the checkpoint is remembered", RECOVERY, async || {
        first.trust().seen().filter(|seen| seen.size().0 >= size)
    })
    .await;
    drop(first);
    let text = std::fs::read_to_string(&memory).expect("it is on disk");
    // It is kept with its signatures, as proof; one without is read as well.
    let note = Note::parse(text.as_bytes()).expect("a note");
    let kept = Checkpoint::parse(note.text()).expect("a checkpoint");
    assert_eq!(kept.root(), seen.root());
    client(&cluster, actor, Some(memory.clone()))
        .check()
        .await
        .expect("the same ledger");

    // Somebody who has seen more than the cluster has: it was put back from an old copy.
    let more = Checkpoint::new(kept.origin(), TreeSize(kept.size().0 + 1_000), kept.root());
    std::fs::write(&memory, more.expect("a checkpoint").to_string()).expect("writes");
    let cut = client(&cluster, actor, Some(memory.clone())).check().await;
    let error = cut.expect_err("it is shorter");
    assert!(matches!(error, Error::Inconsistent(_)), "{error}");
    assert!(error.to_string().contains("old copy"), "{error}");

    // Somebody who has seen another history.
    let fork = Checkpoint::new(kept.origin(), kept.size(), Hash::from_bytes([9; 32]));
    std::fs::write(&memory, fork.expect("a checkpoint").to_string()).expect("writes");
    let forked = client(&cluster, actor, Some(memory)).check().await;
    let error = forked.expect_err("it is another one");
    assert!(matches!(error, Error::Inconsistent(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_not_ours_and_nobody_at_all_are_told_apart() {
    let (cluster, actors) = Cluster::with_actors(Options::default(), 1).await;
    let (other, _) = Cluster::with_actors(Options::default(), 1).await;
    let actor = actors.first().expect("an actor");
    let identity = Identity::Agent(actor.agent.clone());
    let author = Author::new(identity.clone(), Arc::new(key(&identity.to_string())));
    let author = author.expect("a good key");
    // The other ledger's trust policy: same name, other keys.
    let trust = Trust::new(other.policy.clone(), None).expect("a trust policy");
    let settings = Settings::new(vec![cluster.endpoint(1)]);
    let stranger = Client::new(settings, trust, Some(author.clone())).expect("a client");
    let error = stranger
        .authorize(read(actor))
        .await
        .expect_err("another log");
    assert!(matches!(error, Error::Unproven { .. }), "{error}");

    let trust = Trust::new(cluster.policy.clone(), None).expect("a trust policy");
    let mut settings = Settings::new(vec!["http://127.0.0.1:9".to_owned()]);
    settings.timeout = Duration::from_secs(20);
    settings.level = Level::Cosigned;
    let alone = Client::new(settings, trust, Some(author)).expect("a client");
    let error = alone.authorize(read(actor)).await.expect_err("nobody");
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("nobody listens"), "{error}");
}
