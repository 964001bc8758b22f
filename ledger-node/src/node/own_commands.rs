//! Commands that a node itself brings into the ledger, signed with its key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger_core::id::Identity;
use ledger_core::signature::{SignatureDomain, sign_one};
use ledger_core::signer::Signer;
use ledger_proto::v1::{self, command::Body};
use prost::Message;

use crate::clock::{Clock, Entropy};
use crate::keyfile::KeyFile;
use crate::ledger::Ledger;

/// How long one of them may take; whoever sends it tries again later.
const PATIENCE: Duration = Duration::from_secs(5);

/// Signs and submits.
#[derive(Clone)]
pub(super) struct OwnCommands {
    pub(super) ledger: Ledger,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) node_key: Arc<KeyFile>,
}

impl OwnCommands {
    /// Brings a command of this node into the ledger.
    pub(super) async fn submit(&self, body: Body) -> Result<(), String> {
        let author = Identity::Node(self.ledger.node_id());
        let id = self.entropy.id().map_err(|error| error.to_string())?;
        let command = v1::Command {
            request_id: id.to_vec(),
            issued_at_us: self.clock.now_us(),
            author: Some(author.to_message()),
            body: Some(body),
            ..v1::Command::default()
        };
        let key: &dyn Signer = &*self.node_key;
        let signed = sign_one(
            SignatureDomain::of(&author),
            self.ledger.origin(),
            command.encode_to_vec(),
            &[(self.node_key.public().key_id(), key)],
        )
        .map_err(|error| error.to_string())?;
        let submission = v1::Submission {
            signed: Some(signed),
            compartments: Vec::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        self.ledger
            .submit(submission, v1::ReceiptLevel::Committed, deadline)
            .await
            .map(drop)
            .map_err(|failure| failure.to_string())
    }
}
