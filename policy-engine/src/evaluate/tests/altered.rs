//! Records of the past that are not what was written: each is refused, or is another past that can be decided and stepped on.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::history::view::{Guarded, View};

/// Every kind of cell, about all events and about those of the request's values, one condition that needs the events
/// themselves, and sums that go up and down.
const RULES: &str = r#"
@id("last") permit (principal, action == Countersign::Action::"bank/pay", resource)
  when temporal { formerly within 1h Countersign::Action::"bank/pay"::allowed{ input.to: context.input.to } };
@id("count") forbid (principal, action == Countersign::Action::"bank/pay", resource)
  when temporal { count_within(1h, Countersign::Action::"bank/pay"::request{}) > 200 };
@id("sum") permit (principal, action == Countersign::Action::"bank/pay", resource)
  when temporal { sum_within(a, 1h, Countersign::Action::"bank/pay"::request{ input.amount: a, sessionId: context.session.id }) < 10000 };
@id("distinct") forbid (principal, action == Countersign::Action::"bank/pay", resource)
  when temporal { count_distinct_within(who, 1h, Countersign::Action::"bank/pay"::request{ input.to: who }) > 200 };
@id("since") permit (principal, action == Countersign::Action::"bank/pay", resource)
  when temporal { !Countersign::Action::"bank/pay"::denied{} since within 1h Countersign::Action::"bank/pay"::allowed{} };
@id("events") permit (principal, action == Countersign::Action::"bank/pay", resource)
  when temporal { formerly within 5m (Countersign::Action::"bank/pay"::allowed{ input.to: "d" } && formerly within 5m Countersign::Action::"bank/pay"::allowed{ input.to: "a" }) };
"#;

/// When half of what happened has left the windows of an hour, so that both ends of a series are read, and what is between.
const HALF_GONE_S: u64 = 3_630;

fn request_at(number: u64) -> Request {
    let amount: i64 = if number.is_multiple_of(3) { -7 } else { 5 };
    let to = ["a", "b", "c", "d"][usize::try_from(number % 4).unwrap()];
    let input = format!("{{\"amount\": {amount}, \"to\": \"{to}\"}}");
    request("bank/pay", &input, START_US + number * SECOND_US)
}

/// A past long enough that series have chunks between their ends.
fn world() -> World {
    let mut world = World::new(RULES);
    for number in 1..60 {
        world.decide(&request_at(number));
    }
    world
}

fn with(world: &World, key: &[u8], record: Option<Vec<u8>>) -> Partition {
    let records = world.partition.records();
    let others = records.filter(|(other, _)| *other != key);
    let mut records: Vec<Record> = others
        .map(|(key, bytes)| (key.to_vec(), bytes.to_vec()))
        .collect();
    records.extend(record.map(|record| (key.to_vec(), record)));
    records.into_iter().collect()
}

/// Decides and steps on a past; no panic, and an error only if the past is damaged. True if there was one.
fn is_damaged(world: &World, mut past: Partition, after: u64) -> bool {
    let request = request_at(after);
    let compiled = &world.compiled;
    let records = Guarded::new(&past);
    let now_ns = i64::try_from(request.time_us * 1_000).unwrap();
    // Not `decide`, which would catch a panic.
    let evaluated = View::load(&records, now_ns)
        .map(|view| compiled.decide_observed(&world.starts, &view, &request));
    let damaged = records.into_error().is_some();
    assert!(evaluated.is_ok() || damaged, "an error without its cause");
    let events = match evaluated {
        Ok(Ok(evaluated)) if !evaluated.events.is_empty() => evaluated.events,
        _ => {
            world
                .compiled
                .decide(&world.starts, &world.partition, &request)
                .unwrap()
                .events
        }
    };
    step(&mut past, &[compiled], &events).is_err() || damaged
}

/// The records, and of chunks, counted values and expiries, which are alike, one of each.
fn kinds(world: &World) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (key, bytes) in world.partition.records() {
        let alike = |(other, found): &&(Vec<u8>, Vec<u8>)| {
            other[0] == key[0] && (key[0] != b'c' && found.len() == bytes.len())
        };
        if found.iter().find(alike).is_none() {
            found.push((key.to_vec(), bytes.to_vec()));
        }
    }
    let tags: BTreeSet<u8> = found.iter().map(|(key, _)| key[0]).collect();
    assert_eq!(
        tags,
        BTreeSet::from(*b"hckvex"),
        "a kind of record is missing"
    );
    found
}

#[test]
fn altered_records_are_refused_or_are_another_past() {
    let world = world();
    let (mut refused, mut other, mut damaged) = (0, 0, 0);
    for (key, bytes) in kinds(&world) {
        assert!(check_record(&key, &bytes).is_ok());
        for place in 0..bytes.len() {
            for flip in 1..=255_u8 {
                let mut altered = bytes.clone();
                altered[place] ^= flip;
                let checked = catch_unwind(|| check_record(&key, &altered));
                let checked = checked.unwrap_or_else(|_| panic!("{key:x?} at {place}, {flip:x}"));
                let Err(NotCanonical) = checked else {
                    // Deciding costs more than checking: two bits of each byte.
                    if flip == 0x80 || flip == 1 << (place % 8) {
                        other += 1;
                        let past = with(&world, &key, Some(altered));
                        let is_damaged = catch_unwind(AssertUnwindSafe(|| {
                            is_damaged(&world, past, HALF_GONE_S)
                        }));
                        damaged += u32::from(is_damaged.unwrap_or_else(|_| {
                            panic!("a panic on {key:x?} with {flip:x} at {place}")
                        }));
                    }
                    continue;
                };
                refused += 1;
            }
        }
    }
    println!(
        "{refused} refused, {other} of another past, of which {damaged} found damaged on reading"
    );
    assert!(refused > 10_000 && other > 100 && damaged > 0);
}

#[test]
fn truncated_longer_and_missing_records_are_refused_or_found_damaged() {
    let world = world();
    for (key, bytes) in kinds(&world) {
        for length in 0..bytes.len() {
            if check_record(&key, &bytes[..length]).is_ok() {
                // A chunk does not say what it is a chunk of; whoever reads it knows.
                assert_eq!(key[0], b'k', "{key:x?} cut to {length}");
                let past = with(&world, &key, Some(bytes[..length].to_vec()));
                assert!(
                    is_damaged(&world, past, HALF_GONE_S),
                    "{key:x?} cut to {length}"
                );
            }
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(check_record(&key, &longer), Err(NotCanonical), "{key:x?}");
        let missing = is_damaged(&world, with(&world, &key, None), HALF_GONE_S);
        assert!(missing || key[0] != b'k', "{key:x?} is missing");
    }
}

#[test]
fn sizes_that_a_record_only_claims_take_no_room() {
    let header = [&[1_u8][..], &[0; 24]].concat();
    // So many series, so many cells, a series of so many bytes: none of which follow.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let of_count = |before: &[u8]| [before, &huge].concat();
    let cell = [&[0; 8][..], &[1, 1, 0, 0]].concat();
    for (key, bytes) in [
        (vec![b'h'], of_count(&header)),
        (vec![b'h'], of_count(&[header.as_slice(), &[0]].concat())),
        ([&[b'c'][..], &[0; 32]].concat(), of_count(&cell)),
        (
            [&[b'c'][..], &[0; 32]].concat(),
            of_count(&[cell.as_slice(), &[0]].concat()),
        ),
        ([&[b'e'][..], &[0; 16]].concat(), of_count(&[0x1a])),
        ([&[b'e'][..], &[0; 16]].concat(), of_count(&[0x42])),
    ] {
        assert_eq!(check_record(&key, &bytes), Err(NotCanonical), "{bytes:x?}");
    }
}
