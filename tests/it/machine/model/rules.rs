//! Who may do what, and what it changes: the model's governance.

use super::reference::{HOUR, KeyOf, Model, SECOND};
use super::transition::{By, Status, place, same_person};

impl Model {
    pub(super) fn is_admin(&self, by: By) -> bool {
        by == By::Root
            || matches!(by, By::Operator(id) if self.roles.get(&id).is_some_and(|roles| roles.0))
    }

    fn is_responder(&self, by: By) -> bool {
        self.is_admin(by)
            || matches!(by, By::Operator(id) if self.roles.get(&id).is_some_and(|roles| roles.1))
    }

    pub(super) fn close(&mut self, session: u8, by: By) -> &'static str {
        let Some(at) = place(session, self.sessions.len()) else {
            return "NotFound";
        };
        let session = &self.sessions[at];
        let own =
            matches!(by, By::Agent(id, _) if id == session.agent) || same_person(by, session.by);
        // A suspended agent may not act, and ending its session is an act.
        let acts = match by {
            By::Agent(id, _) => self.status[&id].0 == Status::Active,
            _ => true,
        };
        if !(own && acts) && by != By::Olive && !self.is_responder(by) {
            return "NotPermitted";
        }
        self.end(at, "SessionClosed")
    }

    pub(super) fn seal(&mut self, session: u8, by: By) -> &'static str {
        if by != By::Node {
            return "NotPermitted";
        }
        let Some(at) = place(session, self.sessions.len()) else {
            return "NotFound";
        };
        if self.sessions[at].expires_us > self.time() {
            return "FailedPrecondition";
        }
        self.end(at, "SessionExpired")
    }

    fn end(&mut self, at: usize, how: &'static str) -> &'static str {
        if self.sessions[at].ended.is_some() {
            return "FailedPrecondition";
        }
        self.sessions[at].ended = Some(how);
        "Applied"
    }

    pub(super) fn set_status(&mut self, agent: u8, to: Status, by: By) -> &'static str {
        let (from, suspended_by) = self.status[&agent];
        let takes_over = from == Status::Suspended && to == Status::Suspended;
        if (from == to && !takes_over) || from == Status::Revoked {
            return "FailedPrecondition";
        }
        let may = match to {
            Status::Suspended if takes_over => self.is_responder(by),
            Status::Suspended => by == By::Olive || self.is_responder(by),
            Status::Active => {
                self.is_admin(by) || (by == By::Olive && suspended_by == Some(By::Olive))
            }
            Status::Revoked => self.is_admin(by),
        };
        if !may {
            return "NotPermitted";
        }
        self.status.insert(agent, (to, Some(by)));
        self.changed_at.insert(agent, self.leaf);
        if to == Status::Revoked {
            for (_, key) in self
                .keys
                .iter_mut()
                .filter(|((whose, _), _)| *whose == agent)
            {
                key.retired = true;
            }
        }
        "Applied"
    }

    fn keys_refused(&self, agent: u8, by: By) -> Option<&'static str> {
        if by != By::Olive && !self.is_admin(by) {
            return Some("NotPermitted");
        }
        (self.status[&agent].0 == Status::Revoked).then_some("FailedPrecondition")
    }

    pub(super) fn add_key(&mut self, agent: u8, key: u8, days: u8, by: By) -> &'static str {
        if let Some(refused) = self.keys_refused(agent, by) {
            return refused;
        }
        if self.keys.contains_key(&(agent, key)) {
            return "KeyRefused";
        }
        let ends_us = self.now_us + u64::from(days) * 24 * HOUR;
        self.keys.insert(
            (agent, key),
            KeyOf {
                ends_us,
                retired: false,
            },
        );
        "Applied"
    }

    pub(super) fn retire_key(&mut self, agent: u8, key: u8, by: By) -> &'static str {
        if !self.keys.contains_key(&(agent, key)) {
            return "NotFound";
        }
        if let Some(refused) = self.keys_refused(agent, by) {
            return refused;
        }
        let key = self.keys.get_mut(&(agent, key)).expect("looked up");
        if std::mem::replace(&mut key.retired, true) {
            "FailedPrecondition"
        } else {
            "Applied"
        }
    }

    pub(super) fn set_halt(
        &mut self,
        halt: u8,
        agent: Option<u8>,
        ttl_s: u32,
        by: By,
    ) -> &'static str {
        if !self.is_responder(by) {
            return "NotPermitted";
        }
        let now = self.time();
        self.halts
            .retain(|id, (_, ends)| *id != halt || *ends == 0 || *ends > now);
        if self.halts.contains_key(&halt) {
            return "AlreadyExists";
        }
        // Halts whose time is over make room for others.
        self.halts.retain(|_, (_, ends)| *ends == 0 || *ends > now);
        let ends = if ttl_s == 0 {
            0
        } else {
            self.now_us + self.offset_us + u64::from(ttl_s) * SECOND
        };
        self.halts.insert(halt, (agent, ends));
        "Applied"
    }

    /// Only forward, and only by what clocks are behind.
    pub(super) fn adjust_time(&mut self, by: By) -> &'static str {
        if !self.is_admin(by) {
            return "NotPermitted";
        }
        let behind = self.last_us.saturating_sub(self.now_us);
        if behind < self.offset_us + 5 * SECOND {
            return "FailedPrecondition";
        }
        // Halts end when their authors' clocks say.
        for (_, ends) in self.halts.values_mut().filter(|(_, ends)| *ends != 0) {
            *ends += behind - self.offset_us;
        }
        // Nobody knows for how long sessions and permits have waited.
        let now = self.time();
        for session in &mut self.sessions {
            session.expires_us = session.expires_us.min(now);
        }
        for permit in &mut self.permits {
            permit.ends_us = permit.ends_us.min(now);
        }
        self.offset_us = behind;
        "Applied"
    }

    pub(super) fn clear_halt(&mut self, halt: u8, by: By) -> &'static str {
        if !self.halts.contains_key(&halt) {
            return "NotFound";
        }
        if !self.is_admin(by) {
            return "NotPermitted";
        }
        self.halts.remove(&halt);
        "Applied"
    }
}
