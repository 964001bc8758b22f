//! What the rules said about one request.

use std::fmt;

/// The answer to a request. `Allow` is the only yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// At least one permit matched, no forbid matched, nothing erred that could have forbidden.
    Allow,
    /// Anything else.
    Deny,
    /// Denied now; the approvals named in [`Decision::approvers`] would turn it into an allow.
    Escalate,
}

impl Verdict {
    /// Its name outside of this crate.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Escalate => "ESCALATE",
        }
    }
}

/// Why. Each reason is stable: it is written into entries, and the same input gives the same reason on every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A permit matched and no forbid did.
    AllowedByPolicy,
    /// No permit matched.
    NoMatchingPermit,
    /// A forbid matched.
    ForbiddenByPolicy,
    /// A permit would match with the approvals that its `@approvers` names.
    ApprovalRequired,
    /// The arguments or the resource do not fit the schema of the action.
    SchemaMismatch,
    /// The schema has no such action.
    UnknownAction,
    /// The history that the rules would have to read is past its limit.
    HistoryLimit,
    /// A forbid could not be evaluated, or the evaluator failed.
    EvaluationError,
}

impl Reason {
    /// Its name outside of this crate.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowedByPolicy => "ALLOWED_BY_POLICY",
            Self::NoMatchingPermit => "NO_MATCHING_PERMIT",
            Self::ForbiddenByPolicy => "FORBIDDEN_BY_POLICY",
            Self::ApprovalRequired => "APPROVAL_REQUIRED",
            Self::SchemaMismatch => "SCHEMA_MISMATCH",
            Self::UnknownAction => "UNKNOWN_ACTION",
            Self::HistoryLimit => "HISTORY_LIMIT",
            Self::EvaluationError => "EVALUATION_ERROR",
        }
    }
}

/// The `@id` of a rule: 1 to 128 bytes, unique in its bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(pub String);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something the caller is told with the verdict, from a rule's `@obligation` or `@advice`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// The part of the annotation before the first `:`, or all of it.
    pub kind: String,
    /// The part after the first `:`, or nothing.
    pub value: String,
    /// True for an obligation: a caller that does not know it must treat the verdict as a denial.
    pub critical: bool,
}

/// So many approvals from members of one group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Approver {
    /// The approver group.
    pub group: String,
    /// How many members of it must approve, at least 1.
    pub count: u32,
}

/// What the rules said about one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The rules that determined the answer (for an evaluation error, the rules that erred), sorted, without duplicates.
    pub rules: Vec<RuleId>,
    /// Conditions of the determining rules, sorted, without duplicates.
    pub conditions: Vec<Condition>,
    /// The shortest `@permit_ttl` among the determining permits, in seconds; none leaves the default to the caller.
    pub permit_ttl_s: Option<u32>,
    /// True if a determining permit has `@single_use`: the caller must redeem what is permitted before it is used.
    pub single_use: bool,
    /// For [`Verdict::Escalate`]: whose approval is needed, sorted by group.
    pub approvers: Vec<Approver>,
}

impl Decision {
    /// True if this decision becomes part of the history that later rules read: the request reached the policy stage and
    /// evaluation came to an end. Requests that failed validation, met a limit or could not be evaluated leave no trace.
    pub fn is_observed(&self) -> bool {
        match self.reason {
            Reason::AllowedByPolicy
            | Reason::NoMatchingPermit
            | Reason::ForbiddenByPolicy
            | Reason::ApprovalRequired => true,
            Reason::SchemaMismatch
            | Reason::UnknownAction
            | Reason::HistoryLimit
            | Reason::EvaluationError => false,
        }
    }
}
