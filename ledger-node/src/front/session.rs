//! Bounded runs of agents: `SessionService`.

use ledger_core::id::{Identity, SessionId};
use ledger_core::state::{Key, read};
use ledger_proto::v1::{
    self, SessionEndKind, command::Body, session_service_server::SessionService,
};
use tonic::{Request, Response};

use super::gate::{Gate, Opened, as_of};
use super::paging::{Filling, Page};
use super::rights::permitted;
use crate::failure::{Answer, Reply, argument, not_found};
use crate::index::{self, List, Span};
use crate::storage::Direction;

/// Sessions fetched from a list at a time.
const FETCH: usize = 256;

/// The service.
#[derive(Debug, Clone)]
pub struct Sessions(pub Gate);

#[tonic::async_trait]
impl SessionService for Sessions {
    async fn open_session(&self, request: Request<v1::SubmitRequest>) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::OpenSession(_));
        self.0.govern(request, fits).await
    }

    async fn close_session(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::CloseSession(_));
        self.0.govern(request, fits).await
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Reply<v1::GetSessionResponse> {
        let consistency = request.get_ref().consistency;
        let answer = self.0.read(request, consistency, |opened| get(&opened));
        Ok(Response::new(answer.await?))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Reply<v1::ListSessionsResponse> {
        let consistency = request.get_ref().consistency;
        let answer = self.0.read(request, consistency, |opened| list(&opened));
        Ok(Response::new(answer.await?))
    }
}

fn get(opened: &Opened<v1::GetSessionRequest>) -> Answer<v1::GetSessionResponse> {
    let id = SessionId::from_slice(&opened.request.session_id)
        .map_err(|_| argument("`session_id` has 16 bytes"))?;
    let record: Option<v1::SessionRecord> = read(&opened.view, &Key::session(id))?;
    let record = record.ok_or_else(|| not_found("session"))?;
    permitted(opened.reader.may_read_session(&opened.view, &record)?)?;
    Ok(v1::GetSessionResponse {
        session: Some(v1::Session {
            id: id.to_vec(),
            record: Some(record),
        }),
        as_of: as_of(&opened.view)?,
    })
}

fn list(opened: &Opened<v1::ListSessionsRequest>) -> Answer<v1::ListSessionsResponse> {
    let (request, view) = (&opened.request, &opened.view);
    let page = Page::of(request)?;
    let mut span = Span {
        from: 0,
        until: page.after_number()?.unwrap_or(u64::MAX),
        direction: Direction::Descending,
    };
    let list = shortest(opened)?;
    let mut filling = Filling::new(page.size);
    loop {
        let leaves = index::leaves(view, &list, span, FETCH)?;
        if leaves.is_empty() {
            return finished(opened, filling, String::new());
        }
        for (leaf, id) in leaves {
            filling.take(shown(opened, &id)?);
            span.until = leaf;
            if filling.is_full() {
                let token = page.token(Some(&leaf.to_be_bytes()));
                return finished(opened, filling, token);
            }
        }
    }
}

/// The shortest list that holds everything that matches and that the reader may read.
fn shortest(opened: &Opened<v1::ListSessionsRequest>) -> Answer<List> {
    let request = &opened.request;
    if !request.parent.is_empty() {
        return SessionId::from_slice(&request.parent)
            .map(List::opened_under)
            .map_err(|_| argument("`parent` has 16 bytes"));
    }
    if !request.agent.is_empty() {
        return Ok(List::opened_for(&request.agent));
    }
    Ok(match &opened.reader.identity {
        // Only its owner and the agent itself may be issuers of an agent's session besides gateways and admins, and an agent
        // that opened a child for another one lists it with the filter `agent` or `parent`.
        Identity::Agent(id) => List::opened_for(id),
        identity @ Identity::Gateway(_) => List::opened_by(identity),
        Identity::Operator(_) | Identity::Node(_) | Identity::Recovery => {
            if request.namespace.is_empty() {
                List::opened()
            } else {
                List::opened_in(&request.namespace)
            }
        }
    })
}

fn shown(opened: &Opened<v1::ListSessionsRequest>, id: &[u8]) -> Answer<Option<v1::Session>> {
    let (request, view) = (&opened.request, &opened.view);
    let Ok(id) = SessionId::from_slice(id) else {
        return Ok(None);
    };
    let Some(record) = read::<v1::SessionRecord>(view, &Key::session(id))? else {
        return Ok(None);
    };
    let matches = (request.agent.is_empty() || request.agent == record.agent)
        && (request.namespace.is_empty() || request.namespace == record.namespace)
        && (request.parent.is_empty() || request.parent == record.parent)
        && (!request.open_only || record.end_kind() == SessionEndKind::Unspecified);
    if !matches || !opened.reader.may_read_session(view, &record)? {
        return Ok(None);
    }
    Ok(Some(v1::Session {
        id: id.to_vec(),
        record: Some(record),
    }))
}

fn finished(
    opened: &Opened<v1::ListSessionsRequest>,
    filling: Filling<v1::Session>,
    next_page_token: String,
) -> Answer<v1::ListSessionsResponse> {
    Ok(v1::ListSessionsResponse {
        sessions: filling.items,
        next_page_token,
        as_of: as_of(&opened.view)?,
    })
}
