//! What the `.proto` files promise to people who read only them, checked on the compiled descriptors.

use std::collections::BTreeMap;

use ledger_proto::DESCRIPTORS;
use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::source_code_info::Location;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MessageOptions, MethodDescriptorProto,
    OneofDescriptorProto, ServiceDescriptorProto, SourceCodeInfo,
};

// Field numbers of descriptor.proto, from which the paths to comments are made.
const FILE_MESSAGES: i32 = 4;
const FILE_ENUMS: i32 = 5;
const FILE_SERVICES: i32 = 6;
const MESSAGE_FIELDS: i32 = 2;
const MESSAGE_NESTED: i32 = 3;
const MESSAGE_ENUMS: i32 = 4;
const MESSAGE_ONEOFS: i32 = 8;
const ENUM_VALUES: i32 = 2;
const SERVICE_METHODS: i32 = 2;

/// The comments of one file, by path, and what was found in it.
struct Judge<'a> {
    comments: BTreeMap<&'a [i32], &'a str>,
    findings: Vec<String>,
}

/// All findings about one file.
fn judge(file: &FileDescriptorProto) -> Vec<String> {
    let comments = file
        .source_code_info
        .iter()
        .flat_map(|info| &info.location)
        .map(|location| (location.path.as_slice(), location.leading_comments()))
        .collect();
    let mut judge = Judge {
        comments,
        findings: Vec::new(),
    };
    for (message, path) in numbered(&file.message_type, &[FILE_MESSAGES]) {
        judge.message(message, &path, message.name());
    }
    for (item, path) in numbered(&file.enum_type, &[FILE_ENUMS]) {
        judge.enumeration(item, &path);
    }
    for (service, path) in numbered(&file.service, &[FILE_SERVICES]) {
        judge.service(service, &path);
    }
    judge.findings
}

/// Each item with its path: the parent's, and the position.
fn numbered<'a, T>(
    items: &'a [T],
    parent: &'a [i32],
) -> impl Iterator<Item = (&'a T, Vec<i32>)> + 'a {
    (0..)
        .zip(items)
        .map(move |(position, item)| (item, [parent, &[position]].concat()))
}

impl Judge<'_> {
    fn commented(&mut self, path: &[i32], name: &str) {
        let comment = self.comments.get(path).map_or("", |text| text.trim());
        if comment.is_empty() {
            self.findings.push(format!("{name}: has no comment"));
        } else if !comment.ends_with(['.', '?', '"']) {
            self.findings
                .push(format!("{name}: its comment is not a whole sentence"));
        }
    }

    fn message(&mut self, message: &DescriptorProto, path: &[i32], name: &str) {
        if message
            .options
            .as_ref()
            .is_some_and(|options| options.map_entry())
        {
            self.findings
                .push(format!("{name}: a map, whose encoding has no fixed order"));
            return;
        }
        self.commented(path, name);
        for (field, at) in numbered(&message.field, &[path, &[MESSAGE_FIELDS]].concat()) {
            let name = format!("{name}.{}", field.name());
            self.commented(&at, &name);
            if matches!(field.r#type(), Type::Float | Type::Double) {
                self.findings.push(format!(
                    "{name}: a floating-point number, which has many encodings"
                ));
            }
        }
        for (oneof, at) in numbered(&message.oneof_decl, &[path, &[MESSAGE_ONEOFS]].concat()) {
            // The compiler makes one of these for each `optional`, and nobody can write a comment on it.
            if !oneof.name().starts_with('_') {
                self.commented(&at, &format!("{name}.{}", oneof.name()));
            }
        }
        for (nested, at) in numbered(&message.nested_type, &[path, &[MESSAGE_NESTED]].concat()) {
            self.message(nested, &at, &format!("{name}.{}", nested.name()));
        }
        for (nested, at) in numbered(&message.enum_type, &[path, &[MESSAGE_ENUMS]].concat()) {
            self.enumeration(nested, &at);
        }
        self.pages(message, name);
    }

    /// Every list can be read to its end in the same way.
    fn pages(&mut self, message: &DescriptorProto, name: &str) {
        let wanted: &[&str] = if !name.starts_with("List") {
            &[]
        } else if name.ends_with("Request") {
            &["page_size", "page_token"]
        } else {
            &["next_page_token"]
        };
        for wanted in wanted {
            if !message.field.iter().any(|field| field.name() == *wanted) {
                self.findings
                    .push(format!("{name}: a list without {wanted}"));
            }
        }
    }

    fn enumeration(&mut self, item: &EnumDescriptorProto, path: &[i32]) {
        let name = item.name();
        self.commented(path, name);
        for (value, at) in numbered(&item.value, &[path, &[ENUM_VALUES]].concat()) {
            self.commented(&at, value.name());
            if (value.number() == 0) != value.name().ends_with("_UNSPECIFIED") {
                self.findings.push(format!(
                    "{}: the value 0 of {name}, and no other, ends in _UNSPECIFIED",
                    value.name()
                ));
            }
            if !value.name().starts_with(&format!("{}_", screaming(name))) {
                self.findings.push(format!(
                    "{}: does not begin with the name of {name}",
                    value.name()
                ));
            }
        }
    }

    fn service(&mut self, service: &ServiceDescriptorProto, path: &[i32]) {
        self.commented(path, service.name());
        for (method, at) in numbered(&service.method, &[path, &[SERVICE_METHODS]].concat()) {
            self.commented(&at, &format!("{}.{}", service.name(), method.name()));
        }
    }
}

/// `SessionEndKind` as `SESSION_END_KIND`.
fn screaming(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_uppercase());
    }
    out
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(DESCRIPTORS).expect("the build has written a descriptor set")
}

#[test]
fn everything_is_documented_and_has_one_encoding() {
    let descriptors = descriptors();
    let found: Vec<_> = descriptors
        .file
        .iter()
        .flat_map(|file| {
            judge(file)
                .into_iter()
                .map(move |finding| format!("{}: {finding}", file.name()))
        })
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn all_services_are_there() {
    let descriptors = descriptors();
    let mut services: Vec<_> = descriptors
        .file
        .iter()
        .flat_map(|file| &file.service)
        .map(|service| service.name())
        .collect();
    services.sort_unstable();
    let expected = [
        "AuthorizationService",
        "ClusterService",
        "IdentityService",
        "LedgerService",
        "PeerService",
        "PolicyService",
        "SessionService",
    ];
    assert_eq!(services, expected);
}

/// Every command that is not a node's own work can be sent by an rpc of its name.
#[test]
fn every_command_has_its_rpc() {
    let descriptors = descriptors();
    let methods: Vec<_> = descriptors
        .file
        .iter()
        .flat_map(|file| &file.service)
        .flat_map(|service| &service.method)
        .map(|method| method.name())
        .collect();
    let commands: Vec<_> = descriptors
        .file
        .iter()
        .flat_map(|file| &file.message_type)
        .filter(|message| message.name() == "Command")
        .flat_map(|message| &message.field)
        .filter(|field| field.oneof_index.is_some())
        .filter_map(|field| field.type_name().rsplit('.').next())
        .collect();
    assert!(commands.contains(&"Authorize"));
    let by_nodes = ["Seal", "DeclareSupport", "AttestState"];
    for command in commands {
        assert_ne!(
            by_nodes.contains(&command),
            methods.contains(&command),
            "{command} needs an rpc of its name, unless only nodes make it"
        );
    }
}

/// A file that breaks every rule and has one comment, on the message.
fn bad_file(comment: &str) -> FileDescriptorProto {
    let field = |name: &str, kind: Type, oneof_index| FieldDescriptorProto {
        name: Some(name.to_owned()),
        r#type: Some(kind.into()),
        oneof_index,
        ..FieldDescriptorProto::default()
    };
    let map_entry = DescriptorProto {
        name: Some("PairsEntry".to_owned()),
        options: Some(MessageOptions {
            map_entry: Some(true),
            ..MessageOptions::default()
        }),
        ..DescriptorProto::default()
    };
    let message = DescriptorProto {
        name: Some("ListThingsRequest".to_owned()),
        field: vec![field("number", Type::Double, Some(0))],
        oneof_decl: vec![OneofDescriptorProto {
            name: Some("choice".to_owned()),
            ..OneofDescriptorProto::default()
        }],
        nested_type: vec![map_entry],
        ..DescriptorProto::default()
    };
    let colour = EnumDescriptorProto {
        name: Some("Colour".to_owned()),
        value: vec![EnumValueDescriptorProto {
            name: Some("RED".to_owned()),
            number: Some(0),
            ..EnumValueDescriptorProto::default()
        }],
        ..EnumDescriptorProto::default()
    };
    let service = ServiceDescriptorProto {
        name: Some("Quiet".to_owned()),
        method: vec![MethodDescriptorProto {
            name: Some("Whisper".to_owned()),
            ..MethodDescriptorProto::default()
        }],
        ..ServiceDescriptorProto::default()
    };
    let location = Location {
        path: vec![FILE_MESSAGES, 0],
        leading_comments: Some(comment.to_owned()),
        ..Location::default()
    };
    FileDescriptorProto {
        message_type: vec![message],
        enum_type: vec![colour],
        service: vec![service],
        source_code_info: Some(SourceCodeInfo {
            location: vec![location],
        }),
        ..FileDescriptorProto::default()
    }
}

#[test]
fn a_bad_file_is_found() {
    let found = judge(&bad_file(""));
    let expected = [
        "ListThingsRequest: has no comment",
        "ListThingsRequest.number: has no comment",
        "ListThingsRequest.number: a floating-point number",
        "ListThingsRequest.choice: has no comment",
        "ListThingsRequest.PairsEntry: a map",
        "ListThingsRequest: a list without page_size",
        "ListThingsRequest: a list without page_token",
        "Colour: has no comment",
        "RED: has no comment",
        "RED: the value 0 of Colour",
        "RED: does not begin with the name",
        "Quiet: has no comment",
        "Quiet.Whisper: has no comment",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for expected in expected {
        assert!(
            found.iter().any(|finding| finding.starts_with(expected)),
            "expected {expected:?} in {found:#?}"
        );
    }
}

#[test]
fn a_comment_is_read_and_must_be_a_sentence() {
    let message = |comment: &str| {
        judge(&bad_file(comment))
            .into_iter()
            .filter(|finding| finding.starts_with("ListThingsRequest: "))
            .filter(|finding| finding.contains("comment"))
            .collect::<Vec<_>>()
    };
    assert!(message(" Which things.\n").is_empty());
    assert_eq!(
        message(" which things\n"),
        ["ListThingsRequest: its comment is not a whole sentence"]
    );
}
