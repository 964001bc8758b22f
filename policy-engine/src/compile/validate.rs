//! Whether rules are sound under the schema.
//!
//! Cedar's validator types each rule under each action of the schema, which takes half a minute for ten thousand rules and a
//! thousand actions. Under every action that a rule's scope excludes the rule is plainly false, and nothing else is looked at.
//! So rules that name their actions are validated first under a schema that has those actions only. What Cedar has anything to
//! say about then, and what reads the past, goes with the whole schema to Dogwood's validator, which knows temporal conditions.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{ActionConstraint, Policy};
use cedar_policy_core::ast;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::json_schema::{ActionType, Fragment};
use cedar_policy_core::validator::{RawName, ValidationMode, Validator, ValidatorSchema};
use dogwood_language::LoweredPolicySet;

/// With fewer actions the whole schema costs less than many small ones.
const MIN_ACTIONS: usize = 16;

/// The places, in the order of the rules, of the plain rules that Cedar has nothing to say about.
pub(super) fn sound(set: &LoweredPolicySet, schema: &str) -> BTreeSet<usize> {
    let Some(schema) = Actions::parse(schema).filter(|schema| schema.actions.len() >= MIN_ACTIONS)
    else {
        return BTreeSet::new();
    };
    let temporal: BTreeSet<&str> = set
        .temporal_fields()
        .filter_map(|field| Some(field.id.rsplit_once("__temporal_")?.0))
        .collect();
    let policies = set.as_cedar();
    let mut by_actions: BTreeMap<BTreeSet<&str>, Vec<(usize, &Policy)>> = BTreeMap::new();
    for (place, rule) in set.rules().enumerate() {
        let id = rule.cedar_policy_id;
        let policy = policies.policy(&cedar_policy::PolicyId::new(&id));
        let Some(policy) = policy.filter(|_| !temporal.contains(id.as_str())) else {
            continue;
        };
        if let Some(actions) = schema.named(&policy.action_constraint()) {
            by_actions.entry(actions).or_default().push((place, policy));
        }
    }
    let mut sound = BTreeSet::new();
    for (actions, rules) in by_actions {
        if let Some(schema) = schema.of(&actions) {
            sound.extend(sound_under(schema, &rules));
        }
    }
    sound
}

/// The places of the rules that are sound under a schema: all at once, or one by one if something is said of any.
fn sound_under(schema: ValidatorSchema, rules: &[(usize, &Policy)]) -> Vec<usize> {
    let validator = Validator::new(schema);
    let is_sound = |rules: &[(usize, &Policy)]| {
        let mut set = ast::PolicySet::new();
        for (_, policy) in rules {
            let policy: &ast::Policy = AsRef::as_ref(*policy);
            if set.add(policy.clone()).is_err() {
                return false;
            }
        }
        let result = validator.validate(&set, ValidationMode::Strict);
        result.validation_passed() && result.validation_warnings().next().is_none()
    };
    let rules: Vec<&[(usize, &Policy)]> = if is_sound(rules) {
        vec![rules]
    } else {
        rules.chunks(1).filter(|rule| is_sound(rule)).collect()
    };
    rules
        .into_iter()
        .flatten()
        .map(|(place, _)| *place)
        .collect()
}

/// A schema whose actions can be chosen from.
struct Actions {
    /// Without its actions.
    rest: Fragment<RawName>,
    actions: BTreeMap<String, ActionType<RawName>>,
    /// The groups above each action, near and far.
    groups: BTreeMap<String, BTreeSet<String>>,
}

impl Actions {
    fn parse(text: &str) -> Option<Self> {
        let (mut rest, _) =
            Fragment::from_cedarschema_str(text, Extensions::all_available()).ok()?;
        let mut actions = BTreeMap::new();
        for definition in rest.0.values_mut() {
            for (id, action) in std::mem::take(&mut definition.actions) {
                actions.insert(id.to_string(), action);
            }
        }
        let groups = actions.keys().map(|id| (id.clone(), above(&actions, id)));
        Some(Self {
            groups: groups.collect(),
            rest,
            actions,
        })
    }

    /// The actions that a scope can match; none if it does not say, or says what the schema does not know.
    fn named(&self, scope: &ActionConstraint) -> Option<BTreeSet<&str>> {
        let known = |uid: &cedar_policy::EntityUid| {
            let (id, _) = self.groups.get_key_value(uid.id().unescaped())?;
            Some(id.as_str())
        };
        match scope {
            ActionConstraint::Any => None,
            ActionConstraint::Eq(uid) => Some(BTreeSet::from([known(uid)?])),
            ActionConstraint::In(uids) => {
                let mut actions = BTreeSet::new();
                for uid in uids {
                    let group = known(uid)?;
                    let members = self
                        .groups
                        .iter()
                        .filter(|(_, above)| above.contains(group));
                    actions.insert(group);
                    actions.extend(members.map(|(id, _)| id.as_str()));
                }
                Some(actions)
            }
        }
    }

    /// The schema with these actions, and the groups that they are in.
    fn of(&self, actions: &BTreeSet<&str>) -> Option<ValidatorSchema> {
        let mut ids: BTreeSet<&str> = actions.clone();
        for action in actions {
            ids.extend(self.groups.get(*action)?.iter().map(String::as_str));
        }
        let mut schema = self.rest.clone();
        // The compiler has refused actions outside of the one namespace before it gets here.
        let is_ours = |name: &Option<ast::Name>| {
            name.as_ref()
                .is_some_and(|name| name.to_string() == crate::schema::NAMESPACE)
        };
        let ours = schema.0.iter_mut().find(|(name, _)| is_ours(name));
        let (_, definition) = ours?;
        for id in ids {
            definition
                .actions
                .insert(id.into(), self.actions.get(id)?.clone());
        }
        schema.try_into().ok()
    }
}

fn above(actions: &BTreeMap<String, ActionType<RawName>>, id: &str) -> BTreeSet<String> {
    let mut above = BTreeSet::new();
    let mut next = vec![id.to_owned()];
    while let Some(id) = next.pop() {
        let parents = actions
            .get(&id)
            .and_then(|action| action.member_of.as_ref());
        for parent in parents.into_iter().flatten() {
            if above.insert(parent.id.to_string()) {
                next.push(parent.id.to_string());
            }
        }
    }
    above
}
