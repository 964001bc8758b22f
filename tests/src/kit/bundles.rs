//! Bundles that tests publish.

use std::collections::BTreeMap;

use policy_engine::Bundle;

/// The tools of test bundles, as an MCP server lists them.
pub const TOOLS: &str = r#"{"tools": [
  {"name": "read", "inputSchema": {"type": "object", "properties": {
      "doc": {"type": "string"}}, "required": ["doc"]}},
  {"name": "approve", "inputSchema": {"type": "object", "properties": {
      "ticket": {"type": "string"}}, "required": ["ticket"]},
   "outputSchema": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}},
  {"name": "pay", "inputSchema": {"type": "object", "properties": {
      "to": {"type": "string"}, "amount": {"type": "integer"}}, "required": ["to", "amount"]}},
  {"name": "deploy", "inputSchema": {"type": "object", "properties": {
      "ticket": {"type": "string"}}, "required": ["ticket"]}}
]}"#;

/// Reading is free; payments are capped at three an hour, and never to mallory; a deployment needs an approval of its ticket
/// that was executed and answered `ok`; approvals go to approvers.
pub const RULES: &str = r#"
@id("read")
permit (principal, action == Countersign::Action::"bank/read", resource);

@id("pay-cap")
@permit_ttl("120")
@obligation("notify:finance")
permit (principal, action == Countersign::Action::"bank/pay", resource)
when temporal { count_within(1h, Countersign::Action::"bank/pay"::allowed{}) < 3 };

@id("never-mallory")
forbid (principal, action == Countersign::Action::"bank/pay", resource)
when { context.input.to == "mallory" };

@id("approve")
permit (principal in Countersign::Group::"approvers", action == Countersign::Action::"bank/approve", resource);

@id("deploy")
permit (principal, action == Countersign::Action::"bank/deploy", resource)
when temporal {
  formerly within 1h Countersign::Action::"bank/approve"::response{ input.ticket: context.input.ticket, output.ok: true } };
"#;

/// The bundle of [`RULES`], its history per namespace, so that one agent's approval counts for another's deployment.
#[must_use]
pub fn bank() -> Bundle {
    bundle("namespace", RULES)
}

/// A bundle with these rules over [`TOOLS`] of the server "bank".
///
/// # Panics
/// If the files are not a bundle.
#[must_use]
pub fn bundle(history: &str, rules: &str) -> Bundle {
    let header = format!(
        "name = \"bank\"\nhistory = \"{history}\"\n\n[[manifest]]\nfile = \"manifest.json\"\nserver = \"bank\"\n"
    );
    let files = BTreeMap::from([
        ("bundle.toml".to_owned(), header.into_bytes()),
        ("manifest.json".to_owned(), TOOLS.as_bytes().to_vec()),
        ("rules/bank.dw".to_owned(), rules.as_bytes().to_vec()),
    ]);
    Bundle::from_files(files).unwrap_or_else(|findings| panic!("not a bundle: {findings:#?}"))
}
