//! Whether honest nodes have what was acknowledged, while the run goes on: at its end a node that has lost something may have stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger_proto::v1;

use super::judge::Event;
use super::stage::Stage;
use crate::cluster::wait::until;
use crate::cluster::{RECOVERY, admin};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

impl Stage {
    /// Every entry that was acknowledged since the last look is on every honest node.
    ///
    /// # Panics
    /// If one is not, or is another one there.
    pub(super) async fn must_have_kept(&mut self) {
        let new = self.account.events.iter().skip(self.looked_at);
        let acknowledged: BTreeMap<u64, &Vec<u8>> = new
            .filter_map(|(_, event)| match event {
                Event::Acknowledged { index, entry, .. } => Some((*index, entry)),
                _ => None,
            })
            .collect();
        for node in self.cluster.nodes() {
            for (index, acknowledged) in &acknowledged {
                let what = format!(
                    "node {node} has entry {index}, which was acknowledged: the node has lost it"
                );
                let found = until(&what, RECOVERY, async || self.entry(node, *index).await).await;
                assert!(
                    found == **acknowledged,
                    "entry {index} was acknowledged, and is another one on node {node}"
                );
            }
        }
        self.looked_at = self.account.events.len();
    }

    /// The bytes of an entry, as a node tells them by itself.
    async fn entry(&self, node: u64, index: u64) -> Option<Vec<u8>> {
        const PATH: &str = "/countersign.v1.LedgerService/GetEntry";
        let request = v1::GetEntryRequest {
            key: Some(v1::get_entry_request::Key::Index(index)),
            with_compartments: false,
            receipt_level: v1::ReceiptLevel::Committed.into(),
            consistency: None,
        };
        let request = self.cluster.signing.read(&admin(), PATH, request);
        let answer = self.cluster.line(node).call(PATH, request, ANSWER);
        let answer: v1::GetEntryResponse = answer.await.ok()?;
        Some(answer.receipt?.entry?.entry)
    }
}
