//! From what an MCP server says about its tools to a Cedar schema.

use crate::diagnostic::Diagnostic;
use crate::json::Json;

/// One manifest of a bundle.
pub(crate) struct Manifest<'a> {
    /// Its path, for findings.
    pub(crate) file: &'a str,
    /// The server whose tools it lists; none if they are known by their bare names.
    pub(crate) server: Option<&'a str>,
    /// Its content.
    pub(crate) json: Json,
}

pub(crate) fn to_cedarschema(
    _manifests: &[Manifest<'_>],
) -> Result<(String, Vec<Diagnostic>), Vec<Diagnostic>> {
    Ok((crate::schema::TEMPLATE.to_owned(), Vec::new()))
}
