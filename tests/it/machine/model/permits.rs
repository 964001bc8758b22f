//! The model's permits: each can be redeemed once, and only while everything is as it was.

use super::reference::{Link, Model};
use super::transition::{By, Status, pick};

/// A decision, as far as its redemption looks at it.
#[derive(Debug, Clone)]
pub(super) struct Permit {
    pub(super) leaf: u64,
    pub(super) agent: u8,
    /// The key that signed the request.
    pub(super) key: u8,
    pub(super) is_allowed: bool,
    pub(super) ends_us: u64,
    /// The session by its number among all openings.
    pub(super) session: Option<usize>,
    /// The entry that redeemed it.
    pub(super) redeemed: bool,
}

impl Model {
    pub(super) fn redeem(
        &mut self,
        agent: u8,
        decision: u8,
        changed: bool,
    ) -> (String, Option<Link>) {
        let Some(permit) = pick(decision, &self.permits).cloned() else {
            return ("DecisionUnknown".to_owned(), None);
        };
        if permit.agent != agent {
            return ("PresenterNotPermitted".to_owned(), None);
        }
        let over = permit.session.and_then(|at| self.over(at));
        let what = if !permit.is_allowed {
            "NotAllowed".to_owned()
        } else if permit.redeemed {
            "AlreadyRedeemed".to_owned()
        } else {
            let drift = self.drift(&permit, over, changed);
            if drift.is_empty() {
                let same = self.permits.iter_mut().find(|one| one.leaf == permit.leaf);
                same.expect("it is there").redeemed = true;
                "Redeemed".to_owned()
            } else {
                format!("StateDrift {}", drift.join(" "))
            }
        };
        let link = permit.session.map(|at| self.next_link(at, over.is_some()));
        (what, link)
    }

    fn drift(&self, permit: &Permit, over: Option<&str>, changed: bool) -> Vec<&'static str> {
        let mut drift = Vec::new();
        if permit.ends_us <= self.time() {
            drift.push("PermitExpired");
        }
        if self.halted(permit.agent) {
            drift.push("Halted");
        }
        let since = self.changed_at.get(&permit.agent);
        match self.status[&permit.agent].0 {
            Status::Suspended => drift.push("AgentSuspended"),
            Status::Revoked => drift.push("AgentRevoked"),
            Status::Active if since.is_some_and(|since| *since > permit.leaf) => {
                drift.push("AgentChanged");
            }
            Status::Active => {}
        }
        match over {
            Some("SessionClosed") => drift.push("SessionClosed"),
            Some(_) => drift.push("SessionExpired"),
            None => {}
        }
        if changed {
            drift.push("InputChanged");
        }
        if self
            .key_refusal(By::Agent(permit.agent, permit.key))
            .is_some()
        {
            drift.push("KeyNotActive");
        }
        drift
    }
}
