//! The use of a permit, of which there is one. [`Redemption::permits_now`] is a yes that nobody else gets.

use std::time::Duration;

use ledger_core::compartment::commitment_digest;
use ledger_core::id::RequestId;
use ledger_proto::v1::{self, RedemptionReason, command::Body};

use crate::answer::{Level, Proven};
use crate::client::{Client, Submitted};
use crate::decision::Permit;
use crate::error::Error;
use crate::sending::FirstSending;
use crate::signing::SALT_LEN;

/// An attempt to redeem a permit, verified.
#[derive(Debug, Clone)]
pub struct Redemption {
    /// The entry that holds it.
    pub proven: Proven,
    /// The redemption in the entry.
    pub redemption: v1::Redemption,
    /// The leaf of the decision.
    pub decision: u64,
    /// The request id.
    pub request_id: RequestId,
    wanted: Level,
    issued_at_us: u64,
    sending: FirstSending,
}

impl Redemption {
    /// The reason, stable for machines.
    #[must_use]
    pub fn reason(&self) -> RedemptionReason {
        self.redemption.reason()
    }

    /// The reason's name without its prefix, such as `ALREADY_REDEEMED`.
    #[must_use]
    pub fn reason_name(&self) -> &'static str {
        let name = self.reason().as_str_name();
        name.strip_prefix("REDEMPTION_REASON_").unwrap_or(name)
    }

    /// The names of what changed since the decision, without their prefix, such as `HALTED`.
    #[must_use]
    pub fn state_drift_names(&self) -> Vec<&'static str> {
        let short = |drift: v1::StateDrift| {
            let name = drift.as_str_name();
            name.strip_prefix("STATE_DRIFT_").unwrap_or(name)
        };
        self.redemption.state_drift().map(short).collect()
    }

    /// True if the action may begin now, and here only: this entry redeemed the permit, the receipt is worth what the caller
    /// asked for, and since the redemption was asked for less time has passed, on this machine's clocks, than was left of the
    /// permit.
    #[must_use]
    pub fn permits_now(&self) -> bool {
        self.refusal().is_none()
    }

    /// Turns everything but a yes into an error.
    ///
    /// # Errors
    /// [`Error::NotAllowed`] with the reason.
    pub fn require(self) -> Result<Self, Error> {
        match self.refusal() {
            None => Ok(self),
            Some(why) => Err(Error::NotAllowed(why)),
        }
    }

    /// Why the action may not begin, if it may not.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let (at, of) = (self.proven.index, self.decision);
        if self.reason() != RedemptionReason::Redeemed {
            let reason = self.reason_name();
            let why = match (self.redemption.redeemed_by, self.state_drift_names()) {
                (Some(by), _) => format!(" by entry {by}"),
                (None, drift) if drift.is_empty() => String::new(),
                (None, drift) => format!(" of {}", drift.join(", ")),
            };
            return Some(format!(
                "{reason}{why}: the permit of entry {of} was not redeemed (entry {at})"
            ));
        }
        if self.proven.level < self.wanted {
            return Some(format!(
                "one node vouches for entry {at}, which redeems the permit of entry {of}, and a quorum was asked for; do not act on it"
            ));
        }
        let ends_at_us = self.redemption.permit_expires_at_us;
        let left = left(ends_at_us, self.proven.entry.time_us, self.issued_at_us);
        let age = self.sending.age(self.issued_at_us);
        age.is_none_or(|age| age >= left)
            .then(|| format!("the permit of entry {of} has ended; ask again"))
    }
}

/// How long a permit lasts that was redeemed at this time of the ledger, by a command that was made then. The proposer chose the entry's time:
/// one that is before the command was made is not believed.
fn left(ends_at_us: u64, entry_us: u64, issued_at_us: u64) -> Duration {
    Duration::from_micros(ends_at_us.saturating_sub(entry_us.max(issued_at_us)))
}

impl Permit {
    /// Redeems the permit for what is going to run: the arguments, exactly as they will be given to the tool. The first to
    /// redeem it is the only one; everybody else is told so. Where it is not known whether it was redeemed, it must be taken for
    /// redeemed by somebody else.
    ///
    /// # Errors
    /// [`Error`]: there is no answer, so the action must not run. A refusal is an answer. [`Error::NotAllowed`] if the permit has ended
    /// by this machine's clocks.
    pub async fn redeem(
        &self,
        client: &Client,
        input: impl AsRef<[u8]>,
    ) -> Result<Redemption, Error> {
        let decision = self.decision();
        // The ledger's time can stand still while the permit waits.
        if let Some(ended) = decision.has_ended() {
            return Err(Error::NotAllowed(ended));
        }
        let salt = decision.input_salt.ok_or_else(|| {
            Error::Invalid("the decision has no input, so that nothing can be redeemed".to_owned())
        })?;
        client
            .redeem(decision.proven.index, &salt, input.as_ref())
            .await
    }
}

impl Client {
    /// The critical condition of a decision that the caller does not know, if there is one.
    pub(crate) fn unknown_condition(&self, decision: &v1::Decision) -> Option<String> {
        self.0.settings.unknown_condition(decision)
    }

    /// Redeems the permit of a decision, whose input was committed to with this salt.
    ///
    /// # Errors
    /// As [`Permit::redeem`].
    pub(crate) async fn redeem(
        &self,
        decision: u64,
        salt: &[u8; SALT_LEN],
        input: &[u8],
    ) -> Result<Redemption, Error> {
        let body = Body::Redeem(v1::Redeem {
            decision_index: decision,
            input_digest: commitment_digest(salt, input).as_bytes().to_vec(),
        });
        // The bytes are made here and kept nowhere, so that no other process can be given this answer.
        let signed = self.sign_one(body)?;
        signed.sending.note();
        let Submitted {
            proven, request_id, ..
        } = self.send(&signed).await?;
        let Some(v1::entry::Body::Redemption(redemption)) = proven.entry.body.clone() else {
            return Err(Error::contradiction("the entry holds no redemption"));
        };
        Ok(Redemption {
            proven,
            redemption,
            decision,
            request_id,
            wanted: self.wanted_level(),
            issued_at_us: signed.issued_at_us(),
            sending: signed.sending.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redemption_that_is_dated_back_gains_nothing() {
        let (issued_at, ends_at) = (1_000_000_000, 1_020_000_000);
        let lasts = |entry_us| left(ends_at, entry_us, issued_at);
        assert_eq!(lasts(issued_at), Duration::from_secs(20));
        assert_eq!(lasts(issued_at + 5_000_000), Duration::from_secs(15));
        assert_eq!(lasts(issued_at - 35_000_000), Duration::from_secs(20));
        assert_eq!(lasts(ends_at + 1), Duration::ZERO);
        assert_eq!(
            left(ends_at, ends_at - 1, ends_at + 28_000_000),
            Duration::ZERO
        );
    }
}
