//! From JSON Schema to shapes.
//!
//! | JSON Schema | shape |
//! |---|---|
//! | `boolean`, `integer`, `string` (any format, any `enum`) | `Bool`, `Long`, `String` |
//! | `number` | `decimal`: four fractional digits, exactly |
//! | `"x-countersign-scale": 2` on an `integer` or `number` | `Long` in units of 10^-2 |
//! | `array` | `Set` of its `items`; order and repetition are not seen by rules |
//! | `object` with `properties`, or closed by `"additionalProperties": false` | a closed record |
//! | `T` or `null` | an optional attribute of `T`, as is a property that is not `required` |
//! | anything else: open objects, unions, no type, recursion, references to elsewhere | JSON text, and a warning |
//!
//! Keywords that only narrow (`minimum`, `pattern`, `format`, `if`) are left to the tool. Alternatives beside a `type` narrow
//! too. The arguments themselves are always a record: an argument that is not listed is refused, because no rule could see it.

use std::collections::BTreeMap;

use crate::diagnostic::Diagnostic;
use crate::json::Json;
use crate::limits::{MAX_SCALE, MAX_SHAPE_NODES, MAX_SOURCE_DEPTH};
use crate::schema::{Attribute, Shape};

/// How deep a type may nest: around it the schema text has a namespace, an action, a context and the arguments themselves.
const MAX_DEPTH: usize = MAX_SOURCE_DEPTH - 4;
const SCALE_KEYWORD: &str = "x-countersign-scale";

/// A shape, and whether `null` may stand in its place.
struct Typed {
    shape: Shape,
    nullable: bool,
}

impl From<Shape> for Typed {
    fn from(shape: Shape) -> Self {
        Self {
            shape,
            nullable: false,
        }
    }
}

/// Reads the schema of one tool's arguments or output.
pub(super) struct Reader<'a> {
    file: &'a str,
    tool: &'a str,
    root: &'a Json,
    /// References being followed, to notice one that leads back to itself.
    references: Vec<&'a str>,
    nodes: usize,
    pub(super) findings: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, tool: &'a str, root: &'a Json) -> Self {
        Self {
            file,
            tool,
            root,
            references: Vec::new(),
            nodes: 0,
            findings: Vec::new(),
        }
    }

    /// The shape of a tool's arguments.
    pub(super) fn arguments(&mut self) -> Shape {
        let schema = self.dereferenced(self.root);
        if schema.as_object().is_none() || !matches!(type_of(schema), Some("object") | None) {
            self.error(
                "",
                "the arguments are not an object",
                "MCP wants `\"type\": \"object\"`",
            );
        }
        if is_open(schema) {
            self.warn(
                "",
                "the tool takes arguments that it does not list; they will be refused",
                "list them",
            );
        }
        self.record(schema, "", 0)
    }

    /// The shape of a tool's output, if it is an object that lists its properties.
    pub(super) fn output(&mut self) -> Option<Shape> {
        let schema = self.dereferenced(self.root);
        if type_of(schema).is_none_or(|name| name == "object") && schema.get("properties").is_some()
        {
            return Some(self.record(schema, "", 0));
        }
        self.warn(
            "",
            "the output is no object with `properties`; rules cannot read it",
            "describe it",
        );
        None
    }

    fn record(&mut self, schema: &'a Json, path: &str, depth: usize) -> Shape {
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Json::as_array)
            .map(|names| names.iter().filter_map(Json::as_str).collect())
            .unwrap_or_default();
        let mut attributes = BTreeMap::new();
        for (name, property) in schema
            .get("properties")
            .and_then(Json::as_object)
            .into_iter()
            .flatten()
        {
            let path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
            let Typed { shape, nullable } = self.read(property, &path, depth + 1);
            let required = required.contains(&name.as_str()) && !nullable;
            attributes.insert(name.clone(), Attribute { shape, required });
        }
        if let Some(name) = required
            .iter()
            .find(|name| !attributes.contains_key(**name))
        {
            let message = format!(
                "`{}` is required but not among the properties",
                name.escape_debug()
            );
            self.error(path, &message, "list it, or every call will be refused");
        }
        Shape::Record(attributes)
    }

    fn read(&mut self, schema: &'a Json, path: &str, depth: usize) -> Typed {
        self.nodes += 1;
        if self.nodes == MAX_SHAPE_NODES {
            self.error(
                path,
                "the schema is too large when written out",
                "use fewer references",
            );
        }
        if depth >= MAX_DEPTH || self.nodes >= MAX_SHAPE_NODES {
            return self.json_text(path, "it nests too deep");
        }
        let scale = self.scale(schema, path);
        let typed = self.read_unscaled(schema, path, depth);
        let Some(scale) = scale else { return typed };
        if !matches!(typed.shape, Shape::Decimal | Shape::Long { .. }) {
            self.error(
                path,
                &format!("`{SCALE_KEYWORD}` is not on an `integer` or `number`"),
                "remove it",
            );
        }
        Typed {
            shape: Shape::Long { scale },
            ..typed
        }
    }

    fn scale(&mut self, schema: &Json, path: &str) -> Option<u32> {
        let scale = schema.get(SCALE_KEYWORD)?;
        let digits = if let Json::Number(number) = scale {
            number.scaled(0)
        } else {
            None
        };
        let digits = digits
            .and_then(|digits| u32::try_from(digits).ok())
            .filter(|digits| *digits <= MAX_SCALE);
        if digits.is_none() {
            let message = format!("`{SCALE_KEYWORD}` is not a whole number from 0 to {MAX_SCALE}");
            self.error(path, &message, "give the number of fractional digits");
        }
        digits
    }

    fn read_unscaled(&mut self, schema: &'a Json, path: &str, depth: usize) -> Typed {
        if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
            return self.reference(reference, path, depth);
        }
        if let Some(ty) = schema.get("type") {
            let names = ty.as_array().unwrap_or_else(|| std::slice::from_ref(ty));
            let named: Option<Vec<&str>> = names.iter().map(Json::as_str).collect();
            return match named {
                Some(names) => self.types(&names, schema, path, depth),
                None => self.json_text(path, "its `type` is malformed"),
            };
        }
        for keyword in ["anyOf", "oneOf", "allOf"] {
            if let Some(schemas) = schema.get(keyword).and_then(Json::as_array) {
                if keyword == "allOf" && schemas.len() > 1 {
                    return self.json_text(path, "it has to fit several schemas at once");
                }
                return self.alternatives(schemas, path, depth);
            }
        }
        let constant = schema.get("const").map(std::slice::from_ref);
        if let Some(values) = constant.or_else(|| schema.get("enum").and_then(Json::as_array)) {
            return self.values(values, path);
        }
        if schema.get("properties").is_some() {
            return self.named_type("object", schema, path, depth);
        }
        self.json_text(path, "it has no type")
    }

    /// The one type that is left when `null` is taken out.
    fn types(&mut self, names: &[&str], schema: &'a Json, path: &str, depth: usize) -> Typed {
        let nullable = names.contains(&"null");
        let mut names: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| *name != "null")
            .collect();
        if names.contains(&"number") {
            names.retain(|name| *name != "integer");
        }
        let typed = match names.as_slice() {
            [name] => self.named_type(name, schema, path, depth),
            [] => self.json_text(path, "it can only be null"),
            _ => self.json_text(path, "it has several types"),
        };
        Typed {
            nullable: typed.nullable || nullable,
            ..typed
        }
    }

    fn named_type(&mut self, name: &str, schema: &'a Json, path: &str, depth: usize) -> Typed {
        let shape = match name {
            "boolean" => Shape::Bool,
            "integer" => Shape::Long { scale: 0 },
            "number" => Shape::Decimal,
            "string" => Shape::String,
            "array" => match schema.get("items") {
                Some(items) => {
                    let element = self.read(items, &format!("{path}/*"), depth + 1);
                    if element.nullable {
                        return self.json_text(path, "its elements may be null");
                    }
                    Shape::Set(Box::new(element.shape))
                }
                None => return self.json_text(path, "its elements have no type"),
            },
            "object" if is_open(schema) => {
                return self.json_text(path, "it may have members that are not listed");
            }
            "object" => self.record(schema, path, depth),
            _ => return self.json_text(path, "its type is unknown"),
        };
        shape.into()
    }

    /// The one shape that all alternatives have.
    fn alternatives(&mut self, schemas: &'a [Json], path: &str, depth: usize) -> Typed {
        let is_null = |schema: &&Json| type_of(schema) == Some("null");
        let nullable = schemas.iter().any(|schema| is_null(&schema));
        let mut shapes = Vec::new();
        let mut any_nullable = nullable;
        for schema in schemas.iter().filter(|schema| !is_null(schema)) {
            let typed = self.read(schema, path, depth + 1);
            any_nullable |= typed.nullable;
            if !shapes.contains(&typed.shape) {
                shapes.push(typed.shape);
            }
        }
        match (shapes.pop(), shapes.is_empty()) {
            (Some(shape), true) => Typed {
                shape,
                nullable: any_nullable,
            },
            (Some(_), false) => Typed {
                nullable: any_nullable,
                ..self.json_text(path, "it has alternatives of several types")
            },
            (None, _) => self.json_text(path, "it can only be null"),
        }
    }

    /// The one shape that all listed values have.
    fn values(&mut self, values: &[Json], path: &str) -> Typed {
        let shape_of = |value: &Json| match value {
            Json::Bool(_) => Some(Shape::Bool),
            Json::String(_) => Some(Shape::String),
            Json::Number(number) => number.scaled(0).map(|_| Shape::Long { scale: 0 }),
            Json::Null | Json::Array(_) | Json::Object(_) => None,
        };
        let mut shapes: Vec<_> = values
            .iter()
            .filter(|value| **value != Json::Null)
            .map(shape_of)
            .collect();
        shapes.dedup();
        match shapes.as_slice() {
            [Some(shape)] => Typed {
                shape: shape.clone(),
                nullable: values.contains(&Json::Null),
            },
            _ => self.json_text(path, "its values are not all booleans, integers or strings"),
        }
    }

    fn reference(&mut self, reference: &'a str, path: &str, depth: usize) -> Typed {
        if self.references.contains(&reference) {
            return self.json_text(path, "it contains itself");
        }
        let Some(schema) = resolve(self.root, reference) else {
            return self.json_text(path, "it refers to a schema that is not in the manifest");
        };
        self.references.push(reference);
        let typed = self.read(schema, path, depth + 1);
        self.references.pop();
        typed
    }

    /// The schema that a chain of references ends at; itself, if that is nowhere.
    fn dereferenced(&self, schema: &'a Json) -> &'a Json {
        let mut schema = schema;
        for _ in 0..MAX_DEPTH {
            let target = schema
                .get("$ref")
                .and_then(Json::as_str)
                .and_then(|name| resolve(self.root, name));
            match target {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }

    /// JSON text, because of `why`. It may be `null` as well, which is text too, so that nothing is lost.
    fn json_text(&mut self, path: &str, why: &str) -> Typed {
        let message = format!("rules will see it as JSON text, because {why}");
        self.warn(path, &message, "give it one type, or leave it as text");
        Shape::JsonText.into()
    }

    fn warn(&mut self, path: &str, message: &str, mend: &str) {
        let finding = Diagnostic::warning(self.file, self.about(path, message), mend);
        self.findings.push(finding);
    }

    fn error(&mut self, path: &str, message: &str, mend: &str) {
        let finding = Diagnostic::error(self.file, self.about(path, message), mend);
        self.findings.push(finding);
    }

    fn about(&self, path: &str, message: &str) -> String {
        format!(
            "tool `{}` at `{}`: {message}",
            self.tool.escape_debug(),
            path.escape_debug()
        )
    }
}

/// The only type that a schema names, if it names one.
fn type_of(schema: &Json) -> Option<&str> {
    schema.get("type").and_then(Json::as_str)
}

/// True if an object may have members that are not listed. JSON Schema says that it may unless forbidden; most manifests mean
/// that it may only if it says so or lists nothing.
fn is_open(schema: &Json) -> bool {
    match schema.get("additionalProperties") {
        Some(Json::Bool(false)) => schema.get("patternProperties").is_some(),
        Some(_) => true,
        None => schema.get("properties").is_none() || schema.get("patternProperties").is_some(),
    }
}

/// Follows a JSON Pointer within the document, such as `#/$defs/Name`.
fn resolve<'a>(root: &'a Json, reference: &str) -> Option<&'a Json> {
    let pointer = reference.strip_prefix('#')?;
    let mut steps = pointer.split('/');
    if steps.next() != Some("") {
        return None;
    }
    steps.try_fold(root, |json, step| {
        json.get(&step.replace("~1", "/").replace("~0", "~"))
    })
}
