//! Bundles in the ledger: published chunk by chunk, compiled when complete, activated for a namespace.
//!
//! A namespace keeps the history of its active bundle and of the candidates published after it. A rule's history begins when
//! it is published, or earlier if the active bundle has the same rule; activation never moves a beginning forward.

use ledger_proto::v1::{self, governance::Detail};
use policy_engine::{BundleDigest, Compiled, Fingerprint};

use super::authority::Duty;
use super::context::{Context, Stop, applied};
use super::history::starts;
use super::policies::chunk_bytes;
use super::validate;
use crate::hash::LeafIndex;
use crate::limits::{
    BUNDLE_CHUNK_LEN, MAX_BUNDLE_CHUNKS, MAX_PENDING_BUNDLES, MAX_RULES_IN_ENTRY,
    MAX_TRACKED_BUNDLES,
};
use crate::state::{Key, Txn};

pub(super) fn publish(
    context: &mut Context<'_, '_>,
    ask: &v1::PublishBundle,
) -> Result<v1::Governance, Stop> {
    let digest = parse_digest(&ask.digest)?;
    let is_last = ask.chunk_index.checked_add(1) == Some(ask.chunk_count);
    let len_fits = if is_last {
        (1..=BUNDLE_CHUNK_LEN).contains(&ask.chunk.len())
    } else {
        ask.chunk.len() == BUNDLE_CHUNK_LEN
    };
    validate::valid(
        (1..=MAX_BUNDLE_CHUNKS).contains(&ask.chunk_count)
            && ask.chunk_index < ask.chunk_count
            && len_fits,
    )?;
    context.require(Duty::ManagePolicy, &ask.namespace)?;
    let mut namespace = context
        .namespace(&ask.namespace)?
        .ok_or(v1::Result::NotFound)?;

    let key = Key::bundle(&ask.namespace, &digest);
    let mut record = match context.txn.read::<v1::BundleRecord>(&key)? {
        Some(record) => record,
        None => begin(context, ask)?,
    };
    validate::valid(record.chunk_count == ask.chunk_count)?;
    let chunk_key = Key::bundle_chunk(&ask.namespace, &digest, ask.chunk_index);
    if context.txn.contains(&chunk_key)? {
        return Err(v1::Result::AlreadyExists.into());
    }
    record.received += 1;
    record.size += ask.chunk.len() as u64;
    record.complete = record.received == record.chunk_count;
    if record.complete {
        let packed = assemble(context.txn, ask, digest)?;
        match context.policies.compile(&key, &packed)? {
            Some(compiled) if compiled.digest() == digest => {
                track(context, &mut namespace, &compiled)
            }
            _ => return withdraw(context.txn, ask, digest),
        }
        context
            .txn
            .write(Key::namespace(&ask.namespace), &namespace);
    }
    context.txn.write(
        chunk_key,
        &v1::LeafRecord {
            leaf: context.leaf.0,
        },
    );
    context.txn.write(key, &record);
    Ok(v1::Governance {
        detail: Some(Detail::Publication(v1::Publication {
            complete: record.complete,
        })),
        ..applied(&ask.namespace)
    })
}

fn parse_digest(bytes: &[u8]) -> Result<BundleDigest, Stop> {
    bytes
        .try_into()
        .map(BundleDigest)
        .map_err(|_| v1::Result::InvalidArgument.into())
}

/// A new publication, if there is room for one.
fn begin(context: &Context<'_, '_>, ask: &v1::PublishBundle) -> Result<v1::BundleRecord, Stop> {
    let bundles = context
        .txn
        .records::<v1::BundleRecord>(&Key::bundles(&ask.namespace))?;
    let pending = bundles
        .iter()
        .filter(|(_, record)| !record.complete)
        .count();
    if pending >= MAX_PENDING_BUNDLES {
        return Err(v1::Result::LimitExceeded.into());
    }
    Ok(v1::BundleRecord {
        chunk_count: ask.chunk_count,
        ..v1::BundleRecord::default()
    })
}

/// The whole bundle: the chunks in the ledger, and the one that this command brings.
fn assemble(txn: &Txn<'_>, ask: &v1::PublishBundle, digest: BundleDigest) -> Result<Vec<u8>, Stop> {
    let mut packed = Vec::new();
    for chunk in 0..ask.chunk_count {
        if chunk == ask.chunk_index {
            packed.extend_from_slice(&ask.chunk);
        } else {
            let leaf: v1::LeafRecord =
                txn.must_read(&Key::bundle_chunk(&ask.namespace, &digest, chunk))?;
            packed.extend_from_slice(&chunk_bytes(txn, LeafIndex(leaf.leaf))?);
        }
    }
    Ok(packed)
}

/// A bundle that does not compile, or whose bytes are not what its digest says, is taken back as a whole, so that the right
/// chunks can be published.
fn withdraw(
    txn: &mut Txn<'_>,
    ask: &v1::PublishBundle,
    digest: BundleDigest,
) -> Result<v1::Governance, Stop> {
    for chunk in 0..ask.chunk_count {
        txn.delete(Key::bundle_chunk(&ask.namespace, &digest, chunk));
    }
    txn.delete(Key::bundle(&ask.namespace, &digest));
    Ok(v1::Governance {
        result: v1::Result::BundleInvalid.into(),
        ..applied(&ask.namespace)
    })
}

/// Begins the history of a bundle's rules.
fn track(context: &Context<'_, '_>, namespace: &mut v1::NamespaceRecord, compiled: &Compiled) {
    let digest = compiled.digest().0.to_vec();
    namespace.tracked.retain(|tracked| tracked.digest != digest);
    namespace.tracked.push(v1::TrackedBundle {
        digest,
        published_leaf: context.leaf.0,
        starts: rule_starts(compiled, |_| context.now_us),
        longest_window_us: longest_window(compiled),
    });
    drop_oldest(namespace);
}

/// Keeps as many candidates as fit, the active bundle always among them.
fn drop_oldest(namespace: &mut v1::NamespaceRecord) {
    while namespace.tracked.len() > MAX_TRACKED_BUNDLES {
        let oldest = namespace
            .tracked
            .iter()
            .position(|tracked| tracked.digest != namespace.active_digest);
        let Some(oldest) = oldest else { break };
        namespace.tracked.remove(oldest);
    }
}

fn rule_starts(compiled: &Compiled, start_us: impl Fn(Fingerprint) -> u64) -> Vec<v1::RuleStart> {
    let starts: policy_engine::Starts = compiled
        .temporal_rules()
        .iter()
        .map(|rule| (rule.fingerprint, start_us(rule.fingerprint)))
        .collect();
    starts
        .into_iter()
        .map(|(fingerprint, start_us)| v1::RuleStart {
            fingerprint: fingerprint.0.to_vec(),
            start_us,
        })
        .collect()
}

fn longest_window(compiled: &Compiled) -> u64 {
    compiled
        .temporal_rules()
        .iter()
        .map(|rule| rule.window_us)
        .max()
        .unwrap_or(0)
}

pub(super) fn activate(
    context: &mut Context<'_, '_>,
    ask: &v1::ActivateBundle,
) -> Result<v1::Governance, Stop> {
    let digest = parse_digest(&ask.digest)?;
    context.require(Duty::ManagePolicy, &ask.namespace)?;
    let mut namespace = context
        .namespace(&ask.namespace)?
        .ok_or(v1::Result::NotFound)?;
    if namespace.active_digest == ask.digest {
        return Err(v1::Result::AlreadyExists.into());
    }
    let record: v1::BundleRecord = context
        .txn
        .read(&Key::bundle(&ask.namespace, &digest))?
        .ok_or(v1::Result::NotFound)?;
    if !record.complete {
        return Err(v1::Result::BundleIncomplete.into());
    }
    let compiled = context.policies.get(context.txn, &ask.namespace, digest)?;

    let find = |digest: &[u8]| {
        namespace
            .tracked
            .iter()
            .find(|tracked| tracked.digest == digest)
    };
    let of_active = find(&namespace.active_digest)
        .map(starts)
        .unwrap_or_default();
    let of_candidate = find(&ask.digest).map(starts).unwrap_or_default();
    let begin = |fingerprint: Fingerprint| {
        let known = [&of_active, &of_candidate]
            .into_iter()
            .filter_map(|starts| starts.get(&fingerprint))
            .min();
        known.copied().unwrap_or(context.now_us)
    };
    let mut short: Vec<String> = compiled
        .temporal_rules()
        .iter()
        .filter(|rule| {
            context.now_us - begin(rule.fingerprint).min(context.now_us) < rule.window_us
        })
        .map(|rule| rule.id.0.clone())
        .collect();
    if !short.is_empty() && !ask.accept_short_history {
        return Err(v1::Result::ShortHistory.into());
    }
    short.sort();
    short.truncate(MAX_RULES_IN_ENTRY);

    let published_leaf = find(&ask.digest).map_or(context.leaf.0, |tracked| tracked.published_leaf);
    let tracked = v1::TrackedBundle {
        digest: ask.digest.clone(),
        published_leaf,
        starts: rule_starts(&compiled, begin),
        longest_window_us: longest_window(&compiled),
    };
    namespace.tracked.retain(|other| other.digest != ask.digest);
    namespace.tracked.push(tracked);
    let previous_digest = std::mem::replace(&mut namespace.active_digest, ask.digest.clone());
    namespace.activation_leaf = context.leaf.0;
    drop_oldest(&mut namespace);
    context
        .txn
        .write(Key::namespace(&ask.namespace), &namespace);
    Ok(v1::Governance {
        detail: Some(Detail::Activation(v1::Activation {
            previous_digest,
            short_history: short,
        })),
        ..applied(&ask.namespace)
    })
}
