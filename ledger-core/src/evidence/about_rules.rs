//! Explaining the rules that decided, in the words of the bundle that was active.

use ledger_proto::v1::command::Body as Ask;
use policy_engine::{Bundle, BundleDigest, Compiled, RuleId};

use super::about_decision::{Case, is_applied};
use super::report::{Basis, Report};
use super::verify::EvidenceError;
use crate::limits::MAX_RULES_IN_ENTRY;

/// The rules, in the words of the bundle that was active. Bytes of the bundle are in the chunk entries.
pub(super) fn rules(report: &mut Report, case: &Case<'_>) -> Result<(), EvidenceError> {
    if case.decision.bundle_digest.is_empty() {
        report.add("rules", "none was asked", case.at());
        return Ok(());
    }
    let leaf = case
        .decision
        .rests_on
        .as_ref()
        .and_then(|rests_on| rests_on.activation);
    let leaf = leaf.ok_or_else(|| {
        case.contradiction("rules decided, and it does not name their activation")
    })?;
    let activation = case.entries.get(leaf, "the activation of the bundle")?;
    let Some(Ask::ActivateBundle(ask)) = activation
        .command
        .as_ref()
        .and_then(|command| command.body.as_ref())
    else {
        return Err(case.contradiction("what it names as an activation is another entry"));
    };
    let active = is_applied(&activation.entry)
        && ask.digest == case.decision.bundle_digest
        && ask.namespace == case.decision.namespace
        && leaf < case.proven.index;
    if !active {
        return Err(case.contradiction("the bundle that decided is not the one that was activated"));
    }
    let digest = hex::encode(&case.decision.bundle_digest);
    report.add(
        "bundle",
        format!("{digest}, active since entry {leaf}"),
        Basis::Ledger(leaf),
    );
    let compiled = bundle(case)?;
    let determining = case.decision.rules.clone().unwrap_or_default();
    let shown = usize::try_from(determining.count)
        .unwrap_or(usize::MAX)
        .min(MAX_RULES_IN_ENTRY);
    if determining.ids.len() != shown {
        return Err(case.contradiction("it does not name the rules that it counts"));
    }
    for id in &determining.ids {
        let source = compiled.rule_source(&RuleId(id.clone()));
        let source = source
            .ok_or_else(|| case.contradiction("the bundle has no rule of the id that decided"))?;
        report.add(
            "rule",
            format!("{id} ({}:{})\n{}", source.path, source.line, source.text),
            Basis::Verified,
        );
    }
    if determining.count as usize > determining.ids.len() {
        let digest = hex::encode(&determining.digest);
        let value = format!(
            "{} in all, the first {} shown; digest {digest}",
            determining.count,
            determining.ids.len()
        );
        report.add("rules", value, case.at());
    }
    Ok(())
}

/// The bundle, put together from its chunks and checked against its digest.
fn bundle(case: &Case<'_>) -> Result<Compiled, EvidenceError> {
    let mut chunks: Vec<(u32, &[u8])> = case
        .entries
        .iter()
        .filter(|proven| is_applied(&proven.entry))
        .filter_map(|proven| {
            let Ask::PublishBundle(ask) = proven.command.as_ref()?.body.as_ref()? else {
                return None;
            };
            let of_this = ask.digest == case.decision.bundle_digest
                && ask.namespace == case.decision.namespace;
            of_this.then_some((ask.chunk_index, ask.chunk.as_slice()))
        })
        .collect();
    chunks.sort_unstable();
    let packed: Vec<u8> = chunks
        .into_iter()
        .flat_map(|(_, chunk)| chunk)
        .copied()
        .collect();
    let missing = EvidenceError::Missing {
        index: case.proven.index,
        what: "chunks of the bundle that decided",
    };
    if BundleDigest::of(&packed).0.as_slice() != case.decision.bundle_digest {
        return Err(missing);
    }
    let invalid = |_| {
        case.contradiction(
            "the bundle does not compile; use a client of the ledger's engine version",
        )
    };
    let bundle = Bundle::from_packed(&packed).map_err(invalid)?;
    Compiled::compile(&bundle).map_err(invalid)
}
