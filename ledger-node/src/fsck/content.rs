//! What an entry says, and what it must have left behind: its request id, its compartments, its lists, and the records that
//! stay for good.

use ledger_core::command::Command;
use ledger_core::hash::{Hash, LeafIndex};
use ledger_core::id::Identity;
use ledger_core::keys::PublicKey;
use ledger_core::machine::halt_ends_at;
use ledger_core::state::Key;
use ledger_core::{compartment, entry};
use ledger_proto::v1::{self, command::Body as Ask, entry::Body};
use policy_engine::BundleDigest;
use prost::Message as _;

use super::{Check, Go, Ground, Seen, index};
use crate::storage::Table;

pub(super) fn check_entry(
    check: &mut Check<'_>,
    ground: &Ground,
    seen: &mut Seen,
    leaf: LeafIndex,
    bytes: &[u8],
) -> Go {
    let key = Key::entry(leaf);
    let found = match entry::decode(bytes) {
        Ok(found) => found,
        Err(error) => return check.found(Table::State, key.as_bytes(), error),
    };
    let wrong = if found.index != leaf.0 {
        Some("says another index")
    } else if found.time_us <= seen.time_us && leaf.0 > 0 {
        Some("is not later than the entry before it")
    } else if found.engine_version > ground.ledger.engine_version {
        Some("was made by an engine version that is not in force")
    } else if found.body.is_none() {
        Some("has no body")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        check.found(Table::State, key.as_bytes(), wrong)?;
    }
    seen.time_us = found.time_us;
    index::check_entry(check, seen, &found)?;
    let Some(signed) = &found.signed else {
        return check_genesis(check, &found);
    };
    let Ok(command) = Command::parse(signed) else {
        return check.found(Table::State, key.as_bytes(), "its command does not decode");
    };
    seen.requests += 1;
    check_request(check, leaf, &command)?;
    check_compartments(check, seen, &found, &command)?;
    if result(&found) != Some(v1::Result::Applied) {
        check_redemption(check, &found, &command)?;
        return check_outcome(check, &found, &command);
    }
    follow_time(seen, &found);
    follow_halts(seen, &found, &command);
    check_erasure(check, seen, &command)?;
    check_records(check, &found, &command)
}

/// What became of a command that is not about one decision.
fn result(entry: &v1::Entry) -> Option<v1::Result> {
    match entry.body.as_ref()? {
        Body::Governance(governance) => Some(governance.result()),
        Body::SessionOpening(opening) => Some(opening.result()),
        Body::SessionEnd(end) => Some(end.result()),
        Body::Genesis(_) | Body::Decision(_) | Body::Outcome(_) | Body::Redemption(_) => None,
    }
}

fn check_request(check: &mut Check<'_>, leaf: LeafIndex, command: &Command) -> Go {
    let key = Key::request(&command.author, command.request_id);
    let expected = v1::RequestRecord {
        leaf: leaf.0,
        command_digest: command.digest.as_bytes().to_vec(),
    };
    match check.state(&key)? {
        None => check.found(
            Table::State,
            key.as_bytes(),
            format!("the request id of entry {leaf} is missing"),
        ),
        Some(bytes) if bytes != expected.encode_to_vec() => check.found(
            Table::State,
            key.as_bytes(),
            format!("the request id does not lead to its entry {leaf}, or not with its digest"),
        ),
        Some(_) => Ok(()),
    }
}

/// Every compartment that was stored is there and is what was committed to, or is remembered as absent.
fn check_compartments(
    check: &mut Check<'_>,
    seen: &mut Seen,
    found: &v1::Entry,
    command: &Command,
) -> Go {
    let leaf = LeafIndex(found.index);
    for kind in found.stored() {
        let key = Key::compartment(leaf, kind);
        let Some(bytes) = check.state(&key)? else {
            seen.absent.insert((leaf.0, kind.into()));
            continue;
        };
        let stored = ledger_core::canonical::decode::<v1::Compartment>(&bytes, usize::MAX);
        let commitment = command.commitments.get(&kind);
        let holds = match (&stored, commitment) {
            (Ok(stored), Some(commitment)) => compartment::matches(commitment, stored),
            (Err(_), _) | (_, None) => false,
        };
        if !holds {
            check.found(
                Table::State,
                key.as_bytes(),
                format!("the content is not what entry {leaf} commits to"),
            )?;
        }
    }
    Ok(())
}

/// What an entry erased is gone.
fn check_erasure(check: &mut Check<'_>, seen: &mut Seen, command: &Command) -> Go {
    let Ask::Erase(ask) = &command.body else {
        return Ok(());
    };
    for named in &ask.compartments {
        seen.absent.remove(&(named.index, named.kind));
        let key = Key::compartment(LeafIndex(named.index), named.kind());
        if check.state(&key)?.is_some() {
            check.found(
                Table::State,
                key.as_bytes(),
                "the content was erased and is still there",
            )?;
        }
    }
    Ok(())
}

/// Compartments that are gone without an entry that erased them.
pub(super) fn check_absent(check: &mut Check<'_>, seen: &Seen) -> Go {
    for (leaf, kind) in &seen.absent {
        let kind = v1::CompartmentKind::try_from(*kind).unwrap_or_default();
        let key = Key::compartment(LeafIndex(*leaf), kind);
        check.found(
            Table::State,
            key.as_bytes(),
            format!("is missing, although entry {leaf} stored it and no entry erased it"),
        )?;
    }
    Ok(())
}

/// How far the ledger's time must be ahead of clocks at the end.
fn follow_time(seen: &mut Seen, found: &v1::Entry) {
    if let Some(Body::Governance(governance)) = &found.body
        && let Some(v1::governance::Detail::TimeAdjustment(adjusted)) = &governance.detail
    {
        let by_us = adjusted.time_offset_us.saturating_sub(seen.time_offset_us);
        for ends_at_us in seen.halts.values_mut() {
            *ends_at_us = halt_ends_at(*ends_at_us, by_us);
        }
        seen.time_offset_us = adjusted.time_offset_us;
        seen.adjusted_at_us = found.time_us;
    }
}

/// Which halts must be in force at the end.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only two commands concern halts"
)]
fn follow_halts(seen: &mut Seen, found: &v1::Entry, command: &Command) {
    match &command.body {
        Ask::SetHalt(ask) => {
            // As when it was set: halts that have ended make room.
            let now_us = found.time_us;
            seen.halts
                .retain(|_, expires_at_us| *expires_at_us == 0 || *expires_at_us > now_us);
            let ends_at_us = halt_ends_at(ask.expires_at_us, seen.time_offset_us);
            seen.halts.insert(ask.id.clone(), ends_at_us);
        }
        Ask::ClearHalt(ask) => {
            seen.halts.remove(&ask.id);
        }
        _ => {}
    }
}

/// Whoever may record for a decision leaves a first outcome, this one or an earlier one.
fn check_outcome(check: &mut Check<'_>, found: &v1::Entry, command: &Command) -> Go {
    let (Some(Body::Outcome(outcome)), Ask::Record(ask)) = (&found.body, &command.body) else {
        return Ok(());
    };
    let of_decision = matches!(
        check.entry(ask.decision_index)?,
        Some(v1::Entry {
            body: Some(Body::Decision(_)),
            index,
            ..
        }) if index < found.index
    );
    if !of_decision
        || outcome
            .drift()
            .any(|drift| drift == v1::Drift::WrongRecorder)
    {
        return Ok(());
    }
    let why = format!("entry {} is an outcome of it", found.index);
    check.expect(&Key::outcome_of(LeafIndex(ask.decision_index)), why)
}

/// The redemption of a decision is found by the decision.
fn check_redemption(check: &mut Check<'_>, found: &v1::Entry, command: &Command) -> Go {
    let (Some(Body::Redemption(redemption)), Ask::Redeem(ask)) = (&found.body, &command.body)
    else {
        return Ok(());
    };
    if redemption.reason() != v1::RedemptionReason::Redeemed {
        return Ok(());
    }
    let why = format!("entry {} redeemed it", found.index);
    check.expect(&Key::redemption_of(LeafIndex(ask.decision_index)), why)
}

fn check_genesis(check: &mut Check<'_>, found: &v1::Entry) -> Go {
    let Some(Body::Genesis(genesis)) = &found.body else {
        let key = Key::entry(LeafIndex(found.index));
        return check.found(
            Table::State,
            key.as_bytes(),
            "holds no command and is no genesis",
        );
    };
    let why = "the genesis has it";
    for operator in &genesis.operators {
        check.expect(&Key::operator(&operator.id), why)?;
        check_keys(check, &operator.keys, why)?;
    }
    check_cards(check, &genesis.nodes, why)?;
    check_keys(check, genesis.recovery_key.as_slice(), why)?;
    check.expect(&Key::trust(0), why)
}

fn check_cards(check: &mut Check<'_>, cards: &[v1::NodeCard], why: &str) -> Go {
    for card in cards {
        check.expect(&Key::node(card.node_id), why)?;
        if let Ok(key) = PublicKey::from_bytes(&card.public_key) {
            check.expect(&Key::public_key(key.key_id()), why)?;
        }
    }
    Ok(())
}

fn check_keys(check: &mut Check<'_>, enrolments: &[v1::KeyEnrolment], why: &str) -> Go {
    for key in enrolments
        .iter()
        .filter_map(|enrolment| enrolment.key.as_ref())
    {
        if let Ok(key) = PublicKey::parse(key) {
            check.expect(&Key::public_key(key.key_id()), why)?;
        }
    }
    Ok(())
}

/// Records that no later command takes away.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the other commands make no record that stays"
)]
fn check_records(check: &mut Check<'_>, found: &v1::Entry, command: &Command) -> Go {
    let why = &format!("entry {} made it", found.index);
    match &command.body {
        Ask::RegisterOperator(ask) => {
            check.expect(&Key::operator(&ask.id), why)?;
            check_keys(check, &ask.keys, why)
        }
        Ask::ReplaceAdmins(ask) => ask.admins.iter().try_for_each(|admin| {
            check.expect(&Key::operator(&admin.id), why)?;
            check_keys(check, &admin.keys, why)
        }),
        Ask::RegisterAgent(ask) => {
            check.expect(&Key::agent(&ask.id), why)?;
            check_keys(check, &ask.keys, why)
        }
        Ask::RegisterGateway(ask) => {
            check.expect(&Key::gateway(&ask.id), why)?;
            check_keys(check, &ask.keys, why)
        }
        Ask::AddKey(ask) => check_keys(check, ask.key.as_slice(), why),
        Ask::CreateNamespace(ask) => check.expect(&Key::namespace(&ask.name), why),
        Ask::UpdateMembership(ask) => {
            if let Some(Body::Governance(governance)) = &found.body
                && let Some(v1::governance::Detail::TrustEpoch(trust)) = &governance.detail
            {
                check.expect(&Key::trust(trust.epoch), why)?;
            }
            check_cards(check, &ask.nodes, why)
        }
        Ask::PublishBundle(ask) => check_bundle(check, found, ask, why),
        Ask::AttestState(_) => check_attestation(check, command, why),
        Ask::OpenSession(_) => match entry::session(found) {
            Some(id) => check.expect(&Key::session(id), why),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// What a node attested last is kept as long as it is a member.
fn check_attestation(check: &mut Check<'_>, command: &Command, why: &str) -> Go {
    let Identity::Node(node) = command.author else {
        return Ok(());
    };
    let member: Option<v1::NodeRecord> = check.record(&Key::node(node))?;
    if member.is_some_and(|member| member.member) {
        check.expect(&Key::attestation(node), why)?;
    }
    Ok(())
}

/// A bundle that is complete keeps all its chunks.
fn check_bundle(
    check: &mut Check<'_>,
    found: &v1::Entry,
    ask: &v1::PublishBundle,
    why: &str,
) -> Go {
    let complete = matches!(
        &found.body,
        Some(Body::Governance(v1::Governance {
            detail: Some(v1::governance::Detail::Publication(v1::Publication {
                complete: true
            })),
            ..
        }))
    );
    let Some(digest) = Hash::from_slice(&ask.digest).filter(|_| complete) else {
        return Ok(());
    };
    let digest = BundleDigest(*digest.as_bytes());
    check.expect(&Key::bundle(&ask.namespace, &digest), why)?;
    for chunk in 0..ask.chunk_count {
        check.expect(&Key::bundle_chunk(&ask.namespace, &digest, chunk), why)?;
    }
    Ok(())
}
