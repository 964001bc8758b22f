//! A bundle deciding on a past of its own, in memory: requests are decided one after the other, and what is observed is
//! stepped, as the machine would. Every rule sees that past from its beginning.

use std::collections::BTreeMap;

use crate::bundle::HistoryScope;
use crate::compile::Compiled;
use crate::decision::{Decision, Reason, Verdict};
use crate::evaluate::explain::Explanation;
use crate::evaluate::{Outcome, without_rules};
use crate::history::{Event, Partition, Starts, step};
use crate::request::{Recorder, Request};

/// What bundles would decide, without a ledger.
#[derive(Debug)]
pub struct Rehearsal<'c> {
    compiled: &'c Compiled,
    starts: Starts,
    partitions: BTreeMap<(u8, String), Partition>,
    /// Allowed requests without an outcome that a gateway recorded, by request id; true if the agent has reported one.
    allowed: BTreeMap<String, (Request, bool)>,
    now_us: u64,
}

impl<'c> Rehearsal<'c> {
    /// A bundle with an empty past.
    pub fn new(compiled: &'c Compiled) -> Self {
        let rules = compiled.temporal_rules().iter();
        Self {
            compiled,
            starts: rules.map(|rule| (rule.fingerprint, 0)).collect(),
            partitions: BTreeMap::new(),
            allowed: BTreeMap::new(),
            now_us: 0,
        }
    }

    /// Decides a request at its own time, or right after what happened last if that was later.
    pub fn ask(&mut self, mut request: Request) -> Decision {
        request.time_us = self.tick(request.time_us);
        let key = key(self.compiled, &request);
        let partition = self.partitions.entry(key).or_default();
        // A past that only stepping wrote can be read; if not, nobody may pass.
        let evaluated = self
            .compiled
            .decide(&self.starts, partition, &request)
            .unwrap_or_else(|_| without_rules(Reason::EvaluationError));
        self.step(&request, &evaluated.events);
        if evaluated.decision.verdict == Verdict::Allow {
            let id = request.request_id.clone();
            self.allowed.insert(id, (request, false));
        }
        evaluated.decision
    }

    /// Explains what [`Rehearsal::ask`] would say; nothing becomes part of the past.
    pub fn explain(&self, mut request: Request) -> Explanation {
        request.time_us = request.time_us.max(self.now_us.saturating_add(1));
        let empty = Partition::default();
        let key = key(self.compiled, &request);
        let partition = self.partitions.get(&key).unwrap_or(&empty);
        let explained = self.compiled.explain(&self.starts, partition, &request);
        explained
            .unwrap_or_else(|_| Explanation::bare(without_rules(Reason::EvaluationError).decision))
    }

    /// Steps what became of a request, and only of what was allowed here. The first outcome by a gateway counts, and before it the
    /// first by the agent.
    pub fn outcome(
        &mut self,
        request_id: &str,
        time_us: u64,
        succeeded: bool,
        recorder: &Recorder,
        output: Option<&[u8]>,
    ) {
        let time_us = self.tick(time_us);
        let Some((request, was_reported)) = self.allowed.remove(request_id) else {
            return;
        };
        if *recorder == Recorder::Agent {
            let kept = (request.clone(), true);
            self.allowed.insert(request_id.to_owned(), kept);
            if was_reported {
                return;
            }
        }
        let event = self.compiled.outcome_event(&Outcome {
            time_us,
            succeeded,
            recorder,
            request_id: &request.request_id,
            session_id: &request.session.id,
            agent: &request.agent.id,
            action: &request.action,
            resource: &request.resource.id,
            input: &request.input,
            output,
        });
        if let Some(event) = event {
            self.step(&request, &[event]);
        }
    }

    /// As in the ledger, no two things happen at once.
    fn tick(&mut self, time_us: u64) -> u64 {
        self.now_us = time_us.max(self.now_us.saturating_add(1));
        self.now_us
    }

    fn step(&mut self, request: &Request, events: &[Event]) {
        let key = key(self.compiled, request);
        let partition = self.partitions.entry(key.clone()).or_default();
        if step(partition, &[self.compiled], events).is_err() {
            self.partitions.remove(&key);
        }
    }
}

/// Whose past a request reads, as the machine finds it. A request on nobody's behalf reads its agent's, so that opening
/// another session is no way around a cap.
fn key(compiled: &Compiled, request: &Request) -> (u8, String) {
    match compiled.history_scope() {
        HistoryScope::Agent => (0, request.agent.id.clone()),
        HistoryScope::Session => (0, request.session.id.clone()),
        HistoryScope::Subject => match &request.session.subject {
            Some(subject) => (1, format!("{}\0{}", subject.iss, subject.sub)),
            None => (0, request.agent.id.clone()),
        },
        HistoryScope::Owner => (0, request.agent.owner.clone()),
        HistoryScope::Namespace => (0, String::new()),
    }
}
