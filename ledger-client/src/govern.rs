//! Governing a ledger: commands whose entry says whether they took effect.

use ledger_core::id::{Identity, SessionId};
use ledger_proto::v1::{self, CompartmentKind, command::Body, entry};
use policy_engine::Bundle;
use prost::Message as _;

use crate::client::{Client, Submitted};
use crate::error::Error;
use crate::paths;
use crate::signing::{Ask, Content};

/// What an entry other than a decision or outcome says of its command.
#[must_use]
pub fn result_of(entry: &v1::Entry) -> v1::Result {
    match &entry.body {
        Some(entry::Body::Governance(governance)) => governance.result(),
        Some(entry::Body::SessionOpening(opening)) => opening.result(),
        Some(entry::Body::SessionEnd(end)) => end.result(),
        Some(
            entry::Body::Decision(_)
            | entry::Body::Outcome(_)
            | entry::Body::Redemption(_)
            | entry::Body::Genesis(_),
        )
        | None => v1::Result::Unspecified,
    }
}

/// What to do about a command that did not take effect.
const fn advice(result: v1::Result) -> &'static str {
    match result {
        v1::Result::NotPermitted => {
            "whoever signed this may not do that: the role is missing, or it is suspended; ask somebody who may"
        }
        v1::Result::InvalidArgument => "a field of the command is not valid",
        v1::Result::NotFound => "what it names is not there",
        v1::Result::AlreadyExists => "what it names is there already",
        v1::Result::FailedPrecondition => "the ledger is not in a state that allows it",
        v1::Result::LimitExceeded => "a limit of the ledger is reached",
        v1::Result::LastAdmin => {
            "a ledger without an admin could not be governed; register another one first"
        }
        v1::Result::KeyRefused => {
            "the key is weak, belongs to somebody, or lacks the proof that its holder has it; make a new one"
        }
        v1::Result::BundleIncomplete => "chunks of the bundle are missing; publish it again",
        v1::Result::BundleInvalid => {
            "the bundle does not compile; run `ledger-client policy check`"
        }
        v1::Result::ShortHistory => {
            "a rule looks further back than the ledger has kept events for it; wait, or accept it with --accept-short-history"
        }
        v1::Result::Halted => "a halt is in force",
        v1::Result::AgentNotActive => "the agent is suspended or revoked",
        v1::Result::NotNarrower => "a child session may only narrow what its parent has",
        v1::Result::CommitmentMismatch => "the content is not what the command committed to",
        v1::Result::SessionIssuerNotPermitted => {
            "the agent's registration demands that its owner, an admin or a gateway opens its sessions"
        }
        v1::Result::NotSupported => "the versions in force do not know this",
        v1::Result::Unspecified | v1::Result::Applied => "",
    }
}

/// Demands that a command took effect.
pub(crate) fn must_have_applied(submitted: Submitted) -> Result<Submitted, Error> {
    let result = result_of(&submitted.proven.entry);
    if result == v1::Result::Applied {
        return Ok(submitted);
    }
    let name = result.as_str_name();
    let what = format!(
        "entry {} says {}: {}",
        submitted.proven.index,
        name.strip_prefix("RESULT_").unwrap_or(name),
        advice(result)
    );
    Err(match result {
        v1::Result::NotPermitted => Error::NotPermitted(what),
        v1::Result::Halted | v1::Result::AgentNotActive => Error::NotAllowed(what),
        v1::Result::InvalidArgument
        | v1::Result::NotFound
        | v1::Result::AlreadyExists
        | v1::Result::FailedPrecondition
        | v1::Result::LimitExceeded
        | v1::Result::LastAdmin
        | v1::Result::KeyRefused
        | v1::Result::BundleIncomplete
        | v1::Result::BundleInvalid
        | v1::Result::ShortHistory
        | v1::Result::NotNarrower
        | v1::Result::CommitmentMismatch
        | v1::Result::NotSupported
        | v1::Result::SessionIssuerNotPermitted
        | v1::Result::Unspecified
        | v1::Result::Applied => Error::Invalid(what),
    })
}

impl Client {
    /// Sends a command that must take effect.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] or [`Error::Invalid`] if the entry says that it did not, or any other [`Error`].
    pub async fn govern(&self, body: Body, reason: Option<&str>) -> Result<Submitted, Error> {
        let mut ask = Ask::from(body);
        if let Some(reason) = reason {
            ask = ask.with(Content::new(CompartmentKind::Reason, reason));
        }
        self.must_apply(ask).await
    }

    async fn must_apply(&self, ask: Ask) -> Result<Submitted, Error> {
        must_have_applied(self.submit(ask).await?)
    }

    /// Publishes a bundle for a namespace, chunk by chunk. What is there already, of an earlier call or one that was interrupted,
    /// is left as it is. Gives the last chunk that was not; None if all were there.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn publish(
        &self,
        namespace: &str,
        bundle: &Bundle,
    ) -> Result<Option<Submitted>, Error> {
        let chunks = bundle.chunks();
        let count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        let mut last = None;
        for (chunk_index, chunk) in (0..count).zip(chunks) {
            let body = Body::PublishBundle(v1::PublishBundle {
                namespace: namespace.to_owned(),
                digest: bundle.digest().0.to_vec(),
                chunk_index,
                chunk_count: count,
                chunk,
            });
            let submitted = self.submit(Ask::from(body)).await?;
            if result_of(&submitted.proven.entry) != v1::Result::AlreadyExists {
                last = Some(must_have_applied(submitted)?);
            }
        }
        Ok(last)
    }

    /// Makes a published bundle the policy of its namespace.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn activate(
        &self,
        namespace: &str,
        digest: &[u8],
        accept_short_history: bool,
        reason: Option<&str>,
    ) -> Result<Submitted, Error> {
        let body = Body::ActivateBundle(v1::ActivateBundle {
            namespace: namespace.to_owned(),
            digest: digest.to_vec(),
            accept_short_history,
        });
        self.govern(body, reason).await
    }

    /// Opens a session and gives its id.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn open_session(
        &self,
        opening: v1::OpenSession,
        context: Option<v1::SessionContext>,
    ) -> Result<(SessionId, Submitted), Error> {
        let mut ask = Ask::from(Body::OpenSession(opening));
        if let Some(context) = context {
            ask = ask.with(Content::new(
                CompartmentKind::Context,
                context.encode_to_vec(),
            ));
        }
        let submitted = self.must_apply(ask).await?;
        let id = SessionId::from_slice(&submitted.request_id.to_vec())
            .map_err(|error| Error::Internal(error.to_string()))?;
        Ok((id, submitted))
    }

    /// Suspends, resumes or revokes an identity.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn set_status(
        &self,
        identity: &Identity,
        status: v1::IdentityStatus,
        reason: Option<&str>,
    ) -> Result<Submitted, Error> {
        let body = Body::SetStatus(v1::SetStatus {
            identity: Some(identity.to_message()),
            status: status.into(),
        });
        self.govern(body, reason).await
    }

    /// The digest of the namespace's active bundle, if it has one.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn active_bundle(&self, namespace: &str) -> Result<Option<Vec<u8>>, Error> {
        let message = v1::ListBundlesRequest {
            namespace: namespace.to_owned(),
            page_size: 1_000,
            ..v1::ListBundlesRequest::default()
        };
        let answer: v1::ListBundlesResponse = self.read(paths::LIST_BUNDLES, message).await?;
        let active = answer.bundles.into_iter().find(|bundle| bundle.active);
        Ok(active.map(|bundle| bundle.digest))
    }
}
