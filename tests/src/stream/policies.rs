//! The bundles of a stream: each keeps its history another way, one takes two chunks, one does not compile.

use crate::kit::{RULES, bank, bundle};
use ledger_proto::v1::{self, command::Body};
use policy_engine::Bundle;

use super::{Dice, NAMESPACES, Stream};

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

impl Stream {
    /// One chunk of some bundle, sometimes not what its digest says.
    pub(super) fn publish(&self, dice: &mut Dice) -> Body {
        let bundle = dice.pick(&self.bundles);
        let chunks = bundle.chunks();
        let count = u32::try_from(chunks.len()).expect("few chunks");
        let index = u32::try_from(dice.below(u64::from(count))).expect("below a count");
        let mut chunk = chunks[index as usize].clone();
        if dice.percent(10) {
            chunk[0] ^= 1;
        }
        Body::PublishBundle(v1::PublishBundle {
            namespace: self.governed(dice),
            digest: bundle.digest().0.to_vec(),
            chunk_index: index,
            chunk_count: count,
            chunk,
        })
    }

    pub(super) fn activate(&self, dice: &mut Dice) -> Body {
        let bundle = dice.pick(&self.bundles);
        Body::ActivateBundle(v1::ActivateBundle {
            namespace: self.governed(dice),
            digest: bundle.digest().0.to_vec(),
            accept_short_history: dice.percent(85),
        })
    }

    fn governed(&self, dice: &mut Dice) -> String {
        let name = if dice.percent(80) {
            "team"
        } else {
            *dice.pick(&NAMESPACES)
        };
        name.to_owned()
    }
}
