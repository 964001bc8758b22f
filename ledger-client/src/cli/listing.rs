//! Lists that come in pages: read to their end in the time of one call, whatever an endpoint says of further pages.

use std::collections::BTreeSet;
use std::time::Instant;

use prost::Message;

use super::{Exit, Failure};
use crate::client::Client;
use crate::error::Error;
use crate::transport::Answer;

/// Items of a page.
pub(super) const PAGE: u32 = 1_000;
/// Most bytes of the items of a list: 256 MiB, a million items of 268 bytes.
const MAX_LIST_LEN: usize = 256 * 1024 * 1024;

/// What has been read of a list. Its pages share one deadline: a page may hold nothing and not be the last, because a node looks at so
/// many records for one page, of which a filter may want none.
#[derive(Debug)]
pub(super) struct ListProgress<K> {
    deadline: Instant,
    /// What names the items that were read.
    names: BTreeSet<K>,
    /// Their bytes.
    len: usize,
}

impl<K: Ord> ListProgress<K> {
    /// The beginning of a list.
    pub(super) fn begin(client: &Client) -> Self {
        Self::until(client.deadline())
    }

    fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            names: BTreeSet::new(),
            len: 0,
        }
    }

    /// When the whole list must have come.
    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Notes an item of a page.
    ///
    /// # Errors
    /// [`Error::Contradiction`] if it came before, or is more than a list can hold.
    pub(super) fn add(&mut self, name: K, len: usize) -> Result<(), Error> {
        self.len = self.len.saturating_add(len);
        if self.len > MAX_LIST_LEN {
            let what = format!("the list is longer than {MAX_LIST_LEN} bytes");
            return Err(Error::contradiction(what));
        }
        if self.names.insert(name) {
            Ok(())
        } else {
            Err(Error::contradiction("the list holds one item twice"))
        }
    }

    /// Demands that there is time for another page.
    ///
    /// # Errors
    /// [`Exit::Unavailable`]
    pub(super) fn must_have_time(&self) -> Result<(), Failure> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        let what = format!(
            "the list did not end in time, after {} items; ask for less of it, or give a longer --timeout",
            self.names.len()
        );
        Err(Failure::new(Exit::Unavailable, what))
    }
}

/// Every item of a list, which the author of this client reads. `ask` makes the request for the page of a token, `page` takes an answer
/// apart into items and the next token, and `name` tells items apart.
pub(super) async fn whole_list<Q, A, T, K>(
    client: &Client,
    path: &'static str,
    ask: impl Fn(String) -> Q,
    page: impl Fn(A) -> (Vec<T>, String),
    name: impl Fn(&T) -> K,
) -> Result<Vec<T>, Failure>
where
    Q: Message + Clone + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
    T: Message,
    K: Ord,
{
    let mut progress = ListProgress::begin(client);
    let mut list = Vec::new();
    let mut page_token = String::new();
    loop {
        let message = ask(page_token);
        let Answer { answer, by } = client.read_from(path, message, progress.deadline()).await?;
        let (items, next_page_token) = page(answer);
        for item in &items {
            let added = progress.add(name(item), item.encoded_len());
            added.map_err(|error| error.of(&by))?;
        }
        list.extend(items);
        if next_page_token.is_empty() {
            return Ok(list);
        }
        progress.must_have_time()?;
        page_token = next_page_token;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_list_holds_each_item_once_and_no_more_than_fits() {
        let mut progress = ListProgress::until(Instant::now() + Duration::from_secs(60));
        progress.add("a", 1).unwrap();
        progress.add("b", MAX_LIST_LEN - 1).unwrap();
        let twice = progress.add("a", 0).unwrap_err().to_string();
        assert!(twice.contains("one item twice"), "{twice}");
        let long = progress.add("c", 1).unwrap_err().to_string();
        assert!(long.contains("longer than"), "{long}");
    }

    #[test]
    fn a_list_whose_time_is_over_asks_for_no_further_page() {
        let over = ListProgress::<u64>::until(Instant::now());
        let failure = over.must_have_time().unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message.contains("longer --timeout"));
        let open = ListProgress::<u64>::until(Instant::now() + Duration::from_secs(60));
        open.must_have_time().unwrap();
    }
}
