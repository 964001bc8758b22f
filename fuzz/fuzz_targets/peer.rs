//! Runs `countersign_tests::fuzz::target_peer` on what the fuzzer makes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::target_peer(data));
