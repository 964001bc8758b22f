//! English, as far as it tells what a user asks for: words that stand for the verbs and the objects in the names of tools.

use std::collections::BTreeSet;

/// Verbs of tools that only look.
const LOOKS: &[&str] = &[
    "get", "search", "list", "read", "check", "find", "view", "show", "fetch", "look", "describe",
    "count",
];

/// What people say for the verb of a tool.
const VERBS: &[(&str, &[&str])] = &[
    (
        "send",
        &[
            "send",
            "write",
            "message",
            "email",
            "mail",
            "post",
            "reply",
            "forward",
            "answer",
            "notify",
            "inform",
            "ask",
            "pay",
            "refund",
            "transfer",
            "reimburse",
            "wire",
            "dm",
            "announce",
            "congratulate",
            "thank",
        ],
    ),
    (
        "post",
        &[
            "post", "publish", "upload", "put", "write", "update", "correct",
        ],
    ),
    (
        "schedule",
        &[
            "schedule",
            "pay",
            "recurring",
            "monthly",
            "weekly",
            "update",
            "set",
            "plan",
        ],
    ),
    (
        "update",
        &[
            "update", "change", "adjust", "modify", "move", "correct", "set", "edit", "increase",
            "reset",
        ],
    ),
    ("add", &["add", "include", "invite", "put", "join"]),
    (
        "append",
        &["append", "add", "write", "put", "insert", "include"],
    ),
    ("invite", &["invite", "add"]),
    (
        "create",
        &[
            "create", "add", "make", "schedule", "book", "write", "save", "remind", "set", "put",
            "plan", "invite",
        ],
    ),
    (
        "delete",
        &[
            "delete", "remove", "erase", "discard", "clean", "clear", "trash",
        ],
    ),
    ("remove", &["remove", "delete", "kick", "expel", "revoke"]),
    ("cancel", &["cancel", "remove", "delete", "decline"]),
    (
        "reschedule",
        &[
            "reschedule",
            "move",
            "postpone",
            "shift",
            "change",
            "push",
            "delay",
        ],
    ),
    ("share", &["share", "give", "grant", "send"]),
    ("reserve", &["reserve", "book", "reservation", "booking"]),
];

/// What people say for the object of a tool. It counts only where several tools share a verb.
const OBJECTS: &[(&str, &[&str])] = &[
    (
        "email",
        &["email", "mail", "message", "letter", "newsletter", "spam"],
    ),
    (
        "event",
        &[
            "event",
            "calendar",
            "meeting",
            "appointment",
            "reminder",
            "remind",
            "lunch",
            "dinner",
            "call",
            "trip",
            "invite",
        ],
    ),
    (
        "file",
        &[
            "file",
            "document",
            "doc",
            "spreadsheet",
            "list",
            "note",
            "drive",
            "folder",
            "report",
        ],
    ),
    ("password", &["password", "passphrase", "credential"]),
    (
        "info",
        &[
            "information",
            "info",
            "address",
            "profile",
            "detail",
            "name",
            "street",
            "city",
            "record",
        ],
    ),
    (
        "transaction",
        &[
            "transaction",
            "payment",
            "order",
            "rent",
            "bill",
            "subscription",
            "transfer",
            "amount",
        ],
    ),
    (
        "hotel",
        &["hotel", "room", "stay", "accommodation", "place"],
    ),
    ("car", &["car", "vehicle", "suv", "rental"]),
    (
        "restaurant",
        &["restaurant", "table", "lunch", "dinner", "meal"],
    ),
];

/// Words with which a user hands on what somebody else wrote.
const DELEGATES: &[&str] = &[
    "instruction",
    "action",
    "task",
    "todo",
    "update",
    "accordingly",
    "step",
    "follow",
    "detail",
    "request",
];

/// The words of a text, in lowercase.
pub(super) fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// True if one of the words is a form of `stem`.
fn has(words: &BTreeSet<String>, stem: &str) -> bool {
    let without_e = stem.strip_suffix('e').unwrap_or(stem);
    ["", "s", "es", "d", "ed"]
        .into_iter()
        .map(|ending| format!("{stem}{ending}"))
        .chain([format!("{without_e}ing")])
        .any(|form| words.contains(&form))
}

fn has_any(words: &BTreeSet<String>, stems: &[&str]) -> bool {
    stems.iter().any(|stem| has(words, stem))
}

/// True if these words hand on what somebody else wrote.
pub(super) fn delegates(words: &BTreeSet<String>) -> bool {
    has_any(words, DELEGATES)
}

fn verb(tool: &str) -> &str {
    tool.split('_').next().unwrap_or(tool)
}

/// True if a tool only looks, by its name.
pub(super) fn looks(tool: &str) -> bool {
    LOOKS.contains(&verb(tool))
}

/// True if these words ask for what a tool does, by its name. `tools` are all there are.
pub(super) fn asks_for(words: &BTreeSet<String>, tool: &str, tools: &[String]) -> bool {
    let own = verb(tool);
    let said = match VERBS.iter().find(|(name, _)| *name == own) {
        Some((_, stems)) => has_any(words, stems),
        None => has(words, own),
    };
    let alone = tools.iter().filter(|other| verb(other) == own).count() < 2;
    let mut objects = tool
        .split('_')
        .skip(1)
        .filter_map(|part| OBJECTS.iter().find(|(name, _)| *name == part))
        .peekable();
    let named = objects.peek().is_none() || objects.any(|(_, stems)| has_any(words, stems));
    said && (alone || named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(prompt: &str, tools: &[&str]) -> Vec<String> {
        let all: Vec<String> = tools.iter().map(|tool| (*tool).to_owned()).collect();
        let words = words(prompt);
        let asked = all.iter().filter(|tool| asks_for(&words, tool, &all));
        asked.cloned().collect()
    }

    #[test]
    fn a_verb_names_a_tool_and_an_object_tells_two_of_them_apart() {
        let tools = ["delete_file", "delete_email", "share_file"];
        assert_eq!(
            asked("Deleting the old documents, please", &tools),
            ["delete_file"]
        );
        assert_eq!(asked("Remove that mail", &tools), ["delete_email"]);
        assert_eq!(asked("What is in the file?", &tools), Vec::<String>::new());
        assert_eq!(asked("Please share it", &tools), ["share_file"]);
    }

    #[test]
    fn a_tool_whose_verb_nobody_listed_is_asked_for_by_its_own() {
        assert_eq!(asked("Archive it", &["archive_thread"]), ["archive_thread"]);
        assert_eq!(asked("Read it", &["archive_thread"]), Vec::<String>::new());
    }

    #[test]
    fn looking_is_told_by_the_name() {
        assert!(looks("get_balance") && !looks("send_money"));
        assert!(delegates(&words("Follow it")) && !delegates(&words("Pay it")));
    }
}
