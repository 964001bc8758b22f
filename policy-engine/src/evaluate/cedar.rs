//! Cedar's answer, put in order.
//!
//! [`evaluate`] asks Cedar's own authorizer about all policies; it is what [`Slices`] must agree with, and decides nothing itself.
//! Cedar reports its reasons as a hash set; everything here is sorted.

pub use super::slices::Slices;

use cedar_policy::{AuthorizationError, Authorizer, Entities, PolicySet, Request};

/// What Cedar says of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// True if a permit matched and no forbid did.
    pub is_allow: bool,
    /// The ids of the policies that determined this, sorted.
    pub determining: Vec<String>,
    /// The ids of the policies whose evaluation failed, sorted. Cedar skips them, forbids too.
    pub erring: Vec<String>,
}

/// Evaluates all policies, as Cedar defines it.
pub fn evaluate(policies: &PolicySet, entities: &Entities, request: &Request) -> Answer {
    let response = Authorizer::new().is_authorized(request, policies, entities);
    let diagnostics = response.diagnostics();
    let mut determining: Vec<String> = diagnostics.reason().map(ToString::to_string).collect();
    determining.sort_unstable();
    let mut erring: Vec<String> = diagnostics
        .errors()
        .map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => error.policy_id().to_string(),
        })
        .collect();
    erring.sort_unstable();
    Answer {
        is_allow: response.decision() == cedar_policy::Decision::Allow,
        determining,
        erring,
    }
}
