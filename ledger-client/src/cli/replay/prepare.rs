//! What a ledger needs before recorded actions can be asked for: namespaces with their bundles, and agents with keys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ledger_core::hash::TreeHash;
use ledger_core::id::Identity;
use ledger_proto::v1::{self, command::Body};
use policy_engine::Bundle;

use super::super::Failure;
use super::super::connection::configuration;
use super::super::key::Enrolment;
use super::super::listing::{PAGE, whole_list};
use super::super::policy::by_namespace;
use super::trace::Trace;
use crate::client::Client;
use crate::error::Error;
use crate::key_file::KeyFile;
use crate::paths;
use crate::signing::Author;

/// For how many days the keys of replayed agents are valid.
const KEY_DAYS: u64 = 90;

/// The bundle of each suite: one for all, or one of its own in a folder of its name.
pub(super) fn bundles(dir: &Path, trace: &Trace) -> Result<BTreeMap<String, Bundle>, Failure> {
    let suites: BTreeSet<&str> = trace.sessions.iter().map(|s| s.suite.as_str()).collect();
    let bundles = by_namespace(dir, &suites)?.into_iter();
    Ok(bundles
        .map(|(suite, (bundle, _))| (suite, bundle))
        .collect())
}

/// Creates the namespaces that are missing, and lets each decide by its bundle.
pub(super) async fn namespaces(
    client: &Client,
    bundles: &BTreeMap<String, Bundle>,
) -> Result<(), Failure> {
    let owner = operator(client)?;
    let ask = |page_token| v1::ListNamespacesRequest {
        page_size: PAGE,
        page_token,
        ..v1::ListNamespacesRequest::default()
    };
    let page = |answer: v1::ListNamespacesResponse| (answer.namespaces, answer.next_page_token);
    let name = |namespace: &v1::Namespace| namespace.name.clone();
    let there = whole_list(client, paths::LIST_NAMESPACES, ask, page, name).await?;
    let there: BTreeMap<String, v1::NamespaceRecord> = there
        .into_iter()
        .map(|namespace| (namespace.name, namespace.record.unwrap_or_default()))
        .collect();
    for (name, bundle) in bundles {
        let record = there.get(name);
        if record.is_none() {
            let body = Body::CreateNamespace(v1::CreateNamespace {
                name: name.clone(),
                owners: vec![owner.clone()],
                single_use: false,
            });
            client.govern(body, None).await?;
        }
        let digest = bundle.digest().0;
        if record.is_none_or(|record| record.active_digest != digest) {
            client.publish(name, bundle).await?;
            client.activate(name, &digest, true, None).await?;
        }
    }
    Ok(())
}

/// A client for each agent, by its id. Agents that are not there are registered; their keys are kept in a folder.
pub(super) async fn agents(
    client: &Client,
    trace: &Trace,
    keys: &Path,
) -> Result<BTreeMap<String, Client>, Failure> {
    std::fs::create_dir_all(keys)
        .map_err(|error| configuration(&format!("{} cannot be made: {error}", keys.display())))?;
    let mut agents = BTreeMap::new();
    for session in &trace.sessions {
        let id = session.agent_id();
        if agents.contains_key(&id) {
            continue;
        }
        let author = agent(client, &id, &session.suite, keys).await?;
        agents.insert(id, client.speaking_as(author));
    }
    Ok(agents)
}

async fn agent(client: &Client, id: &str, namespace: &str, keys: &Path) -> Result<Author, Failure> {
    let identity = Identity::Agent(id.to_owned());
    let message = v1::GetAgentRequest {
        id: id.to_owned(),
        consistency: None,
    };
    let answer: Result<v1::GetAgentResponse, Error> = client.read(paths::GET_AGENT, message).await;
    let registered = match answer {
        Ok(_) => true,
        Err(Error::NotFound(_)) => false,
        Err(error) => return Err(error.into()),
    };
    // An id can hold what no file name can.
    let name = TreeHash::Blake3.leaf(id.as_bytes());
    let path = keys.join(format!("{name}.key"));
    let key = if path.exists() {
        KeyFile::open(&path)?
    } else if registered {
        return Err(configuration(&format!(
            "the agent `{id}` is registered already, and its key is not in {}; give --state the folder that the replay had which registered it",
            keys.display()
        )));
    } else {
        KeyFile::create(&path, &identity)?
    };
    if !registered {
        let enrolment = Enrolment::for_ledger(&key, &identity, client.origin(), KEY_DAYS);
        let body = Body::RegisterAgent(v1::RegisterAgent {
            id: id.to_owned(),
            namespace: namespace.to_owned(),
            owner: operator(client)?,
            keys: vec![enrolment.message()?],
            ..v1::RegisterAgent::default()
        });
        client.govern(body, None).await?;
    }
    Ok(Author::of_file(key, &path)?)
}

fn operator(client: &Client) -> Result<String, Failure> {
    match &client.author()?.identity {
        Identity::Operator(id) => Ok(id.clone()),
        other @ (Identity::Agent(_)
        | Identity::Gateway(_)
        | Identity::Node(_)
        | Identity::Recovery) => Err(configuration(&format!(
            "the key of --operator is that of {other}; a replay needs an operator who may create namespaces, activate bundles and register agents"
        ))),
    }
}
