//! Who can speak to the ledger: `IdentityService`.
//!
//! What the caller may not read is not found: names cannot be probed.

use ledger_core::id::{Identity as Named, KeyId};
use ledger_core::state::{Family, Key as StateKey, StateError, read};
use ledger_proto::v1::{self, command::Body, identity_service_server::IdentityService};
use tonic::{Request, Response};

use super::gate::{Gate, Opened, as_of};
use super::paging::{Page, records};
use crate::failure::{Answer, Reply, argument, not_found};

/// The service.
#[derive(Debug, Clone)]
pub struct Identities(pub Gate);

#[tonic::async_trait]
impl IdentityService for Identities {
    async fn create_namespace(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::CreateNamespace(_));
        self.0.govern(request, fits).await
    }

    async fn update_namespace(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::UpdateNamespace(_));
        self.0.govern(request, fits).await
    }

    async fn get_namespace(
        &self,
        request: Request<v1::GetNamespaceRequest>,
    ) -> Reply<v1::GetNamespaceResponse> {
        let consistency = request.get_ref().consistency;
        let answer = self
            .0
            .read(request, consistency, |opened| get_namespace(&opened));
        Ok(Response::new(answer.await?))
    }

    async fn list_namespaces(
        &self,
        request: Request<v1::ListNamespacesRequest>,
    ) -> Reply<v1::ListNamespacesResponse> {
        let consistency = request.get_ref().consistency;
        let answer = self
            .0
            .read(request, consistency, |opened| list_namespaces(&opened));
        Ok(Response::new(answer.await?))
    }

    async fn register_agent(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::RegisterAgent(_));
        self.0.govern(request, fits).await
    }

    async fn update_agent(&self, request: Request<v1::SubmitRequest>) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::UpdateAgent(_));
        self.0.govern(request, fits).await
    }

    async fn get_agent(
        &self,
        request: Request<v1::GetAgentRequest>,
    ) -> Reply<v1::GetAgentResponse> {
        let consistency = request.get_ref().consistency;
        let answer = self
            .0
            .read(request, consistency, |opened| get_agent(&opened));
        Ok(Response::new(answer.await?))
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Reply<v1::ListAgentsResponse> {
        let consistency = request.get_ref().consistency;
        let answer = self
            .0
            .read(request, consistency, |opened| list_agents(&opened));
        Ok(Response::new(answer.await?))
    }

    async fn register_gateway(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::RegisterGateway(_));
        self.0.govern(request, fits).await
    }

    async fn update_gateway(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::UpdateGateway(_));
        self.0.govern(request, fits).await
    }

    async fn get_gateway(
        &self,
        request: Request<v1::GetGatewayRequest>,
    ) -> Reply<v1::GetGatewayResponse> {
        let consistency = request.get_ref().consistency;
        let answer = self
            .0
            .read(request, consistency, |opened| get_gateway(&opened));
        Ok(Response::new(answer.await?))
    }

    async fn list_gateways(
        &self,
        request: Request<v1::ListGatewaysRequest>,
    ) -> Reply<v1::ListGatewaysResponse> {
        let consistency = request.get_ref().consistency;
        let answer = self
            .0
            .read(request, consistency, |opened| list_gateways(&opened));
        Ok(Response::new(answer.await?))
    }

    async fn register_operator(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::RegisterOperator(_));
        self.0.govern(request, fits).await
    }

    async fn update_operator(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::UpdateOperator(_));
        self.0.govern(request, fits).await
    }

    async fn replace_admins(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::ReplaceAdmins(_));
        self.0.govern(request, fits).await
    }

    async fn get_operator(
        &self,
        request: Request<v1::GetOperatorRequest>,
    ) -> Reply<v1::GetOperatorResponse> {
        let consistency = request.get_ref().consistency;
        let answer = self
            .0
            .read(request, consistency, |opened| get_operator(&opened));
        Ok(Response::new(answer.await?))
    }

    async fn list_operators(
        &self,
        request: Request<v1::ListOperatorsRequest>,
    ) -> Reply<v1::ListOperatorsResponse> {
        let consistency = request.get_ref().consistency;
        let answer = self
            .0
            .read(request, consistency, |opened| list_operators(&opened));
        Ok(Response::new(answer.await?))
    }

    async fn set_status(&self, request: Request<v1::SubmitRequest>) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::SetStatus(_));
        self.0.govern(request, fits).await
    }

    async fn add_key(&self, request: Request<v1::SubmitRequest>) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::AddKey(_));
        self.0.govern(request, fits).await
    }

    async fn retire_key(&self, request: Request<v1::SubmitRequest>) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::RetireKey(_));
        self.0.govern(request, fits).await
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Reply<v1::ListKeysResponse> {
        let consistency = request.get_ref().consistency;
        let answer = self
            .0
            .read(request, consistency, |opened| list_keys(&opened));
        Ok(Response::new(answer.await?))
    }
}

/// The text that a key ends in.
fn text(rest: &[u8]) -> Answer<String> {
    String::from_utf8(rest.to_vec())
        .map_err(|error| StateError::damaged(rest, error.to_string()).into())
}

fn get_namespace(opened: &Opened<v1::GetNamespaceRequest>) -> Answer<v1::GetNamespaceResponse> {
    let name = &opened.request.name;
    let record: Option<v1::NamespaceRecord> = read(&opened.view, &StateKey::namespace(name))?;
    let record = record.filter(|record| opened.reader.may_read_namespace(name, record));
    let record = record.ok_or_else(|| not_found("namespace"))?;
    Ok(v1::GetNamespaceResponse {
        namespace: Some(v1::Namespace {
            name: name.clone(),
            record: Some(record),
        }),
        as_of: as_of(&opened.view)?,
    })
}

fn list_namespaces(
    opened: &Opened<v1::ListNamespacesRequest>,
) -> Answer<v1::ListNamespacesResponse> {
    let page = Page::of(&opened.request)?;
    let prefix = StateKey::family(Family::Namespace);
    let make = |rest: &[u8], record: v1::NamespaceRecord| {
        let name = text(rest)?;
        let shown = opened.reader.may_read_namespace(&name, &record);
        Ok(shown.then_some(v1::Namespace {
            name,
            record: Some(record),
        }))
    };
    let (namespaces, next_page_token) = records(&opened.view, &prefix, &page, make)?;
    Ok(v1::ListNamespacesResponse {
        namespaces,
        next_page_token,
        as_of: as_of(&opened.view)?,
    })
}

fn get_agent(opened: &Opened<v1::GetAgentRequest>) -> Answer<v1::GetAgentResponse> {
    let id = &opened.request.id;
    let record: Option<v1::AgentRecord> = read(&opened.view, &StateKey::agent(id))?;
    let record = record.filter(|record| {
        opened
            .reader
            .may_read_identity(&Named::Agent(id.clone()), &record.namespace, &record.owner)
    });
    let record = record.ok_or_else(|| not_found("agent"))?;
    Ok(v1::GetAgentResponse {
        agent: Some(v1::Agent {
            id: id.clone(),
            record: Some(record),
        }),
        as_of: as_of(&opened.view)?,
    })
}

fn list_agents(opened: &Opened<v1::ListAgentsRequest>) -> Answer<v1::ListAgentsResponse> {
    let page = Page::of(&opened.request)?;
    let filter = &opened.request;
    let prefix = StateKey::family(Family::Agent);
    let make = |rest: &[u8], record: v1::AgentRecord| {
        let id = text(rest)?;
        let matches = (filter.namespace.is_empty() || filter.namespace == record.namespace)
            && (filter.owner.is_empty() || filter.owner == record.owner)
            && (filter.group.is_empty() || record.groups.contains(&filter.group))
            && (filter.status == 0 || filter.status == record.status);
        let shown = matches
            && opened.reader.may_read_identity(
                &Named::Agent(id.clone()),
                &record.namespace,
                &record.owner,
            );
        Ok(shown.then_some(v1::Agent {
            id,
            record: Some(record),
        }))
    };
    let (agents, next_page_token) = records(&opened.view, &prefix, &page, make)?;
    Ok(v1::ListAgentsResponse {
        agents,
        next_page_token,
        as_of: as_of(&opened.view)?,
    })
}

fn get_gateway(opened: &Opened<v1::GetGatewayRequest>) -> Answer<v1::GetGatewayResponse> {
    let id = &opened.request.id;
    let record: Option<v1::GatewayRecord> = read(&opened.view, &StateKey::gateway(id))?;
    let record = record.filter(|record| {
        opened.reader.may_read_identity(
            &Named::Gateway(id.clone()),
            &record.namespace,
            &record.owner,
        )
    });
    let record = record.ok_or_else(|| not_found("gateway"))?;
    Ok(v1::GetGatewayResponse {
        gateway: Some(v1::Gateway {
            id: id.clone(),
            record: Some(record),
        }),
        as_of: as_of(&opened.view)?,
    })
}

fn list_gateways(opened: &Opened<v1::ListGatewaysRequest>) -> Answer<v1::ListGatewaysResponse> {
    let page = Page::of(&opened.request)?;
    let filter = &opened.request;
    let prefix = StateKey::family(Family::Gateway);
    let make = |rest: &[u8], record: v1::GatewayRecord| {
        let id = text(rest)?;
        let matches = (filter.namespace.is_empty() || filter.namespace == record.namespace)
            && (filter.owner.is_empty() || filter.owner == record.owner)
            && (filter.status == 0 || filter.status == record.status);
        let shown = matches
            && opened.reader.may_read_identity(
                &Named::Gateway(id.clone()),
                &record.namespace,
                &record.owner,
            );
        Ok(shown.then_some(v1::Gateway {
            id,
            record: Some(record),
        }))
    };
    let (gateways, next_page_token) = records(&opened.view, &prefix, &page, make)?;
    Ok(v1::ListGatewaysResponse {
        gateways,
        next_page_token,
        as_of: as_of(&opened.view)?,
    })
}

fn get_operator(opened: &Opened<v1::GetOperatorRequest>) -> Answer<v1::GetOperatorResponse> {
    let id = &opened.request.id;
    let record: Option<v1::OperatorRecord> = read(&opened.view, &StateKey::operator(id))?;
    let record = record.filter(|_| {
        opened
            .reader
            .may_read_identity(&Named::Operator(id.clone()), "", "")
    });
    let record = record.ok_or_else(|| not_found("operator"))?;
    Ok(v1::GetOperatorResponse {
        operator: Some(v1::Operator {
            id: id.clone(),
            record: Some(record),
        }),
        as_of: as_of(&opened.view)?,
    })
}

fn list_operators(opened: &Opened<v1::ListOperatorsRequest>) -> Answer<v1::ListOperatorsResponse> {
    let page = Page::of(&opened.request)?;
    let filter = &opened.request;
    let prefix = StateKey::family(Family::Operator);
    let make = |rest: &[u8], record: v1::OperatorRecord| {
        let id = text(rest)?;
        let matches = (filter.role == 0
            || record.roles.iter().any(|grant| grant.role == filter.role))
            && (filter.status == 0 || filter.status == record.status);
        let shown = matches
            && opened
                .reader
                .may_read_identity(&Named::Operator(id.clone()), "", "");
        Ok(shown.then_some(v1::Operator {
            id,
            record: Some(record),
        }))
    };
    let (operators, next_page_token) = records(&opened.view, &prefix, &page, make)?;
    Ok(v1::ListOperatorsResponse {
        operators,
        next_page_token,
        as_of: as_of(&opened.view)?,
    })
}

/// The namespace and owner that an identity belongs to; empty for those that belong to the whole ledger.
fn home(opened: &Opened<v1::ListKeysRequest>, identity: &Named) -> Answer<(String, String)> {
    let view = &opened.view;
    Ok(match identity {
        Named::Agent(id) => read::<v1::AgentRecord>(view, &StateKey::agent(id))?
            .map(|agent| (agent.namespace, agent.owner)),
        Named::Gateway(id) => read::<v1::GatewayRecord>(view, &StateKey::gateway(id))?
            .map(|gateway| (gateway.namespace, gateway.owner)),
        Named::Operator(_) | Named::Node(_) | Named::Recovery => None,
    }
    .unwrap_or_default())
}

fn list_keys(opened: &Opened<v1::ListKeysRequest>) -> Answer<v1::ListKeysResponse> {
    let page = Page::of(&opened.request)?;
    let identity = opened.request.identity.as_ref().map(Named::parse);
    let identity = identity.and_then(Result::ok);
    let identity = identity.ok_or_else(|| argument("`identity` is not an identity"))?;
    let (namespace, owner) = home(opened, &identity)?;
    let reader = &opened.reader;
    if !reader.may_read_identity(&identity, &namespace, &owner) {
        return Err(not_found("identity"));
    }
    let prefix = StateKey::keys_of(&identity);
    let make = |rest: &[u8], (): ()| {
        let Ok(id) = KeyId::from_slice(rest) else {
            return Ok(None);
        };
        let record: Option<v1::KeyRecord> = read(&opened.view, &StateKey::public_key(id))?;
        Ok(record.map(|record| v1::Key {
            key_id: id.to_vec(),
            record: Some(record),
        }))
    };
    let (keys, next_page_token) = records(&opened.view, &prefix, &page, make)?;
    Ok(v1::ListKeysResponse {
        keys,
        next_page_token,
        as_of: as_of(&opened.view)?,
    })
}
