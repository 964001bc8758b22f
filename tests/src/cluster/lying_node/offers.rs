//! What else a lying node brings to honest ones: snapshots, submissions, checkpoints.

use crate::cluster::peer::PeerClient;
use ledger_core::hash::{Hash, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::signed_note::Note;
use ledger_proto::peer::v1 as wire;
use prost::Message as _;
use tonic::Status;

use super::LyingNode;
use super::forge::{FAR, below, hash};
use super::script::Attack;
use crate::stream::Dice;

/// Bytes of a part of an endless file, and how many parts of it are sent.
const ENDLESS_PART: usize = 512 * 1024;
const ENDLESS_PARTS: usize = 24;

impl LyingNode {
    pub(super) async fn snapshot(
        &self,
        attack: Attack,
        dice: &mut Dice,
        to: u64,
        client: &mut PeerClient,
    ) -> Result<(), Status> {
        let manifest = self.manifest(dice);
        let name = blake3::hash(&manifest.encode_to_vec()).as_bytes().to_vec();
        let vote = self.vote(self.term().saturating_add(dice.below(2)), true);
        let offer = wire::OfferSnapshotRequest {
            vote: Some(vote),
            manifest: Some(manifest),
            election: self.election(dice, &vote),
        };
        let offered = client
            .offer_snapshot(self.speaker.peers.request(to, offer))
            .await;
        let parts = if attack == Attack::SendsEndlessly {
            ENDLESS_PARTS
        } else {
            below(dice, 3)
        };
        let part = move |number: usize| wire::SendSnapshotRequest {
            snapshot: name.clone(),
            file: 0,
            offset: (number * ENDLESS_PART) as u64,
            bytes: vec![7; ENDLESS_PART].into(),
        };
        let parts = tokio_stream::iter((0..parts).map(part.clone()));
        let sent = client
            .send_snapshot(self.speaker.peers.request(to, parts))
            .await;
        let install = wire::InstallSnapshotRequest {
            vote: Some(vote),
            snapshot: part(0).snapshot,
        };
        let installed = client.install_snapshot(self.speaker.peers.request(to, install));
        let installed = installed.await;
        offered?;
        sent?;
        installed.map(drop)
    }

    fn manifest(&self, dice: &mut Dice) -> wire::SnapshotManifest {
        let knowledge = self.knowledge.lock();
        let name = *dice.pick(&["000001.sst", "../../node.key", "/etc/passwd", "CURRENT", ""]);
        let file = wire::SnapshotFile {
            name: name.to_owned(),
            size: u64::MAX >> (10 + dice.below(40)),
            digest: hash(dice).as_bytes().to_vec(),
        };
        let (size, root) = knowledge.tip.unwrap_or_else(|| (TreeSize(1), hash(dice)));
        let further = |id: wire::LogId, by| wire::LogId {
            index: id.index.saturating_add(by),
            ..id
        };
        wire::SnapshotManifest {
            meta: Some(wire::SnapshotMeta {
                last_log_id: knowledge.last.map(|id| further(id, dice.below(FAR))),
                membership_log_id: None,
                membership: None,
            }),
            files: vec![file; 1 + below(dice, 3)],
            tree_size: size.0.saturating_add(dice.below(10)),
            root: root.as_bytes().to_vec(),
        }
    }

    pub(super) async fn forward(
        &self,
        dice: &mut Dice,
        to: u64,
        client: &mut PeerClient,
    ) -> Result<(), Status> {
        let submission = match dice.below(4) {
            0 => None,
            1 => Some(self.forge.forged(dice)),
            2 => {
                let mut stripped = self.forge.payment();
                stripped.compartments.clear();
                Some(stripped)
            }
            _ => self.knowledge.lock().submission(dice.word()),
        };
        let times = 1 + below(dice, 200);
        let requests = (0..times as u64).map(move |correlation_id| wire::ForwardRequest {
            correlation_id,
            submission: submission.clone(),
        });
        let stream = tokio_stream::iter(requests);
        let answers = client
            .forward(self.speaker.peers.request(to, stream))
            .await?;
        let mut answers = answers.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    }

    pub(super) async fn notes(
        &self,
        attack: Attack,
        dice: &mut Dice,
        to: u64,
        client: &mut PeerClient,
    ) -> Result<(), Status> {
        let tip = self.knowledge.lock().tip;
        let checkpoint = self.forge.checkpoint(dice, tip);
        match attack {
            Attack::AsksToCosign => {
                let truth = is_of(&checkpoint, tip);
                let message = wire::CosignRequest { checkpoint };
                let asked = client
                    .cosign(self.speaker.peers.request(to, message))
                    .await?;
                let answer = asked.into_inner();
                if answer.signature.is_empty() {
                    return Err(Status::aborted(answer.refused));
                }
                if !truth {
                    self.finds(format!("node {to} cosigned a tree that is not there"));
                }
            }
            Attack::PutsCheckpoints => {
                let message = wire::PutCheckpointRequest { checkpoint };
                client
                    .put_checkpoint(self.speaker.peers.request(to, message))
                    .await?;
            }
            _ => {
                let epochs = 0..dice.below(3_000);
                let message = wire::WantCheckpointRequest {
                    tree_size: dice.word() >> dice.below(64),
                    lacking_epochs: epochs.collect(),
                };
                client
                    .want_checkpoint(self.speaker.peers.request(to, message))
                    .await?;
            }
        }
        Ok(())
    }
}

/// True if a note is about this tree.
fn is_of(note: &str, tip: Option<(TreeSize, Hash)>) -> bool {
    let note = Note::parse(note.as_bytes()).ok();
    let tree = note.and_then(|note| Checkpoint::parse(note.text()).ok());
    tree.map(|tree| (tree.size(), tree.root())) == tip
}
