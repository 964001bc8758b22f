//! Prompts and sessions of a folder that is laid out like the published data, and the file of sessions made from them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SUITES;
use super::environment::Environment;
use super::grants::{self, Opening};

/// Prompts of users and goals of attackers, by `suite/task`.
const PROMPTS: &str = "traces/agentdojo-task-prompts.json";
/// A task of a user; the others are goals of attackers, which nobody knows beforehand.
const USER_TASK: &str = "user_task";

/// A line of the file of sessions.
#[derive(Debug, Serialize)]
struct SessionLine<'a> {
    suite: &'a str,
    session: &'a str,
    purpose: &'a str,
    scope: &'a BTreeSet<String>,
    grants: &'a BTreeMap<String, BTreeSet<String>>,
}

/// What names the session of an action, and nothing else of it.
#[derive(Deserialize)]
struct SessionName {
    suite: String,
    task_id: String,
    session: String,
}

/// What sessions are opened with, by suite and task.
#[derive(Debug)]
pub struct Openings(BTreeMap<(String, String), (String, Opening)>);

impl Openings {
    /// Reads prompts, environments and manifests.
    ///
    /// # Errors
    /// One of them is missing or not what it should be.
    pub fn read(data: &Path) -> Result<Self, String> {
        let prompts: BTreeMap<String, String> = json(&data.join(PROMPTS))?;
        let manifest: BTreeMap<String, Value> = json(&data.join("context/agentdojo_tools.json"))?;
        let mut openings = BTreeMap::new();
        for suite in SUITES {
            let environment = Environment::read(&data.join("context/agentdojo_env").join(suite))?;
            let tools = manifest.get(suite).and_then(Value::as_array);
            let tools: Vec<String> = tools
                .ok_or_else(|| format!("the manifest has no tools for the suite `{suite}`"))?
                .iter()
                .filter_map(|tool| tool.get("name")?.as_str().map(str::to_owned))
                .collect();
            for (name, prompt) in &prompts {
                let Some((of, task)) = name.split_once('/') else {
                    continue;
                };
                if of == suite && task.starts_with(USER_TASK) {
                    let opening = grants::read(prompt, &environment, &tools);
                    openings.insert(
                        (suite.to_owned(), task.to_owned()),
                        (prompt.clone(), opening),
                    );
                }
            }
        }
        Ok(Self(openings))
    }

    /// What a session of a task is opened with, if the task is a user's and its prompt is known.
    #[must_use]
    pub fn of(&self, suite: &str, task: &str) -> Option<(&str, &Opening)> {
        let key = (suite.to_owned(), task.to_owned());
        let (prompt, opening) = self.0.get(&key)?;
        Some((prompt.as_str(), opening))
    }

    /// The file of sessions: a line for each session that the traces of a folder name, or one for each prompt without any.
    ///
    /// # Errors
    /// A trace cannot be read.
    pub fn lines(&self, data: &Path) -> Result<String, String> {
        let mut named = BTreeSet::new();
        for trace in traces(data)? {
            for line in text(&trace)?.lines() {
                let name: SessionName = serde_json::from_str(line).map_err(|e| e.to_string())?;
                named.insert((name.suite, name.task_id, name.session));
            }
        }
        if named.is_empty() {
            let each = self
                .0
                .keys()
                .map(|(suite, task)| (suite.clone(), task.clone(), format!("{suite}/{task}")));
            named.extend(each);
        }
        let mut lines = String::new();
        for (suite, task, session) in &named {
            let Some((purpose, opening)) = self.of(suite, task) else {
                continue;
            };
            let line = SessionLine {
                suite,
                session,
                purpose,
                scope: &opening.scope,
                grants: &opening.grants,
            };
            lines.push_str(&serde_json::to_string(&line).map_err(|error| error.to_string())?);
            lines.push('\n');
        }
        Ok(lines)
    }
}

/// The files of recorded actions of a folder.
///
/// # Errors
/// The folder cannot be read.
pub fn traces(data: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = data.join("traces");
    let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut found = Vec::new();
    for item in std::fs::read_dir(&folder).map_err(wrong)? {
        let path = item.map_err(wrong)?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with("agentdojo-") && name.ends_with(".jsonl") && !name.contains("index") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The text of a file.
pub(super) fn text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    serde_json::from_str(&text(path)?).map_err(|error| format!("{}: {error}", path.display()))
}
