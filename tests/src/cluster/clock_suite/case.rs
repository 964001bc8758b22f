//! The cases of the clock suite: whose clock is wrong, by how much, and in which order clocks fail, nodes crash and both come back.

use std::fmt;

/// Which of the nodes have a wrong clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// One of three.
    OneOfThree,
    /// Two of three, by the same offset: a quorum of wrong clocks.
    TwoOfThreeAlike,
    /// Two of three, by opposite offsets: no two clocks agree.
    TwoOfThreeApart,
    /// One of five.
    OneOfFive,
    /// Two of five, by the same offset.
    TwoOfFiveAlike,
    /// Two of five, by opposite offsets.
    TwoOfFiveApart,
}

impl Group {
    /// All groups.
    pub const ALL: [Self; 6] = [
        Self::OneOfThree,
        Self::TwoOfThreeAlike,
        Self::TwoOfThreeApart,
        Self::OneOfFive,
        Self::TwoOfFiveAlike,
        Self::TwoOfFiveApart,
    ];

    /// Nodes of the cluster.
    #[must_use]
    pub const fn nodes(self) -> u64 {
        match self {
            Self::OneOfThree | Self::TwoOfThreeAlike | Self::TwoOfThreeApart => 3,
            Self::OneOfFive | Self::TwoOfFiveAlike | Self::TwoOfFiveApart => 5,
        }
    }

    /// Nodes with a wrong clock.
    #[must_use]
    pub const fn wrong(self) -> usize {
        match self {
            Self::OneOfThree | Self::OneOfFive => 1,
            Self::TwoOfThreeAlike
            | Self::TwoOfThreeApart
            | Self::TwoOfFiveAlike
            | Self::TwoOfFiveApart => 2,
        }
    }

    /// True if the second wrong clock is wrong the other way.
    #[must_use]
    pub const fn is_apart(self) -> bool {
        matches!(self, Self::TwoOfThreeApart | Self::TwoOfFiveApart)
    }
}

/// How a clock is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offset {
    /// By so many seconds; negative for a clock that is behind.
    Seconds(i64),
    /// It shows an hour of the first of January 1970, as after a dead battery.
    In1970,
}

impl Offset {
    /// All offsets.
    pub const ALL: [Self; 7] = [
        Self::Seconds(100),
        Self::Seconds(-100),
        Self::Seconds(400),
        Self::Seconds(-400),
        Self::Seconds(90_000),
        Self::Seconds(-90_000),
        Self::In1970,
    ];

    /// The offset of the second clock of two that are wrong in opposite ways.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Seconds(seconds) => Self::Seconds(-seconds),
            Self::In1970 => Self::Seconds(90_000),
        }
    }

    /// Microseconds that the clock is ahead of the machine's, which shows `now_us`.
    #[must_use]
    pub fn ahead_us(self, now_us: u64) -> i64 {
        const HOUR_US: i64 = 3_600_000_000;
        match self {
            Self::Seconds(seconds) => seconds * 1_000_000,
            Self::In1970 => HOUR_US - i64::try_from(now_us).expect("of this century"),
        }
    }
}

/// What happens in a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The clocks go wrong: while their nodes run, or while they are down.
    Fault,
    /// The nodes that crash are killed.
    Crash,
    /// They are started again.
    Restart,
    /// The clocks are put right, while their nodes run or while they are down.
    Repair,
}

/// Every order in which a clock fails and may be repaired around a crash.
pub const ORDERS: [&[Event]; 9] = {
    use Event::{Crash, Fault, Repair, Restart};
    [
        &[Fault, Crash, Restart],
        &[Crash, Fault, Restart],
        &[Crash, Restart, Fault],
        &[Fault, Repair, Crash, Restart],
        &[Fault, Crash, Repair, Restart],
        &[Fault, Crash, Restart, Repair],
        &[Crash, Fault, Repair, Restart],
        &[Crash, Fault, Restart, Repair],
        &[Crash, Restart, Fault, Repair],
    ]
};

/// Whose clock is wrong and who crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Roles {
    /// The leader is among those whose clocks go wrong.
    pub wrong_leader: bool,
    /// Who crashes.
    pub crash: Crash,
}

/// Who crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crash {
    /// Those with a wrong clock.
    Wrong,
    /// One node with a sound clock, the leader if it is one of them.
    Sound,
    /// One follower with a sound clock.
    Follower,
    /// All nodes with a sound clock; one of them comes back first.
    AllSound,
}

/// All pairs that differ.
pub const ROLES: [Roles; 7] = [
    Roles::new(true, Crash::Wrong),
    Roles::new(true, Crash::Sound),
    Roles::new(true, Crash::AllSound),
    Roles::new(false, Crash::Wrong),
    Roles::new(false, Crash::Sound),
    Roles::new(false, Crash::Follower),
    Roles::new(false, Crash::AllSound),
];

impl Roles {
    const fn new(wrong_leader: bool, crash: Crash) -> Self {
        Self {
            wrong_leader,
            crash,
        }
    }
}

/// One case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockCase {
    /// Its number among all.
    pub number: usize,
    /// Whose clocks are wrong.
    pub group: Group,
    /// By how much.
    pub offset: Offset,
    /// What happens.
    pub order: &'static [Event],
    /// To whom.
    pub roles: Roles,
}

impl ClockCase {
    /// How many cases there are.
    pub const COUNT: usize = Group::ALL.len() * Offset::ALL.len() * ORDERS.len() * ROLES.len();

    /// The case of a number.
    #[must_use]
    pub fn of(number: usize) -> Option<Self> {
        let (rest, roles) = (number / ROLES.len(), number % ROLES.len());
        let (rest, order) = (rest / ORDERS.len(), rest % ORDERS.len());
        let (group, offset) = (rest / Offset::ALL.len(), rest % Offset::ALL.len());
        Some(Self {
            number,
            group: *Group::ALL.get(group)?,
            offset: *Offset::ALL.get(offset)?,
            order: ORDERS.get(order)?,
            roles: *ROLES.get(roles)?,
        })
    }

    /// The cases in which every group meets every offset in every order, every group meets every order with all roles, and every
    /// offset meets all roles: one of seven.
    #[must_use]
    pub fn covering() -> Vec<Self> {
        let all = (0..Self::COUNT).filter_map(Self::of);
        all.filter(|case| {
            let number = case.number;
            let (pair, roles) = (number / ROLES.len(), number % ROLES.len());
            let (rest, order) = (pair / ORDERS.len(), pair % ORDERS.len());
            let (group, offset) = (rest / Offset::ALL.len(), rest % Offset::ALL.len());
            (group + offset + order) % ROLES.len() == roles
        })
        .collect()
    }
}

impl fmt::Display for ClockCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            group,
            offset,
            order,
            roles,
        } = self;
        write!(f, "case {number:4} {group:?} {offset:?} {order:?}, ")?;
        let leads = if roles.wrong_leader {
            "leader"
        } else {
            "follower"
        };
        write!(f, "wrong {leads}, crash of {:?}", roles.crash)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_covering_cases_cover_what_they_say() {
        let cases = ClockCase::covering();
        assert_eq!(cases.len() * ROLES.len(), ClockCase::COUNT);
        let count = |key: &dyn Fn(&ClockCase) -> String| {
            let keys: BTreeSet<String> = cases.iter().map(key).collect();
            keys.len()
        };
        let orders = ORDERS.len();
        assert_eq!(
            count(&|case| format!("{:?} {:?} {:?}", case.group, case.offset, case.order)),
            6 * 7 * orders
        );
        assert_eq!(
            count(&|case| format!("{:?} {:?} {:?}", case.group, case.roles, case.order)),
            6 * 7 * orders
        );
        assert_eq!(
            count(&|case| format!("{:?} {:?} {:?}", case.group, case.roles, case.offset)),
            6 * 7 * 7
        );
    }

    #[test]
    fn each_number_is_a_case_of_its_own() {
        let all: BTreeSet<String> = (0..ClockCase::COUNT)
            .filter_map(ClockCase::of)
            .map(|case| case.to_string())
            .collect();
        assert_eq!(all.len(), ClockCase::COUNT);
        assert_eq!(ClockCase::of(ClockCase::COUNT), None);
    }
}
