//! The clock suite: real nodes whose clocks are wrong before, during and after crashes, in every order, and what is judged of it.
//! `tests/it/cluster/clock_suite.rs` has a few of the cases, `examples/clocks.rs` all of them.

pub mod case;
mod judge;
mod probe;
mod run;

use std::fmt;
use std::time::Duration;

pub use case::ClockCase;
use case::Event;

/// Within what time decisions flow once a quorum of nodes with sound clocks is up.
pub const FLOWS_WITHIN: Duration = Duration::from_secs(10);

/// What decisions did after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The first question asked after it was answered after so long.
    Flows(Duration),
    /// Nothing was decided, and no quorum of sound clocks was up.
    Closed,
    /// Nothing was decided, because the ledger's time is ahead.
    Ahead,
}

/// What became of a case.
#[derive(Debug, Clone)]
pub struct ClockReport {
    /// The case.
    pub case: ClockCase,
    /// What decisions did after each event, and after everything was repaired.
    pub flows: Vec<(Event, Flow)>,
    /// How far a quorum of wrong clocks took the ledger's time ahead.
    pub ahead: Duration,
    /// How long it took from the repair of all clocks to the next decision of a ledger whose time was ahead, if that was waited for.
    pub overtaken_after: Option<Duration>,
    /// What the nodes said while nothing was decided.
    pub said: Vec<String>,
    /// Entries whose times were judged.
    pub judged: usize,
    /// Broken promises, one sentence each.
    pub findings: Vec<String>,
}

impl ClockReport {
    /// One word.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        if !self.findings.is_empty() {
            "BROKEN"
        } else if self.overtaken_after.is_some() {
            "ahead, overtaken"
        } else if self.ahead > Duration::ZERO {
            "ahead, waits"
        } else if self.flows.iter().any(|(_, flow)| *flow == Flow::Closed) {
            "closed, then flows"
        } else {
            "flows"
        }
    }

    /// The longest that decisions were away although a quorum of sound clocks was up.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let flows = self.flows.iter().filter_map(|(_, flow)| match flow {
            Flow::Flows(after) => Some(*after),
            Flow::Closed | Flow::Ahead => None,
        });
        flows.max().unwrap_or_default()
    }
}

impl fmt::Display for ClockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.verdict())?;
        for (event, flow) in &self.flows {
            match flow {
                Flow::Flows(after) => write!(f, "; {event:?} {:.1} s", seconds(*after))?,
                Flow::Closed | Flow::Ahead => write!(f, "; {event:?} {flow:?}")?,
            }
        }
        write!(f, "; {} entries", self.judged)?;
        if self.ahead > Duration::ZERO {
            write!(f, "; {:.0} s ahead", seconds(self.ahead))?;
        }
        if let Some(after) = self.overtaken_after {
            write!(f, ", decided again after {:.0} s", seconds(after))?;
        }
        for said in &self.said {
            write!(f, "\n    said: {said}")?;
        }
        for finding in &self.findings {
            write!(f, "\n    FINDING: {finding}")?;
        }
        Ok(())
    }
}

fn seconds(duration: Duration) -> impl fmt::Display {
    /// Tenths, without float.
    struct Tenths(u128);
    impl fmt::Display for Tenths {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            if f.precision() == Some(0) {
                write!(f, "{}", (self.0 + 5) / 10)
            } else {
                write!(f, "{}.{}", self.0 / 10, self.0 % 10)
            }
        }
    }
    Tenths(duration.as_millis() / 100)
}
