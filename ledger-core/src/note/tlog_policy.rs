//! Trust policies: which logs, which witnesses, and how many of them must have cosigned (C2SP tlog-policy).
//!
//! A verifier pins one such file; everything it believes follows from it. Reading is strict and names the line that is
//! wrong. Printing gives one canonical text per policy, so that a policy can be part of the replicated state.
//!
//! The specification treats names and URLs as opaque octets; here they must be UTF-8, and are compared octet by octet.

use std::fmt;

use thiserror::Error;

use super::tlog_policy_parse;
use super::vkey::{VerifierKey, VkeyError};

/// The longest policy, comments included.
pub const MAX_POLICY_LEN: usize = 128 * 1024;
/// The most `log` lines.
pub const MAX_POLICY_LOGS: usize = 32;
/// The most `witness` lines. With the log's own, their signatures fit into one note.
pub const MAX_POLICY_WITNESSES: usize = 64;
/// The most `group` lines.
pub const MAX_POLICY_GROUPS: usize = 64;

/// The predefined name of the quorum that needs no cosignature.
pub(super) const NONE: &str = "none";

/// A log whose checkpoints are accepted if the quorum is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key; the key's name is the log's origin.
    pub key: VerifierKey,
    /// Where to reach it. Opaque here.
    pub url: Option<String>,
}

/// A witness, or a node of the ledger, whose cosignatures count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Its name within this policy.
    pub name: String,
    /// Its key.
    pub key: VerifierKey,
    /// Where to reach it. Opaque here.
    pub url: Option<String>,
}

/// A named group of witnesses and groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    /// How many members must have witnessed: 1 to their number.
    pub(super) threshold: usize,
    pub(super) members: Vec<Member>,
}

/// A witness or a group, by its place in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Witness(usize),
    Group(usize),
}

/// A trust policy: logs, witnesses, and the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogPolicy {
    pub(super) logs: Vec<PolicyLog>,
    pub(super) witnesses: Vec<PolicyWitness>,
    /// A group only has members that stand before it.
    pub(super) groups: Vec<Group>,
    /// `None` if no cosignature is required.
    pub(super) quorum: Option<Member>,
}

impl TlogPolicy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`], which names the line that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        tlog_policy_parse::parse(bytes)
    }

    /// The accepted logs.
    #[must_use]
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// All witnesses, those outside the quorum included.
    #[must_use]
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Whether the quorum is met if exactly the witnesses for which `has_cosigned` says so have cosigned.
    pub fn is_met_by(&self, mut has_cosigned: impl FnMut(&PolicyWitness) -> bool) -> bool {
        let witnesses: Vec<bool> = self.witnesses.iter().map(&mut has_cosigned).collect();
        let mut groups = Vec::with_capacity(self.groups.len());
        let witnessed = |member: &Member, groups: &[bool]| match *member {
            Member::Witness(index) => witnesses.get(index).copied().unwrap_or(false),
            Member::Group(index) => groups.get(index).copied().unwrap_or(false),
        };
        for group in &self.groups {
            let count = group
                .members
                .iter()
                .filter(|member| witnessed(member, &groups))
                .count();
            groups.push(count >= group.threshold);
        }
        self.quorum.is_none_or(|member| witnessed(&member, &groups))
    }

    /// How many members of a group must have witnessed, and the members' names; none if there is no such group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<(usize, Vec<&str>)> {
        let group = self.groups.iter().find(|group| group.name == name)?;
        let members = group.members.iter().map(|member| self.name_of(*member));
        Some((group.threshold, members.collect()))
    }

    /// The name of a witness or group of this policy.
    pub(super) fn name_of(&self, member: Member) -> &str {
        let name = match member {
            Member::Witness(index) => self.witnesses.get(index).map(|witness| &witness.name),
            Member::Group(index) => self.groups.get(index).map(|group| &group.name),
        };
        name.map_or("", String::as_str)
    }

    /// The witness or group that has this name.
    pub(super) fn find(&self, name: &str) -> Option<Member> {
        let witness = self
            .witnesses
            .iter()
            .position(|witness| witness.name == name);
        let group = || self.groups.iter().position(|group| group.name == name);
        witness
            .map(Member::Witness)
            .or_else(|| group().map(Member::Group))
    }
}

/// The canonical text: logs, witnesses and groups in their order, then the quorum, each on a line with single spaces; no
/// comments; a threshold as `all` if it is the number of members, else as `any` if it is one.
impl fmt::Display for TlogPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_space = |url: &Option<String>| {
            url.as_ref()
                .map(|url| format!(" {url}"))
                .unwrap_or_default()
        };
        for log in &self.logs {
            writeln!(f, "log {}{}", log.key, with_space(&log.url))?;
        }
        for witness in &self.witnesses {
            writeln!(
                f,
                "witness {} {}{}",
                witness.name,
                witness.key,
                with_space(&witness.url)
            )?;
        }
        for group in &self.groups {
            let threshold = match group.threshold {
                all if all == group.members.len() => "all".to_owned(),
                1 => "any".to_owned(),
                k => k.to_string(),
            };
            write!(f, "group {} {threshold}", group.name)?;
            group
                .members
                .iter()
                .try_for_each(|member| write!(f, " {}", self.name_of(*member)))?;
            writeln!(f)?;
        }
        writeln!(
            f,
            "quorum {}",
            self.quorum.map_or(NONE, |member| self.name_of(member))
        )
    }
}

/// Why bytes are not a trust policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The line that is wrong, the first being 1; `None` if it is the whole file.
    pub line: Option<usize>,
    /// What is wrong.
    pub fault: PolicyFault,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.fault),
            None => self.fault.fmt(f),
        }
    }
}

impl std::error::Error for PolicyError {}

/// What can be wrong in a trust policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyFault {
    /// Above [`MAX_POLICY_LEN`].
    #[error("a policy has at most {MAX_POLICY_LEN} bytes")]
    Length,
    /// The last line does not end: the file may be cut short.
    #[error("the line does not end in a newline; the file may be cut short")]
    NoNewline,
    /// A control character, a carriage return included.
    #[error("control characters other than tab are not allowed; check for carriage returns")]
    Control,
    /// A line other than a comment that is not UTF-8.
    #[error("the line is not valid UTF-8")]
    Utf8,
    /// An unknown first word.
    #[error("a line starts with log, witness, group, quorum or #")]
    Keyword,
    /// Too few or too many words.
    #[error(
        "write: log <vkey> [<url>], witness <name> <vkey> [<url>], group <name> all|any|<k> <name>..., \
         or quorum <name>|none"
    )]
    Items,
    /// Not the key of a log or witness.
    #[error(transparent)]
    Key(#[from] VkeyError),
    /// A key of the wrong type.
    #[error("a log needs an Ed25519 key (type 0x01) and a witness a cosignature key (type 0x04)")]
    KeyType,
    /// A second log or witness with the same public key, whatever its name.
    #[error("this public key is already in the policy")]
    DuplicateKey,
    /// The name is `none` or already defined.
    #[error("the name {0} is already taken")]
    NameTaken(String),
    /// The name is not defined on an earlier line.
    #[error("the name {0} is not defined on an earlier line")]
    UnknownName(String),
    /// The name is already a member of a group.
    #[error("{0} is already a member of a group; a witness contributes in one way only")]
    MemberTwice(String),
    /// Not `all`, `any`, or a number of 1 to the number of members.
    #[error("the threshold is all, any, or a number from 1 to the number of members")]
    Threshold,
    /// More than one quorum line.
    #[error("a policy has exactly one quorum line, and this is the second")]
    SecondQuorum,
    /// No quorum line.
    #[error("the quorum line is missing; write quorum <name>, or quorum none")]
    NoQuorum,
    /// A limit is exceeded.
    #[error("a policy has at most {limit} {what}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
}
