//! Which entries a filter means, and how they are found: the shortest list there is, then every entry on it looked at.

use ledger_core::hash::LeafIndex;
use ledger_core::id::{Identity, SessionId};
use ledger_core::ledger;
use ledger_core::state::StateError;
use ledger_proto::v1::{self, EntryKind, entry::Body};

use super::rights::Reader;
use crate::failure::{Answer, argument};
use crate::index::{self, About, List, Span};
use crate::storage::view::View;

/// Leaves fetched from a list at a time.
const FETCH: usize = 256;

/// A filter whose fields are valid.
#[derive(Debug, Clone)]
pub struct Filter {
    message: v1::EntryFilter,
    session: Option<SessionId>,
}

impl Filter {
    /// Checks a filter.
    ///
    /// # Errors
    /// `ARGUMENT_INVALID`
    pub fn parse(message: Option<v1::EntryFilter>) -> Answer<Self> {
        let message = message.unwrap_or_default();
        let session = match message.session_id.as_slice() {
            [] => None,
            id => {
                Some(SessionId::from_slice(id).map_err(|_| argument("`session_id` has 16 bytes"))?)
            }
        };
        let known = EntryKind::try_from(message.kind).is_ok()
            && v1::Verdict::try_from(message.verdict).is_ok()
            && v1::DecisionReason::try_from(message.reason).is_ok();
        if !known {
            return Err(argument(
                "kind, verdict or reason is a number without a meaning",
            ));
        }
        Ok(Self { message, session })
    }

    /// The shortest list that holds everything that matches and that the reader may read; none for the whole ledger.
    fn list(&self, reader: &Reader) -> Option<List> {
        let of_text = |text: &str, list: fn(&str) -> List| (!text.is_empty()).then(|| list(text));
        let agent = of_text(&self.message.agent, |id| {
            List::party(&Identity::Agent(id.to_owned()))
        });
        let own = match &reader.identity {
            Identity::Operator(_) => None,
            Identity::Agent(_) | Identity::Gateway(_) | Identity::Node(_) | Identity::Recovery => {
                Some(List::party(&reader.identity))
            }
        };
        self.session
            .map(List::session)
            .or_else(|| self.message.drifted.then(List::drifted))
            .or(agent)
            .or(own)
            .or_else(|| of_text(&self.message.rule, List::rule))
            .or_else(|| of_text(&self.message.action, List::action))
            .or_else(|| List::reason(self.message.reason()))
            .or_else(|| List::verdict(self.message.verdict()))
            .or_else(|| List::kind(self.message.kind()))
            .or_else(|| of_text(&self.message.namespace, List::namespace))
    }

    /// True if an entry matches.
    fn holds(&self, entry: &v1::Entry, about: &About) -> bool {
        let filter = &self.message;
        let kind = filter.kind();
        let time_us = entry.time_us;
        let agent = Identity::Agent(filter.agent.clone());
        (kind == EntryKind::Unspecified || kind == index::kind(entry))
            && time_us >= filter.from_time_us
            && (filter.until_time_us == 0 || time_us < filter.until_time_us)
            && (filter.namespace.is_empty()
                || filter.namespace == ledger_core::entry::namespace(entry))
            && (filter.agent.is_empty() || about.whom.as_ref() == Some(&agent))
            && (self.session.is_none() || self.session == ledger_core::entry::session(entry))
            && (filter.action.is_empty() || about.action.as_ref() == Some(&filter.action))
            && self.holds_decision(entry)
            && (!filter.drifted
                || matches!(&entry.body, Some(Body::Outcome(outcome)) if !outcome.drift.is_empty()))
    }

    fn holds_decision(&self, entry: &v1::Entry) -> bool {
        let filter = &self.message;
        let asked = !filter.rule.is_empty() || filter.verdict != 0 || filter.reason != 0;
        match &entry.body {
            _ if !asked => true,
            Some(Body::Decision(decision)) => {
                let rules = decision.rules.as_ref().map(|rules| &rules.ids);
                (filter.rule.is_empty() || rules.is_some_and(|ids| ids.contains(&filter.rule)))
                    && (filter.verdict == 0 || filter.verdict == decision.verdict)
                    && (filter.reason == 0 || filter.reason == decision.reason)
            }
            Some(
                Body::Genesis(_)
                | Body::Outcome(_)
                | Body::Redemption(_)
                | Body::SessionOpening(_)
                | Body::SessionEnd(_)
                | Body::Governance(_),
            )
            | None => false,
        }
    }

    /// Narrows a span to the filter's times. Entry times ascend with the leaves.
    fn within_times(&self, view: &View, mut span: Span) -> Result<Span, StateError> {
        if self.message.from_time_us != 0 {
            span.from = first_from(view, self.message.from_time_us, span)?;
        }
        if self.message.until_time_us != 0 {
            span.until = first_from(view, self.message.until_time_us, span)?;
        }
        Ok(span)
    }
}

/// The first leaf of a span whose entry time is not before that time; the span's end if there is none.
fn first_from(view: &View, time_us: u64, span: Span) -> Result<u64, StateError> {
    let (mut low, mut high) = (span.from, span.until);
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = ledger::entry(view, LeafIndex(middle))?;
        if entry.is_some_and(|entry| entry.time_us < time_us) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// What one look at a span found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Leaves that match and that the reader may read, in the order of the span.
    pub leaves: Vec<u64>,
    /// What of the span has not been looked at; none at its end.
    pub rest: Option<Span>,
}

/// Looks for up to `limit` entries in a span, at no more than `most` of them.
///
/// # Errors
/// Damaged state.
pub fn find(
    view: &View,
    reader: &Reader,
    filter: &Filter,
    span: Span,
    limit: usize,
    most: usize,
    now_us: u64,
) -> Answer<Found> {
    let list = filter.list(reader);
    let mut span = filter.within_times(view, span)?;
    let (mut found, mut looked_at) = (Vec::new(), 0);
    while looked_at < most && found.len() < limit {
        let candidates = candidates(view, list.as_ref(), span, FETCH.min(most - looked_at))?;
        if candidates.is_empty() {
            return Ok(Found {
                leaves: found,
                rest: None,
            });
        }
        for leaf in candidates {
            looked_at += 1;
            span = past(span, leaf);
            if let Some(entry) = ledger::entry(view, LeafIndex(leaf))? {
                let about = index::about(view, &entry)?;
                if filter.holds(&entry, &about)
                    && reader.may_read_entry(view, &entry, &about, now_us)?
                {
                    found.push(leaf);
                }
            }
            if found.len() >= limit {
                break;
            }
        }
    }
    Ok(Found {
        leaves: found,
        rest: (span.from < span.until).then_some(span),
    })
}

/// What is left of a span after a leaf.
#[must_use]
pub fn past(span: Span, leaf: u64) -> Span {
    match span.direction {
        crate::storage::Direction::Ascending => Span {
            from: leaf.saturating_add(1),
            ..span
        },
        crate::storage::Direction::Descending => Span {
            until: leaf,
            ..span
        },
    }
}

fn candidates(
    view: &View,
    list: Option<&List>,
    span: Span,
    limit: usize,
) -> Result<Vec<u64>, StateError> {
    if let Some(list) = list {
        let leaves = index::leaves(view, list, span, limit)?;
        return Ok(leaves.into_iter().map(|(leaf, _)| leaf).collect());
    }
    let leaves = span.from..span.until;
    Ok(match span.direction {
        crate::storage::Direction::Ascending => leaves.take(limit).collect(),
        crate::storage::Direction::Descending => leaves.rev().take(limit).collect(),
    })
}
