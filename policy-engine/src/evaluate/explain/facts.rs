//! What rules read of a request, and who vouches for it.
//!
//! A fact is an attribute, a tag or a membership that the rule's text names. Its value is what Cedar makes of that text on the
//! request; who vouches follows from where it hangs: on the context, or on whose entity.

use std::collections::BTreeMap;

use cedar_policy_core::ast::{
    BinaryOp, EntityUID, Expr, ExprKind, Literal, SlotEnv, Value, ValueKind, Var,
};
use cedar_policy_core::evaluator::Evaluator;
use dogwood_language::temporal_ast::Term;

use super::clauses::written;
use super::shortened;
use crate::compile::{Compiled, Rule};
use crate::decision::RuleId;
use crate::evaluate::context::{CLAIMS, GRANTS};
use crate::evaluate::names::uid;
use crate::evaluate::slices::{Place, children};
use crate::history::reads::asked_in;
use crate::limits::{MAX_EXPLAINED_FACTS, MAX_EXPLAINED_VALUE_BYTES};
use crate::request::{Assurance, Issuer, Request};

/// Something that rules read of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactRead {
    /// As a rule names it: `context.input.amount`.
    pub name: String,
    /// Its value as Cedar writes it, cut short if it is long; none if the request has no such fact.
    pub value: Option<String>,
    /// Who vouches for it, or would if it were there.
    pub voucher: Voucher,
    /// The rules that read it, sorted.
    pub rules: Vec<RuleId>,
}

/// Who vouches for a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Voucher {
    /// The ledger itself: its clock, its sessions' state, the signatures that it checked.
    Ledger,
    /// The registry: the agent's owner, groups and attributes.
    Registry,
    /// The bundle, which describes the entity.
    Bundle,
    /// The gateway of this id signed it.
    Gateway(String),
    /// This issuer opened the session with it.
    Issuer(Issuer),
    /// Only the agent itself.
    Agent,
}

impl Voucher {
    /// Its name outside of this crate.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ledger => "LEDGER",
            Self::Registry => "REGISTRY",
            Self::Bundle => "BUNDLE",
            Self::Gateway(_) => "GATEWAY",
            Self::Issuer(_) => "ISSUER",
            Self::Agent => "AGENT",
        }
    }

    /// The id of the gateway, or the kind and id of the issuer, such as `operator:ada`.
    pub fn id(&self) -> String {
        match self {
            Self::Gateway(id) => id.clone(),
            Self::Issuer(issuer) => format!("{}:{}", issuer.kind(), issuer.id()),
            Self::Ledger | Self::Registry | Self::Bundle | Self::Agent => String::new(),
        }
    }
}

/// What these rules read, sorted by name.
pub(super) fn read(
    compiled: &Compiled,
    request: &Request,
    rules: &[(&Rule, Place)],
    evaluator: &Evaluator<'_>,
) -> Vec<FactRead> {
    let reader = Reader {
        compiled,
        request,
        evaluator,
    };
    let mut facts: BTreeMap<String, FactRead> = BTreeMap::new();
    for (rule, place) in rules {
        for expr in reader.named_by(rule, *place) {
            let Some(voucher) = reader.voucher(&expr) else {
                continue;
            };
            let fact = facts
                .entry(name(&expr))
                .or_insert_with_key(|name| FactRead {
                    name: shortened(name, MAX_EXPLAINED_VALUE_BYTES),
                    value: reader
                        .value(&expr)
                        .map(|value| shortened(&value.to_string(), MAX_EXPLAINED_VALUE_BYTES)),
                    voucher,
                    rules: Vec::new(),
                });
            fact.rules.push(rule.id.clone());
        }
    }
    let mut facts: Vec<FactRead> = facts.into_values().take(MAX_EXPLAINED_FACTS).collect();
    for fact in &mut facts {
        fact.rules.dedup();
    }
    facts
}

struct Reader<'a> {
    compiled: &'a Compiled,
    request: &'a Request,
    evaluator: &'a Evaluator<'a>,
}

impl Reader<'_> {
    /// The facts that a rule's scope, conditions and temporal conditions name.
    fn named_by(&self, rule: &Rule, place: Place) -> Vec<Expr> {
        let mut named = Vec::new();
        let slices = self.compiled.slices();
        for (var, inside) in slices.inside(place) {
            named.push(Expr::is_in(Expr::var(var), Expr::val(inside.clone())));
        }
        let body = slices.policy(place);
        if let Some(body) = body.and_then(|policy| policy.non_scope_constraints()) {
            collect(body, &mut named);
        }
        for leaf in rule.past.iter().flat_map(|past| &past.leaves) {
            let terms = asked_in(&leaf.field.condition.condition);
            named.extend(terms.into_iter().filter_map(of_term));
        }
        named.retain(|expr| !self.is_temporal(expr, rule));
        named
    }

    /// True for the boolean that stands for a temporal condition; the history has those.
    fn is_temporal(&self, expr: &Expr, rule: &Rule) -> bool {
        let mut leaves = rule.past.iter().flat_map(|past| &past.leaves);
        matches!(expr.expr_kind(), ExprKind::GetAttr { expr, attr }
            if is_var(expr, Var::Context) && leaves.any(|leaf| leaf.field.id == attr.as_str()))
    }

    fn value(&self, expr: &Expr) -> Option<Value> {
        self.evaluator.interpret(expr, &SlotEnv::new()).ok()
    }

    /// Who signed what was asked.
    fn asker(&self) -> Voucher {
        match (self.request.assurance, &self.request.presenter) {
            (Assurance::GatewayAsserted | Assurance::BothSigned, Some(id)) => {
                Voucher::Gateway(id.clone())
            }
            (Assurance::GatewayAsserted | Assurance::BothSigned, None)
            | (Assurance::AgentSigned, _) => Voucher::Agent,
        }
    }

    /// An agent that opened its own session vouches for it alone.
    fn issuer(&self) -> Voucher {
        match &self.request.session.issuer {
            Issuer::Agent(id) if *id == self.request.agent.id => Voucher::Agent,
            issuer @ (Issuer::Agent(_) | Issuer::Operator(_) | Issuer::Gateway(_)) => {
                Voucher::Issuer(issuer.clone())
            }
        }
    }

    /// Who vouches for what the expression reads; none if it reads nothing of the request.
    fn voucher(&self, expr: &Expr) -> Option<Voucher> {
        if let ExprKind::GetAttr { expr: of, attr } = expr.expr_kind() {
            return self.of_context(of, attr).or_else(|| self.hung_on(of));
        }
        if let ExprKind::BinaryApp { arg1, .. } = expr.expr_kind() {
            return self.hung_on(arg1);
        }
        matches!(expr.expr_kind(), ExprKind::Var(_)).then(|| self.asker())
    }

    /// Who vouches for an attribute of the context or of one of its groups.
    fn of_context(&self, of: &Expr, attr: &str) -> Option<Voucher> {
        if is_var(of, Var::Context) {
            return Some(match attr {
                "input" => self.asker(),
                _ => Voucher::Ledger,
            });
        }
        let ExprKind::GetAttr { expr, attr: group } = of.expr_kind() else {
            return None;
        };
        if !is_var(expr, Var::Context) {
            return None;
        }
        match (group.as_str(), attr) {
            ("session", "purpose" | "subject" | "grants") => Some(self.issuer()),
            ("request", "claims") => Some(Voucher::Agent),
            ("system" | "session" | "request", _) => Some(Voucher::Ledger),
            _ => None,
        }
    }

    /// Who vouches for what hangs on a value: on an entity whoever describes it, on a record whoever vouches for that.
    fn hung_on(&self, of: &Expr) -> Option<Voucher> {
        let entity = self.value(of).and_then(|value| match value.value_kind() {
            ValueKind::Lit(Literal::EntityUID(uid)) => Some(EntityUID::clone(uid)),
            ValueKind::Lit(_)
            | ValueKind::Set(_)
            | ValueKind::Record(_)
            | ValueKind::ExtensionValue(_) => None,
        });
        let Some(entity) = entity else {
            return self.voucher(of);
        };
        let (names, request) = (self.compiled.names(), self.request);
        Some(if entity == uid(&names.agent, &request.agent.id) {
            Voucher::Registry
        } else if entity == uid(&names.grants, GRANTS) {
            self.issuer()
        } else if entity == uid(&names.grants, CLAIMS) {
            Voucher::Agent
        } else if entity == uid(&names.resource, &request.resource.id)
            && !self.compiled.facts().describes(&entity)
        {
            match &request.presenter {
                Some(id) => Voucher::Gateway(id.clone()),
                // Facts about a resource are only a gateway's to assert; without one there are none.
                None => self.asker(),
            }
        } else {
            Voucher::Bundle
        })
    }
}

fn is_var(expr: &Expr, var: Var) -> bool {
    matches!(expr.expr_kind(), ExprKind::Var(found) if *found == var)
}

/// The longest paths that an expression reads; what it asks the presence of counts as read.
fn collect(expr: &Expr, named: &mut Vec<Expr>) {
    let kind = expr.expr_kind();
    if let ExprKind::GetAttr { expr: of, .. } = kind
        && is_path(of)
    {
        named.push(expr.clone());
    } else if let ExprKind::HasAttr { expr: of, attr } = kind
        && is_path(of)
    {
        named.push(Expr::get_attr(Expr::clone(of), attr.clone()));
    } else if let ExprKind::BinaryApp { op, arg1, arg2 } = kind
        && is_path(arg1)
    {
        if matches!(op, BinaryOp::GetTag | BinaryOp::HasTag) {
            named.push(Expr::get_tag(Expr::clone(arg1), Expr::clone(arg2)));
        } else if *op == BinaryOp::In {
            named.push(expr.clone());
        } else {
            collect(arg1, named);
        }
        collect(arg2, named);
    } else if matches!(kind, ExprKind::Var(Var::Principal | Var::Resource)) {
        named.push(expr.clone());
    } else {
        let inside = children(expr);
        inside.into_iter().for_each(|child| collect(child, named));
    }
}

/// True if the expression is a variable or hangs on one by attributes and tags.
fn is_path(expr: &Expr) -> bool {
    if let ExprKind::GetAttr { expr: of, .. } = expr.expr_kind() {
        return is_path(of);
    }
    if let ExprKind::BinaryApp { op, arg1, .. } = expr.expr_kind() {
        return *op == BinaryOp::GetTag && is_path(arg1);
    }
    matches!(
        expr.expr_kind(),
        ExprKind::Var(_) | ExprKind::Lit(Literal::EntityUID(_))
    )
}

/// What a temporal condition compares older events with.
fn of_term(term: &Term) -> Option<Expr> {
    let chain = |root, path: &[String]| {
        path.iter().fold(Expr::var(root), |expr, name| {
            Expr::get_attr(expr, name.as_str().into())
        })
    };
    if let Term::ContextField(path) = term {
        return Some(chain(Var::Context, path));
    }
    let Term::ScopeField(path) = term else {
        return None;
    };
    let (root, attributes) = path.split_first()?;
    let root = match root.as_str() {
        "principal" => Var::Principal,
        _ => Var::Resource,
    };
    Some(chain(root, attributes))
}

/// The path as its author would write it.
fn name(expr: &Expr) -> String {
    if let ExprKind::Var(var) = expr.expr_kind() {
        return var.to_string();
    }
    if let ExprKind::GetAttr { expr: of, attr } = expr.expr_kind() {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        return if attr.chars().all(is_plain) && !attr.starts_with(|c: char| c.is_ascii_digit()) {
            format!("{}.{attr}", name(of))
        } else {
            format!("{}[{attr:?}]", name(of))
        };
    }
    if let ExprKind::BinaryApp { op, arg1, arg2 } = expr.expr_kind() {
        let (of, other) = (name(arg1), written(arg2));
        return if *op == BinaryOp::In {
            format!("{of} in {other}")
        } else {
            format!("{of}.getTag({other})")
        };
    }
    written(expr)
}
