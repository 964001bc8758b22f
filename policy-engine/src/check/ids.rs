//! Giving every rule an id, as `policy check --fix` does.

use std::collections::BTreeSet;

use dogwood_syntax::{Token, TokenKind, tokenize};

/// So that stem, dash and number stay within the length of an id.
const MAX_STEM_CHARS: usize = 100;

/// The text of a rule file with an `@id` before each rule that had none: the file's name and the rule's number in it. All
/// else stays as it was. Text that cannot be split into rules is returned unchanged.
pub fn add_missing_ids(path: &str, text: &str) -> String {
    let Ok(tokens) = tokenize(text) else {
        return text.to_owned();
    };
    let rules = rules(&tokens);
    let mut taken: BTreeSet<String> = rules.iter().filter_map(|rule| rule.id.clone()).collect();
    let stem = stem(path);
    let mut fixed = String::with_capacity(text.len());
    let mut copied = 0;
    for (index, rule) in rules.iter().enumerate() {
        if rule.id.is_some() {
            continue;
        }
        let id = (index + 1..)
            .map(|number| format!("{stem}-{number}"))
            .find(|id| !taken.contains(id))
            .unwrap_or_default();
        fixed.push_str(text.get(copied..rule.start).unwrap_or_default());
        fixed.push_str(&format!("@id(\"{id}\")\n"));
        taken.insert(id);
        copied = rule.start;
    }
    fixed.push_str(text.get(copied..).unwrap_or_default());
    fixed
}

struct RuleText {
    start: usize,
    /// What stands in its `@id`, as written.
    id: Option<String>,
}

/// The statements that begin like a rule.
fn rules(tokens: &[Token<'_>]) -> Vec<RuleText> {
    let significant = |token: &&Token<'_>| !token.is_whitespace() && !token.is_comment();
    let mut rules = Vec::new();
    let mut statement: Vec<&Token<'_>> = Vec::new();
    let mut depth = 0_usize;
    for token in tokens.iter().filter(significant) {
        statement.push(token);
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            ";" if depth == 0 => {
                let first = statement.first();
                if let Some(first) =
                    first.filter(|first| matches!(first.text, "@" | "permit" | "forbid"))
                {
                    rules.push(RuleText {
                        start: first.span.start,
                        id: id_of(&statement),
                    });
                }
                statement.clear();
            }
            _ => {}
        }
    }
    rules
}

fn id_of(statement: &[&Token<'_>]) -> Option<String> {
    statement.windows(4).find_map(|window| match window {
        [at, name, open, value]
            if at.text == "@"
                && name.text == "id"
                && open.text == "("
                && value.kind == TokenKind::String =>
        {
            Some(value.text.trim_matches('"').to_owned())
        }
        _ => None,
    })
}

fn stem(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    stem.chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .take(MAX_STEM_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::add_missing_ids;

    #[test]
    fn rules_without_an_id_get_one_and_nothing_else_changes() {
        let text = "// permit (nobody);\ndef cedar ok(?x) { ?x == true };\n\
            permit (principal, action, resource)\n  when { \"a;b\" == \"@id(\" };\n\
            @id(\"kept\")\nforbid (principal, action, resource);\n\
            @advice(\"x\")\npermit (principal, action, resource);\n";
        let fixed = add_missing_ids("rules/pay ments.cedar", text);
        assert_eq!(
            fixed,
            "// permit (nobody);\ndef cedar ok(?x) { ?x == true };\n\
            @id(\"payments-1\")\npermit (principal, action, resource)\n  when { \"a;b\" == \"@id(\" };\n\
            @id(\"kept\")\nforbid (principal, action, resource);\n\
            @id(\"payments-3\")\n@advice(\"x\")\npermit (principal, action, resource);\n"
        );
        assert_eq!(add_missing_ids("rules/payments.cedar", &fixed), fixed);
    }

    #[test]
    fn new_ids_avoid_those_taken_and_broken_text_is_left_alone() {
        let text = "@id(\"r-2\") permit (principal, action, resource);\npermit (principal, action, resource);";
        assert!(add_missing_ids("r.dw", text).contains("@id(\"r-3\")\npermit"));
        let broken = "permit (principal, action, resource) when { \"open };";
        assert_eq!(add_missing_ids("r.dw", broken), broken);
    }
}
