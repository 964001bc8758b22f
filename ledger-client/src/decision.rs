//! What came of a question. [`Decision::permits_now`] is the only yes; [`Permit`] is a decision that said it.

use std::time::{Duration, Instant};

use ledger_core::id::RequestId;
use ledger_proto::v1::{self, DecisionReason, Verdict};

use crate::answer::{Level, Proven};
use crate::error::Error;
use crate::sending::FirstSending;
use crate::settings::Settings;
use crate::signing::{SALT_LEN, Signed};

/// A decision about a command of this client, verified.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The entry that holds it.
    pub proven: Proven,
    /// The decision in the entry.
    pub decision: v1::Decision,
    /// The request id, which names the entry for ever.
    pub request_id: RequestId,
    /// The salt of the input, which a later outcome needs.
    pub input_salt: Option<[u8; SALT_LEN]>,
    /// True if the entry is of an earlier call with the same bytes.
    pub replayed: bool,
    /// What holds now; only of a replayed decision.
    now: Option<v1::Liveness>,
    /// When this answer was asked for.
    sent: Instant,
    /// When the author made the command, microseconds since 1970.
    issued_at_us: u64,
    /// When the question was sent for the first time: no later than the decision was made.
    sending: FirstSending,
    /// What the caller asked for a receipt to be worth.
    wanted: Level,
    /// A critical condition that the caller does not know, if there is one.
    unknown_condition: Option<String>,
}

impl Decision {
    pub(crate) fn new(
        proven: Proven,
        signed: &Signed,
        answer: (bool, Option<v1::Liveness>),
        sent: Instant,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let Some(v1::entry::Body::Decision(decision)) = proven.entry.body.clone() else {
            return Err(Error::contradiction("the entry holds no decision"));
        };
        let (replayed, now) = answer;
        Ok(Self {
            wanted: settings.level,
            unknown_condition: settings.unknown_condition(&decision),
            proven,
            decision,
            request_id: RequestId::from_bytes(signed.request_id),
            input_salt: signed.salt(v1::CompartmentKind::Input),
            replayed,
            now,
            sent,
            issued_at_us: signed.issued_at_us(),
            sending: signed.sending.clone(),
        })
    }

    /// The verdict. An ALLOW is not yet a yes; [`Decision::permits_now`] is.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.decision.verdict()
    }

    /// The reason, stable for machines.
    #[must_use]
    pub fn reason(&self) -> DecisionReason {
        self.decision.reason()
    }

    /// The reason's name without its prefix, such as `NO_MATCHING_PERMIT`.
    #[must_use]
    pub fn reason_name(&self) -> &'static str {
        short(self.reason().as_str_name(), "DECISION_REASON_")
    }

    /// The verdict's name without its prefix.
    #[must_use]
    pub fn verdict_name(&self) -> &'static str {
        short(self.verdict().as_str_name(), "VERDICT_")
    }

    /// The rules that determined it, the first 64, ascending.
    #[must_use]
    pub fn rules(&self) -> &[String] {
        self.decision
            .rules
            .as_ref()
            .map_or(&[], |rules| rules.ids.as_slice())
    }

    /// True if the decision alone is not a yes, and [`Permit::redeem`] has to be asked.
    #[must_use]
    pub fn is_single_use(&self) -> bool {
        self.decision.single_use
    }

    /// True if the action may begin now: the verdict is ALLOW, the receipt is worth what the caller asked for, every critical
    /// condition is known to the caller, and since the question was made and first sent less time has passed, on this machine's
    /// clocks, than the permit is long; and the permit need not be redeemed. What the answer says without a proof, that it is of an earlier call and what holds now,
    /// can only take the yes away.
    #[must_use]
    pub fn permits_now(&self) -> bool {
        self.refusal().is_none()
    }

    /// When the question was sent for the first time.
    pub(crate) const fn sending(&self) -> &FirstSending {
        &self.sending
    }

    /// True if the caller asked for a quorum's word, and has that of one node.
    pub(crate) fn is_provisional(&self) -> bool {
        self.proven.level < self.wanted
    }

    /// Turns everything but a yes into an error.
    ///
    /// # Errors
    /// [`Error::NotAllowed`] with the reason.
    pub fn require(self) -> Result<Permit, Error> {
        match self.refusal() {
            None => Ok(Permit(self)),
            Some(why) => Err(Error::NotAllowed(why)),
        }
    }

    /// A permit to be redeemed, whether or not it has to be. [`Permit::redeem`] is then the yes.
    ///
    /// # Errors
    /// [`Error::NotAllowed`] with the reason why there is nothing to redeem.
    pub fn require_redeemable(self) -> Result<Permit, Error> {
        match self.flaw() {
            None => Ok(Permit(self)),
            Some(why) => Err(Error::NotAllowed(why)),
        }
    }

    /// Why the action may not begin, if it may not.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.flaw().or_else(|| {
            self.is_single_use().then(|| {
                format!(
                    "entry {} permits it once; redeem the permit before you act",
                    self.proven.index
                )
            })
        })
    }

    /// Why there is no permit that lives.
    fn flaw(&self) -> Option<String> {
        let at = self.proven.index;
        if self.verdict() != Verdict::Allow {
            let rules = match self.rules() {
                [] => String::new(),
                rules => format!(" by {}", rules.join(", ")),
            };
            let (verdict, reason) = (self.verdict_name(), self.reason_name());
            return Some(format!("{verdict}: {reason}{rules} (entry {at})"));
        }
        if self.is_provisional() {
            return Some(format!(
                "one node vouches for entry {at}, and a quorum was asked for; send request {} again",
                hex::encode(self.request_id.to_vec())
            ));
        }
        if let Some(condition) = &self.unknown_condition {
            return Some(format!(
                "entry {at} allows under the critical condition `{condition}`, which this client does not know"
            ));
        }
        if let Some(ended) = self.has_ended() {
            return Some(ended);
        }
        let now = self.now.as_ref();
        let lives = now.map_or(!self.replayed, |now| {
            let holds = now.permit_lives && now.agent_active && now.session_open;
            holds && !now.halted && !now.redeemed
        });
        (!lives).then(|| {
            format!("entry {at} allowed it when it was made, and it does not hold any more")
        })
    }

    /// Why the permit has to be taken for ended, if it has.
    pub(crate) fn has_ended(&self) -> Option<String> {
        let ended = ended_by_clock(
            &self.proven,
            &self.decision,
            self.issued_at_us,
            &self.sending,
        );
        if ended.is_some() {
            return ended;
        }
        let ends_at_us = self.decision.permit_expires_at_us;
        // Nothing proves what the node says of now, so that it counts only where it shortens the permit.
        let passed = u64::try_from(self.sent.elapsed().as_micros()).unwrap_or(u64::MAX);
        let made = self.proven.entry.time_us;
        let base = self.now.as_ref().map_or(made, |now| now.time_us.max(made));
        (base.saturating_add(passed) >= ends_at_us).then(|| has_ended(&self.proven))
    }
}

fn has_ended(proven: &Proven) -> String {
    format!("the permit of entry {} has ended; ask again", proven.index)
}

/// Why the permit of a decision has to be taken for ended, if it has by this machine's clocks. The decision is no older than the question,
/// so that both end within the permit's length from when that was made.
pub(crate) fn ended_by_clock(
    proven: &Proven,
    decision: &v1::Decision,
    issued_at_us: u64,
    sending: &FirstSending,
) -> Option<String> {
    let ends_at_us = decision.permit_expires_at_us;
    let length = Duration::from_micros(ends_at_us.saturating_sub(proven.entry.time_us));
    match sending.age(issued_at_us) {
        None => Some(format!(
            "how old the permit of entry {} is cannot be told, because this machine's clock has gone back since it was asked for; ask again with a new id",
            proven.index
        )),
        Some(age) => (age >= length).then(|| has_ended(proven)),
    }
}

/// A decision that permitted its action when it was asked, or that permits it once it is redeemed.
#[derive(Debug, Clone)]
pub struct Permit(Decision);

impl Permit {
    /// The decision.
    #[must_use]
    pub const fn decision(&self) -> &Decision {
        &self.0
    }

    /// True if the action may still begin without a redemption.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.0.permits_now()
    }
}

fn short(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}
