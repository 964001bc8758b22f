//! `ledger-client context`: settings for a ledger under a name, so that commands need no flags.
//!
//! What a command is told by a flag or a variable counts before what its context says.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::connection::{Connection, configuration};
use super::show::print_table;
use super::{Exit, Failure, print_json};
use crate::files;

/// Longest file of contexts in bytes.
const MAX_FILE_LEN: usize = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Keep the settings of this command line and of the variables under a name, and use them from now on.
    Set {
        /// The name.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Use another context from now on.
    Use {
        /// Its name.
        name: String,
    },
    /// Forget a context. Its files stay.
    Remove {
        /// Its name.
        name: String,
    },
    /// List contexts.
    List,
}

/// The settings of one ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    #[serde(default)]
    pub(super) endpoints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trust: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) operator: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<PathBuf>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

impl Contexts {
    fn read() -> Result<Self, Failure> {
        let Some(path) = path() else {
            return Ok(Self::default());
        };
        if !path.exists() {
            return Ok(Self::default());
        }
        let bad = |what: String| configuration(&format!("{}: {what}", path.display()));
        let bytes = files::read(&path, MAX_FILE_LEN)?;
        let text = String::from_utf8(bytes).map_err(|error| bad(error.to_string()))?;
        toml::from_str(&text).map_err(|error| bad(error.message().to_owned()))
    }

    fn write(&self) -> Result<(), Failure> {
        let path = path().ok_or_else(|| {
            configuration("there is no home directory; set XDG_CONFIG_HOME to a folder")
        })?;
        let failed = |error: &dyn std::fmt::Display| {
            configuration(&format!("{} cannot be written: {error}", path.display()))
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        }
        let text = toml::to_string(self).map_err(|error| failed(&error))?;
        Ok(files::replace(&path, text.as_bytes())?)
    }

    fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "there is none".to_owned()
            } else {
                format!("there are {}", known.join(", "))
            };
            configuration(&format!(
                "there is no context `{name}`; {known}; `ledger-client context set` makes one"
            ))
        })
    }
}

/// The context of a name, or the one in use; none if nobody has set any.
pub(super) fn find(name: Option<&str>) -> Result<Option<Context>, Failure> {
    let contexts = Contexts::read()?;
    match name.or(contexts.current.as_deref()) {
        Some(name) => contexts.get(name).cloned().map(Some),
        None => Ok(None),
    }
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut contexts = Contexts::read()?;
    match command {
        Command::Set { name, connection } => {
            let mut context = connection.as_context();
            let files = [
                &mut context.trust,
                &mut context.key,
                &mut context.operator,
                &mut context.state,
            ];
            for file in files.into_iter().flatten() {
                *file = absolute(file)?;
            }
            if context.endpoints.is_empty() || context.trust.is_none() {
                return Err(configuration(
                    "a context needs at least --endpoints and --trust, or their variables",
                ));
            }
            contexts.contexts.insert(name.clone(), context);
            contexts.current = Some(name.clone());
            contexts.write()?;
        }
        Command::Use { name } => {
            contexts.get(name)?;
            contexts.current = Some(name.clone());
            contexts.write()?;
        }
        Command::Remove { name } => {
            contexts.get(name)?;
            contexts.contexts.remove(name);
            if contexts.current.as_ref() == Some(name) {
                contexts.current = None;
            }
            contexts.write()?;
        }
        Command::List => return list(&contexts, json, out),
    }
    if json {
        print_json(out, &json!({ "current": contexts.current }))?;
    }
    Ok(Exit::Done)
}

fn list(contexts: &Contexts, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let rows = contexts.contexts.iter().map(|(name, context)| {
        json!({
            "name": name,
            "current": contexts.current.as_ref() == Some(name),
            "endpoints": context.endpoints,
            "trust": context.trust,
            "operator": context.operator,
            "key": context.key,
        })
    });
    let rows: Vec<Value> = rows.collect();
    if json {
        print_json(out, &json!({ "contexts": rows }))?;
    } else {
        print_table(out, &rows)?;
    }
    Ok(Exit::Done)
}

/// Contexts are used from any folder.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| configuration(&format!("{}: {error}", path.display())))
}

/// Where contexts are kept: `countersign/contexts.toml` in the user's configuration directory.
fn path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    Some(base.join("countersign/contexts.toml"))
}
