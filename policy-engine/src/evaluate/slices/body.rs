//! What the body of a policy could read, found from its syntax: parts of the context, and entities that it names.

use cedar_policy_core::ast::{EntityUID, Expr, ExprKind, Literal, Var};

/// The parts of a context that policies could read. What none can read need not be built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) input: bool,
    pub(crate) system: bool,
    pub(crate) session: bool,
    /// `context.session.openedAt`, which costs more than the rest of the session.
    pub(crate) opened_at: bool,
    pub(crate) request: bool,
}

impl Needs {
    /// Everything.
    pub(crate) const ALL: Self = Self {
        input: true,
        system: true,
        session: true,
        opened_at: true,
        request: true,
    };

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            input: self.input || other.input,
            system: self.system || other.system,
            session: self.session || other.session,
            opened_at: self.opened_at || other.opened_at,
            request: self.request || other.request,
        }
    }

    /// What an expression could read: the attributes of the context that it names, or all if it names the context otherwise.
    /// Recursive, as deep as rules may be.
    pub(super) fn of(expr: &Expr) -> Self {
        if let Some(name) = attribute_of(expr, is_context) {
            return Self::named(name);
        }
        // The session's opening is left out only where another attribute of the session is named.
        if let Some(name) = attribute_of(expr, |of| attribute_of(of, is_context) == Some("session"))
        {
            return Self {
                session: true,
                opened_at: name == "openedAt",
                ..Self::default()
            };
        }
        if is_context(expr) {
            return Self::ALL;
        }
        children(expr)
            .into_iter()
            .map(Self::of)
            .fold(Self::default(), Self::and)
    }

    fn named(name: &str) -> Self {
        let none = Self::default();
        match name {
            "input" => Self {
                input: true,
                ..none
            },
            "system" => Self {
                system: true,
                ..none
            },
            "session" => Self {
                session: true,
                opened_at: true,
                ..none
            },
            "request" => Self {
                request: true,
                ..none
            },
            // The boolean of a temporal condition, which the rule brings with it, or nothing at all.
            _ => none,
        }
    }
}

fn is_context(expr: &Expr) -> bool {
    matches!(expr.expr_kind(), ExprKind::Var(Var::Context))
}

/// The attribute that the expression reads or asks for, of an expression that is as wanted.
fn attribute_of(expr: &Expr, is_wanted: impl Fn(&Expr) -> bool) -> Option<&str> {
    if let ExprKind::GetAttr { expr, attr } | ExprKind::HasAttr { expr, attr } = expr.expr_kind() {
        is_wanted(expr).then_some(attr.as_str())
    } else {
        None
    }
}

/// The entities that an expression names.
pub(super) fn named(expr: &Expr) -> Vec<EntityUID> {
    let mut names: Vec<EntityUID> = expr
        .subexpressions()
        .filter_map(|part| {
            if let ExprKind::Lit(Literal::EntityUID(uid)) = part.expr_kind() {
                Some(EntityUID::clone(uid))
            } else {
                None
            }
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The expressions directly inside one.
pub(crate) fn children(expr: &Expr) -> Vec<&Expr> {
    match expr.expr_kind() {
        ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {
            Vec::new()
        }
        ExprKind::If {
            test_expr,
            then_expr,
            else_expr,
        } => vec![test_expr, then_expr, else_expr],
        ExprKind::And { left, right } | ExprKind::Or { left, right } => vec![left, right],
        ExprKind::BinaryApp { arg1, arg2, .. } => vec![arg1, arg2],
        ExprKind::UnaryApp { arg, .. } => vec![arg],
        ExprKind::GetAttr { expr, .. }
        | ExprKind::HasAttr { expr, .. }
        | ExprKind::Like { expr, .. }
        | ExprKind::Is { expr, .. } => vec![expr],
        ExprKind::ExtensionFunctionApp { args, .. } => args.iter().collect(),
        ExprKind::Set(elements) => elements.iter().collect(),
        ExprKind::Record(fields) => fields.values().collect(),
    }
}
