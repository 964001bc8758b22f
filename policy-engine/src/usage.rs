//! What of a bundle is used: which rules ever determined a decision and for which actions, and which actions were allowed.
//!
//! What nobody uses is what an author can take away first: a rule that never spoke, an action that nobody was allowed, a
//! scope that is wider than what was done under it.

use std::collections::{BTreeMap, BTreeSet};

use crate::compile::{Compiled, RuleSource};
use crate::decision::{Decision, RuleId, Verdict};

/// Decisions, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// By rule and action: how many decisions the rule determined.
    determined: BTreeMap<RuleId, BTreeMap<String, u64>>,
    allowed: BTreeSet<String>,
}

/// What became of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleUse {
    /// The rule.
    pub id: RuleId,
    /// Where it stands.
    pub source: RuleSource,
    /// How many decisions it determined; 0 for a rule that is not used.
    pub decisions: u64,
    /// The tightest patterns that cover the actions of those decisions and no other action of the schema.
    pub scope: Vec<String>,
}

/// What of a bundle is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageReport {
    /// Every rule, in the order of files and lines.
    pub rules: Vec<RuleUse>,
    /// Actions of the schema that were never allowed.
    pub unused_actions: Vec<String>,
    /// The tightest scope of a session that covers all that was allowed.
    pub scope: Vec<String>,
}

impl Usage {
    /// Adds one decision.
    pub fn add(&mut self, action: &str, decision: &Decision) {
        for rule in &decision.rules {
            let actions = self.determined.entry(rule.clone()).or_default();
            *actions.entry(action.to_owned()).or_default() += 1;
        }
        if decision.verdict == Verdict::Allow {
            self.allowed.insert(action.to_owned());
        }
    }

    /// What of the bundle that decided is used.
    pub fn report(&self, compiled: &Compiled) -> UsageReport {
        let actions: BTreeSet<&str> = compiled.shapes().iter().map(|(id, _)| id).collect();
        let nothing = BTreeMap::new();
        let rules = compiled.rules().iter().map(|rule| {
            let by_action = self.determined.get(&rule.id).unwrap_or(&nothing);
            let used = by_action.keys().map(String::as_str).collect();
            RuleUse {
                id: rule.id.clone(),
                source: rule.source.clone(),
                decisions: by_action.values().sum(),
                scope: tightest(&used, &actions),
            }
        });
        let mut rules: Vec<RuleUse> = rules.collect();
        rules.sort_by(|a, b| {
            let place = |rule: &RuleUse| (rule.source.path.clone(), rule.source.line);
            place(a).cmp(&place(b)).then_with(|| a.id.cmp(&b.id))
        });
        let allowed: BTreeSet<&str> = self.allowed.iter().map(String::as_str).collect();
        UsageReport {
            rules,
            unused_actions: actions
                .difference(&allowed)
                .map(|id| (*id).to_owned())
                .collect(),
            scope: tightest(&allowed, &actions),
        }
    }
}

/// Patterns, as a session's scope has them, that hold for the used actions and for no other: the ids, and `server/*` where
/// every action of a server is used.
fn tightest(used: &BTreeSet<&str>, actions: &BTreeSet<&str>) -> Vec<String> {
    let server = |id: &str| id.split_once('/').map(|(server, _)| format!("{server}/"));
    let whole = |prefix: &String| {
        let mut of_server = actions.iter().filter(|id| id.starts_with(prefix.as_str()));
        of_server.clone().count() > 1 && of_server.all(|id| used.contains(id))
    };
    let patterns = used.iter().map(|id| match server(id).filter(&whole) {
        Some(prefix) => format!("{prefix}*"),
        None => (*id).to_owned(),
    });
    patterns.collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::World;

    #[test]
    fn the_tightest_scope_covers_what_was_used_and_nothing_else() {
        let set = |ids: &'static str| ids.split_whitespace().collect::<BTreeSet<_>>();
        let actions = set("bank/pay bank/read mail/send mail/read note");
        for (used, scope) in [
            ("", ""),
            ("bank/pay", "bank/pay"),
            ("bank/pay bank/read", "bank/*"),
            ("bank/pay bank/read mail/send note", "bank/* mail/send note"),
        ] {
            assert_eq!(tightest(&set(used), &actions).join(" "), scope, "{used}");
        }
        // One action is no reason to allow what its server may add.
        assert_eq!(tightest(&set("a/one"), &set("a/one b/two")), ["a/one"]);
    }

    #[test]
    fn rules_and_actions_that_nobody_uses_are_found() {
        let mut world = World::new(
            "@id(\"in\") permit (principal, action == Countersign::Action::\"login\", resource);\n\
             @id(\"any\") permit (principal, action in Countersign::Action::\"CallTool\", resource) when { context.session has purpose && context.session.purpose == \"refunds\" };\n\
             @id(\"never\") forbid (principal, action, resource) when { context.session has purpose && context.session.purpose == \"x\" };",
        );
        let mut usage = Usage::default();
        for (action, input) in [
            ("login", r#"{"user":"u"}"#),
            ("read", r#"{"user":"u"}"#),
            ("read", "[]"),
        ] {
            usage.add(action, &world.ask(action, input, 0));
        }
        let report = usage.report(&world.compiled);
        let rules: Vec<_> = report
            .rules
            .iter()
            .map(|rule| (rule.id.0.as_str(), rule.decisions, rule.scope.join(" ")))
            .collect();
        assert_eq!(
            rules,
            [
                ("in", 1, "login".to_owned()),
                ("any", 2, "login read".to_owned()),
                ("never", 0, String::new()),
            ]
        );
        assert_eq!(report.unused_actions, ["approve", "bank/pay", "deploy"]);
        assert_eq!(report.scope, ["login", "read"]);
    }
}
