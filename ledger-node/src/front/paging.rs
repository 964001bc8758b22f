//! Lists in pages: how many, from where on, and tokens that fit one question only.
//!
//! A token holds where the next page begins and a digest of what was asked. It is no secret and no authority: whoever makes
//! one up gets what the question alone would give.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledger_core::state::{Key, State};
use ledger_proto::v1::{self, ErrorReason};
use prost::Message;

use super::read_auth::ReadRequest;
use crate::failure::{Answer, Failure};

/// Items of a page that states no size.
const DEFAULT_PAGE: usize = 100;
/// Most items of a page.
const MAX_PAGE: usize = 1_000;
/// Most bytes of a page's items: a message of 3 MiB less 64 KiB for a checkpoint with its cosignatures, a token that holds
/// the checkpoint once more, and the item that crosses the line.
pub const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024 - 2 * 64 * 1024;
/// Most records that one page looks at, so that a filter that matches little cannot hold a worker for long.
pub const MAX_LOOKED_AT: usize = 10_000;
/// Records fetched from the store at a time.
const FETCH: usize = 256;
/// What precedes the question in the hash of a token.
const TOKEN_DOMAIN: &str = "countersign page token v1";
/// Bytes of a token's digest of the question, and of its check.
const DIGEST_LEN: usize = 16;

/// A request for one page of a list.
pub trait ListRequest: ReadRequest {
    /// The size and the token asked for.
    fn page(&self) -> (u32, &str);
    /// The same request without what may differ from page to page.
    fn filter(&self) -> Self;
}

macro_rules! lists {
    ($($request:ident $(, $fresh:ident)?;)+) => {
        $(impl ListRequest for v1::$request {
            fn page(&self) -> (u32, &str) {
                (self.page_size, &self.page_token)
            }
            fn filter(&self) -> Self {
                let mut filter = self.clone();
                filter.page_size = 0;
                filter.page_token.clear();
                $(filter.$fresh = None;)?
                filter
            }
        })+
    };
}

lists! {
    ListNamespacesRequest, consistency;
    ListAgentsRequest, consistency;
    ListGatewaysRequest, consistency;
    ListOperatorsRequest, consistency;
    ListKeysRequest, consistency;
    ListSessionsRequest, consistency;
    ListBundlesRequest, consistency;
    ListHaltsRequest, consistency;
    ListEntriesRequest;
    ListCheckpointsRequest;
    ListTrustStepsRequest;
}

/// One page, as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most so many items.
    pub size: usize,
    /// Where the page before ended; none for the first.
    pub after: Option<Vec<u8>>,
    question: [u8; DIGEST_LEN],
}

impl Page {
    /// Reads size and token of a request.
    ///
    /// # Errors
    /// `ARGUMENT_INVALID` for a size over the limit, `PAGE_TOKEN_INVALID` for a token that is damaged or another question's.
    pub fn of<R: ListRequest>(request: &R) -> Answer<Self> {
        let (size, token) = request.page();
        let size = match usize::try_from(size) {
            Ok(0) => DEFAULT_PAGE,
            Ok(size) if size <= MAX_PAGE => size,
            _ => {
                return Err(Failure::new(
                    ErrorReason::ArgumentInvalid,
                    format!("`page_size` is at most {MAX_PAGE}"),
                ));
            }
        };
        let mut hasher = blake3::Hasher::new_derive_key(TOKEN_DOMAIN);
        hasher.update(R::METHOD.as_bytes()).update(&[0]);
        hasher.update(&request.filter().encode_to_vec());
        let question = short(&hasher);
        let after = match token {
            "" => None,
            token => Some(open(question, token)?),
        };
        Ok(Self {
            size,
            after,
            question,
        })
    }

    /// The token for the page after a position; empty at the end.
    #[must_use]
    pub fn token(&self, position: Option<&[u8]>) -> String {
        let Some(position) = position else {
            return String::new();
        };
        let mut bytes = check(self.question, position).to_vec();
        bytes.extend_from_slice(position);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position as 8 bytes, for lists of numbers.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID`
    pub fn after_number(&self) -> Answer<Option<u64>> {
        self.after
            .as_deref()
            .map(|after| {
                after
                    .try_into()
                    .map(u64::from_be_bytes)
                    .map_err(|_| foreign())
            })
            .transpose()
    }
}

/// Question and position under one hash: a token that was changed, or asked with another question, does not match.
fn check(question: [u8; DIGEST_LEN], position: &[u8]) -> [u8; DIGEST_LEN] {
    let mut hasher = blake3::Hasher::new_derive_key(TOKEN_DOMAIN);
    hasher.update(&question).update(position);
    short(&hasher)
}

fn short(hasher: &blake3::Hasher) -> [u8; DIGEST_LEN] {
    let mut digest = [0; DIGEST_LEN];
    hasher.finalize_xof().fill(&mut digest);
    digest
}

fn open(question: [u8; DIGEST_LEN], token: &str) -> Answer<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| foreign())?;
    let (digest, position) = bytes
        .split_first_chunk::<DIGEST_LEN>()
        .ok_or_else(foreign)?;
    if *digest == check(question, position) {
        Ok(position.to_vec())
    } else {
        Err(foreign())
    }
}

/// The failure of a token that is not one of this question.
#[must_use]
pub fn foreign() -> Failure {
    Failure::new(
        ErrorReason::PageTokenInvalid,
        "the page token is damaged, or of another request; begin with the first page",
    )
}

/// The items of one page as they come, and when to stop.
#[derive(Debug)]
pub struct Filling<T> {
    /// The items so far.
    pub items: Vec<T>,
    size: usize,
    bytes: usize,
    looked_at: usize,
}

impl<T: Message> Filling<T> {
    /// An empty page for so many items.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self {
            items: Vec::new(),
            size,
            bytes: 0,
            looked_at: 0,
        }
    }

    /// Counts one more record that was looked at, and takes the item that it gave, if any.
    pub fn take(&mut self, item: Option<T>) {
        self.looked_at += 1;
        if let Some(item) = item {
            self.bytes += item.encoded_len();
            self.items.push(item);
        }
    }

    /// True if the page is done.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.items.len() >= self.size
            || self.bytes >= MAX_PAGE_BYTES
            || self.looked_at >= MAX_LOOKED_AT
    }
}

/// A page of records below a key, ascending. `make` gets the rest of the key and the record, and gives the item, if the record
/// is to be shown. Returns the items and the token of the next page.
///
/// # Errors
/// Damaged state, and whatever `make` fails with.
pub fn records<M: Message + Default, T: Message>(
    state: &dyn State,
    prefix: &Key,
    page: &Page,
    mut make: impl FnMut(&[u8], M) -> Answer<Option<T>>,
) -> Answer<(Vec<T>, String)> {
    let prefix = prefix.as_bytes();
    let mut filling = Filling::new(page.size);
    let mut after = page
        .after
        .as_ref()
        .map(|rest| [prefix, rest.as_slice()].concat());
    loop {
        let pairs = state.scan(prefix, after.as_deref(), FETCH)?;
        if pairs.is_empty() {
            return Ok((filling.items, String::new()));
        }
        for (key, value) in pairs {
            let rest = key.get(prefix.len()..).unwrap_or_default();
            let record = M::decode(value.as_slice()).map_err(|error| damaged(&key, &error))?;
            filling.take(make(rest, record)?);
            if filling.is_full() {
                return Ok((filling.items, page.token(Some(rest))));
            }
            after = Some(key);
        }
    }
}

/// A stored record does not decode.
pub fn damaged(key: &[u8], error: &prost::DecodeError) -> Failure {
    ledger_core::state::StateError::damaged(key, error.to_string()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(namespace: &str, page_size: u32, page_token: &str) -> v1::ListAgentsRequest {
        v1::ListAgentsRequest {
            namespace: namespace.to_owned(),
            page_size,
            page_token: page_token.to_owned(),
            ..v1::ListAgentsRequest::default()
        }
    }

    fn reason(answer: Answer<Page>) -> ErrorReason {
        answer.unwrap_err().reason
    }

    #[test]
    fn sizes_have_a_default_and_a_limit() {
        assert_eq!(Page::of(&ask("", 0, "")).unwrap().size, 100);
        assert_eq!(Page::of(&ask("", 1_000, "")).unwrap().size, 1_000);
        assert_eq!(
            reason(Page::of(&ask("", 1_001, ""))),
            ErrorReason::ArgumentInvalid
        );
    }

    #[test]
    fn a_token_leads_on_whatever_the_size_and_freshness() {
        let token = Page::of(&ask("team", 5, "")).unwrap().token(Some(b"bot"));
        let mut next = ask("team", 7, &token);
        next.consistency = Some(v1::Consistency::default());
        assert_eq!(Page::of(&next).unwrap().after.as_deref(), Some(&b"bot"[..]));
        assert_eq!(Page::of(&ask("team", 5, "")).unwrap().token(None), "");
    }

    #[test]
    fn a_token_of_another_question_or_a_damaged_one_is_refused() {
        let token = Page::of(&ask("team", 5, "")).unwrap().token(Some(b"bot"));
        let invalid = ErrorReason::PageTokenInvalid;
        assert_eq!(reason(Page::of(&ask("other", 5, &token))), invalid);
        let other_list = v1::ListGatewaysRequest {
            namespace: "team".to_owned(),
            page_token: token.clone(),
            ..v1::ListGatewaysRequest::default()
        };
        assert_eq!(reason(Page::of(&other_list)), invalid);
        for position in 0..token.len() {
            let mut damaged = token.clone().into_bytes();
            damaged[position] = if damaged[position] == b'A' {
                b'B'
            } else {
                b'A'
            };
            let damaged = String::from_utf8(damaged).unwrap();
            assert_eq!(reason(Page::of(&ask("team", 5, &damaged))), invalid);
        }
        assert_eq!(reason(Page::of(&ask("team", 5, "AAAA"))), invalid);
    }

    #[test]
    fn pages_of_records_are_all_records_once() {
        let mut world = crate::front::test_world::TestWorld::new();
        for number in 0..7 {
            let status = v1::IdentityStatus::Active;
            world.agent(&format!("bot-{number}"), "team", "olive", status);
        }
        let prefix = Key::family(ledger_core::state::Family::Agent);
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let page = Page::of(&ask("", 3, &token)).unwrap();
            let make = |rest: &[u8], record: v1::AgentRecord| {
                seen.push(String::from_utf8(rest.to_vec()).unwrap());
                Ok(Some(record))
            };
            let (items, next) = records(&world.view(), &prefix, &page, make).unwrap();
            assert!(items.len() <= 3);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        let all: Vec<String> = (0..7).map(|number| format!("bot-{number}")).collect();
        assert_eq!(seen, all);
    }
}
