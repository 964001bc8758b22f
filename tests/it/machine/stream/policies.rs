//! The bundles of a stream: each keeps its history another way, one takes two chunks, one does not compile.

use countersign_tests::kit::{RULES, bank, bundle};
use policy_engine::Bundle;

/// Payments capped for each agent; a deployment needs an approval in the agent's own past.
const OF_AGENT: &str = r#"
@id("read")
permit (principal, action == Countersign::Action::"bank/read", resource);

@id("pay-cap")
permit (principal, action == Countersign::Action::"bank/pay", resource)
when temporal { count_within(10m, Countersign::Action::"bank/pay"::allowed{}) < 2 };

@id("approve")
permit (principal, action == Countersign::Action::"bank/approve", resource);

@id("deploy")
permit (principal, action == Countersign::Action::"bank/deploy", resource)
when temporal {
  formerly within 1h Countersign::Action::"bank/approve"::response{ input.ticket: context.input.ticket, output.ok: true } };
"#;

pub(super) fn all() -> Vec<Bundle> {
    let long = format!("// {}\n{OF_AGENT}", "padding ".repeat(7_000));
    vec![
        bank(),
        bundle("agent", OF_AGENT),
        bundle("session", &long),
        bundle("subject", &RULES.replace("1h", "30m")),
        bundle(
            "owner",
            "@id(\"typo\")\npermit (principal, action, resource) when { context.nothing == 1 };\n",
        ),
    ]
}
