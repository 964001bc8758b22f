//! A YAML text as a tree of texts: numbers and truths stay as they are written.

use saphyr_parser::{Event, Parser};

/// A part of a YAML text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A single value.
    Scalar(String),
    /// Several.
    Sequence(Vec<Self>),
    /// Named ones, in their order.
    Mapping(Vec<(String, Self)>),
}

/// What is being read: a collection whose end has not come.
enum Open {
    Sequence(Vec<Node>),
    Mapping(Vec<(String, Node)>, Option<String>),
}

/// Reads the documents of a text. Anchors and tags say nothing here; a key that is no single value has no name.
pub(super) fn read(text: &str) -> Result<Vec<Node>, String> {
    let mut documents = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| error.to_string())?;
        let whole = match event {
            Event::Scalar(text, ..) => Node::Scalar(text.into_owned()),
            Event::Alias(_) => Node::Scalar(String::new()),
            Event::SequenceStart(..) => {
                open.push(Open::Sequence(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Mapping(Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::Sequence(items)) => Node::Sequence(items),
                Some(Open::Mapping(fields, _)) => Node::Mapping(fields),
                None => continue,
            },
            _ => continue,
        };
        match open.last_mut() {
            None => documents.push(whole),
            Some(Open::Sequence(items)) => items.push(whole),
            Some(Open::Mapping(fields, key)) => match (key.take(), whole) {
                (Some(key), value) => fields.push((key, value)),
                (None, Node::Scalar(name)) => *key = Some(name),
                (None, _) => *key = Some(String::new()),
            },
        }
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_a_tree() {
        let scalar = |text: &str| Node::Scalar(text.to_owned());
        let list = Node::Sequence(vec![scalar("1"), scalar("two")]);
        let read = read("a: {b: [1, \"two\"]}\nc: !include d.yaml\n").unwrap();
        let inner = Node::Mapping(vec![("b".to_owned(), list)]);
        let fields = vec![("a".to_owned(), inner), ("c".to_owned(), scalar("d.yaml"))];
        assert_eq!(read, [Node::Mapping(fields)]);
        assert!(super::read("a: [1").is_err());
    }
}
