//! Replicas and versions: `ClusterService`.

use ledger_core::state::{Family, Key, State, read};
use ledger_proto::v1::{self, cluster_service_server::ClusterService, command::Body};
use prost::Message;
use tonic::{Request, Response};

use super::gate::{Gate, Opened, as_of};
use super::read_auth::ReadSignature;
use super::transfer;
use crate::failure::{Answer, Reply};
use crate::storage::view::View;

/// Most nodes read for one answer: members, and nodes that were members once.
const MAX_NODES_READ: usize = 10_000;

/// The service.
#[derive(Debug, Clone)]
pub struct Cluster(pub Gate);

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn update_membership(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::UpdateMembership(_));
        self.0.govern(request, fits).await
    }

    async fn activate_engine(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::ActivateEngine(_));
        self.0.govern(request, fits).await
    }

    async fn activate_cluster(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::ActivateCluster(_));
        self.0.govern(request, fits).await
    }

    async fn adjust_time(&self, request: Request<v1::SubmitRequest>) -> Reply<v1::SubmitResponse> {
        let fits = |body: &Body| matches!(body, Body::AdjustTime(_));
        self.0.govern(request, fits).await
    }

    async fn get_cluster(
        &self,
        request: Request<v1::GetClusterRequest>,
    ) -> Reply<v1::GetClusterResponse> {
        let consistency = request.get_ref().consistency;
        let (voters, leader) = (self.0.ledger.voters(), self.0.ledger.leader());
        let answer = self.0.read(request, consistency, move |opened| {
            cluster(&opened, &voters, leader)
        });
        Ok(Response::new(answer.await?))
    }

    async fn get_node_status(
        &self,
        request: Request<v1::GetNodeStatusRequest>,
    ) -> Reply<v1::GetNodeStatusResponse> {
        // How this node is can be asked of a node that is cut off.
        let any = v1::Consistency {
            requirement: Some(v1::consistency::Requirement::MinimizeLatency(true)),
        };
        let opened = self.0.open(request, Some(any)).await?;
        opened.reader.require_active()?;
        Ok(Response::new(self.0.ledger.status()))
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Reply<v1::TransferLeadershipResponse> {
        let signature = ReadSignature::parse(request.metadata())?;
        let opened = self.0.open(request, None).await?;
        let (ledger, deadline) = (&self.0.ledger, opened.deadline);
        let asked =
            transfer::of_admin(&opened.reader, &signature, opened.request, ledger.origin())?;
        let leader_id = ledger.transfer_leadership(asked, deadline).await?;
        Ok(Response::new(v1::TransferLeadershipResponse { leader_id }))
    }
}

fn cluster(
    opened: &Opened<v1::GetClusterRequest>,
    voters: &[u64],
    leader_id: Option<u64>,
) -> Answer<v1::GetClusterResponse> {
    opened.reader.require_active()?;
    let view = &opened.view;
    let ledger: v1::LedgerRecord = read(view, &Key::ledger())?.unwrap_or_default();
    let members = members(view)?
        .into_iter()
        .map(|record| {
            let id = record.card.as_ref().map_or(0, |card| card.node_id);
            v1::Member {
                voter: voters.contains(&id),
                record: Some(record),
            }
        })
        .collect();
    Ok(v1::GetClusterResponse {
        trust: read(view, &Key::trust(ledger.trust_epoch))?,
        ledger: Some(ledger),
        members,
        leader_id,
        as_of: as_of(view)?,
    })
}

/// The members of the ledger, ascending by node id.
pub(super) fn members(view: &View) -> Answer<Vec<v1::NodeRecord>> {
    let prefix = Key::family(Family::Node);
    let mut members = Vec::new();
    for (key, value) in view.scan(prefix.as_bytes(), None, MAX_NODES_READ)? {
        let record = v1::NodeRecord::decode(value.as_slice())
            .map_err(|error| super::paging::damaged(&key, &error))?;
        if record.member {
            members.push(record);
        }
    }
    Ok(members)
}
