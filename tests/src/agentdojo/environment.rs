//! What a user's world looks like before anything happens: mails, files, pages, accounts and people, whatever the tools are.
//!
//! Nothing here knows a suite. A mapping of YAML that holds single values is a record; it is called by its title, subject,
//! file name or sender; a text that stands under a file's name or an address is one, too.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;

use super::yaml::{self, Node};

/// Parts of keys whose values call a record by a name.
const NAMES: &[&str] = &[
    "name",
    "title",
    "subject",
    "filename",
    "sender",
    "recipient",
    "url",
    "email",
];
/// Keys of mappings that describe the user.
const OWNERS: &[&str] = &[
    "user",
    "account",
    "user_account",
    "bank_account",
    "profile",
    "owner",
];
/// The shortest name that points at a record, in bytes.
const MIN_NAME: usize = 3;

/// One thing in the user's world.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// What people call it, in lowercase.
    pub names: BTreeSet<String>,
    /// All that is written in it.
    pub text: String,
}

/// The user's world.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Everything in it.
    pub records: Vec<Record>,
    /// What describes the user: name, address, account.
    pub own: BTreeSet<String>,
    /// Users of the same place.
    pub people: BTreeSet<String>,
    /// Names of houses, companies and other things that can be chosen.
    pub places: BTreeSet<String>,
}

impl Environment {
    /// Reads all YAML below a folder.
    ///
    /// # Errors
    /// A file cannot be read, or is no YAML.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let mut environment = Self::default();
        environment.read_folder(folder)?;
        Ok(environment)
    }

    fn read_folder(&mut self, folder: &Path) -> Result<(), String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
        let items = std::fs::read_dir(folder).map_err(|error| wrong(&error))?;
        let mut paths = Vec::new();
        for item in items {
            paths.push(item.map_err(|error| wrong(&error))?.path());
        }
        paths.sort();
        for path in paths {
            if path.is_dir() {
                self.read_folder(&path)?;
            } else if path
                .extension()
                .is_some_and(|end| end == "yaml" || end == "yml")
            {
                let text = std::fs::read_to_string(&path).map_err(|error| wrong(&error))?;
                self.add(&text)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Adds what one YAML text describes.
    ///
    /// # Errors
    /// It is no YAML.
    pub fn add(&mut self, yaml: &str) -> Result<(), String> {
        for document in &yaml::read(yaml)? {
            self.walk("", document);
        }
        Ok(())
    }

    fn walk(&mut self, key: &str, node: &Node) {
        let mapping = match node {
            Node::Scalar(_) => return,
            Node::Sequence(items) => {
                for item in items {
                    match item {
                        Node::Scalar(name)
                            if key.ends_with("users") || key.ends_with("members") =>
                        {
                            self.people.insert(name.clone());
                        }
                        _ => self.walk(key, item),
                    }
                }
                return;
            }
            Node::Mapping(mapping) => mapping,
        };
        let mut record = Record::default();
        let mut fields = 0;
        for (name, value) in mapping {
            let values = scalars(value);
            fields += usize::from(!values.is_empty());
            let is_name = name.split('_').any(|part| NAMES.contains(&part));
            for text in &values {
                self.note_owner(key, name, text);
                if name == "name" {
                    self.places.insert(text.clone());
                }
                if is_name {
                    record.names.extend(spoken(text));
                }
                record.text.push_str(text);
                record.text.push('\n');
            }
            if let ([text], true) = (values.as_slice(), is_address(name)) {
                let names = spoken(name).collect();
                self.records.push(Record {
                    names,
                    text: text.clone(),
                });
            }
            self.walk(name, value);
        }
        if fields > 1 && !OWNERS.contains(&key) && !record.names.is_empty() {
            self.records.push(record);
        }
    }

    fn note_owner(&mut self, mapping: &str, key: &str, value: &str) {
        if OWNERS.contains(&mapping) || key.starts_with("account_") {
            self.own.insert(value.to_owned());
        }
    }

    /// Records that a text calls by a name, by their place.
    pub fn named_in(&self, text: &str) -> BTreeSet<usize> {
        let text = text.to_lowercase();
        let records = self.records.iter().enumerate();
        records
            .filter(|(_, record)| record.names.iter().any(|name| says(&text, name)))
            .map(|(place, _)| place)
            .collect()
    }
}

/// True if a name stands in a text as a word of its own; both in lowercase.
fn says(text: &str, name: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric();
    text.match_indices(name).any(|(start, _)| {
        let before = text.get(..start).and_then(|text| text.chars().next_back());
        let after = text
            .get(start + name.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(joins) && !after.is_some_and(joins)
    })
}

/// How people call what bears a name: by it, or a file without its ending and with spaces between its words.
fn spoken(name: &str) -> impl Iterator<Item = String> {
    let name = name.to_lowercase();
    let stem = is_address(&name).then(|| {
        let stem = name
            .rsplit_once('.')
            .map_or(name.as_str(), |(stem, _)| stem);
        stem.replace(['-', '_'], " ")
    });
    let long = |name: &String| name.len() >= MIN_NAME && !name.contains('\n');
    stem.into_iter().chain([name]).filter(long)
}

/// True for the name of a file or a page.
fn is_address(name: &str) -> bool {
    static ADDRESS: std::sync::LazyLock<Regex> = std::sync::LazyLock::new(|| {
        Regex::new(r"^[\w.:/-]+\.[A-Za-z]\w{1,4}(/\S*)?$").expect("a pattern")
    });
    ADDRESS.is_match(name)
}

/// The values of a field: one, several, or the addresses that are keys of a mapping.
fn scalars(node: &Node) -> Vec<String> {
    match node {
        Node::Scalar(value) => vec![value.clone()],
        Node::Sequence(items) => {
            let single = items.iter().filter_map(|item| match item {
                Node::Scalar(value) => Some(value.clone()),
                Node::Sequence(_) | Node::Mapping(_) => None,
            });
            single.collect()
        }
        Node::Mapping(fields) => {
            let addresses = fields
                .iter()
                .map(|(key, _)| key)
                .filter(|key| key.contains('@'));
            addresses.cloned().collect()
        }
    }
}
