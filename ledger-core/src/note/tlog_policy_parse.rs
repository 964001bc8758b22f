//! Reading a trust policy line by line (C2SP tlog-policy, "Policy file syntax and structure").
//!
//! Every rule of the specification has its own [`PolicyFault`], because this is the one file that people write by hand
//! and everything they trust depends on.

use super::text::from_decimal;
use super::tlog_policy::{
    Group, MAX_POLICY_GROUPS, MAX_POLICY_LEN, MAX_POLICY_LOGS, MAX_POLICY_WITNESSES, Member, NONE,
    PolicyError, PolicyFault, PolicyLog, PolicyWitness, TlogPolicy,
};
use super::vkey::{KeyType, VerifierKey};

/// Reads a policy file. Memory is bounded by the limits, which are checked before anything is kept.
pub(super) fn parse(bytes: &[u8]) -> Result<TlogPolicy, PolicyError> {
    let whole = |fault| PolicyError { line: None, fault };
    if bytes.len() > MAX_POLICY_LEN {
        return Err(whole(PolicyFault::Length));
    }
    let mut builder = Builder::new();
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let located = |fault| PolicyError {
            line: Some(index + 1),
            fault,
        };
        // A file cut short might still read as a weaker policy.
        let line = line
            .strip_suffix(b"\n")
            .ok_or_else(|| located(PolicyFault::NoNewline))?;
        builder.line(line).map_err(located)?;
    }
    let quorum = builder.quorum.ok_or_else(|| whole(PolicyFault::NoQuorum))?;
    Ok(TlogPolicy {
        quorum,
        ..builder.policy
    })
}

/// What has been read so far.
struct Builder {
    policy: TlogPolicy,
    /// `None` before the quorum line; inside, the quorum, which is `None` for `quorum none`.
    quorum: Option<Option<Member>>,
    /// The members of all groups: a name is a member at most once.
    members: Vec<Member>,
}

impl Builder {
    const fn new() -> Self {
        let policy = TlogPolicy {
            logs: Vec::new(),
            witnesses: Vec::new(),
            groups: Vec::new(),
            quorum: None,
        };
        Self {
            policy,
            quorum: None,
            members: Vec::new(),
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), PolicyFault> {
        let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
        if line.iter().any(is_control) {
            return Err(PolicyFault::Control);
        }
        let line = line.trim_ascii_start();
        if line.starts_with(b"#") {
            return Ok(());
        }
        let text = std::str::from_utf8(line).map_err(|_| PolicyFault::Utf8)?;
        let items: Vec<&str> = text
            .split([' ', '\t'])
            .filter(|item| !item.is_empty())
            .collect();
        match *items.as_slice() {
            [] => Ok(()),
            ["log", key] => self.log(key, None),
            ["log", key, url] => self.log(key, Some(url)),
            ["witness", name, key] => self.witness(name, key, None),
            ["witness", name, key, url] => self.witness(name, key, Some(url)),
            ["group", name, threshold, ref members @ ..] => self.group(name, threshold, members),
            ["quorum", name] => self.quorum(name),
            ["log" | "witness" | "group" | "quorum", ..] => Err(PolicyFault::Items),
            _ => Err(PolicyFault::Keyword),
        }
    }

    fn log(&mut self, key: &str, url: Option<&str>) -> Result<(), PolicyFault> {
        let logs = &mut self.policy.logs;
        if logs.len() >= MAX_POLICY_LOGS {
            return Err(PolicyFault::TooMany {
                what: "logs",
                limit: MAX_POLICY_LOGS,
            });
        }
        let key = parse_key(key, KeyType::Ed25519)?;
        if logs
            .iter()
            .any(|log| log.key.public_key() == key.public_key())
        {
            return Err(PolicyFault::DuplicateKey);
        }
        logs.push(PolicyLog {
            key,
            url: url.map(str::to_owned),
        });
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), PolicyFault> {
        self.check_new_name(name)?;
        let witnesses = &mut self.policy.witnesses;
        if witnesses.len() >= MAX_POLICY_WITNESSES {
            return Err(PolicyFault::TooMany {
                what: "witnesses",
                limit: MAX_POLICY_WITNESSES,
            });
        }
        let key = parse_key(key, KeyType::CosignatureV1)?;
        if witnesses
            .iter()
            .any(|witness| witness.key.public_key() == key.public_key())
        {
            return Err(PolicyFault::DuplicateKey);
        }
        witnesses.push(PolicyWitness {
            name: name.to_owned(),
            key,
            url: url.map(str::to_owned),
        });
        Ok(())
    }

    fn group(&mut self, name: &str, threshold: &str, members: &[&str]) -> Result<(), PolicyFault> {
        self.check_new_name(name)?;
        if self.policy.groups.len() >= MAX_POLICY_GROUPS {
            return Err(PolicyFault::TooMany {
                what: "groups",
                limit: MAX_POLICY_GROUPS,
            });
        }
        let mut found = Vec::new();
        for member in members {
            let unknown = || PolicyFault::UnknownName((*member).to_owned());
            let member = self.policy.find(member).ok_or_else(unknown)?;
            if self.members.contains(&member) {
                return Err(PolicyFault::MemberTwice(
                    self.policy.name_of(member).to_owned(),
                ));
            }
            self.members.push(member);
            found.push(member);
        }
        let threshold = match threshold {
            "all" => found.len(),
            "any" => 1,
            k => from_decimal(k)
                .and_then(|k| usize::try_from(k).ok())
                .ok_or(PolicyFault::Threshold)?,
        };
        if !(1..=found.len()).contains(&threshold) {
            return Err(PolicyFault::Threshold);
        }
        self.policy.groups.push(Group {
            name: name.to_owned(),
            threshold,
            members: found,
        });
        Ok(())
    }

    fn quorum(&mut self, name: &str) -> Result<(), PolicyFault> {
        if self.quorum.is_some() {
            return Err(PolicyFault::SecondQuorum);
        }
        let quorum = match name {
            NONE => None,
            name => {
                let unknown = || PolicyFault::UnknownName(name.to_owned());
                Some(self.policy.find(name).ok_or_else(unknown)?)
            }
        };
        self.quorum = Some(quorum);
        Ok(())
    }

    /// Witnesses and groups share one namespace, in which `none` is taken.
    fn check_new_name(&self, name: &str) -> Result<(), PolicyFault> {
        if name == NONE || self.policy.find(name).is_some() {
            return Err(PolicyFault::NameTaken(name.to_owned()));
        }
        Ok(())
    }
}

/// A verifier key of the type that its line needs.
fn parse_key(text: &str, key_type: KeyType) -> Result<VerifierKey, PolicyFault> {
    let key = VerifierKey::parse(text)?;
    if key.key_type() == key_type {
        Ok(key)
    } else {
        Err(PolicyFault::KeyType)
    }
}
