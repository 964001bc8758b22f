//! The rollback suite: the disk of one real node goes back in time while others crash, in every order, and what is judged of it.
//! `tests/it/cluster/rollback_suite.rs` has a few of the cases, `examples/rollbacks.rs` the long form.

pub mod case;
mod ending;
mod judge;
mod run;
mod volume;

use std::fmt;

pub use case::RollbackCase;
pub use volume::{can_mount, forge};

/// What a node did on a disk that went back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met {
    /// `init` refused the id.
    NotMade(String),
    /// All that it had promised was still there: nothing went back.
    ForgotNothing,
    /// It ended, with this exit code and these last words.
    Ended(i32, String),
    /// It runs, takes part in nothing, and says why.
    Waits(String),
    /// It runs and hears of no leader.
    Leaderless,
    /// It took part.
    TookPart,
}

/// What became of a case.
#[derive(Debug, Clone)]
pub struct RollbackReport {
    /// The case.
    pub case: RollbackCase,
    /// What was seen of the node after each step.
    pub met: Vec<Met>,
    /// Something was decided together with the disk that went back, while whoever knew more was away.
    pub decided: bool,
    /// Second trees that met the trust policy: only where nobody could notice, and without a witness.
    pub second_trees: Vec<String>,
    /// Who found out afterwards, and in which words.
    pub found_out: Option<String>,
    /// Broken promises, one sentence each.
    pub findings: Vec<String>,
}

impl RollbackReport {
    /// A few words.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        if !self.findings.is_empty() {
            "BROKEN"
        } else if !self.took_part() {
            "noticed"
        } else if self.forgot_nothing() {
            "forgot nothing"
        } else if self.case.witness {
            "not noticed, uncosignable"
        } else if self.second_trees.is_empty() {
            "not noticed, nothing cosigned"
        } else {
            "not noticed, no witness: two trees, found out later"
        }
    }

    /// True if the files that were put back took nothing away.
    #[must_use]
    pub fn forgot_nothing(&self) -> bool {
        self.met.contains(&Met::ForgotNothing)
    }

    /// True if the node took part on the disk that went back.
    #[must_use]
    pub fn took_part(&self) -> bool {
        self.decided || self.met.contains(&Met::TookPart)
    }
}

impl fmt::Display for RollbackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.verdict())?;
        for met in &self.met {
            match met {
                Met::NotMade(words) => write!(f, "\n    init: {words}")?,
                Met::Ended(code, words) => write!(f, "\n    exit {code}: {words}")?,
                Met::Waits(words) => write!(f, "\n    waits: {words}")?,
                Met::ForgotNothing | Met::Leaderless | Met::TookPart => write!(f, "\n    {met:?}")?,
            }
        }
        if let Some(found_out) = &self.found_out {
            write!(f, "\n    found out: {found_out}")?;
        }
        for tree in &self.second_trees {
            write!(f, "\n    {tree}")?;
        }
        for finding in &self.findings {
            write!(f, "\n    FINDING: {finding}")?;
        }
        Ok(())
    }
}
