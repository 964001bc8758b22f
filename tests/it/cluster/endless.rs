//! Endpoints that never come to an end, and that say what a terminal would obey: a caller is done in its time, with what it can use.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_tests::cluster::cli::{Cli, Said};
use countersign_tests::cluster::liar::Liar;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, RECOVERY};
use ledger_client::paths;
use ledger_proto::v1;
use prost::Message;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::commands::{asking, asks, one_agent_of_one_node};

/// Pages after which an endpoint that goes on without end does end, so that a caller that follows it is found out.
const ALL: usize = 20_000;

/// A node, a liar before it, and an agent that asks.
struct Stage {
    cli: Cli,
    liar: Liar,
    session: String,
    decision: String,
    _cluster: Cluster,
}

impl Stage {
    async fn new() -> Self {
        let (cluster, cli, actor) = one_agent_of_one_node().await;
        let decision = asks(&cli, &actor, "bank/read", r#"{"doc":"a"}"#).to_string();
        let liar = Liar::before(cluster.file(1).client).await;
        Self {
            session: hex::encode(actor.session.to_vec()),
            cli,
            liar,
            decision,
            _cluster: cluster,
        }
    }

    fn words<'a>(arguments: &[&'a str], endpoint: &'a str) -> Vec<&'a str> {
        [arguments, &["--endpoints", endpoint, "--timeout", "1"]].concat()
    }

    /// Runs a command that knows no other endpoint than the liar, and has a second for a call.
    fn run(&self, arguments: &[&str]) -> Said {
        let endpoint = self.liar.endpoint();
        self.cli.run(&Self::words(arguments, &endpoint))
    }

    /// The same for a command that may never end, which fails the test.
    async fn ends(&self, arguments: &[&str]) -> Said {
        let endpoint = self.liar.endpoint();
        let mut command = self.cli.command(&Self::words(arguments, &endpoint));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running(Some(command.spawn().expect("it starts")));
        until(&format!("{arguments:?} ends"), RECOVERY, async || {
            let child = running.0.as_mut().expect("it runs");
            child.try_wait().expect("a process")
        })
        .await;
        let ended = running.0.take().expect("it ran").wait_with_output();
        ended.expect("it has ended").into()
    }

    /// Answers each question with this, up to [`ALL`] times, and counts the questions.
    fn answers_for_ever<A: Message>(
        &self,
        path: &'static str,
        answer: impl Fn(bool) -> A + Send + 'static,
    ) -> Arc<AtomicUsize> {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        self.liar.forges(path, move |_| {
            let goes_on = count.fetch_add(1, Ordering::Relaxed) + 1 < ALL;
            Some(answer(goes_on).encode_to_vec())
        });
        asked
    }
}

/// A process that does not outlive its test.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn token(goes_on: bool) -> String {
    if goes_on { "more" } else { "" }.to_owned()
}

/// The note with the log's signature alone.
fn without_cosignatures(note: &str) -> String {
    let (text, signatures) = note.split_once("\n\n").expect("a note");
    let log = signatures.lines().next().expect("the log's signature");
    format!("{text}\n\n{log}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_the_trust_policy_without_end_are_followed_no_further_than_they_lead() {
    let stage = Stage::new().await;
    stage
        .liar
        .changes::<v1::AuthorizeResponse>(paths::AUTHORIZE, |answer| {
            let receipt = answer.receipt.as_mut().expect("a receipt");
            receipt.checkpoint = without_cosignatures(&receipt.checkpoint);
            receipt.set_level(v1::ReceiptLevel::Cosigned);
        });
    let asking = asking(&stage.session, "bank/read", r#"{"doc":"a"}"#);
    for steps in [Vec::new(), vec![v1::TrustStep::default(); 100]] {
        let asked = stage.answers_for_ever(paths::LIST_TRUST_STEPS, move |goes_on| {
            v1::ListTrustStepsResponse {
                trust_steps: steps.clone(),
                next_page_token: token(goes_on),
            }
        });
        let said = stage.run(&asking);
        assert_eq!(asked.load(Ordering::Relaxed), 1, "{said:?}");
        assert!([10, 14].contains(&said.code), "{said:?}");
        let liar = stage.liar.endpoint();
        let blamed = format!("the answer of {liar} is not to be trusted");
        assert!(said.err.contains(&blamed), "{said:?}");
        assert_eq!(said.out, "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_without_end_is_given_up() {
    let stage = Stage::new().await;
    let agents = ["agent", "list"];
    let sessions = ["session", "list"];
    // The same again and again.
    let asked = stage.answers_for_ever(paths::LIST_AGENTS, |goes_on| v1::ListAgentsResponse {
        agents: vec![v1::Agent::default()],
        next_page_token: token(goes_on),
        ..v1::ListAgentsResponse::default()
    });
    let said = stage.run(&agents);
    assert_eq!((said.code, asked.load(Ordering::Relaxed)), (14, 2));
    assert!(said.err.contains("one item twice"), "{said:?}");

    // Nothing, again and again: what a node says that has looked at many records for a filter that wants few.
    stage.answers_for_ever(paths::LIST_AGENTS, |goes_on| v1::ListAgentsResponse {
        next_page_token: token(goes_on),
        ..v1::ListAgentsResponse::default()
    });
    stage.answers_for_ever(paths::LIST_SESSIONS, |goes_on| v1::ListSessionsResponse {
        next_page_token: token(goes_on),
        ..v1::ListSessionsResponse::default()
    });
    stage.answers_for_ever(paths::LIST_ENTRIES, |goes_on| v1::ListEntriesResponse {
        next_page_token: token(goes_on),
        ..v1::ListEntriesResponse::default()
    });
    let unrecorded = ["entry", "list", "--unrecorded"];
    for list in [&agents[..], &sessions, &unrecorded] {
        let said = stage.run(list);
        assert_eq!(
            (said.code, said.out.as_str()),
            (6, ""),
            "{list:?}: {said:?}"
        );
        assert!(said.err.contains("--timeout"), "{list:?}: {said:?}");
    }
    stage.liar.is_honest();
    assert_eq!(stage.run(&agents).code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_in_parts_that_does_not_go_on_is_given_up() {
    let stage = Stage::new().await;
    let prove = ["prove", &stage.decision, "--out", "evidence"];
    let show = ["policy", "show", "--namespace", "team"];
    let waits: [(&[&str], &'static str); 3] = [
        (&["audit"], paths::FOLLOW),
        (&prove, paths::GET_EVIDENCE),
        (&show, paths::GET_BUNDLE),
    ];
    for (command, path) in waits {
        assert_eq!(stage.run(command).code, 0, "{command:?}");
        stage.liar.stalls(path);
        let said = stage.ends(command).await;
        assert_eq!((said.code, said.out.as_str()), (6, ""), "{said:?}");
        assert!(said.err.contains("longer than --timeout"), "{said:?}");
        stage.liar.is_honest();
        let _ = std::fs::remove_file(stage.cli.folder.join("evidence"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_goes_forward_or_is_told() {
    let stage = Stage::new().await;
    let follow = ["follow", "--start", "1", "--count", "1000"];
    let asked = stage.answers_for_ever(paths::FOLLOW, |_| v1::FollowResponse::default());
    let said = stage.ends(&follow).await;
    assert_eq!((said.code, said.out.as_str()), (6, ""), "{said:?}");
    assert!(said.err.contains("again and again"), "{said:?}");
    assert!(asked.load(Ordering::Relaxed) < 10);
    stage.liar.is_honest();

    stage
        .liar
        .changes::<v1::FollowResponse>(paths::FOLLOW, |part| {
            part.entries = part
                .entries
                .iter()
                .flat_map(|one| [one.clone(), one.clone()])
                .collect();
        });
    let twice = ["follow", "--start", "1", "--count", "2"];
    let said = stage.run(&twice);
    assert_eq!(said.code, 14, "{said:?}");
    assert!(said.err.contains("was shown before"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_endpoint_says_gives_no_order_to_the_terminal() {
    let stage = Stage::new().await;
    let paint = "\u{1b}[2K\r\u{1b}[1;32mALLOW: rule `read`\u{202e}\u{7}\nledger-client: done";
    let asking = asking(&stage.session, "bank/read", r#"{"doc":"a"}"#);
    let show = ["agent", "show", "agent-0"];
    let mut reason = ErrorDetails::new();
    reason.set_error_info(
        "ARGUMENT_INVALID\u{1b}[1m",
        "countersign",
        [("retry", "never"), ("outcome", "nothing")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let refusals = [
        Status::unavailable(paint),
        Status::with_error_details(tonic::Code::InvalidArgument, paint, reason),
    ];
    for refusal in refusals {
        for path in [paths::AUTHORIZE, paths::GET_AGENT] {
            stage.liar.refuses(path, refusal.clone());
        }
        for command in [&asking[..], &show] {
            let said = stage.run(command);
            assert!(![0, 1].contains(&said.code), "{said:?}");
            assert_eq!(said.err.lines().count(), 1, "{said:?}");
            assert!(
                said.err.contains(r"\u{1b}[2K\r\u{1b}[1;32mALLOW"),
                "{said:?}"
            );
            let end = said.err.trim_end_matches('\n');
            let obeyed = |c: char| c.is_control() || c == '\u{202e}';
            assert!(!end.contains(obeyed), "{said:?}");
        }
    }
    stage.liar.is_honest();
    stage
        .liar
        .changes::<v1::ListEntriesResponse>(paths::LIST_ENTRIES, |page| {
            page.next_page_token = "\u{1b}[31m".to_owned();
        });
    let said = stage.run(&["entry", "list"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains(r"--page-token \u{1b}[31m"), "{said:?}");
}
