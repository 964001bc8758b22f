//! From Cedar schema text to the shapes of its actions.
//!
//! Cedar writes out every common type wherever it is used, so that a few lines (`type B = { x: A, y: A }`, forty times over)
//! can fill any memory. Their written-out sizes are therefore computed first, each common type once, and bounded.

use std::collections::BTreeMap;

use cedar_policy_core::ast::InternalName;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::RawName;
use cedar_policy_core::validator::json_schema::{
    EntityTypeKind, Fragment, RecordType, Type, TypeVariant,
};

use super::Shapes;
use super::action::read_actions;
use crate::Diagnostic;
use crate::limits::{MAX_JSON_DEPTH, MAX_SCHEMA_BYTES, MAX_SCHEMA_NODES, MAX_SHAPE_NODES};
use crate::nesting::check_nesting;
use crate::text::line_at;

/// A schema whose type names are all resolved.
pub(super) type Resolved = Fragment<InternalName>;

impl Shapes {
    /// Reads the actions of a schema; `file` is what findings call it.
    ///
    /// # Errors
    /// If the text is too long or too deep, is no Cedar schema, lacks a declaration of the [`super::TEMPLATE`] or changes
    /// it, or declares an action whose context the engine could not fill in.
    pub fn from_cedarschema(file: &str, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let refuse = |finding: Diagnostic| vec![finding];
        let resolved = parse(file, text).map_err(refuse)?;
        let common_types =
            CommonTypes::measure(&resolved).map_err(|message| refuse(too_large(file, message)))?;
        // Only now, with sizes bounded, may Cedar write everything out.
        let (_schema, _warnings) = cedar_policy::Schema::from_cedarschema_str(text)
            .map_err(|error| refuse(cedar_error(file, text, &error, error_offset(&error))))?;
        let actions = read_actions(file, text, &resolved, &common_types)?;
        Ok(Self { actions })
    }
}

/// Parses schema text, within limits, and resolves its type names.
pub(super) fn parse(file: &str, text: &str) -> Result<Resolved, Diagnostic> {
    if text.len() > MAX_SCHEMA_BYTES {
        let message = format!("the schema is longer than {MAX_SCHEMA_BYTES} bytes");
        return Err(Diagnostic::error(
            file,
            message,
            "split it into bundles of several namespaces",
        ));
    }
    check_nesting(text).map_err(|error| {
        Diagnostic::error(
            file,
            error.to_string(),
            "name the inner types with `type` declarations",
        )
        .at_line(error.line())
    })?;
    let (fragment, _warnings) =
        Fragment::<RawName>::from_cedarschema_str(text, Extensions::all_available())
            .map_err(|error| cedar_error(file, text, &error, error_offset(&error)))?;
    fragment
        .to_internal_name_fragment_with_resolved_types()
        .map_err(|error| cedar_error(file, text, &error, error_offset(&error)))
}

fn error_offset(error: &impl miette::Diagnostic) -> Option<usize> {
    error.labels()?.next().map(|label| label.offset())
}

fn cedar_error(
    file: &str,
    text: &str,
    error: &impl std::fmt::Display,
    offset: Option<usize>,
) -> Diagnostic {
    Diagnostic::error(file, error.to_string(), "see Cedar's schema grammar")
        .at_line(offset.map(|offset| line_at(text, offset)))
}

fn too_large(file: &str, message: String) -> Diagnostic {
    Diagnostic::error(file, message, "use fewer and flatter types")
}

/// The common types of a schema, known to be acyclic and of bounded size.
pub(super) struct CommonTypes<'a> {
    types: BTreeMap<String, &'a Type<InternalName>>,
    sizes: BTreeMap<String, Size>,
}

/// How large a type is once its common types are written out.
#[derive(Debug, Clone, Copy)]
struct Size {
    nodes: usize,
    height: usize,
}

impl<'a> CommonTypes<'a> {
    fn measure(fragment: &'a Resolved) -> Result<Self, String> {
        let mut types = BTreeMap::new();
        for (namespace, definition) in &fragment.0 {
            for (id, common) in &definition.common_types {
                let name = match namespace {
                    Some(namespace) => format!("{namespace}::{id}"),
                    None => id.to_string(),
                };
                types.insert(name, &common.ty);
            }
        }
        let mut measured = Self {
            types,
            sizes: BTreeMap::new(),
        };
        let names: Vec<String> = measured.types.keys().cloned().collect();
        for name in names {
            measured.size_of_common(&name, 0)?;
        }
        measured.check_total(fragment)?;
        Ok(measured)
    }

    /// The type that a name stands for, if it is a common type.
    pub(super) fn get(&self, name: &InternalName) -> Option<&'a Type<InternalName>> {
        self.types.get(&name.to_string()).copied()
    }

    /// The record that a type is or stands for.
    pub(super) fn record<'t>(
        &self,
        ty: &'t Type<InternalName>,
    ) -> Option<&'t RecordType<InternalName>>
    where
        'a: 't,
    {
        match ty {
            Type::CommonTypeRef { type_name, .. } => self.record(self.get(type_name)?),
            Type::Type {
                ty: TypeVariant::Record(record),
                ..
            } => Some(record),
            Type::Type { .. } => None,
        }
    }

    fn check_total(&mut self, fragment: &Resolved) -> Result<(), String> {
        let mut total = 0;
        for definition in fragment.0.values() {
            for entity in definition.entity_types.values() {
                if let EntityTypeKind::Standard(standard) = &entity.kind {
                    total += self.size(&standard.shape.0, 0)?.nodes;
                }
            }
            for applies_to in definition
                .actions
                .values()
                .filter_map(|a| a.applies_to.as_ref())
            {
                total += self.size(&applies_to.context.0, 0)?.nodes;
            }
            if total > MAX_SCHEMA_NODES {
                return Err(format!(
                    "the schema's types have more than {MAX_SCHEMA_NODES} parts"
                ));
            }
        }
        Ok(())
    }

    fn size_of_common(&mut self, name: &str, depth: usize) -> Result<Size, String> {
        if let Some(size) = self.sizes.get(name) {
            return Ok(*size);
        }
        let Some(ty) = self.types.get(name).copied() else {
            return Ok(Size {
                nodes: 1,
                height: 0,
            });
        };
        let size = self.size(ty, depth)?;
        self.sizes.insert(name.to_owned(), size);
        Ok(size)
    }

    fn size(&mut self, ty: &Type<InternalName>, depth: usize) -> Result<Size, String> {
        if depth > MAX_JSON_DEPTH {
            return Err(format!(
                "a type nests deeper than {MAX_JSON_DEPTH} or contains itself"
            ));
        }
        let mut size = Size {
            nodes: 1,
            height: 0,
        };
        let mut add = |part: Size| {
            size.nodes = size.nodes.saturating_add(part.nodes);
            size.height = size.height.max(part.height + 1);
        };
        match ty {
            Type::CommonTypeRef { type_name, .. } => {
                add(self.size_of_common(&type_name.to_string(), depth + 1)?);
            }
            Type::Type {
                ty: TypeVariant::Set { element },
                ..
            } => add(self.size(element, depth + 1)?),
            Type::Type {
                ty: TypeVariant::Record(record),
                ..
            } => {
                for attribute in record.attributes.values() {
                    add(self.size(&attribute.ty, depth + 1)?);
                }
            }
            Type::Type { .. } => {}
        }
        if size.height > MAX_JSON_DEPTH {
            return Err(format!("a type nests deeper than {MAX_JSON_DEPTH}"));
        }
        if size.nodes > MAX_SHAPE_NODES {
            return Err(format!("a type has more than {MAX_SHAPE_NODES} parts"));
        }
        Ok(size)
    }
}
