//! Explanations as nodes send them and clients show them. They are in no entry, and nothing rests on them.

use ledger_proto::v1;
use policy_engine::{
    Clause, ClauseResult, Counted, ExplainedRule, Explanation, FactRead, Measure, Measured, RuleId,
    Voucher,
};

/// The explanation of rules as a message.
#[must_use]
pub fn to_message(told: &Explanation) -> v1::Explanation {
    v1::Explanation {
        note: told.note.clone().unwrap_or_default(),
        determining: told.determining.iter().map(rule).collect(),
        nearest_permits: told.nearest.iter().map(rule).collect(),
        permits_held: number(told.permits_held),
        permits_failed: number(told.permits_failed),
        permits_elsewhere: number(told.permits_elsewhere),
        facts: told.facts.iter().map(fact).collect(),
        history: told.history.iter().map(counted).collect(),
        values_withheld: false,
    }
}

/// The same for those who may read rules and not what agents' sessions contain.
#[must_use]
pub fn without_values(mut told: v1::Explanation) -> v1::Explanation {
    told.values_withheld = true;
    for fact in &mut told.facts {
        fact.value = None;
    }
    for measured in told.history.iter_mut().flat_map(|of| &mut of.measured) {
        measured.value = None;
    }
    let rules = told.determining.iter_mut().chain(&mut told.nearest_permits);
    for clause in rules.flat_map(|rule| &mut rule.clauses) {
        clause.error.clear();
    }
    told
}

fn number(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

fn rule(rule: &ExplainedRule) -> v1::ExplainedRule {
    v1::ExplainedRule {
        id: rule.id.0.clone(),
        permit: rule.is_permit,
        file: rule.path.clone(),
        line: number(rule.line),
        failing: number(rule.failing),
        clauses: rule.clauses.iter().map(clause).collect(),
    }
}

fn clause(clause: &Clause) -> v1::ExplainedClause {
    let (result, error) = match &clause.result {
        ClauseResult::Holds => (v1::ClauseResult::Holds, ""),
        ClauseResult::Fails => (v1::ClauseResult::Fails, ""),
        ClauseResult::Errs(error) => (v1::ClauseResult::Errs, error.as_str()),
        ClauseResult::NotReached => (v1::ClauseResult::NotReached, ""),
    };
    v1::ExplainedClause {
        unless: clause.is_unless,
        text: clause.text.clone(),
        line: number(clause.line),
        result: result.into(),
        error: error.to_owned(),
    }
}

fn fact(fact: &FactRead) -> v1::ExplainedFact {
    let voucher = match fact.voucher {
        Voucher::Ledger => v1::Voucher::Ledger,
        Voucher::Registry => v1::Voucher::Registry,
        Voucher::Bundle => v1::Voucher::Bundle,
        Voucher::Gateway(_) => v1::Voucher::Gateway,
        Voucher::Issuer(_) => v1::Voucher::Issuer,
        Voucher::Agent => v1::Voucher::Agent,
    };
    v1::ExplainedFact {
        name: fact.name.clone(),
        value: fact.value.clone(),
        voucher: voucher.into(),
        voucher_id: fact.voucher.id(),
        rules: fact.rules.iter().map(|RuleId(id)| id.clone()).collect(),
    }
}

fn counted(counted: &Counted) -> v1::ExplainedHistory {
    v1::ExplainedHistory {
        rule: counted.rule.0.clone(),
        text: counted.text.clone(),
        reach_s: counted.reach_s,
        holds: counted.holds,
        measured: counted.measured.iter().map(measured).collect(),
    }
}

fn measured(measured: &Measured) -> v1::Measured {
    let measure = match measured.measure {
        Measure::Last(_) => v1::Measure::Last,
        Measure::Count(_) => v1::Measure::Count,
        Measure::Sum(_) => v1::Measure::Sum,
        Measure::Distinct(_) => v1::Measure::Distinct,
    };
    v1::Measured {
        measure: measure.into(),
        action: measured.action.clone(),
        event: measured.event.to_owned(),
        window_s: measured.window_s,
        value: measured.measure.value(),
    }
}
