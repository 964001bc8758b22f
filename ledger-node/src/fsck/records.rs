//! The records of the state, family by family: each decodes, in the one form that is written, and is tied to the entry of its
//! last change.

use ledger_core::hash::LeafIndex;
use ledger_core::id::{Identity, KeyId};
use ledger_core::keys::PublicKey;
use ledger_core::state::{Family, Key};
use ledger_core::{canonical, entry};
use ledger_proto::v1::{self, command::Body as Ask, entry::Body};
use policy_engine::{BundleDigest, HEADER, check_record};
use prost::Message;

use super::{Check, Enough, Go, Ground, Seen, family_of};
use crate::index;
use crate::storage::Table;
use crate::storage::view::StoreState;

pub(super) fn check(check: &mut Check<'_>, ground: &Ground, seen: &Seen) -> Go {
    let mut requests = 0;
    for family in Family::ALL {
        // These two were read with the tree.
        if matches!(family, Family::Entry | Family::TileHash) {
            continue;
        }
        let prefix = Key::family(family);
        let count = check.walk(Table::State, prefix.as_bytes(), |check, key, bytes| {
            check_pair(check, ground, family, key, bytes)
        })?;
        if family == Family::Request {
            requests = count;
        }
    }
    if requests != seen.requests {
        check_requests(check)?;
    }
    check_halts(check, seen)?;
    for byte in 0..=u8::MAX {
        if family_of(&[byte]).is_none() {
            check.walk(Table::State, &[byte], |check, key, _| {
                check.found(Table::State, key, "is of no family that the machine keeps")
            })?;
        }
    }
    Ok(())
}

fn check_pair(
    check: &mut Check<'_>,
    ground: &Ground,
    family: Family,
    key: &[u8],
    bytes: &[u8],
) -> Go {
    let pair = Pair { key, bytes };
    let result = match family {
        Family::Ledger => pair.is::<v1::LedgerRecord>(key.len() == 1),
        Family::Head => pair.is::<v1::HeadRecord>(key.len() == 1),
        Family::Operator => {
            somebody::<v1::OperatorRecord>(check, pair, |record| record.leaf, Identity::Operator)
        }
        Family::Agent => {
            somebody::<v1::AgentRecord>(check, pair, |record| record.leaf, Identity::Agent)
        }
        Family::Gateway => {
            somebody::<v1::GatewayRecord>(check, pair, |record| record.leaf, Identity::Gateway)
        }
        Family::Node => node(check, pair),
        Family::Key => public_key(check, pair),
        Family::KeyOfIdentity => key_of_identity(check, pair),
        Family::Namespace => namespace(check, pair),
        Family::Session => session(check, ground, pair),
        Family::Halt => halt(check, pair),
        Family::Bundle => bundle(check, pair),
        Family::BundleChunk => bundle_chunk(check, pair),
        Family::Request => pair.is::<v1::RequestRecord>(true),
        Family::OutcomeOf => outcome_of(check, pair),
        Family::RedemptionOf => redemption_of(check, pair),
        Family::Trust => trust(check, ground, pair),
        Family::Attestation => attestation(check, pair),
        Family::Partition => partition(check, pair),
        Family::PartitionExpiry => partition_expiry(check, pair),
        Family::Compartment => compartment(check, pair),
        // Read with the tree.
        Family::Entry | Family::TileHash => Ok(()),
    };
    match result {
        Ok(()) => Ok(()),
        Err(Wrong::Here(what)) => check.found(Table::State, key, what),
        Err(Wrong::Enough) => Err(Enough),
    }
}

/// Why a record is not looked at any further.
enum Wrong {
    /// This is wrong with it.
    Here(String),
    /// Enough is known of the whole store.
    Enough,
}

impl From<Enough> for Wrong {
    fn from(_: Enough) -> Self {
        Self::Enough
    }
}

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Self::Here(what)
    }
}

impl From<&str> for Wrong {
    fn from(what: &str) -> Self {
        Self::Here(what.to_owned())
    }
}

/// What is wrong with a record, if anything.
type Judged = Result<(), Wrong>;

#[derive(Clone, Copy)]
struct Pair<'p> {
    key: &'p [u8],
    bytes: &'p [u8],
}

impl Pair<'_> {
    fn decode<M: Message + Default>(&self) -> Result<M, String> {
        canonical::decode(self.bytes, usize::MAX).map_err(|error| error.to_string())
    }

    fn is<M: Message + Default>(&self, key_holds: bool) -> Judged {
        self.decode::<M>()?;
        holds(key_holds, "the key has another form")
    }

    fn rest(&self) -> &[u8] {
        self.key.get(1..).unwrap_or_default()
    }

    fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.rest()).ok()
    }

    fn number(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.rest().try_into().ok()?))
    }
}

fn holds(condition: bool, what: &str) -> Judged {
    if condition { Ok(()) } else { Err(what.into()) }
}

const UNTIED: &str = "the entry that it names as its last change did not change it";

/// The command of an entry.
fn ask(check: &mut Check<'_>, leaf: u64) -> Go<Option<Ask>> {
    let found = check.entry(leaf)?;
    let command = found.and_then(|found| entry::command(&found).ok().flatten());
    Ok(command.and_then(|command| command.body))
}

/// True if the entry at a leaf is about an identity, or about all that there are.
fn is_about(check: &mut Check<'_>, leaf: u64, identity: &Identity) -> Go<bool> {
    let Some(found) = check.entry(leaf)? else {
        return Ok(false);
    };
    if matches!(found.body, Some(Body::Genesis(_))) {
        return Ok(true);
    }
    let state = StoreState(check.read);
    let whom = index::about(&state, &found).map(|about| about.whom);
    let named = whom.is_ok_and(|whom| whom.as_ref() == Some(identity));
    let replaced = matches!(
        (ask(check, leaf)?, identity),
        (Some(Ask::ReplaceAdmins(_)), Identity::Operator(_))
    );
    Ok(named || replaced)
}

/// The record of an operator, an agent or a gateway: the entry that it names as its last change is about them.
fn somebody<M: Message + Default>(
    check: &mut Check<'_>,
    pair: Pair<'_>,
    leaf: fn(&M) -> u64,
    identity: fn(String) -> Identity,
) -> Judged {
    let record: M = pair.decode()?;
    let id = pair.text().unwrap_or_default().to_owned();
    let tied = is_about(check, leaf(&record), &identity(id))?;
    holds(tied, UNTIED)
}

fn node(check: &mut Check<'_>, pair: Pair<'_>) -> Judged {
    let record: v1::NodeRecord = pair.decode()?;
    let id = record.card.as_ref().map(|card| card.node_id);
    if id.is_none() || id != pair.number() {
        return Err("the card is of another node".into());
    }
    let by = check.entry(record.leaf)?;
    let genesis = by.is_some_and(|by| matches!(by.body, Some(Body::Genesis(_))));
    let tied = genesis
        || matches!(
            ask(check, record.leaf)?,
            Some(Ask::UpdateMembership(_) | Ask::DeclareSupport(_))
        );
    holds(tied, UNTIED)
}

/// A member's last attestation says what its entry says.
fn attestation(check: &mut Check<'_>, pair: Pair<'_>) -> Judged {
    let record: v1::AttestationRecord = pair.decode()?;
    let Some(node) = pair.number() else {
        return Err("the key has another form".into());
    };
    let member: Option<v1::NodeRecord> = check.record(&Key::node(node))?;
    if !member.is_some_and(|member| member.member) {
        return Err("the node is no member".into());
    }
    let said = v1::AttestState {
        tree_size: record.tree_size,
        digest: record.digest,
        copied: record.copied,
    };
    let found = check.entry(record.leaf)?;
    let command = found.and_then(|found| entry::command(&found).ok().flatten());
    let tied = command.is_some_and(|command| {
        let author = command.author.as_ref().map(Identity::parse);
        author == Some(Ok(Identity::Node(node))) && command.body == Some(Ask::AttestState(said))
    });
    holds(tied, UNTIED)
}

fn public_key(check: &mut Check<'_>, pair: Pair<'_>) -> Judged {
    let record: v1::KeyRecord = pair.decode()?;
    let identity = record.identity.as_ref().map(Identity::parse);
    let key = record.key.as_ref().map(PublicKey::parse);
    let (Some(Ok(identity)), Some(Ok(key))) = (identity, key) else {
        return Err("the key or its identity is not valid".into());
    };
    let id = key.key_id();
    if Key::public_key(id).as_bytes() != pair.key {
        return Err("the key has another id".into());
    }
    check.expect(&Key::key_of(&identity, id), "its key is there")?;
    let known = check.entry(record.leaf)?.is_some();
    holds(known, UNTIED)
}

fn key_of_identity(check: &mut Check<'_>, pair: Pair<'_>) -> Judged {
    let Some(id) = pair.key.last_chunk::<16>() else {
        return Err("the key has another form".into());
    };
    let id = KeyId::from_bytes(*id);
    let record: Option<v1::KeyRecord> = check.record(&Key::public_key(id))?;
    let identity = record.and_then(|record| Identity::parse(&record.identity?).ok());
    let same = identity.is_some_and(|identity| Key::key_of(&identity, id).as_bytes() == pair.key);
    holds(
        same && pair.bytes.is_empty(),
        "the identity does not have this key",
    )
}

fn namespace(check: &mut Check<'_>, pair: Pair<'_>) -> Judged {
    let record: v1::NamespaceRecord = pair.decode()?;
    let name = pair.text();
    let tied = match ask(check, record.leaf)? {
        Some(Ask::CreateNamespace(ask)) => Some(ask.name.as_str()) == name,
        Some(Ask::UpdateNamespace(ask)) => Some(ask.name.as_str()) == name,
        _ => false,
    };
    let activated = record.active_digest.is_empty()
        || matches!(
            ask(check, record.activation_leaf)?,
            Some(Ask::ActivateBundle(ask))
                if ask.digest == record.active_digest && Some(ask.namespace.as_str()) == name
        );
    holds(tied && activated, UNTIED)
}

/// A session's count and head are those of the last entry of its chain.
fn session(check: &mut Check<'_>, ground: &Ground, pair: Pair<'_>) -> Judged {
    let record: v1::SessionRecord = pair.decode()?;
    let Ok(id) = ledger_core::id::SessionId::from_slice(pair.rest()) else {
        return Err("the key has another form".into());
    };
    let opening = check.entry(record.leaf)?;
    let tied = opening.is_some_and(|found| {
        let ask = entry::command(&found).ok().flatten();
        let same = matches!(
            ask.and_then(|command| command.body),
            Some(Ask::OpenSession(ask)) if ask.agent == record.agent && ask.scope == record.scope
        );
        same && found.time_us == record.opened_at_us && entry::session(&found) == Some(id)
    });
    if !tied {
        return Err(UNTIED.into());
    }
    let list = index::List::session(id);
    let mut last = None;
    // Ascending, because a walk is; the last link of the chain stays.
    check.look(Table::Index, list.as_bytes(), |check, key, _| {
        let leaf = key
            .last_chunk::<8>()
            .map_or(0, |leaf| u64::from_be_bytes(*leaf));
        let Some(bytes) = check.state(&Key::entry(LeafIndex(leaf)))? else {
            return Ok(());
        };
        let link = entry::decode(&bytes)
            .ok()
            .and_then(|found| entry::chain(&found).cloned());
        if let Some(link) = link.filter(|link| !link.late && link.session_id == id.as_bytes()) {
            last = Some((link.number, ground.hash.leaf(&bytes)));
        }
        Ok(())
    })?;
    let same =
        last.is_some_and(|(number, head)| record.count == number && record.head == head.as_bytes());
    holds(same, "count or head is not that of its last entry")
}

fn halt(check: &mut Check<'_>, pair: Pair<'_>) -> Judged {
    let record: v1::HaltRecord = pair.decode()?;
    let tied = matches!(
        ask(check, record.leaf)?,
        Some(Ask::SetHalt(ask))
            if Some(ask.id.as_str()) == pair.text()
                && ask.scope == record.scope
    );
    holds(tied, UNTIED)
}

/// Halts that were set, not lifted, and have not ended are there: a lost one would let through what it stops.
fn check_halts(check: &mut Check<'_>, seen: &Seen) -> Go {
    for (id, expires_at_us) in &seen.halts {
        if *expires_at_us == 0 || *expires_at_us > seen.time_us {
            let key = Key::halt(id);
            check.expect(&key, "it was set and not lifted")?;
            let record: Option<v1::HaltRecord> = check.record(&key)?;
            if record.is_some_and(|record| record.expires_at_us != *expires_at_us) {
                let what = "its end is not the one that it was set with";
                check.found(Table::State, key.as_bytes(), what)?;
            }
        }
    }
    Ok(())
}

fn bundle(check: &mut Check<'_>, pair: Pair<'_>) -> Judged {
    let record: v1::BundleRecord = pair.decode()?;
    // The key of a chunk is that of its bundle and its number, in the other family.
    let mut chunks = Key::family(Family::BundleChunk).into_bytes();
    chunks.extend_from_slice(pair.rest());
    let mut count = 0_u32;
    check.look(Table::State, &chunks, |_, _, _| {
        count += 1;
        Ok(())
    })?;
    let same = record.received == count && record.complete == (count == record.chunk_count);
    holds(same, "says that it has other chunks than there are")
}

fn bundle_chunk(check: &mut Check<'_>, pair: Pair<'_>) -> Judged {
    let record: v1::LeafRecord = pair.decode()?;
    let Some(Ask::PublishBundle(ask)) = ask(check, record.leaf)? else {
        return Err(UNTIED.into());
    };
    let digest: Option<[u8; 32]> = ask.digest.as_slice().try_into().ok();
    let same = digest.is_some_and(|digest| {
        let digest = BundleDigest(digest);
        Key::bundle_chunk(&ask.namespace, &digest, ask.chunk_index).as_bytes() == pair.key
    });
    holds(same, UNTIED)
}

fn outcome_of(check: &mut Check<'_>, pair: Pair<'_>) -> Judged {
    let record: v1::LeafRecord = pair.decode()?;
    let same = matches!(
        ask(check, record.leaf)?,
        Some(Ask::Record(ask)) if Some(ask.decision_index) == pair.number()
    );
    holds(same, UNTIED)
}

fn redemption_of(check: &mut Check<'_>, pair: Pair<'_>) -> Judged {
    let record: v1::LeafRecord = pair.decode()?;
    let redeemed = matches!(
        check.entry(record.leaf)?.and_then(|found| found.body),
        Some(Body::Redemption(redemption)) if redemption.reason() == v1::RedemptionReason::Redeemed
    );
    let same = matches!(
        ask(check, record.leaf)?,
        Some(Ask::Redeem(ask)) if Some(ask.decision_index) == pair.number()
    );
    holds(redeemed && same, UNTIED)
}

fn trust(check: &mut Check<'_>, ground: &Ground, pair: Pair<'_>) -> Judged {
    let record: v1::TrustRecord = pair.decode()?;
    let Some(epoch) = pair
        .number()
        .filter(|epoch| *epoch <= ground.ledger.trust_epoch)
    else {
        return Err("is of an epoch that has not come".into());
    };
    let policy = match check.entry(record.leaf)?.and_then(|found| found.body) {
        Some(Body::Genesis(genesis)) if epoch == 0 => Some(genesis.trust_policy),
        _ => match ask(check, record.leaf)? {
            Some(Ask::UpdateMembership(ask)) => Some(ask.trust_policy),
            _ => None,
        },
    };
    holds(policy.as_ref() == Some(&record.trust_policy), UNTIED)
}

/// The key of a partition in the order of expiries.
fn expiry_key(at_us: u64, partition: &[u8]) -> Vec<u8> {
    let mut key = Key::family(Family::PartitionExpiry).into_bytes();
    key.extend_from_slice(&at_us.to_be_bytes());
    key.extend_from_slice(partition);
    key
}

/// The key of the partition that a record belongs to, and the record's key inside it.
fn split_partition(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let sized = |rest: &[u8]| {
        let (length, rest) = rest.split_first_chunk::<2>()?;
        rest.get(usize::from(u16::from_be_bytes(*length))..)
            .map(<[u8]>::len)
    };
    let namespace_ends = sized(key.get(1..)?)?;
    let scope = key.get(key.len() - namespace_ends..)?;
    let inside = sized(scope.get(1..)?)?;
    key.split_at_checked(key.len() - inside)
}

fn partition(check: &mut Check<'_>, pair: Pair<'_>) -> Judged {
    let Some((partition, record)) = split_partition(pair.key) else {
        return Err("the key has another form".into());
    };
    match check_record(record, pair.bytes) {
        Err(error) => return Err(error.to_string().into()),
        Ok(Some(at_us)) => {
            let expiry = expiry_key(at_us, partition);
            if check.get(Table::State, &expiry)?.is_none() {
                let what = "is missing, although its partition is there";
                check.found(Table::State, &expiry, what)?;
            }
        }
        Ok(None) => {
            let header = [partition, HEADER].concat();
            if check.get(Table::State, &header)?.is_none() {
                return Err("is of a partition without a header".into());
            }
        }
    }
    Ok(())
}

fn partition_expiry(check: &mut Check<'_>, pair: Pair<'_>) -> Judged {
    let Some((_, key)) = pair.rest().split_first_chunk::<8>() else {
        return Err("the key has another form".into());
    };
    let header = [key, HEADER].concat();
    let Some(bytes) = check.get(Table::State, &header)? else {
        let what = "a partition is missing, although it has not expired";
        check.found(Table::State, &header, what)?;
        return Ok(());
    };
    let at_us = check_record(HEADER, &bytes).ok().flatten();
    let same = at_us.is_some_and(|at_us| expiry_key(at_us, key) == pair.key);
    holds(
        same && pair.bytes.is_empty(),
        "there is no partition that expires then",
    )
}

/// What a compartment holds was compared with its entry; here it must have one.
fn compartment(check: &mut Check<'_>, pair: Pair<'_>) -> Judged {
    let stored: v1::Compartment = pair.decode()?;
    let found = match pair.rest().split_first_chunk::<8>() {
        Some((leaf, _)) => check.entry(u64::from_be_bytes(*leaf))?,
        None => None,
    };
    let named = found.is_some_and(|found| {
        let key = Key::compartment(LeafIndex(found.index), stored.kind());
        found.stored.contains(&stored.kind) && key.as_bytes() == pair.key
    });
    holds(named, "no entry stored this content")
}

/// Names the request ids that belong to no entry. That every entry has its own was seen with the entries.
fn check_requests(check: &mut Check<'_>) -> Go {
    let prefix = Key::family(Family::Request);
    check.look(Table::State, prefix.as_bytes(), |check, key, bytes| {
        let record = v1::RequestRecord::decode(bytes).ok();
        let found = match record {
            Some(record) => check.entry(record.leaf)?,
            None => None,
        };
        let signed = found.and_then(|found| found.signed);
        let command = signed.and_then(|signed| ledger_core::command::Command::parse(&signed).ok());
        let own = command.map(|command| Key::request(&command.author, command.request_id));
        if own.is_some_and(|own| own.as_bytes() == key) {
            Ok(())
        } else {
            check.found(Table::State, key, "the request id belongs to no entry")
        }
    })?;
    Ok(())
}
