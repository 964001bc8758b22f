//! Who reads: the signature that every read carries unless it is open.
//!
//! `call.proto` says which bytes are signed. Nonces are not remembered: an answer goes back over the connection that the
//! request came on, a node cannot know what another node has seen, and the time in the signature ends its use after a minute.
//! What changes something all the same, a transfer of leadership, is remembered where it is honoured ([`crate::raft::honoured`]).

use ledger_core::evidence::utc;
use ledger_core::id::{Identity, KeyId};
use ledger_core::keys::PublicKey;
use ledger_core::signature::read_message;
use ledger_core::state::{Key, State, read};
use ledger_proto::peer::v1 as wire;
use ledger_proto::v1::{self, ErrorReason};
use prost::Message;
use tonic::metadata::MetadataMap;

use crate::failure::{Answer, Failure};

/// How far the time of a read may be from the node's clock, in microseconds: 60 s.
pub(super) const MAX_SKEW_US: u64 = 60_000_000;

const KEY_ID: &str = "countersign-key-id-bin";
const TIME: &str = "countersign-time-us";
const NONCE: &str = "countersign-nonce-bin";
const SIGNATURE: &str = "countersign-signature-bin";

/// The request of a call that reads, or is signed as a read is.
pub trait ReadRequest: Message + Default + Clone + Send + 'static {
    /// The full gRPC path of the call.
    const METHOD: &'static str;
}

macro_rules! reads {
    ($($service:literal: $($method:literal $request:ident),+;)+) => {
        $($(impl ReadRequest for v1::$request {
            const METHOD: &'static str = concat!("/countersign.v1.", $service, "/", $method);
        })+)+
        #[cfg(test)]
        const METHODS: &[&str] = &[$($(<v1::$request as ReadRequest>::METHOD),+),+];
    };
}

reads! {
    "AuthorizationService": "Simulate" SimulateRequest;
    "IdentityService":
        "GetNamespace" GetNamespaceRequest, "ListNamespaces" ListNamespacesRequest,
        "GetAgent" GetAgentRequest, "ListAgents" ListAgentsRequest,
        "GetGateway" GetGatewayRequest, "ListGateways" ListGatewaysRequest,
        "GetOperator" GetOperatorRequest, "ListOperators" ListOperatorsRequest,
        "ListKeys" ListKeysRequest;
    "SessionService": "GetSession" GetSessionRequest, "ListSessions" ListSessionsRequest;
    "PolicyService":
        "GetBundle" GetBundleRequest, "ListBundles" ListBundlesRequest, "ListHalts" ListHaltsRequest;
    "LedgerService":
        "GetEntry" GetEntryRequest, "ListEntries" ListEntriesRequest, "Follow" FollowRequest,
        "GetInclusionProof" GetInclusionProofRequest,
        "GetConsistencyProof" GetConsistencyProofRequest,
        "GetTile" GetTileRequest, "GetCheckpoint" GetCheckpointRequest,
        "ListCheckpoints" ListCheckpointsRequest, "ListTrustSteps" ListTrustStepsRequest,
        "GetEvidence" GetEvidenceRequest, "GetErasure" GetErasureRequest;
    "ClusterService":
        "GetCluster" GetClusterRequest, "GetNodeStatus" GetNodeStatusRequest,
        "TransferLeadership" TransferLeadershipRequest;
}

/// The four keys of metadata, well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSignature {
    key_id: KeyId,
    time_us: u64,
    nonce: [u8; 16],
    signature: [u8; 64],
}

impl ReadSignature {
    /// Reads the signature from metadata.
    ///
    /// # Errors
    /// `READ_SIGNATURE_MISSING` if a part is not there, `READ_SIGNATURE_INVALID` if it has another form.
    pub fn parse(metadata: &MetadataMap) -> Answer<Self> {
        let time = metadata.get(TIME).ok_or_else(|| missing(TIME))?;
        let time = time.to_str().unwrap_or_default();
        let time_us: u64 = time.parse().map_err(|_| invalid())?;
        Ok(Self {
            key_id: KeyId::from_bytes(binary(metadata, KEY_ID)?),
            time_us,
            nonce: binary(metadata, NONCE)?,
            signature: binary(metadata, SIGNATURE)?,
        })
    }

    /// Reads the signature as one node shows it to another; none if it has another form.
    pub(super) fn of_wire(shown: &wire::ReadSignature) -> Option<Self> {
        let key_id: [u8; 16] = shown.key_id.as_slice().try_into().ok()?;
        Some(Self {
            key_id: KeyId::from_bytes(key_id),
            time_us: shown.time_us,
            nonce: shown.nonce.as_slice().try_into().ok()?,
            signature: shown.signature.as_slice().try_into().ok()?,
        })
    }

    /// The signature as one node shows it to another.
    pub(super) fn to_wire(&self) -> wire::ReadSignature {
        wire::ReadSignature {
            key_id: self.key_id.to_vec(),
            time_us: self.time_us,
            nonce: self.nonce.to_vec(),
            signature: self.signature.to_vec(),
        }
    }

    /// The key.
    pub(super) const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The time of the signature, in microseconds since 1970.
    pub(super) const fn time_us(&self) -> u64 {
        self.time_us
    }

    /// Checks that the read was signed at about this time.
    ///
    /// # Errors
    /// `READ_TIME_OUT_OF_RANGE`
    pub fn check_time(&self, now_us: u64) -> Answer<()> {
        if self.time_us.abs_diff(now_us) <= MAX_SKEW_US {
            return Ok(());
        }
        Err(Failure::new(
            ErrorReason::ReadTimeOutOfRange,
            format!(
                "the read was signed at {}, and the clock of the node that was asked shows {}: one of the two clocks is off; sign again, or ask another node",
                utc(self.time_us),
                utc(now_us)
            ),
        ))
    }

    /// Whose signature this is. The key must be active now; whether its identity may read is not said here.
    ///
    /// # Errors
    /// `READ_SIGNATURE_INVALID`
    pub fn authenticate<R: ReadRequest>(
        &self,
        state: &dyn State,
        origin: &str,
        now_us: u64,
        request: &R,
    ) -> Answer<Identity> {
        let record: Option<v1::KeyRecord> = read(state, &Key::public_key(self.key_id))?;
        let record = record
            .filter(|record| is_active(record, now_us))
            .ok_or_else(invalid)?;
        let key = record.key.as_ref().map(PublicKey::parse);
        let key = key.and_then(Result::ok).ok_or_else(invalid)?;
        let message = self.message(origin, request);
        if !key.verify(&message, &self.signature) {
            return Err(invalid());
        }
        let identity = record.identity.as_ref().map(Identity::parse);
        identity.and_then(Result::ok).ok_or_else(invalid)
    }

    /// The bytes that are signed.
    pub(super) fn message<R: ReadRequest>(&self, origin: &str, request: &R) -> Vec<u8> {
        let request = request.encode_to_vec();
        read_message(origin, R::METHOD, self.time_us, &self.nonce, &request)
    }
}

/// True if the key may sign now: the rule of the machine's admission, at the node's time.
fn is_active(record: &v1::KeyRecord, now_us: u64) -> bool {
    let Some(key) = &record.key else { return false };
    let ended = key.not_after_us != 0 && key.not_after_us <= now_us;
    key.not_before_us <= now_us && !ended && record.retired_at_us == 0
}

fn binary<const N: usize>(metadata: &MetadataMap, key: &'static str) -> Answer<[u8; N]> {
    let value = metadata.get_bin(key).ok_or_else(|| missing(key))?;
    let bytes = value.to_bytes().map_err(|_| invalid())?;
    bytes.as_ref().try_into().map_err(|_| invalid())
}

fn missing(key: &str) -> Failure {
    Failure::new(
        ErrorReason::ReadSignatureMissing,
        format!("this read must be signed: metadata key `{key}` is missing"),
    )
}

/// One message for all causes: which of them it is would tell a stranger which keys exist.
pub(super) fn invalid() -> Failure {
    Failure::new(
        ErrorReason::ReadSignatureInvalid,
        "the signature of the read does not verify, or its key may not be used; check key and origin",
    )
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataValue;

    use super::*;
    use crate::front::test_world::{NOW, ORIGIN, TestWorld, signed};

    fn ask() -> v1::GetEntryRequest {
        v1::GetEntryRequest {
            with_compartments: true,
            ..v1::GetEntryRequest::default()
        }
    }

    fn bot() -> Identity {
        Identity::Agent("bot".to_owned())
    }

    const METHOD: &str = "/countersign.v1.LedgerService/GetEntry";

    fn authenticate(metadata: &MetadataMap, request: &v1::GetEntryRequest) -> Answer<Identity> {
        let mut world = TestWorld::new();
        world.enrol(&bot());
        let signature = ReadSignature::parse(metadata)?;
        signature.check_time(NOW)?;
        signature.authenticate(&world.view(), ORIGIN, NOW, request)
    }

    fn reason(answer: Answer<Identity>) -> ErrorReason {
        answer.unwrap_err().reason
    }

    #[test]
    fn a_signed_read_names_its_reader() {
        let metadata = signed(&bot(), ORIGIN, METHOD, NOW, &ask());
        assert_eq!(authenticate(&metadata, &ask()), Ok(bot()));
    }

    #[test]
    fn another_message_does_not_verify() {
        let invalid = ErrorReason::ReadSignatureInvalid;
        let other_method = "/countersign.v1.LedgerService/ListEntries";
        let stranger = Identity::Agent("stranger".to_owned());
        let forged = [
            signed(&bot(), "ledger.test/other", METHOD, NOW, &ask()),
            signed(&bot(), ORIGIN, other_method, NOW, &ask()),
            signed(&bot(), ORIGIN, METHOD, NOW, &v1::GetEntryRequest::default()),
            signed(&stranger, ORIGIN, METHOD, NOW, &ask()),
        ];
        for metadata in forged {
            assert_eq!(reason(authenticate(&metadata, &ask())), invalid);
        }
        let mut moved = signed(&bot(), ORIGIN, METHOD, NOW, &ask());
        moved.insert(TIME, (NOW + 1).to_string().parse().unwrap());
        assert_eq!(reason(authenticate(&moved, &ask())), invalid);
        let mut short = signed(&bot(), ORIGIN, METHOD, NOW, &ask());
        short.insert_bin(NONCE, MetadataValue::from_bytes(&[7; 15]));
        assert_eq!(reason(authenticate(&short, &ask())), invalid);
    }

    #[test]
    fn a_missing_part_is_missing() {
        for part in [KEY_ID, NONCE, SIGNATURE] {
            let mut metadata = signed(&bot(), ORIGIN, METHOD, NOW, &ask());
            metadata.remove_bin(part);
            let missing = ErrorReason::ReadSignatureMissing;
            assert_eq!(reason(authenticate(&metadata, &ask())), missing);
        }
        let nothing = authenticate(&MetadataMap::new(), &ask());
        assert_eq!(reason(nothing), ErrorReason::ReadSignatureMissing);
    }

    #[test]
    fn the_time_is_within_a_minute() {
        let at = |time_us| authenticate(&signed(&bot(), ORIGIN, METHOD, time_us, &ask()), &ask());
        for time_us in [NOW - MAX_SKEW_US, NOW + MAX_SKEW_US] {
            assert_eq!(at(time_us), Ok(bot()));
        }
        for time_us in [NOW - MAX_SKEW_US - 1, NOW + MAX_SKEW_US + 1] {
            assert_eq!(reason(at(time_us)), ErrorReason::ReadTimeOutOfRange);
        }
    }

    #[test]
    fn keys_are_active_from_their_first_moment_to_their_last() {
        let record = |not_before_us, not_after_us, retired_at_us| v1::KeyRecord {
            key: Some(v1::PublicKey {
                not_before_us,
                not_after_us,
                ..v1::PublicKey::default()
            }),
            retired_at_us,
            ..v1::KeyRecord::default()
        };
        assert!(is_active(&record(NOW, NOW + 1, 0), NOW));
        assert!(is_active(&record(NOW, 0, 0), NOW));
        assert!(!is_active(&record(NOW + 1, 0, 0), NOW));
        assert!(!is_active(&record(0, NOW, 0), NOW));
        assert!(!is_active(&record(0, 0, 1), NOW));
    }

    #[test]
    fn every_rpc_that_takes_no_submission_has_its_path() {
        let files = [
            "authorization",
            "identity",
            "session",
            "policy",
            "ledger",
            "cluster",
        ];
        let mut found = Vec::new();
        for file in files {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/proto/countersign/v1");
            let text = std::fs::read_to_string(format!("{folder}/{file}_service.proto")).unwrap();
            let service = text.split_once("\nservice ").unwrap().1;
            let service = service.split_once(' ').unwrap().0;
            for line in text.lines() {
                let Some(rpc) = line.trim().strip_prefix("rpc ") else {
                    continue;
                };
                let (name, rest) = rpc.split_once('(').unwrap();
                let is_submission = rest.starts_with("SubmitRequest")
                    || [
                        "Authorize",
                        "AuthorizeBatch",
                        "AuthorizeStream",
                        "Record",
                        "Redeem",
                    ]
                    .contains(&name);
                if !is_submission {
                    found.push(format!("/countersign.v1.{service}/{name}"));
                    assert!(rest.starts_with(&format!("{name}Request")), "{line}");
                }
            }
        }
        let mut ours: Vec<&str> = METHODS.to_vec();
        ours.sort_unstable();
        found.sort();
        assert_eq!(ours, found);
    }
}
