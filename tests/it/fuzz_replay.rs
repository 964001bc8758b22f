//! Runs every fuzz target, without a fuzzer, on its seeds and on what fuzzing has kept: inputs that once failed, and a few of
//! those that reached code which no seed reaches.

use std::fs;
use std::path::Path;

use countersign_tests::fuzz::{TARGETS, seeds};

/// What has been kept, a folder per target.
fn found(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz-corpus")
        .join(target);
    let Ok(files) = fs::read_dir(folder) else {
        return Vec::new();
    };
    files
        .map(|file| {
            let path = file.expect("a folder that was opened can be read").path();
            let bytes = fs::read(&path).expect("a file that was listed can be read");
            (path.display().to_string(), bytes)
        })
        .collect()
}

#[test]
fn every_target_passes_on_its_seeds() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for seed in seeds {
            target(&seed);
        }
    }
}

#[test]
fn every_target_passes_on_what_was_found() {
    for (name, target) in TARGETS {
        for (path, bytes) in found(name) {
            // Shown only if the target fails: it says on what.
            println!("{path}");
            target(&bytes);
        }
    }
}

#[test]
fn every_folder_of_findings_is_of_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz-corpus");
    for item in fs::read_dir(folder).into_iter().flatten() {
        let item = item.expect("a folder that was opened can be read");
        let name = item.file_name().to_string_lossy().into_owned();
        assert!(
            TARGETS.iter().any(|(target, _)| *target == name),
            "{name} is not a target; nothing would replay its files"
        );
    }
}

#[test]
fn cut_and_damaged_seeds_are_no_surprise() {
    for (name, target) in TARGETS {
        for seed in seeds(name) {
            // A handful of places: the fuzzer is the one who tries them all.
            for place in [0, 1, seed.len() / 3, seed.len() / 2, seed.len() - 1] {
                target(&seed[..place]);
                let mut damaged = seed.clone();
                damaged[place] ^= 0x41;
                target(&damaged);
            }
        }
    }
}
