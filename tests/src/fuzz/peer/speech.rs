//! One message of the sequence: who says it, what it is, and what must hold of the answer.

use std::future::Future;
use std::time::Duration;

use ledger_core::hash::{Hash, TreeSize};
use ledger_core::note::checkpoint::Checkpoint;
use ledger_core::note::cosignature::{CosignatureTime, cosign};
use ledger_proto::peer::v1 as wire;
use ledger_proto::peer::v1::append_response::Result as Answer;
use prost::Message;
use tonic::{Response, Status};

use super::appends::{hand_over, submission};
use super::base::base;
use super::node::{FuzzedNode, MEMBERS, node_key};
use super::promises::{self, Promises};
use super::script::{KINDS, Script};
use crate::kit::{SECOND, key, node_name};

/// The size of a part of a snapshot.
const PART: usize = 256 * 1024;
/// How long a node is asked to lead.
const TRANSFER: Duration = Duration::from_millis(20);
/// Most submissions of one stream.
const MAX_FORWARDED: u8 = 4;

/// A message on its way.
pub(super) struct Speech<'n> {
    pub(super) node: &'n FuzzedNode,
    pub(super) script: Script<'n>,
    /// Whose key is used: a member's, or a stranger's as 0.
    pub(super) speaker: u64,
}

/// One call, with the message made by the first and the answer dropped.
macro_rules! call {
    ($speech:expr, $rpc:ident, $message:expr) => {{
        let message = $message;
        $speech.call(
            stringify!($rpc),
            message,
            |mut client, request| async move { client.$rpc(request).await },
        )
    }};
}

impl<'n> Speech<'n> {
    pub(super) fn new(node: &'n FuzzedNode, frame: &'n [u8]) -> Self {
        let mut script = Script::new(frame);
        let speaker = script.pick(&[2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 0]);
        Self {
            node,
            script,
            speaker,
        }
    }

    /// Says it.
    ///
    /// # Panics
    /// If the answer breaks a promise.
    pub(super) fn say(mut self, promises: &mut Promises) {
        let kind = self.script.below(KINDS);
        let is_copy = match kind {
            0..=6 => self.say_append(promises),
            7 | 8 => self.say_vote(promises),
            9 => self.say_raw(),
            10..=12 => self.say_of_snapshot(),
            _ => self.say_other(kind, promises),
        };
        self.node.settle();
        promises.must_hold(self.node, is_copy);
    }

    fn call<M, A, F: Future<Output = Result<Response<A>, Status>>>(
        &self,
        rpc: &str,
        message: M,
        call: impl FnOnce(ledger_node::raft::peers::PeerClient, tonic::Request<M>) -> F,
    ) -> Option<A> {
        let request = self.node.request(self.speaker, message);
        let answered = self
            .node
            .answer(rpc, call(self.node.client(self.speaker), request));
        assert!(
            self.speaker != 0 || answered.is_err(),
            "a stranger is answered"
        );
        Some(answered.ok()?.into_inner())
    }

    fn say_append(&mut self, promises: &Promises) -> bool {
        let messages = self.appends();
        let answers = self.node.append(self.speaker, messages);
        assert!(
            self.speaker != 0 || answers.is_err(),
            "a stranger is answered"
        );
        // What comes after it in the stream may take it back.
        let answer = answers.ok().and_then(|mut answers| answers.pop());
        if let Some(Ok(wire::AppendResponse {
            result: Some(Answer::Matched(wire::Matched { last: Some(last) })),
            ..
        })) = answer
        {
            promises.must_have(self.node, &last);
        }
        false
    }

    fn say_vote(&mut self, promises: &mut Promises) -> bool {
        let end = promises::last(&*self.node.store).unwrap_or_default();
        let message = wire::VoteRequest {
            vote: self.vote(false),
            last_log_id: match self.script.byte() % 4 {
                0 | 1 => Some(end),
                2 => Some(self.script.id(end)),
                _ => None,
            },
            leadership_transfer: self.script.one_in(2),
            sent_at_us: self.script.near(base().setting.now_us),
        };
        if self.script.one_in(4) {
            let _ = call!(self, pre_vote, message);
            return false;
        }
        if let Some(answer) = call!(self, vote, message)
            && answer.granted
        {
            promises.must_have_granted(self.node, &message.vote.unwrap_or_default());
        }
        false
    }

    /// A message that is whatever its bytes say.
    fn say_raw(&mut self) -> bool {
        fn of<M: Message + Default>(bytes: &[u8]) -> M {
            M::decode(bytes).unwrap_or_default()
        }
        let (kind, bytes) = (self.script.byte() % 12, self.script.rest());
        match kind {
            0 => drop(self.node.append(self.speaker, vec![of(bytes)])),
            1 => drop(call!(self, vote, of::<wire::VoteRequest>(bytes))),
            2 => drop(call!(self, pre_vote, of::<wire::VoteRequest>(bytes))),
            3 => self.transfer(of(bytes)),
            4 => drop(call!(
                self,
                offer_snapshot,
                of::<wire::OfferSnapshotRequest>(bytes)
            )),
            5 => drop(call!(
                self,
                send_snapshot,
                tokio_stream::iter([of::<wire::SendSnapshotRequest>(bytes)])
            )),
            6 => drop(call!(
                self,
                install_snapshot,
                of::<wire::InstallSnapshotRequest>(bytes)
            )),
            7 => self.forward(vec![of(bytes)]),
            8 => drop(call!(
                self,
                compile_ahead,
                of::<wire::CompileAheadRequest>(bytes)
            )),
            9 => drop(call!(
                self,
                put_checkpoint,
                of::<wire::PutCheckpointRequest>(bytes)
            )),
            10 => drop(call!(
                self,
                want_checkpoint,
                of::<wire::WantCheckpointRequest>(bytes)
            )),
            _ => drop(call!(self, cosign, of::<wire::CosignRequest>(bytes))),
        }
        false
    }

    /// An offer, a part, or the end of a snapshot. True if it may have become the node's store.
    fn say_of_snapshot(&mut self) -> bool {
        let vote = self.vote(true);
        let election = self.shown(vote.as_ref());
        let mut manifest = base().snapshot.manifest.clone();
        self.change_manifest(&mut manifest);
        let name = blake3::hash(&manifest.encode_to_vec()).as_bytes().to_vec();
        let steps = self.script.below(4);
        if steps != 1 {
            let offer = wire::OfferSnapshotRequest {
                vote,
                manifest: Some(manifest),
                election,
            };
            let _ = call!(self, offer_snapshot, offer);
        }
        if steps != 2 {
            let from = usize::from(self.script.below(3)) * PART / 2;
            let bytes = base().snapshot.bytes.get(from..).unwrap_or_default();
            let (file, snapshot) = (u32::from(self.script.byte() / 128), name.clone());
            let mut at = from as u64;
            let parts: Vec<_> = bytes
                .chunks(PART)
                .map(|bytes| {
                    let offset = at;
                    at += bytes.len() as u64;
                    wire::SendSnapshotRequest {
                        snapshot: snapshot.clone(),
                        file,
                        offset,
                        bytes: bytes.to_vec().into(),
                    }
                })
                .collect();
            let _ = call!(self, send_snapshot, tokio_stream::iter(parts));
        }
        if steps != 3 {
            let install = wire::InstallSnapshotRequest {
                vote,
                snapshot: name,
            };
            let _ = call!(self, install_snapshot, install);
        }
        steps != 3
    }

    fn change_manifest(&mut self, manifest: &mut wire::SnapshotManifest) {
        let script = &mut self.script;
        let meta = manifest.meta.get_or_insert_default();
        let file = &mut manifest.files[0];
        match script.byte() % 16 {
            8 => meta.last_log_id = meta.last_log_id.map(|id| script.id(id)),
            9 => meta.last_log_id = None,
            10 => meta.membership = None,
            11 => meta.membership_log_id = Some(script.id(wire::LogId::default())),
            12 => {
                let names = ["../marker", "/etc/passwd", "", ".", "MANIFEST", "manifest"];
                script.pick(&names).clone_into(&mut file.name);
            }
            13 => file.size = script.near(file.size),
            14 => manifest.tree_size = script.near(manifest.tree_size),
            15 => manifest.files.clear(),
            _ => {}
        }
    }

    /// Asks the node to lead. Where its log is not as long as the leader's, it waits for that as long as an election takes here, and
    /// nobody waits for its answer so long.
    fn transfer(&self, message: wire::TransferLeaderRequest) {
        let request = self.node.request(self.speaker, message);
        let mut client = self.node.client(self.speaker);
        let _ = self.node.answer("transfer_leader", async {
            let asked = client.transfer_leader(request);
            drop(tokio::time::timeout(TRANSFER, asked).await);
            Ok(())
        });
    }

    fn forward(&self, submissions: Vec<wire::ForwardRequest>) {
        let stream = tokio_stream::iter(submissions);
        let request = self.node.request(self.speaker, stream);
        let mut client = self.node.client(self.speaker);
        let _ = self.node.answer("forward", async {
            let mut answers = client.forward(request).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok(())
        });
    }

    fn say_other(&mut self, kind: u8, promises: &Promises) -> bool {
        let end = promises::last(&*self.node.store).unwrap_or_default();
        match kind {
            13 => {
                let message = wire::TransferLeaderRequest {
                    from: self.vote(true),
                    to: self.script.near(1),
                    last_log_id: Some(self.script.id(end)),
                };
                self.transfer(message);
            }
            14 => {
                let message = hand_over(&mut self.script);
                let _ = call!(self, hand_over, message);
            }
            15 => {
                let forwarded =
                    (0..=self.script.below(MAX_FORWARDED)).map(|number| wire::ForwardRequest {
                        correlation_id: u64::from(number),
                        submission: Some(submission(&mut self.script)),
                    });
                let forwarded = forwarded.collect();
                self.forward(forwarded);
            }
            16 => drop(call!(self, read_index, wire::ReadIndexRequest {})),
            17 => {
                let checkpoint = self.checkpoint();
                let message = wire::CosignRequest {
                    checkpoint: checkpoint.clone(),
                };
                if let Some(answer) = call!(self, cosign, message)
                    && !answer.signature.is_empty()
                {
                    promises.must_own(self.node, &checkpoint);
                }
            }
            18 => {
                let checkpoint = self.checkpoint();
                let message = wire::PutCheckpointRequest { checkpoint };
                let _ = call!(self, put_checkpoint, message);
            }
            _ => self.ask(kind),
        }
        false
    }

    fn ask(&mut self, kind: u8) {
        match kind {
            19 => {
                let message = wire::WantCheckpointRequest {
                    tree_size: self.script.near(3),
                    lacking_epochs: (0..u64::from(self.script.byte())).collect(),
                };
                let _ = call!(self, want_checkpoint, message);
            }
            20 => {
                let message = wire::CompileAheadRequest {
                    submission: Some(submission(&mut self.script)),
                    tree_size: promises::tip(&*self.node.store).size.0,
                };
                let _ = call!(self, compile_ahead, message);
            }
            21 => {
                let index = self.script.near(3);
                let message = wire::GetErasureStateRequest { index };
                let _ = call!(self, get_erasure_state, message);
                let after_epoch = self.script.near(0);
                let message = wire::GetTrustStepsRequest { after_epoch };
                let _ = call!(self, get_trust_steps, message);
            }
            22 => {
                let sent_at_us = self.script.near(base().setting.now_us);
                let message = wire::GetClockRequest { sent_at_us };
                let _ = call!(self, get_clock, message);
            }
            _ => {
                let message = wire::GetRecoveryStateRequest {};
                let _ = call!(self, get_recovery_state, message);
            }
        }
    }

    /// A checkpoint of the node's tree that the log has signed and others may have cosigned, or of another tree that nobody or one
    /// liar has: two would be a quorum, and its word stops a node that has another tree.
    fn checkpoint(&mut self) -> String {
        let tip = promises::tip(&*self.node.store);
        let script = &mut self.script;
        let back = u64::from(script.byte() % 4);
        let size = TreeSize(tip.size.0.saturating_sub(back).max(1));
        let own = promises::root_at(&*self.node.store, size);
        let (size, root) = match script.byte() % 8 {
            6 => (size, Hash::from_bytes([script.byte(); 32])),
            7 => (TreeSize(script.near(size.0)), own),
            _ => (size, own),
        };
        let origin = &base().setting.genesis.origin;
        let Ok(tree) = Checkpoint::new(origin, size, root) else {
            return "noise".to_owned();
        };
        let by = if script.one_in(8) {
            "another log"
        } else {
            "log"
        };
        let Ok(mut note) = tree.sign(&key(by)) else {
            return "noise".to_owned();
        };
        let is_own = size <= tip.size && promises::root_at(&*self.node.store, size) == root;
        let cosigners = if is_own { &MEMBERS[..] } else { &MEMBERS[..1] };
        let time = CosignatureTime::from_seconds(base().setting.now_us / SECOND);
        let time = time.expect("a time of our days");
        for node in &cosigners[usize::from(script.byte()) % (cosigners.len() + 1)..] {
            let line = cosign(&tree, time, &node_name(origin, *node), &node_key(*node));
            note.add(line.expect("a name of a key"))
                .expect("there is room");
        }
        note.to_string()
    }
}
