//! Whether a node may accept more: how many jobs and bytes there are, how many are allowed, and what is short. Pure,
//! except for [`Headroom`], which passes the latest reading on.

use bytesize::ByteSize;
use tokio::sync::watch;

/// How much there may be. Zero means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Jobs in the request queue: `queue.max_jobs`.
    pub max_jobs: u64,
    /// Bytes of the data folder: `local.max_bytes`.
    pub max_bytes: u64,
    /// Bytes that must be free on the disk of the data folder: `local.min_free`.
    pub min_free: u64,
}

/// How much there is. What could not be read yet limits nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Jobs in the request queue, in any state.
    pub jobs: Option<u64>,
    /// Bytes of the data folder.
    pub bytes: Option<u64>,
    /// Free bytes of the disk of the data folder.
    pub free: Option<u64>,
}

/// Why nothing is accepted. It has the limit and not the usage, so that it is equal from one reading to the next, and
/// because clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// Too many jobs.
    #[error("the queue is full: it has as many jobs as queue.max_jobs allows ({max})")]
    Jobs {
        /// How many are allowed.
        max: u64,
    },
    /// The data folder is too large.
    #[error("the store is full: the data folder is as large as local.max_bytes allows ({})", ByteSize(*max).display().iec())]
    Bytes {
        /// How many bytes are allowed.
        max: u64,
    },
    /// The disk is nearly full.
    #[error("the disk is nearly full: less than local.min_free ({}) is free", ByteSize(*min).display().iec())]
    Free {
        /// How many bytes must be free.
        min: u64,
    },
}

impl Limits {
    /// Returns what is short; of several, what deletes nothing by itself and thus lasts longest.
    pub fn shortage(&self, usage: Usage) -> Option<Shortage> {
        let reaches = |usage: Option<u64>, max: u64| max > 0 && usage.is_some_and(|usage| usage >= max);
        if usage.free.is_some_and(|free| free < self.min_free) {
            Some(Shortage::Free { min: self.min_free })
        } else if reaches(usage.bytes, self.max_bytes) {
            Some(Shortage::Bytes { max: self.max_bytes })
        } else if reaches(usage.jobs, self.max_jobs) {
            Some(Shortage::Jobs { max: self.max_jobs })
        } else {
            None
        }
    }
}

/// Bytes on the disk, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// The queues.
    pub queue: u64,
    /// Objects: images, results, and what else is in the buckets.
    pub objects: u64,
    /// Files that speed up searches, and can be built again.
    pub indexes: u64,
    /// The audit log and the event log of the fleet.
    pub logs: u64,
    /// Everything else, such as locks.
    pub other: u64,
}

impl DiskUsage {
    /// Returns the bytes of each kind with its name.
    pub fn kinds(&self) -> [(&'static str, u64); 5] {
        let Self { queue, objects, indexes, logs, other } = *self;
        [("queue", queue), ("objects", objects), ("indexes", indexes), ("logs", logs), ("other", other)]
    }

    /// Returns the bytes of all kinds.
    pub fn total(&self) -> u64 {
        self.kinds().into_iter().map(|(_, bytes)| bytes).sum()
    }
}

/// What was read last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Why nothing is accepted now.
    pub shortage: Option<Shortage>,
    /// The sizes of what is in the data folder, once they are known.
    pub disk: Option<DiskUsage>,
    /// Free bytes of the disk of the data folder.
    pub free: Option<u64>,
}

/// The latest reading. Cheap to clone, and to ask.
#[derive(Clone, Debug)]
pub struct Headroom(watch::Receiver<Reading>);

impl Headroom {
    /// Creates one that follows these readings.
    pub fn new(readings: watch::Receiver<Reading>) -> Self {
        Self(readings)
    }

    /// Creates one that never reports a shortage.
    pub fn unlimited() -> Self {
        Self::of(Reading::default())
    }

    /// Creates one whose reading never changes.
    pub fn of(reading: Reading) -> Self {
        Self(watch::channel(reading).1)
    }

    /// Returns the latest reading.
    pub fn reading(&self) -> Reading {
        *self.0.borrow()
    }

    /// Checks that more may be accepted.
    ///
    /// # Errors
    /// What is short.
    pub fn check(&self) -> Result<(), Shortage> {
        self.reading().shortage.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_limit_is_reached_exactly_at_its_value_and_the_message_names_the_setting() {
        let limits = Limits { max_jobs: 5, max_bytes: 3 << 20, min_free: 2 << 20 };
        let usage = |jobs, bytes, free| Usage { jobs: Some(jobs), bytes: Some(bytes), free: Some(free) };
        assert_eq!(limits.shortage(usage(4, (3 << 20) - 1, 2 << 20)), None);
        for (usage, setting) in [
            (usage(5, 0, u64::MAX), "queue.max_jobs allows (5)"),
            (usage(0, 3 << 20, u64::MAX), "local.max_bytes allows (3.0 MiB)"),
            (usage(0, 0, (2 << 20) - 1), "local.min_free (2.0 MiB)"),
        ] {
            let text = limits.shortage(usage).expect("a shortage").to_string();
            assert!(text.contains(setting), "{text}");
        }
    }

    fn some(range: std::ops::Range<u64>) -> impl Strategy<Value = Option<u64>> {
        proptest::option::of(range)
    }

    proptest! {
        #[test]
        fn a_shortage_names_a_limit_that_is_exceeded_and_there_is_one_if_any_is(
            (max_jobs, max_bytes, min_free) in (0..8u64, 0..8u64, 0..8u64),
            (jobs, bytes, free) in (some(0..8), some(0..8), some(0..8)),
        ) {
            let limits = Limits { max_jobs, max_bytes, min_free };
            let many = max_jobs > 0 && jobs >= Some(max_jobs);
            let large = max_bytes > 0 && bytes >= Some(max_bytes);
            let full = min_free > 0 && free.is_some() && free < Some(min_free);
            match limits.shortage(Usage { jobs, bytes, free }) {
                None => prop_assert!(!many && !large && !full),
                Some(Shortage::Jobs { max }) => prop_assert!(many && max == max_jobs),
                Some(Shortage::Bytes { max }) => prop_assert!(large && max == max_bytes),
                Some(Shortage::Free { min }) => prop_assert!(full && min == min_free),
            }
        }
    }
}
