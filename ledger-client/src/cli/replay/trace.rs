//! What a replay reads: recorded actions, and what is known about the sessions they were in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ledger_proto::v1::{self, ExecutionStatus};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::{Exit, Failure, read_file};

/// Longest file of actions or sessions, in bytes.
const MAX_FILE_LEN: usize = 512 * 1024 * 1024;
/// Most actions in one replay.
const MAX_ACTIONS: usize = 1_000_000;
/// Longest name that an action's tool call may have to be passed on, in bytes.
const MAX_CALL_ID_LEN: usize = 1_024;

/// A line of the file of actions. Fields that are not named here say nothing to a ledger.
#[derive(Deserialize)]
struct ActionLine {
    suite: String,
    agent: String,
    session: String,
    tool: String,
    args: Box<RawValue>,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    call_id: Option<String>,
    #[serde(default)]
    ts: Option<String>,
    #[serde(default)]
    result_sha256: Option<String>,
    #[serde(default)]
    tool_error: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

/// A line of the file of sessions. Without an agent it holds for every agent that has such a session.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionLine {
    suite: String,
    #[serde(default)]
    agent: Option<String>,
    session: String,
    #[serde(default)]
    purpose: String,
    #[serde(default)]
    subject: Option<SubjectLine>,
    #[serde(default)]
    grants: BTreeMap<String, BTreeSet<String>>,
    #[serde(default)]
    scope: Option<BTreeSet<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectLine {
    iss: String,
    sub: String,
}

/// One recorded action.
#[derive(Debug)]
pub(in crate::cli) struct Action {
    /// The action's id.
    pub(in crate::cli) tool: String,
    /// Its arguments, as they stand in the file.
    pub(in crate::cli) args: String,
    /// When it happened, if the file says so.
    pub(in crate::cli) time: Option<jiff::Timestamp>,
    /// What people say that it was.
    pub(in crate::cli) label: String,
    /// The model's name for it.
    pub(in crate::cli) call_id: String,
    /// How it ended.
    pub(in crate::cli) status: ExecutionStatus,
    /// The digest of its result, if it is known.
    pub(in crate::cli) result: Option<v1::ResultDigest>,
}

/// A run of one agent: its actions, by their place in the file.
#[derive(Debug)]
pub(in crate::cli) struct Session {
    /// The namespace.
    pub(in crate::cli) suite: String,
    /// The agent's name in the file.
    pub(in crate::cli) agent: String,
    /// The session's name in the file.
    pub(in crate::cli) name: String,
    /// From 0, ascending.
    pub(in crate::cli) actions: Vec<usize>,
}

impl Session {
    /// The agent's id in the ledger.
    pub(in crate::cli) fn agent_id(&self) -> String {
        format!("{}/{}", self.suite, self.agent)
    }
}

/// All of a file.
#[derive(Debug)]
pub(in crate::cli) struct Trace {
    /// In the order of the file.
    pub(in crate::cli) actions: Vec<Action>,
    /// In the order of their first actions.
    pub(in crate::cli) sessions: Vec<Session>,
}

impl Trace {
    /// Reads recorded actions, one JSON object on each line.
    pub(in crate::cli) fn read(path: &Path) -> Result<Self, Failure> {
        let mut trace = Self {
            actions: Vec::new(),
            sessions: Vec::new(),
        };
        let mut known = BTreeMap::new();
        each_line(path, |line: ActionLine| {
            if trace.actions.len() == MAX_ACTIONS {
                return Err(format!(
                    "there are more than {MAX_ACTIONS} actions; split the file"
                ));
            }
            let key = (line.suite.clone(), line.agent.clone(), line.session.clone());
            let place = *known.entry(key).or_insert_with(|| {
                trace.sessions.push(Session {
                    suite: line.suite.clone(),
                    agent: line.agent.clone(),
                    name: line.session.clone(),
                    actions: Vec::new(),
                });
                trace.sessions.len() - 1
            });
            if let Some(session) = trace.sessions.get_mut(place) {
                session.actions.push(trace.actions.len());
            }
            trace.actions.push(action(line)?);
            Ok(())
        })?;
        if trace.actions.is_empty() {
            return Err(bad(
                path,
                "holds no actions; each line is a JSON object with suite, agent, session, tool and args",
            ));
        }
        Ok(trace)
    }
}

fn action(line: ActionLine) -> Result<Action, String> {
    let failed = [&line.tool_error, &line.error].into_iter().any(|error| {
        error
            .as_ref()
            .is_some_and(|error| !matches!(error, Value::Null | Value::Bool(false)))
    });
    let result = line.result_sha256.map(|digits| {
        let bytes = hex::decode(&digits).ok().filter(|bytes| bytes.len() == 32);
        let bytes = bytes.ok_or("`result_sha256` is not 64 hexadecimal digits")?;
        Ok::<_, String>(v1::ResultDigest {
            algorithm: v1::DigestAlgorithm::Sha256.into(),
            bytes,
        })
    });
    Ok(Action {
        tool: line.tool,
        args: line.args.get().to_owned(),
        time: line.ts.and_then(|time| time.parse().ok()),
        label: line.label.unwrap_or_else(|| "unlabelled".to_owned()),
        // It identifies nothing, so that one which cannot be passed on is no loss.
        call_id: line
            .call_id
            .filter(|id| id.len() <= MAX_CALL_ID_LEN && !id.chars().any(char::is_control))
            .unwrap_or_default(),
        status: if failed {
            ExecutionStatus::Failed
        } else {
            ExecutionStatus::Succeeded
        },
        result: result.transpose()?,
    })
}

/// What sessions are opened with.
#[derive(Debug, Default)]
pub(in crate::cli) struct Openings(BTreeMap<(String, String, Option<String>), Opening>);

/// What one session is opened with.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct Opening {
    /// The actions it may ask for.
    pub(in crate::cli) scope: Vec<String>,
    /// Why, for whom, and with which permissions.
    pub(in crate::cli) context: Option<v1::SessionContext>,
}

impl Openings {
    /// Reads what is known about sessions, one JSON object on each line.
    pub(in crate::cli) fn read(path: &Path) -> Result<Self, Failure> {
        let mut openings = Self::default();
        each_line(path, |line: SessionLine| {
            let key = (line.suite.clone(), line.session.clone(), line.agent.clone());
            match openings.0.insert(key, opening(line)) {
                None => Ok(()),
                Some(_) => Err("the session is there twice".to_owned()),
            }
        })?;
        Ok(openings)
    }

    /// What this session is opened with; everything is in the scope of one that is not known.
    pub(in crate::cli) fn of(&self, session: &Session) -> Opening {
        let key = |agent| (session.suite.clone(), session.name.clone(), agent);
        let known = self.0.get(&key(Some(session.agent.clone())));
        let known = known.or_else(|| self.0.get(&key(None)));
        known.cloned().unwrap_or_else(|| Opening {
            scope: vec!["*".to_owned()],
            context: None,
        })
    }
}

fn opening(line: SessionLine) -> Opening {
    let sets = line.grants.into_iter().map(|(name, values)| v1::StringSet {
        name,
        values: values.into_iter().collect(),
    });
    let context = v1::SessionContext {
        purpose: line.purpose,
        subject: line.subject.map(|subject| v1::Subject {
            iss: subject.iss,
            sub: subject.sub,
        }),
        grants: sets.collect(),
        ..v1::SessionContext::default()
    };
    Opening {
        scope: line
            .scope
            .map_or_else(|| vec!["*".to_owned()], |scope| scope.into_iter().collect()),
        context: (context != v1::SessionContext::default()).then_some(context),
    }
}

/// Reads a file of JSON objects, one on each line.
fn each_line<'de, L: for<'a> Deserialize<'a>>(
    path: &Path,
    mut each: impl FnMut(L) -> Result<(), String> + 'de,
) -> Result<(), Failure> {
    let bytes = read_file(path, MAX_FILE_LEN, Exit::Configuration)?;
    let text = String::from_utf8(bytes).map_err(|_| bad(path, "is not UTF-8"))?;
    for (number, line) in (1_u64..).zip(text.lines()) {
        let parsed: Result<L, String> =
            serde_json::from_str(line).map_err(|error| error.to_string());
        parsed
            .and_then(&mut each)
            .map_err(|error| bad(path, &format!("line {number}: {error}")))?;
    }
    Ok(())
}

fn bad(path: &Path, what: &str) -> Failure {
    Failure::new(Exit::Configuration, format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.jsonl");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn refused(text: &str) -> String {
        let (_dir, path) = file(text);
        let failure = Trace::read(&path).unwrap_err();
        assert_eq!(failure.exit, Exit::Configuration);
        failure.message
    }

    #[test]
    fn actions_keep_their_bytes_and_their_sessions() {
        let digest = "ab".repeat(32);
        let (_dir, path) = file(&format!(
            "{}\n{}\n{}\n{}\n",
            r#"{"suite":"s","agent":"a","session":"1","tool":"pay","args":{"x": 1.50},"label":"benign","seq":0}"#,
            r#"{"suite":"s","agent":"b","session":"1","tool":"pay","args":[],"tool_error":"no"}"#,
            r#"{"suite":"s","agent":"a","session":"1","tool":"pay","args":{"x": 1.50},"call_id":"c"}"#,
            format_args!(
                r#"{{"suite":"t","agent":"a","session":"1","tool":"q","args":{{}},"result_sha256":"{digest}"}}"#
            ),
        ));
        let trace = Trace::read(&path).unwrap();
        let places: Vec<_> = trace.sessions.iter().map(|s| s.actions.clone()).collect();
        assert_eq!(places, [vec![0, 2], vec![1], vec![3]]);
        assert_eq!(trace.sessions[1].agent_id(), "s/b");
        assert_eq!(trace.actions[0].args, r#"{"x": 1.50}"#);
        assert_eq!(trace.actions[0].label, "benign");
        assert_eq!(trace.actions[1].status, ExecutionStatus::Failed);
        assert_eq!(trace.actions[1].args, "[]");
        assert_eq!(trace.actions[2].call_id, "c");
        assert_eq!(trace.actions[2].label, "unlabelled");
        let result = trace.actions[3].result.clone().unwrap();
        assert_eq!(result.bytes, [0xab; 32]);
    }

    #[test]
    fn bad_lines_are_named() {
        assert!(refused("").contains("holds no actions"));
        let good = r#"{"suite":"s","agent":"a","session":"1","tool":"pay","args":{}}"#;
        assert!(refused(&format!("{good}\n\n")).contains("line 2: "));
        assert!(refused(&format!("{good}\n{{")).contains("line 2: "));
        assert!(refused(&good.replace("tool", "tol")).contains("line 1: missing field `tool`"));
        let odd = good
            .replace('}', r#"},"result_sha256":"0"}"#)
            .replacen("},", ",", 0);
        let odd = odd.replacen(r#"{}},"#, "{},", 1);
        assert!(refused(&odd).contains("line 1: "), "{odd}");
        assert!(refused("\u{feff}").contains("line 1: "));
    }

    #[test]
    fn a_session_is_opened_as_the_file_says() {
        let text = concat!(
            r#"{"suite":"s","session":"1","purpose":"pay","grants":{"to":["b","a","b"]},"scope":["pay","q*"]}"#,
            "\n",
            r#"{"suite":"s","session":"1","agent":"b","subject":{"iss":"i","sub":"u"}}"#,
        );
        let (_dir, path) = file(text);
        let openings = Openings::read(&path).unwrap();
        let session = |agent: &str, name: &str| Session {
            suite: "s".to_owned(),
            agent: agent.to_owned(),
            name: name.to_owned(),
            actions: Vec::new(),
        };
        let any = openings.of(&session("a", "1"));
        assert_eq!(any.scope, ["pay", "q*"]);
        let context = any.context.unwrap();
        assert_eq!(context.purpose, "pay");
        assert_eq!(context.grants[0].values, ["a", "b"]);
        let own = openings.of(&session("b", "1"));
        assert_eq!(own.scope, ["*"]);
        assert_eq!(own.context.unwrap().subject.unwrap().sub, "u");
        assert_eq!(openings.of(&session("a", "2")).context, None);

        let (_dir, twice) = file(&format!("{text}\n{text}"));
        let failure = Openings::read(&twice).unwrap_err();
        assert!(
            failure
                .message
                .contains("line 3: the session is there twice")
        );
    }
}
