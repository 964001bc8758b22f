//! What a node derives from entries to find them again, in `Table::Index`.
//!
//! A key is one family byte, what the list is of, and the leaf (u64, big-endian), so that a list is a range of keys in leaf
//! order and can be read from either end. A text has its length (u16, big-endian) before it: no list's prefix can begin
//! another's. Nothing here is part of a state digest: it all follows from the entries and can be built again.
//!
//! Lists that would hold a large part of the ledger (every decision, every ALLOW) are not kept: reading them is no faster
//! than reading the ledger.

mod about;

use ledger_core::id::{Identity, SessionId};
use ledger_core::state::{State, StateError};
use ledger_proto::v1::{self, DecisionReason, EntryKind, Verdict, entry::Body};

use about::session;
pub use about::{About, about, action_id, kind};

use crate::storage::view::View;
use crate::storage::{Batch, Direction, Table};

/// The lists, each with its byte. The bytes are stored on disk and are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// kind (u8), leaf → nothing; not for decisions and outcomes
    Kind = 0x10,
    /// namespace (text), leaf → nothing
    Namespace = 0x11,
    /// identity kind (u8), id (text), leaf → nothing; whom the entry is about, who presented or recorded, who is the author
    Party = 0x12,
    /// session id (16 bytes), leaf → nothing; openings, ends and late entries too
    Session = 0x13,
    /// action id (text), leaf → nothing; decisions and their outcomes
    Action = 0x14,
    /// rule id (text), leaf → nothing; the rules that a decision names
    Rule = 0x15,
    /// verdict (u8), leaf → nothing; not for ALLOW
    Verdict = 0x16,
    /// reason (u8), leaf → nothing; not for ALLOWED_BY_POLICY
    Reason = 0x17,
    /// leaf → nothing; outcomes with drift
    Drifted = 0x18,
    /// leaf → session id; applied openings
    Opened = 0x20,
    /// agent (text), leaf → session id
    OpenedForAgent = 0x21,
    /// parent session id (16 bytes), leaf → session id
    OpenedUnder = 0x22,
    /// identity kind (u8), id (text), leaf → session id; by issuer
    OpenedBy = 0x23,
    /// namespace (text), leaf → session id
    OpenedIn = 0x24,
    /// expiry (u64 µs), session id → nothing; only while the session has no end entry
    Expiry = 0x30,
}

/// The key of one list: what all its keys begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List(Vec<u8>);

impl List {
    /// Entries of a kind, if there is a list of that kind.
    #[must_use]
    pub fn kind(kind: EntryKind) -> Option<Self> {
        match kind {
            EntryKind::Unspecified | EntryKind::Decision | EntryKind::Outcome => None,
            EntryKind::Genesis
            | EntryKind::SessionOpening
            | EntryKind::SessionEnd
            | EntryKind::Governance
            | EntryKind::Redemption => Some(Self::new(Family::Kind).byte(kind.into())),
        }
    }

    /// Entries that concern a namespace.
    #[must_use]
    pub fn namespace(name: &str) -> Self {
        Self::new(Family::Namespace).text(name)
    }

    /// Entries that an identity has a part in.
    #[must_use]
    pub fn party(identity: &Identity) -> Self {
        Self::new(Family::Party).identity(identity)
    }

    /// Entries that name a session.
    #[must_use]
    pub fn session(id: SessionId) -> Self {
        Self::new(Family::Session).bytes(id.as_bytes())
    }

    /// Decisions about an action and their outcomes.
    #[must_use]
    pub fn action(id: &str) -> Self {
        Self::new(Family::Action).text(id)
    }

    /// Decisions that name a rule.
    #[must_use]
    pub fn rule(id: &str) -> Self {
        Self::new(Family::Rule).text(id)
    }

    /// Decisions with a verdict, if there is a list of that verdict.
    #[must_use]
    pub fn verdict(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Unspecified | Verdict::Allow => None,
            Verdict::Deny | Verdict::Escalate => {
                Some(Self::new(Family::Verdict).byte(verdict.into()))
            }
        }
    }

    /// Decisions with a reason, if there is a list of that reason.
    #[must_use]
    pub fn reason(reason: DecisionReason) -> Option<Self> {
        let dense = [DecisionReason::Unspecified, DecisionReason::AllowedByPolicy];
        (!dense.contains(&reason)).then(|| Self::new(Family::Reason).byte(reason.into()))
    }

    /// Outcomes with drift.
    #[must_use]
    pub fn drifted() -> Self {
        Self::new(Family::Drifted)
    }

    /// All sessions, by the leaf of their opening.
    #[must_use]
    pub fn opened() -> Self {
        Self::new(Family::Opened)
    }

    /// Sessions of an agent.
    #[must_use]
    pub fn opened_for(agent: &str) -> Self {
        Self::new(Family::OpenedForAgent).text(agent)
    }

    /// Children of a session.
    #[must_use]
    pub fn opened_under(parent: SessionId) -> Self {
        Self::new(Family::OpenedUnder).bytes(parent.as_bytes())
    }

    /// Sessions that an identity opened.
    #[must_use]
    pub fn opened_by(issuer: &Identity) -> Self {
        Self::new(Family::OpenedBy).identity(issuer)
    }

    /// Sessions in a namespace.
    #[must_use]
    pub fn opened_in(namespace: &str) -> Self {
        Self::new(Family::OpenedIn).text(namespace)
    }

    fn expiry(expires_at_us: u64, id: SessionId) -> Vec<u8> {
        Self::new(Family::Expiry)
            .bytes(&expires_at_us.to_be_bytes())
            .bytes(id.as_bytes())
            .0
    }

    /// What all keys of the list begin with.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    fn at(self, leaf: u64) -> Vec<u8> {
        self.bytes(&leaf.to_be_bytes()).0
    }

    fn new(family: Family) -> Self {
        Self(vec![family as u8])
    }

    /// Enum numbers in these keys are far below 256; another number would be a list that nobody asks for.
    fn byte(self, number: i32) -> Self {
        self.bytes(&[u8::try_from(number).unwrap_or(u8::MAX)])
    }

    fn text(self, text: &str) -> Self {
        // What an entry names can be as long as a command; a length that does not fit must not cut the text off.
        match u16::try_from(text.len()) {
            Ok(len) => self.bytes(&len.to_be_bytes()).bytes(text.as_bytes()),
            Err(_) => self
                .bytes(&u16::MAX.to_be_bytes())
                .bytes(blake3::hash(text.as_bytes()).as_bytes()),
        }
    }

    fn identity(self, identity: &Identity) -> Self {
        self.byte(identity.kind().into()).text(&identity.id())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// What a new entry changes in the index. To be written in the same batch as the entry; `state` is the state after it.
///
/// # Errors
/// [`StateError`] if the state is damaged.
pub fn changes(state: &dyn State, entry: &v1::Entry, batch: &mut Batch) -> Result<(), StateError> {
    for list in lists(&about(state, entry)?, entry) {
        batch.put(Table::Index, list.at(entry.index), Vec::new());
    }
    session_changes(state, entry, batch)
}

/// The lists that an entry is on.
fn lists(about: &About, entry: &v1::Entry) -> Vec<List> {
    let mut lists: Vec<List> = List::kind(kind(entry)).into_iter().collect();
    let namespace = ledger_core::entry::namespace(entry);
    if !namespace.is_empty() {
        lists.push(List::namespace(namespace));
    }
    let mut parties: Vec<&Identity> = [&about.whom, &about.presenter, &about.author]
        .into_iter()
        .flatten()
        .collect();
    parties.sort();
    parties.dedup();
    lists.extend(parties.into_iter().map(List::party));
    lists.extend(ledger_core::entry::session(entry).map(List::session));
    lists.extend(about.action.as_deref().map(List::action));
    match &entry.body {
        Some(Body::Decision(decision)) => {
            let rules = decision.rules.iter().flat_map(|rules| &rules.ids);
            lists.extend(rules.map(|rule| List::rule(rule)));
            lists.extend(List::verdict(decision.verdict()));
            lists.extend(List::reason(decision.reason()));
        }
        Some(Body::Outcome(outcome)) if !outcome.drift.is_empty() => lists.push(List::drifted()),
        Some(
            Body::Outcome(_)
            | Body::Redemption(_)
            | Body::Genesis(_)
            | Body::SessionOpening(_)
            | Body::SessionEnd(_)
            | Body::Governance(_),
        )
        | None => {}
    }
    lists
}

/// Sessions enter their lists when they open, and leave the list of expiries when they end.
fn session_changes(
    state: &dyn State,
    entry: &v1::Entry,
    batch: &mut Batch,
) -> Result<(), StateError> {
    let (opens, result) = match &entry.body {
        Some(Body::SessionOpening(opening)) => (true, opening.result()),
        Some(Body::SessionEnd(end)) => (false, end.result()),
        Some(
            Body::Genesis(_)
            | Body::Decision(_)
            | Body::Outcome(_)
            | Body::Redemption(_)
            | Body::Governance(_),
        )
        | None => return Ok(()),
    };
    let id = ledger_core::entry::session(entry);
    let Some(id) = id.filter(|_| result == v1::Result::Applied) else {
        return Ok(());
    };
    let Some(session) = session(state, id.as_bytes())? else {
        return Ok(());
    };
    let expiry = List::expiry(session.expires_at_us, id);
    if !opens {
        batch.delete(Table::Index, expiry);
        return Ok(());
    }
    let issuer = session.issuer.as_ref();
    let lists = [
        Some(List::opened()),
        Some(List::opened_for(&session.agent)),
        Some(List::opened_in(&session.namespace)),
        SessionId::from_slice(&session.parent)
            .ok()
            .map(List::opened_under),
        issuer
            .and_then(|issuer| Identity::parse(issuer).ok())
            .map(|issuer| List::opened_by(&issuer)),
    ];
    for list in lists.into_iter().flatten() {
        batch.put(Table::Index, list.at(entry.index), id.to_vec());
    }
    batch.put(Table::Index, expiry, Vec::new());
    Ok(())
}

/// A part of a list: from one leaf (included) to another (excluded), one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first leaf.
    pub from: u64,
    /// The first leaf past the last.
    pub until: u64,
    /// Which end comes first.
    pub direction: Direction,
}

/// Up to `limit` leaves of a list with their values, in the order of the span.
///
/// # Errors
/// [`StateError`] if the store cannot be read.
pub fn leaves(
    view: &View,
    list: &List,
    span: Span,
    limit: usize,
) -> Result<Vec<(u64, Vec<u8>)>, StateError> {
    let after = match span.direction {
        // `from - 1` and `until` are the keys just outside.
        Direction::Ascending => span.from.checked_sub(1),
        Direction::Descending => Some(span.until),
    };
    let after = after.map(|leaf| list.clone().at(leaf));
    let pairs = view.index(list.as_bytes(), after.as_deref(), span.direction, limit)?;
    Ok(pairs
        .into_iter()
        .filter_map(|(key, value)| {
            let leaf = u64::from_be_bytes(*key.last_chunk::<8>()?);
            Some((leaf, value))
        })
        .take_while(|(leaf, _)| (span.from..span.until).contains(leaf))
        .collect())
}

/// Sessions without an end entry whose time is over, the longest expired first: what a sealer seals.
///
/// # Errors
/// [`StateError`] if the store cannot be read.
pub fn expired(view: &View, now_us: u64, limit: usize) -> Result<Vec<SessionId>, StateError> {
    let family = List::new(Family::Expiry);
    let pairs = view.index(family.as_bytes(), None, Direction::Ascending, limit)?;
    Ok(pairs
        .into_iter()
        .filter_map(|(key, _)| expiry_of(&key))
        .take_while(|(expires_at_us, _)| *expires_at_us <= now_us)
        .map(|(_, id)| id)
        .collect())
}

fn expiry_of(key: &[u8]) -> Option<(u64, SessionId)> {
    let (expiry, id) = key.get(1..)?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*expiry), SessionId::from_slice(id).ok()?))
}

#[cfg(test)]
mod tests {
    use ledger_core::state::Key;
    use ledger_proto::v1::command::Body as Ask;

    use super::*;
    use crate::front::test_world::{NOW, TestWorld};

    fn all(direction: Direction) -> Span {
        Span {
            from: 0,
            until: u64::MAX,
            direction,
        }
    }

    fn found(world: &TestWorld, list: &List, span: Span) -> Vec<u64> {
        let leaves = leaves(&world.view(), list, span, 100).unwrap();
        leaves.into_iter().map(|(leaf, _)| leaf).collect()
    }

    #[test]
    fn the_bytes_are_pinned() {
        let agent = List::party(&Identity::Agent("bot".to_owned()));
        assert_eq!(agent.at(258), b"\x12\x02\0\x03bot\0\0\0\0\0\0\x01\x02");
        assert_eq!(List::drifted().at(1), b"\x18\0\0\0\0\0\0\0\x01");
        let id = SessionId::from_bytes([9; 16]);
        let expiry = List::expiry(1, id);
        assert_eq!(expiry_of(&expiry), Some((1, id)));
        assert_eq!(expiry[..9], *b"\x30\0\0\0\0\0\0\0\x01");
    }

    #[test]
    fn no_list_begins_another() {
        let long = "a".repeat(70_000);
        let texts = ["", "a", "ab", "a\0", "\0\x01a", long.as_str()];
        for (one, other) in texts
            .iter()
            .flat_map(|one| texts.iter().map(move |other| (one, other)))
        {
            let (list, key) = (List::action(one), List::action(other).at(0));
            assert_eq!(
                one == other,
                key.starts_with(list.as_bytes()),
                "{one:?} {other:?}"
            );
        }
    }

    #[test]
    fn lists_are_in_leaf_order_from_either_end() {
        let mut world = TestWorld::new();
        for number in 0..300 {
            let agent = if number % 3 == 0 { "bot" } else { "bots" };
            world.decide(agent, "pay", v1::Decision::default());
        }
        let list = List::party(&Identity::Agent("bot".to_owned()));
        let ascending: Vec<u64> = (0..300).step_by(3).collect();
        assert_eq!(found(&world, &list, all(Direction::Ascending)), ascending);
        let descending: Vec<u64> = ascending.iter().rev().copied().collect();
        assert_eq!(found(&world, &list, all(Direction::Descending)), descending);
        for direction in [Direction::Ascending, Direction::Descending] {
            let span = Span {
                from: 30,
                until: 36,
                direction,
            };
            let mut part = found(&world, &list, span);
            part.sort_unstable();
            assert_eq!(part, [30, 33]);
        }
    }

    #[test]
    fn an_outcome_is_about_the_agent_and_action_of_its_decision() {
        let mut world = TestWorld::new();
        world.decide("bot", "pay", v1::Decision::default());
        let record = v1::Record::default();
        let outcome = v1::Outcome {
            drift: vec![v1::Drift::WrongRecorder.into()],
            ..v1::Outcome::default()
        };
        let author = Identity::Gateway("gate".to_owned());
        world.append(&author, Ask::Record(record), Body::Outcome(outcome));
        let up = all(Direction::Ascending);
        assert_eq!(found(&world, &List::action("pay"), up), [0, 1]);
        let bot = List::party(&Identity::Agent("bot".to_owned()));
        assert_eq!(found(&world, &bot, up), [0, 1]);
        assert_eq!(found(&world, &List::party(&author), up), [1]);
        assert_eq!(found(&world, &List::drifted(), up), [1]);
    }

    #[test]
    fn sessions_expire_until_they_end() {
        let mut world = TestWorld::new();
        let id = SessionId::from_bytes([5; 16]);
        let record = v1::SessionRecord {
            agent: "bot".to_owned(),
            expires_at_us: NOW + 5,
            ..v1::SessionRecord::default()
        };
        world.put(Key::session(id), &record);
        let author = Identity::Agent("bot".to_owned());
        let opening = v1::SessionOpening {
            result: v1::Result::Applied.into(),
            chain: Some(v1::ChainLink {
                session_id: id.to_vec(),
                ..v1::ChainLink::default()
            }),
            ..v1::SessionOpening::default()
        };
        let ask = Ask::OpenSession(v1::OpenSession::default());
        world.append(&author, ask, Body::SessionOpening(opening));
        assert_eq!(expired(&world.view(), NOW + 4, 9).unwrap(), []);
        assert_eq!(expired(&world.view(), NOW + 5, 9).unwrap(), [id]);
        let opened = leaves(
            &world.view(),
            &List::opened_for("bot"),
            all(Direction::Ascending),
            9,
        );
        assert_eq!(opened.unwrap(), [(0, id.to_vec())]);
        let mut end = v1::SessionEnd {
            result: v1::Result::NotPermitted.into(),
            session_id: id.to_vec(),
            ..v1::SessionEnd::default()
        };
        let close = || {
            Ask::CloseSession(v1::CloseSession {
                session_id: id.to_vec(),
            })
        };
        world.append(&author, close(), Body::SessionEnd(end.clone()));
        assert_eq!(expired(&world.view(), NOW + 5, 9).unwrap(), [id]);
        end.result = v1::Result::Applied.into();
        world.append(&author, close(), Body::SessionEnd(end));
        assert_eq!(expired(&world.view(), NOW + 5, 9).unwrap(), []);
        assert_eq!(
            found(&world, &List::session(id), all(Direction::Ascending)),
            [0, 1, 2]
        );
    }
}
