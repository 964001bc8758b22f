//! Runs `countersign_tests::fuzz::target_json` on what the fuzzer makes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_tests::fuzz::target_json(data));
