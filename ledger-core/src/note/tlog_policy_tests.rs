//! Trust policies: what reads, what does not, how it prints, and when a quorum is met.

use proptest::prelude::*;

use super::test_keys::{LOG, log_key, witness_key};
use super::tlog_policy::{
    MAX_POLICY_GROUPS, MAX_POLICY_LEN, MAX_POLICY_LOGS, MAX_POLICY_WITNESSES, PolicyError,
    PolicyFault, TlogPolicy,
};
use super::vkey::VkeyError;

fn witness(name: &str, seed: u8) -> String {
    format!("witness {name} {}\n", witness_key(seed))
}

fn witnesses(names: &[&str]) -> String {
    names
        .iter()
        .zip(10..)
        .map(|(name, seed)| witness(name, seed))
        .collect()
}

fn parse(text: &str) -> Result<TlogPolicy, PolicyError> {
    TlogPolicy::parse(text.as_bytes())
}

/// The line and the fault of a policy that does not read.
fn fault(text: &str) -> (Option<usize>, PolicyFault) {
    let error = parse(text).unwrap_err();
    (error.line, error.fault)
}

/// The fault in the line that follows three witnesses a, b, c and a group g of a and b.
fn fault_after_a_group(line: &str) -> PolicyFault {
    let before = format!("{}group g any a b\n", witnesses(&["a", "b", "c"]));
    let (number, fault) = fault(&format!("{before}{line}\nquorum none\n"));
    assert_eq!(number, Some(5), "{line}");
    fault
}

/// The example of the specification, with keys.
fn two_level() -> String {
    format!(
        "# logs\nlog {} https://log.example.com\n\n  # witnesses\n{}\tgroup  X-witnesses\t2 X1 X2 X3 \n\
         group Y-witnesses any Y1 Y2 Y3\n\ngroup X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n",
        log_key(LOG, 1),
        witnesses(&["X1", "X2", "X3", "Y1", "Y2", "Y3"]),
    )
}

fn is_met(policy: &TlogPolicy, cosigned: &[&str]) -> bool {
    policy.is_met_by(|witness| cosigned.contains(&witness.name.as_str()))
}

#[test]
fn a_quorum_of_two_levels_is_evaluated() {
    let policy = parse(&two_level()).unwrap();
    assert_eq!((policy.logs().len(), policy.witnesses().len()), (1, 6));
    assert_eq!(
        policy.logs()[0].url.as_deref(),
        Some("https://log.example.com")
    );
    for (cosigned, met) in [
        (&["X1", "X2", "Y1"][..], true),
        (&["X2", "X3", "Y3"], true),
        (&["X1", "X2", "X3", "Y1", "Y2", "Y3"], true),
        (&["X1", "X2", "X3"], false),
        (&["X1", "Y1", "Y2", "Y3"], false),
        (&["Y1"], false),
        (&[], false),
    ] {
        assert_eq!(is_met(&policy, cosigned), met, "{cosigned:?}");
    }
}

#[test]
fn a_quorum_may_be_one_witness_or_none() {
    let two = witnesses(&["a", "b"]);
    let one = parse(&format!("{two}quorum b\n")).unwrap();
    assert!(is_met(&one, &["b"]) && !is_met(&one, &["a"]) && !is_met(&one, &[]));
    let none = parse("quorum none\n").unwrap();
    assert!(is_met(&none, &[]));
    assert!(none.logs().is_empty());
}

#[test]
fn every_subset_meets_a_threshold_by_its_count() {
    let names = ["a", "b", "c", "d", "e"];
    for k in 1..=names.len() {
        let group = format!(
            "{}group g {k} {}\nquorum g\n",
            witnesses(&names),
            names.join(" ")
        );
        let policy = parse(&group).unwrap();
        for subset in 0..1_u32 << names.len() {
            let met = policy.is_met_by(|witness| {
                let place = names.iter().position(|name| *name == witness.name).unwrap();
                subset >> place & 1 == 1
            });
            assert_eq!(
                met,
                u32::try_from(k).unwrap() <= subset.count_ones(),
                "{k} of {subset:b}"
            );
        }
    }
}

#[test]
fn printing_is_canonical() {
    let policy = parse(&two_level()).unwrap();
    let printed = policy.to_string();
    let expected = format!(
        "log {} https://log.example.com\n{}group X-witnesses 2 X1 X2 X3\ngroup Y-witnesses any Y1 Y2 Y3\n\
         group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n",
        log_key(LOG, 1),
        witnesses(&["X1", "X2", "X3", "Y1", "Y2", "Y3"]),
    );
    assert_eq!(printed, expected);
    assert_eq!(parse(&printed), Ok(policy));
    let group = |threshold: &str| {
        let text = format!(
            "{}group g {threshold} a b\nquorum g\n",
            witnesses(&["a", "b"])
        );
        parse(&text).unwrap().to_string()
    };
    assert_eq!(group("1"), group("any"));
    assert_eq!(group("2"), group("all"));
    let single = format!("{}group g any a\nquorum g\n", witnesses(&["a"]));
    assert!(
        parse(&single)
            .unwrap()
            .to_string()
            .contains("group g all a\n")
    );
}

#[test]
fn each_rule_of_the_file_has_its_error() {
    let taken = |name: &str| PolicyFault::NameTaken(name.to_owned());
    let unknown = |name: &str| PolicyFault::UnknownName(name.to_owned());
    let twice = |name: &str| PolicyFault::MemberTwice(name.to_owned());
    let key = witness_key(99);
    for (line, expected) in [
        ("logs x", PolicyFault::Keyword),
        ("Quorum a", PolicyFault::Keyword),
        ("log", PolicyFault::Items),
        ("witness a", PolicyFault::Items),
        ("group h", PolicyFault::Items),
        ("quorum", PolicyFault::Items),
        ("quorum a b", PolicyFault::Items),
        ("log x", VkeyError::Malformed.into()),
        (&*format!("log {key}"), PolicyFault::KeyType),
        (
            &*format!("log {} url more", log_key(LOG, 1)),
            PolicyFault::Items,
        ),
        (
            &*format!("witness d {}", log_key(LOG, 1)),
            PolicyFault::KeyType,
        ),
        (&*format!("witness none {key}"), taken("none")),
        (&*format!("witness a {key}"), taken("a")),
        (&*format!("witness g {key}"), taken("g")),
        (witness("d", 10).trim_end(), PolicyFault::DuplicateKey),
        ("group none any c", taken("none")),
        ("group a any c", taken("a")),
        ("group g any c", taken("g")),
        ("group h any d", unknown("d")),
        ("group h any h", unknown("h")),
        ("group h any none", unknown("none")),
        ("group h any c a", twice("a")),
        ("group h any c c", twice("c")),
        ("group h any", PolicyFault::Threshold),
        ("group h all", PolicyFault::Threshold),
        ("group h 0 c", PolicyFault::Threshold),
        ("group h 2 c", PolicyFault::Threshold),
        ("group h 01 c", PolicyFault::Threshold),
        ("group h +1 c", PolicyFault::Threshold),
        ("group h most c", PolicyFault::Threshold),
        ("group h 18446744073709551617 c", PolicyFault::Threshold),
        ("quorum later", unknown("later")),
        ("# bell \u{7}", PolicyFault::Control),
        ("# delete \u{7f}", PolicyFault::Control),
        ("# windows\r", PolicyFault::Control),
        ("\u{c}", PolicyFault::Control),
    ] {
        assert_eq!(fault_after_a_group(line), expected, "{line}");
    }
}

#[test]
fn a_group_may_hold_a_group_but_only_once() {
    let text = |last: &str| {
        let witnesses = witnesses(&["a", "b", "c"]);
        parse(&format!(
            "{witnesses}group g any a b\ngroup h all g c\n{last}quorum h\n"
        ))
    };
    assert!(is_met(&text("").unwrap(), &["b", "c"]));
    assert_eq!(
        text("group i any g\n").unwrap_err().fault,
        PolicyFault::MemberTwice("g".to_owned())
    );
}

#[test]
fn a_key_is_a_duplicate_whatever_its_name() {
    let same_key = format!(
        "log {}\nlog {}\nquorum none\n",
        log_key("a", 1),
        log_key("b", 1)
    );
    assert_eq!(fault(&same_key), (Some(2), PolicyFault::DuplicateKey));
    let rotated = format!(
        "log {}\nlog {}\nquorum none\n",
        log_key("a", 1),
        log_key("a", 2)
    );
    assert_eq!(parse(&rotated).unwrap().logs().len(), 2);
}

#[test]
fn a_file_has_exactly_one_quorum_and_ends() {
    assert_eq!(fault(""), (None, PolicyFault::NoQuorum));
    assert_eq!(fault("# nothing\n"), (None, PolicyFault::NoQuorum));
    assert_eq!(
        fault("quorum none\nquorum none\n"),
        (Some(2), PolicyFault::SecondQuorum)
    );
    assert_eq!(fault("quorum none"), (Some(1), PolicyFault::NoNewline));
    assert_eq!(
        fault(" \t\n\nquorum later\n"),
        (Some(3), PolicyFault::UnknownName("later".to_owned()))
    );
    assert!(parse("quorum none\n# the end\n").is_ok());
    let located = parse("\nquorum x\n").unwrap_err().to_string();
    assert_eq!(
        located,
        "line 2: the name x is not defined on an earlier line"
    );
}

#[test]
fn comments_may_hold_any_octets_and_names_any_text() {
    assert!(TlogPolicy::parse(b"# caf\xe9\nquorum none\n").is_ok());
    let error = TlogPolicy::parse(b"quorum caf\xe9\n").unwrap_err();
    assert_eq!((error.line, error.fault), (Some(1), PolicyFault::Utf8));
    // U+212A, the Kelvin sign, is another name than K; U+00A0 does not separate.
    let text = format!(
        "{}quorum \u{212a}\n",
        witnesses(&["K", "\u{212a}", "a\u{a0}b"])
    );
    let policy = parse(&text).unwrap();
    assert!(is_met(&policy, &["\u{212a}"]) && !is_met(&policy, &["K"]));
    assert_eq!(policy.to_string(), text);
}

#[test]
fn limits_are_errors_one_past_them() {
    let logs = |count: u8| -> String {
        (0..count)
            .map(|seed| format!("log {}\n", log_key(LOG, seed)))
            .collect::<String>()
            + "quorum none\n"
    };
    assert!(parse(&logs(32)).is_ok());
    let too_many = |what, limit| PolicyFault::TooMany { what, limit };
    assert_eq!(
        fault(&logs(33)),
        (Some(33), too_many("logs", MAX_POLICY_LOGS))
    );
    let witnesses = |count: u8| -> String {
        (0..count)
            .map(|seed| witness(&format!("w{seed}"), seed))
            .collect()
    };
    assert!(parse(&format!("{}quorum w63\n", witnesses(64))).is_ok());
    let one_more = format!("{}quorum none\n", witnesses(65));
    assert_eq!(
        fault(&one_more),
        (Some(65), too_many("witnesses", MAX_POLICY_WITNESSES))
    );
    let groups = |count: u8| {
        let groups: String = (0..count)
            .map(|seed| format!("group g{seed} any w{}\n", seed % 64))
            .collect();
        format!("{}{groups}quorum none\n", witnesses(64))
    };
    assert!(parse(&groups(64)).is_ok());
    assert_eq!(
        fault(&groups(65)),
        (Some(129), too_many("groups", MAX_POLICY_GROUPS))
    );
    let padded = |len: usize| format!("quorum none\n#{}\n", "x".repeat(len - 14));
    assert!(parse(&padded(MAX_POLICY_LEN)).is_ok());
    assert_eq!(
        fault(&padded(MAX_POLICY_LEN + 1)),
        (None, PolicyFault::Length)
    );
}

proptest! {
    #[test]
    fn any_bytes_parse_without_panicking(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(TlogPolicy::parse(&bytes));
    }

    #[test]
    fn what_parses_prints_what_parses_to_the_same(
        lines in prop::collection::vec("(group [a-f] (all|any|1|2) [a-f]( [a-f]){0,2}|# [a-f]|quorum [a-f])", 0..5),
    ) {
        let text = format!("{}{}\nquorum a\n", witnesses(&["a", "b", "c"]), lines.join("\n"));
        if let Ok(policy) = parse(&text) {
            let printed = policy.to_string();
            let again = parse(&printed).unwrap();
            prop_assert_eq!(again.to_string(), printed);
            prop_assert_eq!(again, policy);
        }
    }
}
