//! `ledger-client redeem`: makes use of a permit, once.

use std::io::Write;

use clap::Args;
use ledger_core::limits::MAX_INPUT_LEN;
use ledger_proto::v1::{Verdict, entry::Body};
use serde_json::json;

use super::argument::text;
use super::connection::{Connection, Speaker, block_on};
use super::entry::get;
use super::show::printable;
use super::{Exit, Failure, permits, print_json};
use crate::answer::Proven;
use crate::client::Client;
use crate::decision::ended_by_clock;
use crate::error::Error;
use crate::redemption::Redemption;
use crate::sending::FirstSending;

#[derive(Debug, Args)]
pub(super) struct Redeem {
    /// The entry of the decision.
    decision: u64,
    /// The arguments that will run, a JSON object; `@FILE` reads a file, `-` standard input. They must be those that were
    /// authorized.
    #[arg(long, value_name = "JSON")]
    input: String,
    /// A critical condition that the caller fulfils; can be repeated. A permit under any other is not redeemed.
    #[arg(long = "knows", value_name = "CONDITION")]
    known: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn redeem(arguments: &Redeem, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    // Standard input can take for ever, so it is read before anybody is asked.
    let input = text(&arguments.input, MAX_INPUT_LEN)?;
    let decision = arguments.decision;
    block_on(async {
        let connection = &arguments.connection;
        let client = connection
            .open_knowing(Speaker::Key, &arguments.known)
            .await?;
        let path = permits::path(connection, &client, decision)?;
        let Some(salt) = permits::salt(&path)? else {
            let what = format!(
                "the decision at entry {decision} was not asked for from here: its salt is not in {}, and without it nothing can be redeemed; redeem it where it was asked for",
                path.display()
            );
            return Err(Failure::new(Exit::Configuration, what));
        };
        // There is one redemption, which would be wasted on a permit under a condition that the caller cannot fulfil.
        let (proven, _) = get(&client, decision, false).await?;
        let sending = permits::sending(&path)?.unwrap_or_default();
        if let Some(why) = objection(&client, &proven, &sending) {
            let what = format!("{}; it was not redeemed", printable(&why));
            return Err(Failure::new(Exit::Denied, what));
        }
        let redeemed = client.redeem(decision, &salt, &input).await;
        let redemption = redeemed.map_err(|error| undetermined(error, decision))?;
        if redemption.permits_now() {
            permits::keep_redemption(&path, decision, redemption.proven.index)?;
        }
        show(&redemption, json, out)
    })
}

/// Why a permit is not to be redeemed, if it is not. What one node may have made up has no conditions that count.
fn objection(client: &Client, proven: &Proven, sending: &FirstSending) -> Option<String> {
    let at = proven.index;
    if proven.level < client.wanted_level() {
        return Some(format!(
            "one node vouches for entry {at}, and a quorum was asked for; try again"
        ));
    }
    let Some(Body::Decision(decision)) = &proven.entry.body else {
        return Some(format!("entry {at} is no decision"));
    };
    if let Some(unknown) = client.unknown_condition(decision) {
        return Some(format!(
            "entry {at} allows under the critical condition `{unknown}`, which --knows does not name"
        ));
    }
    if decision.verdict() != Verdict::Allow {
        // The ledger says why not.
        return None;
    }
    let command = ledger_core::entry::command(&proven.entry).ok().flatten();
    let issued_at_us = command.map_or(0, |command| command.issued_at_us);
    ended_by_clock(proven, decision, issued_at_us, sending)
}

/// Where it is not known who redeemed a permit, looking it up does not say either.
fn undetermined(error: Error, decision: u64) -> Failure {
    let Error::Undetermined {
        request_id,
        message,
    } = error
    else {
        return error.into();
    };
    let what = format!(
        "{message}; whether request {request_id} has redeemed the permit of entry {decision} is not known: take it for redeemed by somebody else, do not act on it, and ask anew with `authorize`"
    );
    Failure::new(Exit::Undetermined, what)
}

fn show(redemption: &Redemption, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let refusal = redemption.refusal();
    let index = redemption.proven.index;
    let level = redemption.proven.level.name();
    let drift = redemption.state_drift_names();
    if json {
        let value = json!({
            "permitted": refusal.is_none(),
            "reason": redemption.reason_name(),
            "state_drift": drift,
            "decision": redemption.decision,
            "index": index,
            "level": level,
            "request_id": hex::encode(redemption.request_id.to_vec()),
            "permit_expires_at_us": redemption.redemption.permit_expires_at_us,
            "redeemed_by": redemption.redemption.redeemed_by,
            "refusal": refusal,
        });
        print_json(out, &value)?;
    } else {
        let changed = if drift.is_empty() {
            String::new()
        } else {
            format!(": {}", drift.join(", "))
        };
        writeln!(out, "{}{changed}", redemption.reason_name())?;
        writeln!(out, "entry {index}, {level}")?;
        if let Some(why) = &refusal {
            writeln!(out, "not permitted: {}", printable(why))?;
        }
    }
    Ok(if refusal.is_none() {
        Exit::Done
    } else {
        Exit::Denied
    })
}
