//! Both ends of pushed trust steps, over a pipe, and ends that keep to no rule.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ledger_core::hash::Hash;
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1;
use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::sender::{Outcome, push_on, push_side_by_side};
use super::*;
use crate::limits::MAX_TRUST_PUSHES;
use crate::transport::{Refusals, RefusedDial, Spki};

const GENESIS: Hash = Hash::from_bytes([7; 32]);

/// A node that has followed to epoch 3.
struct Node {
    receiver: PushReceiver,
    pushed: mpsc::Receiver<Pushed>,
    epoch: Arc<AtomicU64>,
}

fn node() -> Node {
    node_with(Duration::from_secs(60))
}

fn node_with(patience: Duration) -> Node {
    let epoch = Arc::new(AtomicU64::new(3));
    let followed = Arc::clone(&epoch);
    let followed = Arc::new(move || Some(followed.load(Ordering::Relaxed)));
    let (receiver, pushed) = PushReceiver::new(GENESIS, followed, patience);
    Node {
        receiver,
        pushed,
        epoch,
    }
}

impl Node {
    /// A connection with the node, and what it comes to.
    fn connect(&self) -> (DuplexStream, JoinHandle<Result<()>>) {
        let (theirs, ours) = duplex(64 << 10);
        let receiver = self.receiver.clone();
        (
            theirs,
            tokio::spawn(async move { receiver.serve(ours).await }),
        )
    }
}

/// A step that a checkpoint of this name carries, and is so long.
fn step(checkpoint: &str, length: usize) -> v1::TrustStep {
    let entry = v1::ProvenEntry {
        entry: vec![1; length],
        ..v1::ProvenEntry::default()
    };
    v1::TrustStep {
        entry: Some(entry),
        checkpoint: checkpoint.to_owned(),
    }
}

fn steps(count: usize) -> Vec<v1::TrustStep> {
    (0..count)
        .map(|number| step(&number.to_string(), 100))
        .collect()
}

fn says<T: std::fmt::Debug>(failed: Result<T>) -> String {
    failed.unwrap_err().to_string()
}

#[tokio::test]
async fn steps_come_over_in_order_and_the_sender_hears_where_they_led() {
    let mut node = node();
    let (mut sender, served) = node.connect();
    let push = push_on(&mut sender, GENESIS, 0, |after| {
        assert_eq!(after, 3);
        Ok(steps(2))
    });
    let follow = async {
        let pushed = node.pushed.recv().await.unwrap();
        let steps = pushed.steps.upgrade().unwrap();
        node.epoch.store(5, Ordering::Relaxed);
        drop(pushed.done);
        Vec::clone(&steps)
    };
    let (pushed, came) = tokio::join!(push, follow);
    assert_eq!(pushed.unwrap(), Outcome::Followed { to: 5 });
    let came = came
        .iter()
        .map(|step| v1::TrustStep::decode(step.as_slice()));
    let came: std::result::Result<Vec<_>, _> = came.collect();
    assert_eq!(came.unwrap(), steps(2));
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_sender_hears_that_its_steps_lead_nowhere() {
    let mut node = node();
    let (mut sender, _served) = node.connect();
    let push = push_on(&mut sender, GENESIS, 0, |_| Ok(steps(1)));
    let (pushed, _) = tokio::join!(push, async { drop(node.pushed.recv().await) });
    assert_eq!(says(pushed), "it has not followed them");
}

#[tokio::test]
async fn a_receiver_that_goes_back_is_pushed_to_no_more() {
    let mut node = node();
    let (mut sender, _served) = node.connect();
    let pushed = push_on(&mut sender, GENESIS, 4, |_| {
        panic!("it wants epoch 4 again")
    });
    assert_eq!(says(pushed.await), "it wants again what it has followed");
    assert!(node.pushed.try_recv().is_err());
}

#[tokio::test]
async fn a_node_that_makes_its_push_last_keeps_no_other_waiting() {
    let refusals = Refusals::default();
    for node_id in [1, 2] {
        refusals.note(RefusedDial {
            node_id,
            key: Spki::of(&[7; 32]),
            address: String::new(),
        });
    }
    let (telling, mut pushed) = mpsc::channel(4);
    let push = |refused: RefusedDial| {
        let telling = telling.clone();
        async move {
            if refused.node_id == 1 {
                std::future::pending::<()>().await;
            }
            telling.send(refused.node_id).await.unwrap();
        }
    };
    tokio::select! {
        () = push_side_by_side(&refusals, push) => unreachable!("it does not end"),
        served = tokio::time::timeout(Duration::from_secs(10), pushed.recv()) => {
            assert_eq!(served, Ok(Some(2)));
        }
    }
}

#[tokio::test]
async fn nothing_is_pushed_to_another_ledger_or_to_whoever_lacks_nothing() {
    let mut node = node();
    let (mut sender, served) = node.connect();
    let other = Hash::from_bytes([8; 32]);
    let pushed = push_on(&mut sender, other, 0, |_| panic!("of another ledger")).await;
    assert_eq!(says(pushed), "it belongs to another ledger");
    drop(sender);
    served.await.unwrap().unwrap_err();

    let (mut sender, served) = node.connect();
    let pushed = push_on(&mut sender, GENESIS, 0, |_| Ok(Vec::new())).await;
    assert_eq!(pushed.unwrap(), Outcome::NothingToTell);
    drop(sender);
    served.await.unwrap().unwrap_err();
    assert!(node.pushed.try_recv().is_err());
}

#[tokio::test]
async fn steps_are_cut_to_what_a_connection_takes_between_checkpoints() {
    let carried = |name: &str, count: usize| vec![step(name, 100); count];
    for (all, expected) in [
        (steps(MAX_STEPS + 1), MAX_STEPS),
        ([carried("a", 5), carried("b", 4)].concat(), 5),
        ([steps(2), vec![step("long", MAX_STEP_LEN)]].concat(), 2),
        (carried("a", MAX_STEPS + 1), 0),
    ] {
        let mut node = node();
        let (mut sender, _served) = node.connect();
        let push = push_on(&mut sender, GENESIS, 0, |_| Ok(all));
        let (_, came) = tokio::join!(push, async {
            let pushed = tokio::time::timeout(Duration::from_millis(50), node.pushed.recv());
            let pushed = pushed.await.ok().flatten();
            pushed.map_or(0, |pushed| pushed.steps.upgrade().unwrap().len())
        });
        assert_eq!(came, expected);
    }
}

#[tokio::test]
async fn whatever_is_no_step_ends_the_connection() {
    let mut node = node();
    let too_long = u32::try_from(MAX_STEP_LEN + 1).unwrap().to_be_bytes();
    let mut too_many = Vec::new();
    for _ in 0..=MAX_STEPS {
        write_frame(&mut too_many, b"x").await.unwrap();
    }
    let cases: [(&[u8], &str); 5] = [
        (&too_long, "are the most"),
        (&u32::MAX.to_be_bytes(), "are the most"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "are the most"),
        (&too_many, "more than 8 steps"),
        (&[0, 0, 0, 9, 1], "unexpected end of file"),
    ];
    for (bytes, expected) in cases {
        let (mut sender, served) = node.connect();
        sender.write_all(bytes).await.unwrap();
        sender.shutdown().await.unwrap();
        let why = says(served.await.unwrap());
        assert!(why.contains(expected), "{why}");
    }
    assert!(node.pushed.try_recv().is_err(), "nobody looks at any of it");
}

#[tokio::test]
async fn a_sender_that_says_nothing_ends_in_time() {
    let node = node_with(Duration::from_millis(20));
    let (_sender, served) = node.connect();
    let ended = served.await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::TimedOut);
}

#[tokio::test]
async fn silent_senders_on_all_places_do_not_keep_the_next_one_out() {
    let mut node = node();
    let mut silent = Vec::new();
    for _ in 0..MAX_TRUST_PUSHES {
        let (mut sender, served) = node.connect();
        // It has its place once it speaks.
        let _: wire::TrustStepsWanted = read_message(&mut sender, MAX_WANTED_LEN).await.unwrap();
        silent.push((sender, served));
    }
    let (mut sender, served) = node.connect();
    let push = push_on(&mut sender, GENESIS, 0, |_| Ok(steps(1)));
    let (pushed, _) = tokio::join!(push, async {
        let pushed = node.pushed.recv().await;
        node.epoch.store(4, Ordering::Relaxed);
        drop(pushed);
    });
    assert_eq!(pushed.unwrap(), Outcome::Followed { to: 4 });
    served.await.unwrap().unwrap();
    let oldest = silent.remove(0);
    let why = says(oldest.1.await.unwrap());
    assert!(why.contains("newer connections"), "{why}");
    for (_, served) in silent {
        assert!(!served.is_finished(), "one place was needed");
    }
}

#[tokio::test]
async fn no_more_steps_wait_than_there_are_places() {
    let mut node = node();
    let mut gone = Vec::new();
    for _ in 0..MAX_TRUST_PUSHES {
        let (mut sender, served) = node.connect();
        write_frame(&mut sender, b"x").await.unwrap();
        write_frame(&mut sender, b"").await.unwrap();
        gone.push((sender, served));
        while node.pushed.len() < gone.len() {
            tokio::task::yield_now().await;
        }
    }
    let (mut sender, served) = node.connect();
    write_frame(&mut sender, b"x").await.unwrap();
    write_frame(&mut sender, b"").await.unwrap();
    let why = says(served.await.unwrap());
    assert!(why.contains("wait for their verification"), "{why}");

    // The newest has taken the place of the oldest, whose steps are not held any longer.
    let first = node.pushed.recv().await.unwrap();
    let (_, served) = gone.remove(0);
    served.await.unwrap().unwrap_err();
    assert!(first.steps.upgrade().is_none());
    let second = node.pushed.recv().await.unwrap();
    assert!(second.steps.upgrade().is_some());
}

proptest! {
    /// Whatever comes, what is read of it is within the bounds, and is what was framed.
    #[test]
    fn what_is_read_is_bounded_and_is_what_was_written(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut whole = Vec::new();
            for frame in &frames {
                write_frame(&mut whole, frame).await.unwrap();
            }
            let mut ended = whole.clone();
            write_frame(&mut ended, &[]).await.unwrap();
            ended.extend_from_slice(&noise);
            match read_steps(&mut ended.as_slice()).await {
                Ok(read) => prop_assert_eq!(read, frames.clone()),
                Err(_) => prop_assert!(frames.len() > MAX_STEPS),
            }
            whole.extend_from_slice(&noise);
            if let Ok(read) = read_steps(&mut whole.as_slice()).await {
                prop_assert!(read.len() <= MAX_STEPS);
                prop_assert!(read.iter().all(|step| step.len() <= MAX_STEP_LEN));
            }
            Ok(())
        })?;
    }
}
