//! What is made of what several nodes say.

use super::*;

#[test]
fn what_another_node_says_of_a_command_is_no_word_on_an_attempt_before() {
    let urls = ["http://a".to_owned(), "http://b".to_owned()];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let endpoints = Endpoints::new(&urls).unwrap();
    let mut failures = Failures::default();
    failures.note(0, Attempt::failed(Status::deadline_exceeded(NO_ANSWER)));
    failures.note(1, Attempt::failed(Status::invalid_argument("stale")));
    let refusal = || Error::Invalid("stale".to_owned());
    let alone = failures.verdict(&endpoints, None, refusal());
    assert!(matches!(alone, Error::Invalid(_)), "{alone}");
    let after = failures.verdict(&endpoints, Some("ab"), refusal());
    assert!(matches!(after, Error::Undetermined { .. }), "{after}");
    let said = after.to_string();
    for words in [
        "http://a: no answer in time",
        "http://b: stale",
        "request ab",
    ] {
        assert!(said.contains(words), "{said}");
    }
}
