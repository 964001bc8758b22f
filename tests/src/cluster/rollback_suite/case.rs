//! The cases of the rollback suite: how a disk goes back in time, where its marker is, whose disk it is, and who crashes meanwhile.

use std::fmt;

use crate::cluster::overlay::OverlayTool;
use crate::stream::Dice;

/// How a disk goes back in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// The folder was copied with `cp -a`, and the copy is put in its place.
    Copy,
    /// The copy is laid over the files of a later run.
    CopyOver,
    /// The image of the file system was cloned, and the clone is attached as the same device.
    ImageInPlace,
    /// The clone is attached as another device.
    ImageElsewhere,
    /// The disk is empty, and the id is made again with `init`.
    Init,
    /// The same with `init --first`.
    InitFirst,
    /// The folder was copied while the node stood still, and the copy is laid over the files of the same run.
    OverRun(OverlayTool),
    /// A copy whose marker was made to agree with it: what an image in place is, for a machine that cannot mount one.
    ForgedInPlace,
}

impl Method {
    /// Those of the long form.
    pub const ALL: [Self; 9] = [
        Self::Copy,
        Self::CopyOver,
        Self::ImageInPlace,
        Self::ImageElsewhere,
        Self::Init,
        Self::InitFirst,
        Self::OverRun(OverlayTool::CopyArchive),
        Self::OverRun(OverlayTool::Rsync),
        Self::OverRun(OverlayTool::RsyncInPlace),
    ];

    /// True for a disk that is an image.
    #[must_use]
    pub const fn is_image(self) -> bool {
        matches!(self, Self::ImageInPlace | Self::ImageElsewhere)
    }

    /// What is nearest to this without images.
    #[must_use]
    pub const fn without_images(self) -> Self {
        match self {
            Self::ImageInPlace => Self::ForgedInPlace,
            Self::ImageElsewhere => Self::Copy,
            Self::Copy
            | Self::CopyOver
            | Self::OverRun(_)
            | Self::Init
            | Self::InitFirst
            | Self::ForgedInPlace => self,
        }
    }

    /// True if the copy is laid over newer files, some of which it may leave as they are.
    #[must_use]
    pub const fn is_laid_over(self) -> bool {
        matches!(self, Self::CopyOver | Self::OverRun(_))
    }

    /// True if the files tell nothing of it.
    #[must_use]
    pub const fn is_in_place(self) -> bool {
        matches!(self, Self::ImageInPlace | Self::ForgedInPlace)
    }
}

/// Where the marker of the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkerPlace {
    /// In the data directory.
    WithData,
    /// In a folder of its own on the volume of the data.
    SameVolume,
    /// On a volume that does not go back.
    OtherVolume,
}

impl MarkerPlace {
    const ALL: [Self; 3] = [Self::WithData, Self::SameVolume, Self::OtherVolume];
}

/// Who else crashes, and when. The node whose disk goes back is `r`, the one that knows everything is `a`, the third is `b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Schedule {
    /// Nobody.
    Nobody,
    /// Nobody; leadership is handed over while `r` is down.
    Transfer,
    /// `b` crashes before the copy is made, and comes back after `r`.
    OtherBefore,
    /// `b` crashes between copy and restore, and comes back after `r`.
    OtherBetween,
    /// `a` crashes when `r` has just been started; `b` was there all the time.
    TruthAfter,
    /// `b` crashes before the copy, `a` with `r`; `r` and `b` come back, then `a`.
    OtherBeforeTruthBetween,
    /// `b` crashes between copy and restore, `a` with `r`; `r` and `b` come back, then `a`.
    OtherBetweenTruthBetween,
    /// `b` crashes between copy and restore; `a` crashes once `r` has been started; `b` comes back, then `a`.
    OtherBetweenTruthAfter,
    /// Both crash with `r`, which comes back alone; then `b`, which was there all the time, then `a`.
    Everybody,
}

impl Schedule {
    /// All schedules.
    pub const ALL: [Self; 9] = [
        Self::Nobody,
        Self::Transfer,
        Self::OtherBefore,
        Self::OtherBetween,
        Self::TruthAfter,
        Self::OtherBeforeTruthBetween,
        Self::OtherBetweenTruthBetween,
        Self::OtherBetweenTruthAfter,
        Self::Everybody,
    ];

    /// True if `r` meets, before `a` is back, only a node that was away while `r` promised.
    #[must_use]
    pub const fn hides_truth(self) -> bool {
        matches!(
            self,
            Self::OtherBeforeTruthBetween | Self::OtherBetweenTruthBetween
        )
    }
}

/// One case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollbackCase {
    /// Its number among all.
    pub number: usize,
    /// How the disk goes back.
    pub method: Method,
    /// Who else crashes.
    pub schedule: Schedule,
    /// The node leads when it goes down.
    pub leads: bool,
    /// A witness outside is part of the trust policy.
    pub witness: bool,
    /// Where its marker is.
    pub marker: MarkerPlace,
}

impl RollbackCase {
    /// How many cases there are.
    pub const COUNT: usize =
        MarkerPlace::ALL.len() * 2 * 2 * Schedule::ALL.len() * Method::ALL.len();

    /// The case of a number.
    #[must_use]
    pub fn of(number: usize) -> Option<Self> {
        let (rest, marker) = (number / 3, number % 3);
        let (rest, witness) = (rest / 2, rest % 2 == 1);
        let (rest, leads) = (rest / 2, rest % 2 == 1);
        let (method, schedule) = (rest / Schedule::ALL.len(), rest % Schedule::ALL.len());
        Some(Self {
            number,
            method: *Method::ALL.get(method)?,
            schedule: *Schedule::ALL.get(schedule)?,
            leads,
            witness,
            marker: *MarkerPlace::ALL.get(marker)?,
        })
    }

    /// The cases in which each method meets each schedule, as leader and as follower, with and without a witness; a third of all,
    /// in an order of the seed, which also draws where the markers are: each method and each schedule meets each place.
    #[must_use]
    pub fn drawn(seed: u64) -> Vec<Self> {
        let mut dice = Dice::new(seed);
        let turn = usize::try_from(dice.below(3)).expect("small");
        let all = (0..Self::COUNT).filter_map(Self::of);
        let mut cases: Vec<Self> = all
            .filter(|case| {
                let rest = case.number / 3;
                let (pair, roles) = (rest / 4, rest % 4);
                let (method, schedule) = (pair / Schedule::ALL.len(), pair % Schedule::ALL.len());
                (method + schedule + roles + turn) % 3 == case.number % 3
            })
            .collect();
        for end in (1..cases.len()).rev() {
            let at = dice.below(u64::try_from(end + 1).expect("few cases"));
            cases.swap(end, usize::try_from(at).expect("below the end"));
        }
        cases
    }

    /// True if neither the node nor anybody whom it meets can know that its disk went back.
    #[must_use]
    pub fn cannot_be_noticed(&self) -> bool {
        self.method.is_in_place()
            && self.marker != MarkerPlace::OtherVolume
            && self.schedule.hides_truth()
    }
}

impl fmt::Display for RollbackCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leads = if self.leads { "leader" } else { "follower" };
        let witness = if self.witness { "" } else { "no " };
        write!(
            f,
            "case {:3} {:?} of the {leads}, {:?}, marker {:?}, {witness}witness",
            self.number, self.method, self.schedule, self.marker
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_drawn_covers_what_it_says() {
        for seed in 0..5 {
            let cases = RollbackCase::drawn(seed);
            assert_eq!(cases.len(), 9 * 9 * 2 * 2);
            let count = |key: &dyn Fn(&RollbackCase) -> String| {
                let keys: BTreeSet<String> = cases.iter().map(key).collect();
                keys.len()
            };
            let most = count(&|case| {
                let (leads, witness) = (case.leads, case.witness);
                format!("{:?} {:?} {leads} {witness}", case.method, case.schedule)
            });
            assert_eq!(most, cases.len());
            assert_eq!(
                count(&|case| format!("{:?} {:?}", case.method, case.marker)),
                27
            );
            assert_eq!(
                count(&|case| format!("{:?} {:?}", case.schedule, case.marker)),
                27
            );
        }
        assert_ne!(RollbackCase::drawn(1), RollbackCase::drawn(2));
    }
}
