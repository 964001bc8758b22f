//! `ledger-client policy`: what authors of rules do before they publish.

mod check;
mod diff;
mod explain;
mod new;
mod past;
mod show;
mod test;
mod unused;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use ledger_proto::v1;
use policy_engine::{Bundle, Compiled, Diagnostic};
use serde::Serialize;

use super::connection::{Connection, Speaker, block_on};
use super::governing::{Governing, print_applied};
use super::show::print_table;
use super::{Exit, Failure, print_json};
use crate::{bundle_dir, files, paths};

/// The file that makes a directory a bundle.
const HEADER: &str = "bundle.toml";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Begin a bundle from what an MCP server says about its tools. It permits nothing yet: its rules are there to be read,
    /// narrowed and uncommented.
    New(new::New),
    /// Find out whether a bundle can be published, and whether it means what it seems to mean.
    Check {
        /// The bundle's directory.
        bundle: PathBuf,
        /// Give an id to each rule that has none; changes the rule files.
        #[arg(long)]
        fix: bool,
    },
    /// Run the bundle's own test cases.
    Test {
        /// The bundle's directory.
        bundle: PathBuf,
    },
    /// Show why a bundle decides a request as it does: the rules that determine it, the permits that came nearest and the
    /// clause that failed, who vouches for what they read, and what they counted.
    Explain(explain::Explain),
    /// Show which past actions two bundles decide differently, and by which rules. Each decides in order, on the past that its
    /// own decisions made.
    Diff(Box<diff::Diff>),
    /// Show which rules never determined a decision, which actions were never allowed, and the tightest scopes that cover
    /// what was done.
    Unused(Box<unused::Unused>),
    /// Write the bundle's canonical bytes, which its digest names.
    Pack {
        /// The bundle's directory.
        bundle: PathBuf,
        /// Where to write them.
        #[arg(long)]
        out: PathBuf,
    },
    /// Publish a bundle for a namespace; it decides nothing until it is activated.
    Publish {
        /// The bundle's directory.
        bundle: PathBuf,
        /// For which namespace.
        #[arg(long)]
        namespace: String,
        #[command(flatten)]
        by: Governing,
    },
    /// Make a bundle decide from the next entry on. Publishes it first if it is given as a directory.
    Activate {
        /// The bundle's directory, or the digest that `publish` printed.
        bundle: String,
        /// For which namespace.
        #[arg(long)]
        namespace: String,
        /// Activate although a new rule looks further back than the ledger has kept events for it.
        #[arg(long)]
        accept_short_history: bool,
        #[command(flatten)]
        by: Governing,
    },
    /// List the bundles of a namespace.
    List {
        /// The namespace.
        #[arg(long)]
        namespace: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show the rules of a bundle as the ledger holds it, or write its files.
    Show(show::Show),
    /// Print the schema that the rules are checked against, generated from manifests where there are any.
    Schema {
        /// The bundle's directory.
        bundle: PathBuf,
    },
}

pub(super) fn run(command: &Command, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::New(new) => new::new(new, json, out),
        Command::Check { bundle, fix } => check::check(bundle, *fix, json, out),
        Command::Test { bundle } => test::test(bundle, json, out),
        Command::Explain(explain) => explain::explain(explain, json, out),
        Command::Diff(diff) => diff::diff(diff, json, out),
        Command::Unused(unused) => unused::unused(unused, json, out),
        Command::Pack {
            bundle: directory,
            out: file,
        } => pack(directory, file, json, out),
        Command::Publish {
            bundle,
            namespace,
            by,
        } => block_on(async {
            let (bundle, _) = sound(bundle)?;
            let client = by.connection.open(Speaker::Operator).await?;
            let done = client.publish(namespace, &bundle).await?;
            let digest = bundle.digest().to_string();
            let Some(done) = done else {
                let what = format!("namespace {namespace} has the bundle {digest} already");
                return Err(Failure::new(Exit::Usage, what));
            };
            print_applied(&done, &[("digest", serde_json::json!(digest))], json, out)
        }),
        Command::Activate {
            bundle,
            namespace,
            accept_short_history,
            by,
        } => block_on(async {
            let client = by.connection.open(Speaker::Operator).await?;
            let digest = match hex::decode(bundle) {
                Ok(digest) if digest.len() == 32 => digest,
                Ok(_) | Err(_) => {
                    let (bundle, _) = sound(Path::new(bundle))?;
                    client.publish(namespace, &bundle).await?;
                    bundle.digest().0.to_vec()
                }
            };
            let short = *accept_short_history;
            let done = client
                .activate(namespace, &digest, short, by.reason())
                .await?;
            let digest = serde_json::json!(hex::encode(digest));
            print_applied(&done, &[("digest", digest)], json, out)
        }),
        Command::List {
            namespace,
            connection,
        } => block_on(list(namespace, connection, json, out)),
        Command::Show(show) => show::show(show, json, out),
        Command::Schema { bundle } => {
            let bundle = sound(bundle)?.0;
            write!(out, "{}", bundle.schema().text)?;
            Ok(Exit::Done)
        }
    }
}

fn pack(directory: &Path, file: &Path, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let bundle = sound(directory)?.0;
    files::replace(file, &bundle.pack())?;
    let packed = Packed {
        name: bundle.name(),
        digest: bundle.digest().to_string(),
        bytes: bundle.pack().len(),
    };
    if json {
        print_json(out, &packed)?;
    } else {
        writeln!(out, "{}", packed.digest)?;
    }
    Ok(Exit::Done)
}

async fn list(
    namespace: &str,
    connection: &Connection,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let client = connection.open(Speaker::Operator).await?;
    let message = v1::ListBundlesRequest {
        namespace: namespace.to_owned(),
        page_size: 1_000,
        ..v1::ListBundlesRequest::default()
    };
    let answer: v1::ListBundlesResponse = client.read(paths::LIST_BUNDLES, message).await?;
    let bundles = answer.bundles.iter().map(|bundle| {
        let state = bundle.compile_state().as_str_name();
        serde_json::json!({
            "digest": hex::encode(&bundle.digest),
            "active": bundle.active,
            "state": state.strip_prefix("COMPILE_STATE_").unwrap_or(state),
            "bytes": bundle.record.as_ref().map_or(0, |record| record.size),
        })
    });
    let bundles: Vec<_> = bundles.collect();
    if json {
        print_json(out, &serde_json::json!({ "bundles": bundles }))?;
    } else {
        print_table(out, &bundles)?;
    }
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Packed<'a> {
    name: &'a str,
    digest: String,
    bytes: usize,
}

fn read(directory: &Path) -> Result<Result<Bundle, Vec<Diagnostic>>, Failure> {
    let files = bundle_dir::read(directory)
        .map_err(|error| Failure::new(Exit::Configuration, error.to_string()))?;
    Ok(Bundle::from_files(files))
}

/// A bundle that compiles; anything else is told to the author and ends the command.
pub(super) fn sound(directory: &Path) -> Result<(Bundle, Compiled), Failure> {
    let compiled = read(directory)?
        .and_then(|bundle| Compiled::compile(&bundle).map(|compiled| (bundle, compiled)));
    compiled.map_err(|findings| {
        let lines: Vec<String> = findings.iter().map(Diagnostic::to_string).collect();
        Failure::new(
            Exit::Denied,
            format!(
                "{} is not a sound bundle\n{}",
                directory.display(),
                lines.join("\n")
            ),
        )
    })
}

/// The bundle of each namespace: one for all, or one of its own in a folder of its name.
pub(super) fn by_namespace(
    dir: &Path,
    namespaces: &BTreeSet<&str>,
) -> Result<BTreeMap<String, (Bundle, Compiled)>, Failure> {
    let one_for_all = dir.join(HEADER).exists();
    let mut bundles = BTreeMap::new();
    for namespace in namespaces {
        let own = if one_for_all {
            dir.to_owned()
        } else {
            dir.join(namespace)
        };
        if !own.join(HEADER).exists() {
            return Err(Failure::new(
                Exit::Configuration,
                format!(
                    "there is no bundle for the suite or namespace `{namespace}`: neither {} nor {} exists",
                    dir.join(HEADER).display(),
                    own.join(HEADER).display()
                ),
            ));
        }
        bundles.insert((*namespace).to_owned(), sound(&own)?);
    }
    Ok(bundles)
}
