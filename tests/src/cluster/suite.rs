//! What the long forms of suites share: which piece of a list of cases is run, and what is made of a case that panics.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

/// What a suite is asked to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pieces {
    /// One case by its number.
    pub case: Option<usize>,
    /// All cases instead of the covering ones.
    pub every: bool,
    /// How many are left out at the beginning.
    pub from: usize,
    /// How many are run at most.
    pub count: usize,
    /// What is drawn at random follows from it.
    pub seed: u64,
}

impl Pieces {
    /// What the program was told.
    ///
    /// # Panics
    /// If it does not understand it.
    #[must_use]
    pub fn of_arguments(name: &str) -> Self {
        let mut pieces = Self {
            case: None,
            every: false,
            from: 0,
            count: usize::MAX,
            seed: 1,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let number = arguments.next().and_then(|number| number.parse().ok());
                number.unwrap_or_else(|| panic!("{argument} needs a number"))
            };
            match argument.as_str() {
                "--case" => pieces.case = Some(number()),
                "--from" => pieces.from = number(),
                "--count" => pieces.count = number(),
                "--seed" => pieces.seed = u64::try_from(number()).expect("64 bits"),
                "--every" => pieces.every = true,
                _ => panic!(
                    "usage: {name} [--case N] [--from N] [--count N] [--every] [--seed N]; {argument} is none of them"
                ),
            }
        }
        pieces
    }

    /// The chosen piece of a list.
    #[must_use]
    pub fn choose<T>(&self, cases: Vec<T>) -> Vec<T> {
        let cases = cases.into_iter().skip(self.from);
        cases.take(self.count).collect()
    }
}

/// What became of a case; the words of its panic if it panicked.
///
/// # Errors
/// The words.
pub async fn outcome<T>(run: impl Future<Output = T>) -> Result<T, String> {
    let ended = AssertUnwindSafe(run).catch_unwind().await;
    ended.map_err(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| {
            panic
                .downcast_ref::<&str>()
                .map(|words| (*words).to_owned())
        });
        words.unwrap_or_else(|| "a panic without words".to_owned())
    })
}
