//! Reading the ledger back, all of it, from one node, and waiting until all nodes tell the same.

use std::time::Duration;

use ledger_core::hash::LeafIndex;
use ledger_proto::v1;

use super::history::{Ledger, Seen};
use super::wait::until;
use super::{Cluster, RECOVERY, admin};

/// How long one page may take. A cosigned page waits for a round of cosigning.
const PAGE: Duration = Duration::from_secs(20);

impl Cluster {
    /// Waits until all running nodes hold the same ledger, cosigned by a quorum, and gives its size.
    ///
    /// # Panics
    /// If they do not.
    pub async fn converge(&self) -> u64 {
        until(
            "all nodes hold the same cosigned ledger",
            RECOVERY,
            async || {
                let mut size = None;
                for node in self.nodes() {
                    let status = self.status(node).await?;
                    if *size.get_or_insert(status.tree_size) != status.tree_size {
                        return None;
                    }
                }
                let size = size?;
                for node in self.nodes() {
                    let note = self.checkpoint(node, size).await?;
                    let at = self.recorder.now();
                    let seen = Seen::of_note(node, at, &note);
                    self.recorder
                        .write(|history| history.checkpoints.push(seen));
                }
                Some(size)
            },
        )
        .await
    }

    /// Waits until the ledger has so many entries, however long that takes as long as it grows.
    ///
    /// # Panics
    /// If it stops growing.
    pub async fn grows_to(&self, entries: usize) {
        let target = u64::try_from(entries).expect("few entries");
        let mut before = 0;
        while before < target {
            before = until("the ledger grows", RECOVERY, async || {
                let node = self.nodes().into_iter().next()?;
                let size = self.status(node).await?.tree_size;
                (size > before).then_some(size)
            })
            .await;
        }
    }

    /// A cosigned checkpoint of at least this size; nothing if the node has none yet.
    pub async fn checkpoint(&self, node: u64, size: u64) -> Option<String> {
        const PATH: &str = "/countersign.v1.LedgerService/GetCheckpoint";
        let request = v1::GetCheckpointRequest {
            min_tree_size: size,
            receipt_level: v1::ReceiptLevel::Cosigned.into(),
        };
        let request = tonic::Request::new(request);
        let answer = self.line(node).call(PATH, request, Duration::from_secs(5));
        let answer: v1::GetCheckpointResponse = answer.await.ok()?;
        Some(answer.checkpoint)
    }

    /// Every entry of the ledger, as this node tells it, proven to one cosigned checkpoint.
    ///
    /// # Panics
    /// If the node does not tell it.
    pub async fn ledger(&self, node: u64) -> Ledger {
        const PATH: &str = "/countersign.v1.LedgerService/ListEntries";
        let mut ledger = Ledger {
            node,
            ..Ledger::default()
        };
        let mut page_token = String::new();
        loop {
            let request = v1::ListEntriesRequest {
                filter: None,
                descending: false,
                page_size: 1_000,
                page_token,
                receipt_level: v1::ReceiptLevel::Cosigned.into(),
            };
            let request = self.signing.read(&admin(), PATH, request);
            let page: Result<v1::ListEntriesResponse, _> =
                self.line(node).call(PATH, request, PAGE).await;
            let page = page.unwrap_or_else(|failed| panic!("node {node}: {failed:?}"));
            ledger.entries.extend(page.entries);
            ledger.checkpoint = page.checkpoint;
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return ledger;
            }
        }
    }

    /// One entry with a receipt that a quorum has cosigned.
    ///
    /// # Panics
    /// If the node does not give it.
    pub async fn cosigned(&self, node: u64, index: LeafIndex) -> v1::Receipt {
        const PATH: &str = "/countersign.v1.LedgerService/GetEntry";
        let request = v1::GetEntryRequest {
            key: Some(v1::get_entry_request::Key::Index(index.0)),
            with_compartments: false,
            receipt_level: v1::ReceiptLevel::Cosigned.into(),
            consistency: None,
        };
        let request = self.signing.read(&admin(), PATH, request);
        let answer: Result<v1::GetEntryResponse, _> =
            self.line(node).call(PATH, request, PAGE).await;
        let answer = answer.unwrap_or_else(|failed| panic!("node {node}: {failed:?}"));
        answer.receipt.expect("a receipt")
    }
}
