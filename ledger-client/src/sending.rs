//! The first sending of a request, which bounds the age of every answer to it.
//!
//! A decision cannot be older than the request that asked for it. Whatever an answer says of itself, whoever passes it on and
//! however often: counted from the first sending on, on this machine's own clocks, its permit has ended no later than a permit
//! made at that moment would have.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ledger_proto::v1;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::signing::now_us;

/// How coarse `/proc/uptime` is.
const UPTIME_STEP: Duration = Duration::from_millis(10);

/// The clocks of this machine at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ClockReading {
    /// Microseconds since 1970; can be set to anything.
    wall_us: u64,
    /// The clock that nobody sets, where the system shows it to every process.
    boot: Option<BootClock>,
}

/// A clock that begins with the machine, runs on while it sleeps, and is the same for all processes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BootClock {
    /// Which start of the machine it counts from.
    boot_id: String,
    /// Microseconds since then.
    uptime_us: u64,
}

impl ClockReading {
    fn now() -> Self {
        Self {
            wall_us: now_us(),
            boot: BootClock::now(),
        }
    }

    /// How long ago a reading was taken, as far as the clocks can tell; none if they contradict it.
    fn since(&self, earlier: &Self) -> Option<Duration> {
        let by_boot = match (&self.boot, &earlier.boot) {
            (Some(now), Some(then)) if now.boot_id == then.boot_id => {
                let passed = now.uptime_us.checked_sub(then.uptime_us)?;
                Some(Duration::from_micros(passed).saturating_add(UPTIME_STEP))
            }
            _ => None,
        };
        let by_wall = self.wall_us.checked_sub(earlier.wall_us);
        // Where the boot clock tells, a wall clock that was set back takes nothing away from it.
        by_boot.max(by_wall.map(Duration::from_micros))
    }
}

impl BootClock {
    fn now() -> Option<Self> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        Some(Self {
            boot_id: boot_id.trim().to_owned(),
            uptime_us: parse_uptime(&uptime)?,
        })
    }
}

/// Microseconds of `123.45 …`, seconds with two digits behind the point.
fn parse_uptime(text: &str) -> Option<u64> {
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let hundredths: u64 = hundredths.parse().ok().filter(|part| *part < 100)?;
    seconds
        .checked_mul(1_000_000)?
        .checked_add(hundredths.checked_mul(10_000)?)
}

/// The moment of a request's first sending. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct FirstSending(Arc<OnceLock<Sent>>);

#[derive(Debug)]
struct Sent {
    reading: ClockReading,
    /// The clock of this process when the reading was taken or read back.
    instant: Instant,
    /// How old the reading was then; none if the clocks contradict it.
    before: Option<Duration>,
}

impl FirstSending {
    /// Notes that the request is about to be sent; only the first time counts.
    pub(crate) fn note(&self) {
        self.sent();
    }

    fn sent(&self) -> &Sent {
        self.0.get_or_init(|| Sent {
            reading: ClockReading::now(),
            instant: Instant::now(),
            before: Some(Duration::ZERO),
        })
    }

    /// A sending by an earlier process.
    fn restored(reading: ClockReading, now: &ClockReading) -> Self {
        let sent = Sent {
            before: now.since(&reading),
            reading,
            instant: Instant::now(),
        };
        Self(Arc::new(OnceLock::from(sent)))
    }

    /// How long the request has been on its way at least, counted from when it was made and from its first sending; none if the
    /// clocks contradict each other, or nothing was sent.
    pub(crate) fn age(&self, issued_at_us: u64) -> Option<Duration> {
        let sent = self.0.get()?;
        let by_sending = sent.before?.saturating_add(sent.instant.elapsed());
        let by_issue = Duration::from_micros(now_us().saturating_sub(issued_at_us));
        Some(by_sending.max(by_issue))
    }
}

/// The moment of a first sending as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptSending {
    first_sent_at_us: u64,
    boot_id: String,
    first_sent_uptime_us: u64,
}

impl KeptSending {
    fn of(reading: &ClockReading) -> Self {
        let boot = reading.boot.as_ref();
        Self {
            first_sent_at_us: reading.wall_us,
            boot_id: boot.map(|boot| boot.boot_id.clone()).unwrap_or_default(),
            first_sent_uptime_us: boot.map_or(0, |boot| boot.uptime_us),
        }
    }

    fn restore(self) -> FirstSending {
        let reading = ClockReading {
            wall_us: self.first_sent_at_us,
            boot: (!self.boot_id.is_empty()).then_some(BootClock {
                boot_id: self.boot_id,
                uptime_us: self.first_sent_uptime_us,
            }),
        };
        FirstSending::restored(reading, &ClockReading::now())
    }
}

impl FirstSending {
    /// For a file.
    pub(crate) fn to_kept(&self) -> KeptSending {
        KeptSending::of(&self.sent().reading)
    }

    /// From a file.
    pub(crate) fn from_kept(kept: KeptSending) -> Self {
        kept.restore()
    }
}

/// A signed request as it is kept on disk, with the moment of its first sending.
#[derive(Clone, PartialEq, Message)]
struct KeptRequest {
    #[prost(message, optional, tag = "1")]
    submission: Option<v1::Submission>,
    #[prost(uint64, tag = "2")]
    first_sent_at_us: u64,
    #[prost(string, tag = "3")]
    boot_id: String,
    #[prost(uint64, tag = "4")]
    first_sent_uptime_us: u64,
}

/// The bytes of a request that is about to be sent for the first time, or was sent before.
pub(crate) fn to_kept(submission: &v1::Submission, sending: &FirstSending) -> Vec<u8> {
    let sent = sending.to_kept();
    let kept = KeptRequest {
        submission: Some(submission.clone()),
        first_sent_at_us: sent.first_sent_at_us,
        boot_id: sent.boot_id,
        first_sent_uptime_us: sent.first_sent_uptime_us,
    };
    kept.encode_to_vec()
}

/// The request behind kept bytes.
pub(crate) fn from_kept(bytes: &[u8]) -> Result<(v1::Submission, FirstSending), Error> {
    let damaged = || Error::Configuration("the kept request is damaged".to_owned());
    let kept = KeptRequest::decode(bytes).map_err(|_| damaged())?;
    let sending = FirstSending::from_kept(KeptSending {
        first_sent_at_us: kept.first_sent_at_us,
        boot_id: kept.boot_id,
        first_sent_uptime_us: kept.first_sent_uptime_us,
    });
    Ok((kept.submission.ok_or_else(damaged)?, sending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(wall_us: u64, boot: Option<(&str, u64)>) -> ClockReading {
        ClockReading {
            wall_us,
            boot: boot.map(|(boot_id, uptime_us)| BootClock {
                boot_id: boot_id.to_owned(),
                uptime_us,
            }),
        }
    }

    #[test]
    fn a_clock_set_back_makes_no_request_younger() {
        let first = reading(100_000_000, Some(("a", 5_000_000)));
        let minute = Duration::from_secs(60);
        // Set back by half a minute: the boot clock goes on.
        let later = reading(70_000_000, Some(("a", 65_000_000)));
        assert!(later.since(&first).is_some_and(|age| age >= minute));
        // Set ahead: the larger of the two counts.
        let ahead = reading(900_000_000, Some(("a", 5_000_000)));
        let by_wall = Duration::from_secs(800);
        assert_eq!(ahead.since(&first), Some(by_wall));
        // After a restart of the machine there is only the wall clock, and before the first sending it tells nothing.
        let restarted = reading(70_000_000, Some(("b", 1)));
        assert_eq!(restarted.since(&first), None);
        assert_eq!(reading(99_999_999, None).since(&first), None);
        let restarted = reading(160_000_000, Some(("b", 1)));
        assert_eq!(restarted.since(&first), Some(minute));
        // A boot clock that goes back contradicts itself.
        let impossible = reading(160_000_000, Some(("a", 4_999_999)));
        assert_eq!(impossible.since(&first), None);
    }

    #[test]
    fn a_kept_request_stays_as_old_as_it_is() {
        let sending = FirstSending::default();
        assert_eq!(sending.age(0), None, "nothing was sent");
        let submission = v1::Submission::default();
        let kept = to_kept(&submission, &sending);
        let (_, restored) = from_kept(&kept).unwrap();
        let issued = now_us();
        let hour = Duration::from_secs(3_600);
        assert!(restored.age(issued).is_some_and(|age| age < hour));
        // By when it was made it is older.
        let earlier = issued - 7_200_000_000;
        assert!(restored.age(earlier).is_some_and(|age| age > hour));
        // Sent two hours ago, by both clocks or by the only one.
        let mut old = KeptRequest::decode(kept.as_slice()).unwrap();
        old.first_sent_at_us -= 7_200_000_000;
        old.boot_id.clear();
        let (_, restored) = from_kept(&old.encode_to_vec()).unwrap();
        assert!(restored.age(issued).is_some_and(|age| age > hour));
        // Sent in the future: nobody can say how old it is.
        old.first_sent_at_us += 14_400_000_000;
        let (_, restored) = from_kept(&old.encode_to_vec()).unwrap();
        assert_eq!(restored.age(issued), None);
        assert!(from_kept(b"\xff").is_err());
    }

    #[test]
    fn uptime_is_read_to_the_hundredth() {
        assert_eq!(parse_uptime("12.34 99.00\n"), Some(12_340_000));
        for bad in ["", "12", "x.10", "1.100", "1.x"] {
            assert_eq!(parse_uptime(bad), None, "{bad}");
        }
    }
}
