//! The faults of disks that are tried: a few of each kind in every run of the tests, all of them in the long one.

use super::faults::{Effect, Fault, Phase, Place};

/// Faults of each kind, each known to happen: the short form.
pub const KINDS: &[Fault] = &[
    Fault {
        phase: Phase::Running,
        call: "fdatasync",
        place: Place::Anywhere,
        // The first is of the marker.
        nth: 2,
        effect: Effect::Eio,
        says: &["the store cannot be opened", "Check the disk"],
    },
    Fault {
        phase: Phase::Running,
        call: "rename",
        place: Place::Anywhere,
        nth: 2,
        effect: Effect::Kill,
        says: &[],
    },
    Fault {
        phase: Phase::Running,
        call: "fdatasync",
        place: Place::Wal,
        nth: 9,
        effect: Effect::Eio,
        // Whoever writes at that moment may be told before the one who syncs.
        says: &[
            "a sync of the store failed|an earlier write or sync of the store failed|While fdatasync",
            "Check the disk",
        ],
    },
    Fault {
        phase: Phase::Running,
        call: "write",
        place: Place::Wal,
        nth: 17,
        effect: Effect::Enospc,
        says: &[
            "No space left on device|an earlier write or sync of the store failed",
            "Make room on the disk|Check the disk",
        ],
    },
    Fault {
        phase: Phase::Running,
        call: "fdatasync",
        place: Place::Wal,
        nth: 12,
        effect: Effect::Kill,
        says: &[],
    },
    Fault {
        phase: Phase::Running,
        call: "write",
        place: Place::Wal,
        nth: 40,
        effect: Effect::Kill,
        says: &[],
    },
    Fault {
        phase: Phase::Running,
        call: "rename",
        place: Place::File("snapshots/building"),
        nth: 1,
        effect: Effect::Eio,
        says: &["ledger-node: a snapshot cannot be made", "Check the disk"],
    },
    Fault {
        phase: Phase::Installing,
        // A snapshot that is received is written at given places, once for each of its parts; and the marker, by another thread, a
        // few times at the start and in elections.
        call: "pwrite64",
        place: Place::Anywhere,
        nth: 5,
        effect: Effect::Enospc,
        says: &["a snapshot cannot be received", "Make room on the disk"],
    },
    Fault {
        phase: Phase::Installing,
        // A store that opens makes fewer in one thread; who receives makes one for each file. Were the node to go on, the next
        // sync of the same file would succeed, whether its bytes are there or not.
        call: "fsync",
        place: Place::Anywhere,
        nth: 9,
        effect: Effect::Eio,
        says: &["a snapshot cannot be received", "Check the disk"],
    },
    Fault {
        phase: Phase::Installing,
        call: "rename",
        place: Place::File("LIVE.new"),
        nth: 1,
        effect: Effect::Kill,
        says: &[],
    },
];

/// Every call, place and effect that a long run goes through, with the number left to be counted up.
#[must_use]
pub fn sweep() -> Vec<Fault> {
    let mut faults = Vec::new();
    for phase in [Phase::Running, Phase::Installing] {
        for call in ["fdatasync", "fsync", "rename", "link,linkat"] {
            for effect in [Effect::Kill, Effect::Eio, Effect::Enospc] {
                // A sync does not run out of room; what it could not write is an error of the disk.
                if effect == Effect::Enospc && call != "link,linkat" {
                    continue;
                }
                faults.push((phase, call, Place::Anywhere, effect));
            }
        }
        for place in [Place::Wal, Place::Table, Place::Manifest] {
            for effect in [Effect::Kill, Effect::Eio, Effect::Enospc] {
                faults.push((phase, "write", place, effect));
            }
        }
        for effect in [Effect::Kill, Effect::Eio] {
            faults.push((phase, "fdatasync", Place::File("marker"), effect));
        }
    }
    for effect in [Effect::Kill, Effect::Eio, Effect::Enospc] {
        // The snapshot that is received, and the marker, are written at given places.
        faults.push((Phase::Installing, "pwrite64", Place::Anywhere, effect));
    }
    let fault = |(phase, call, place, effect)| Fault {
        phase,
        call,
        place,
        nth: 1,
        effect,
        says: &[],
    };
    faults.into_iter().map(fault).collect()
}
