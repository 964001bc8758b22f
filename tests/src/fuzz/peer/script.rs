//! The fuzzer's bytes as choices. Each message takes a frame of bytes of its own, so that a byte that changes changes one message,
//! and a choice of 0 is always what a sound member would say.

use ledger_proto::peer::v1 as wire;

use crate::stream::Dice;

/// Bytes of a frame.
pub(super) const FRAME: usize = 32;
/// How many kinds of messages there are, in the parts of a sequence that they make up.
pub(super) const KINDS: u8 = 24;
/// Most messages of one input.
pub(super) const MAX_MESSAGES: usize = 24;

/// The choices of one message; 0 once the bytes are used up.
#[derive(Debug)]
pub(super) struct Script<'d> {
    bytes: std::slice::Iter<'d, u8>,
}

impl<'d> Script<'d> {
    pub(super) fn new(frame: &'d [u8]) -> Self {
        Self {
            bytes: frame.iter(),
        }
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }

    /// What is left.
    pub(super) fn rest(&mut self) -> &'d [u8] {
        std::mem::take(&mut self.bytes).as_slice()
    }

    pub(super) fn below(&mut self, end: u8) -> u8 {
        self.byte() % end
    }

    /// True for one choice out of so many.
    pub(super) fn one_in(&mut self, many: u8) -> bool {
        self.byte() % many == many - 1
    }

    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.byte()) % list.len()]
    }

    pub(super) fn word(&mut self) -> u64 {
        let mut bytes = [0; 8];
        bytes.fill_with(|| self.byte());
        u64::from_le_bytes(bytes)
    }

    /// A number near one that fits, or far from it.
    pub(super) fn near(&mut self, fits: u64) -> u64 {
        match self.byte() % 16 {
            0..=5 => fits,
            6 | 7 => fits.saturating_add(1),
            8 => fits.saturating_sub(1),
            9 => fits.saturating_add(2),
            10 => fits.saturating_add(u64::from(self.byte())),
            11 => fits.saturating_sub(u64::from(self.byte())),
            12 => 0,
            13 => u64::MAX - u64::from(self.byte()),
            14 => 1_u64.checked_shl(u32::from(self.byte()) % 64).unwrap_or(0),
            _ => self.word(),
        }
    }

    pub(super) fn id(&mut self, fits: wire::LogId) -> wire::LogId {
        wire::LogId {
            term: self.near(fits.term),
            index: self.near(fits.index),
        }
    }
}

/// What fuzzing begins with: a good message of each kind alone, what a leader does one after the other, and noise.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let frame = |bytes: &[u8]| {
        let mut frame = bytes.to_vec();
        frame.resize(FRAME, 0);
        frame
    };
    let kinds = (0..KINDS).map(|kind| frame(&[0, kind]));
    // A new leader with an entry of nothing; then one with two batches; a vote; a snapshot in three steps.
    let blank = frame(&[0, 0, 0, 2, 0, 0, 1, 0, 0, 1]);
    let batches = frame(&[
        0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1,
    ]);
    let vote = frame(&[1, 7, 2, 0, 0, 0, 0]);
    let snapshot = |steps| frame(&[0, 10, 2, 0, 0, steps]);
    let told = [
        vec![blank.clone(), batches.clone(), batches.clone()],
        vec![vote, blank.clone(), batches.clone()],
        vec![snapshot(0), blank.clone(), batches],
        vec![snapshot(2), snapshot(1), blank],
    ];
    let noise = (0..4).map(|seed| {
        let mut dice = Dice::new(seed);
        let words = std::iter::repeat_with(|| dice.word().to_le_bytes());
        words.flatten().take(FRAME * 8).collect()
    });
    let told = told.into_iter().map(|frames| frames.concat());
    kinds.chain(told).chain(noise).collect()
}
