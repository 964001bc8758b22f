//! From a user's prompt to a session: which tools it may use, and whom and what the prompt speaks of.
//!
//! The prompt is all that the issuer of a session has, beside the user's world as it is before the task. What the prompt names,
//! and what is written in the records that it names, is granted; what turns up later is not. Nobody's tasks are known here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

use super::environment::Environment;
use super::words::{asks_for, delegates, looks, words};

/// How often what is named in a named record is looked up again: a mail names a file, a message a page.
const ROUNDS: usize = 3;
/// Most values of one grant; a prompt that names more grants none of the rest.
const MAX_VALUES: usize = 400;

static MAIL: LazyLock<Regex> = LazyLock::new(|| pattern(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"));
static ACCOUNT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[A-Z]{2}\d{2}[A-Z0-9]{10,30}\b"));
static URL: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:https?://|www\.)[^\s'\x22)>\]}]+"));
static SENTENCE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\.\p{Lu}"));
static QUOTED: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:^|[\s(:])(?:'([^'\n]+)'|\x22([^\x22\n]+)\x22)"));
static NAME: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b\p{Lu}[\p{L}]{2,}\b"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}

/// What a session is opened with. A grant bears the name of the argument or of the tool that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The actions that it may ask for.
    pub scope: BTreeSet<String>,
    /// Whom and what it may name.
    pub grants: BTreeMap<String, BTreeSet<String>>,
}

/// Reads a prompt against the user's world. `tools` are the actions there are.
#[must_use]
pub fn read(prompt: &str, environment: &Environment, tools: &[String]) -> Opening {
    let pointed = pointed(prompt, environment);
    let mut said = words(prompt);
    if delegates(&said) {
        said.extend(words(&pointed));
    }
    let scope: BTreeSet<String> = tools
        .iter()
        .filter(|tool| looks(tool) || asks_for(&said, tool, tools))
        .cloned()
        .collect();
    let both = format!("{prompt}\n{pointed}");
    let mut grants = BTreeMap::new();
    let mut grant = |name: &str, values: BTreeSet<String>| {
        if !values.is_empty() {
            let values = values.into_iter().take(MAX_VALUES).collect();
            grants.insert(name.to_owned(), values);
        }
    };
    grant("recipients", recipients(prompt, &both, environment));
    let mut people = environment.people.clone();
    people.extend(all(&NAME, prompt));
    people.retain(|_| !environment.people.is_empty());
    grant("user", people);
    grant("password", quoted(prompt));
    for tool in &scope {
        match tool.split('_').next() {
            Some("get") if tool.ends_with("page") => grant(tool, urls(&both)),
            Some("post") => grant(tool, urls(prompt)),
            Some("reserve") => grant(tool, environment.places.clone()),
            Some("update") => grant(tool, values(&both, environment)),
            _ => {}
        }
    }
    Opening { scope, grants }
}

/// The text of all records that the prompt names, and that those name in turn.
fn pointed(prompt: &str, environment: &Environment) -> String {
    let mut known = BTreeSet::new();
    let mut text = prompt.to_owned();
    for _ in 0..ROUNDS {
        let new: Vec<usize> = environment
            .named_in(&text)
            .difference(&known)
            .copied()
            .collect();
        text = new
            .iter()
            .filter_map(|place| environment.records.get(*place))
            .map(|record| record.text.as_str())
            .collect::<Vec<_>>()
            .join("\n");
        known.extend(new);
    }
    let records = known
        .iter()
        .filter_map(|place| environment.records.get(*place));
    let texts: Vec<&str> = records.map(|record| record.text.as_str()).collect();
    texts.join("\n")
}

/// Who may be written to, invited, and paid: addresses and accounts that are named, contacts whose first name is, the user,
/// and accounts with which the user has dealt before.
fn recipients(prompt: &str, both: &str, environment: &Environment) -> BTreeSet<String> {
    let mut found = all(&MAIL, both);
    found.extend(all(&ACCOUNT, both));
    let named: BTreeSet<String> = all(&NAME, prompt)
        .iter()
        .map(|name| name.to_lowercase())
        .collect();
    for record in &environment.records {
        found.extend(all(&ACCOUNT, &record.text));
        let contacts = all(&MAIL, &record.text).into_iter().filter(|mail| {
            let first = mail.split(['.', '-', '_', '@']).next().unwrap_or_default();
            named.contains(&first.to_lowercase())
        });
        found.extend(contacts);
    }
    let own = environment.own.iter();
    found.extend(
        own.filter(|own| MAIL.is_match(own) || ACCOUNT.is_match(own))
            .cloned(),
    );
    found
}

/// Addresses of pages, each as people and programs write it.
fn urls(text: &str) -> BTreeSet<String> {
    let found = all(&URL, text);
    let bare = found.iter().map(|url| {
        // A sentence that begins without a space before it.
        let end = SENTENCE.find(url).map_or(url.len(), |found| found.start());
        let url = url.get(..end).unwrap_or(url);
        let url = url.trim_end_matches(['.', ',', ';', ':', '!', '?', '/']);
        let url = url.strip_prefix("https://").unwrap_or(url);
        url.strip_prefix("http://").unwrap_or(url)
    });
    bare.flat_map(|bare| ["", "http://", "https://"].map(|scheme| format!("{scheme}{bare}")))
        .flat_map(|url| [format!("{url}/"), url])
        .collect()
}

fn quoted(prompt: &str) -> BTreeSet<String> {
    let found = QUOTED.captures_iter(prompt);
    found
        .filter_map(|found| found.get(1).or_else(|| found.get(2)))
        .map(|found| found.as_str().to_owned())
        .collect()
}

/// What may be written into the user's own record: parts of what was said, and what stands there already.
fn values(text: &str, environment: &Environment) -> BTreeSet<String> {
    let mut found = environment.own.clone();
    for sentence in text
        .split(['\n', ':', ';', '!', '?', '"'])
        .flat_map(|line| line.split(". "))
    {
        let parts: Vec<&str> = sentence.split(',').map(str::trim).collect();
        for start in 0..parts.len() {
            for end in start..parts.len().min(start + 3) {
                let joined = parts.get(start..=end).unwrap_or_default().join(", ");
                let joined = joined.split('{').next().unwrap_or_default();
                let joined = joined.split(" and ").next().unwrap_or_default();
                found.insert(joined.trim().trim_end_matches('.').to_owned());
            }
        }
    }
    found.remove("");
    found.retain(|value| value.len() <= 60);
    found
}

fn all(pattern: &Regex, text: &str) -> BTreeSet<String> {
    let found = pattern.find_iter(text);
    found
        .map(|found| found.as_str().trim_end_matches('.').to_owned())
        .collect()
}
