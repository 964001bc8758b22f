//! Choices that follow from one number.

/// Splitmix64: small, and the same in every version of every dependency, because pinned runs rest on it.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Choices that follow from this number.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub const fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    /// True so many times out of a hundred.
    pub const fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of a list that is not empty.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.index(list.len())]
    }

    /// One of a list, more likely a late one; none of an empty list.
    pub fn recent<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let window = if self.percent(80) { 12 } else { list.len() };
        let tail = &list[list.len().saturating_sub(window)..];
        (!tail.is_empty()).then(|| self.pick(tail))
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a length")
    }
}
