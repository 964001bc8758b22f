//! Changes of the nodes that nobody can cosign: refused where that can be seen before, and taken back where it cannot.

use countersign_tests::cluster::cli::{Cli, Said};
use countersign_tests::cluster::load::Load;
use countersign_tests::cluster::people::Actor;
use countersign_tests::cluster::process::must_run;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, RECOVERY};

use super::commands::{asks, one_agent_of_one_node};
use super::membership::{PURGE_TO_THE_TIP, join};

/// The card of a node that is told to be at this address.
fn card_at(cli: &Cli, cluster: &Cluster, node: u64, peer: &str) -> String {
    let name = format!("card-{node}");
    let (key, card) = (
        cli.folder.join(format!("key-{node}")),
        cli.folder.join(&name),
    );
    let text = |path: &std::path::Path| path.to_str().expect("a plain name").to_owned();
    let _ = must_run(&[
        "key",
        "new",
        "--out",
        &text(&key),
        "--node-id",
        &node.to_string(),
        "--origin",
        &cluster.origin,
        "--peer",
        peer,
        "--client",
        "127.0.0.1:1",
        "--card",
        &text(&card),
    ]);
    name
}

/// What the nodes that serve wait for, as `cluster status` shows it; empty for nothing.
pub(super) fn shown(cli: &Cli) -> String {
    let said = cli.run(&["cluster", "status", "--json"]);
    let nodes = said.json()["nodes"].clone();
    let nodes = nodes.as_array().expect("a list").iter();
    let serving = nodes.filter(|node| node["state"] == "serves");
    let why = serving.filter_map(|node| node["why"].as_str());
    let why = why.filter(|why| !why.is_empty()).map(str::to_owned);
    why.collect::<Vec<_>>().join(" | ")
}

async fn is_shown(cli: &Cli, words: &[&str]) {
    until(
        &format!("`cluster status` says {words:?}"),
        RECOVERY,
        async || {
            let shown = shown(cli);
            words.iter().all(|word| shown.contains(word)).then_some(())
        },
    )
    .await;
}

/// Waits until a checkpoint with this entry meets the trust policy of the genesis, through all changes since.
pub(super) async fn is_proven(cli: &Cli, index: u64) {
    let (index, file) = (index.to_string(), format!("evidence-{index}"));
    until("the entry is proven", RECOVERY, async || {
        let said = cli.run(&["prove", &index, "--out", &file]);
        // Only decisions have evidence.
        assert_ne!(said.code, 2, "{said:?}");
        (said.code == 0).then_some(())
    })
    .await;
    cli.must(&["verify", &file, "--trust", "trust-policy"]);
}

pub(super) async fn is_taken(cli: &Cli, arguments: &[&str]) -> Said {
    // Whether it is cosigned is looked at afterwards.
    let arguments = [arguments, &["--level", "committed"]].concat();
    until(&format!("{arguments:?}"), RECOVERY, async || {
        let said = cli.run(&arguments);
        (said.code == 0).then_some(said)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_that_leads_nowhere_is_refused_and_nothing_is_frozen() {
    let (cluster, cli, actor) = one_agent_of_one_node().await;
    let add = |card: &str| cli.run(&["cluster", "add", card, "--timeout", "3"]);
    let silent = add(&card_at(&cli, &cluster, 7, "127.0.0.1:1"));
    assert_eq!(silent.code, 6, "{silent:?}");
    for words in ["node 7 cannot join", "127.0.0.1:1", "nothing happened"] {
        assert!(silent.err.contains(words), "{words:?}: {silent:?}");
    }
    // The address of a node that is another one.
    let own = cluster.file(1).peer.to_string();
    let other = add(&card_at(&cli, &cluster, 8, &own));
    assert_eq!(other.code, 6, "{other:?}");
    for words in ["node 8 cannot join", &own, "another key"] {
        assert!(other.err.contains(words), "{words:?}: {other:?}");
    }
    let decided = asks(&cli, &actor, "bank/read", r#"{"doc": "a"}"#);
    is_proven(&cli, decided).await;
    assert_eq!(shown(&cli), "", "nothing is waited for");
}

/// A cluster with so much in it that a new node begins with a copy, and the command line of its admin.
async fn large(nodes: u64, spare: u64) -> (Cluster, Cli, Load, Actor) {
    let options = Options {
        nodes,
        spare,
        settings: PURGE_TO_THE_TIP.to_owned(),
        ..Options::default()
    };
    let (cluster, actors) = Cluster::with_actors(options, 8).await;
    let load = Load::start(&cluster, &actors);
    for node in 1..=nodes {
        let snapshots = cluster.file(node).data().join("snapshots");
        until("a node has a snapshot", RECOVERY, async || {
            let mut items = std::fs::read_dir(&snapshots).ok()?.flatten();
            items
                .any(|item| item.file_name().to_string_lossy().starts_with("snap-"))
                .then_some(())
        })
        .await;
    }
    // One that got a copy under load cosigns only once the others have confirmed it.
    for node in 1..=nodes {
        until("each node cosigns", RECOVERY, async || {
            let status = cluster.status(node).await?;
            status.not_cosigning_reason.is_empty().then_some(())
        })
        .await;
    }
    let cli = Cli::of_admin(&cluster);
    (cluster, cli, load, actors[0].clone())
}

/// The new node answers, and is lost before it has learned what it would have to cosign: it begins with a copy of a mebibyte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_addition_that_nobody_can_cosign_is_taken_back() {
    let (mut cluster, cli, load, actor) = large(1, 2).await;
    join(&mut cluster, 2).await;
    cluster.change_members(&[1, 2]).await;
    cluster.kill(2);
    load.flows(100, RECOVERY).await;
    let cosigned = cluster.must_status(1).await.quorum_cosigned_tree_size;
    is_shown(
        &cli,
        &[
            "waits for cosignatures",
            "/node-2 (",
            "the membership waits",
        ],
    )
    .await;
    load.flows(100, RECOVERY).await;
    let status = cluster.must_status(1).await;
    assert_eq!(status.quorum_cosigned_tree_size, cosigned, "{status:?}");

    is_taken(&cli, &["cluster", "remove", "2"]).await;
    is_proven(&cli, cluster.decide(&actor).await).await;
    // The membership goes on as if nothing had been.
    join(&mut cluster, 3).await;
    let card = cluster.file(3).card();
    let card = card.to_str().expect("a plain name");
    is_taken(&cli, &["cluster", "add", card]).await;
    cluster.is_whole().await;
    until("nothing is waited for", RECOVERY, async || {
        shown(&cli).is_empty().then_some(())
    })
    .await;
    load.flows(100, RECOVERY).await;
    load.finish().await;
    is_proven(&cli, cluster.decide(&actor).await).await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}

/// Node 3 is lost for good, and so is the one that was to take its place. Then comes a good one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_replacement_is_taken_back_and_another_one_succeeds() {
    let (mut cluster, cli, load, actor) = large(3, 2).await;
    let lost = cluster.follower().await;
    let stay: Vec<u64> = [1, 2, 3].into_iter().filter(|node| *node != lost).collect();
    cluster.kill(lost);
    join(&mut cluster, 4).await;
    cluster.change_members(&[1, 2, 3, 4]).await;
    cluster.kill(4);
    let words = [
        "waits for cosignatures",
        "/node-4 (",
        &format!("/node-{lost} ("),
    ];
    is_shown(&cli, &words).await;
    load.flows(100, RECOVERY).await;

    is_taken(&cli, &["cluster", "remove", "4"]).await;
    is_proven(&cli, cluster.decide(&actor).await).await;
    join(&mut cluster, 5).await;
    let card = cluster.file(5).card();
    let card = card.to_str().expect("a plain name");
    is_taken(&cli, &["cluster", "add", card]).await;
    is_taken(&cli, &["cluster", "remove", &lost.to_string()]).await;
    cluster.is_whole().await;
    // The new one votes: with any other of the three down, decisions go on.
    let leader = cluster.leader().await;
    until("nothing is waited for", RECOVERY, async || {
        shown(&cli).is_empty().then_some(())
    })
    .await;
    let next = stay.iter().copied().find(|node| *node != leader);
    cluster.kill(next.expect("two stay"));
    load.flows(100, RECOVERY).await;
    load.finish().await;
    cluster.must_keep_promises().await;
    cluster.must_be_sound_on_disk().await;
}
