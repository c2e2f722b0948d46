//! The arrivals of jobs in an event log, from which a trace can be made.
//!
//! An event log has no arrivals, but what follows from them: hints (uploads that wait), depths of the queue, and finished
//! jobs. At any time, as many jobs have arrived as have been finished and are still outstanding. A hint comes with each
//! upload that this process waits for, so its arrivals are exact; others appear with the next reading of the depth, or
//! with their result.

use std::{collections::VecDeque, time::Duration};

use super::{
    event::Event,
    event_log::{Entry, EventLogError},
};

/// How old the counts of a queue may be: a job that has been finished since may still be counted.
const COUNT_LAG: Duration = Duration::from_secs(5);

/// The arrivals of an event log. Times count from its first entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// The time of the last entry.
    pub length: Duration,
    /// When each job arrived, in order, and how long it took on a thread, if as many have been finished.
    pub jobs: Vec<(Duration, Option<Duration>)>,
}

#[derive(Default)]
struct Reader {
    arrived: Vec<Duration>,
    services: Vec<Duration>,
    finished: usize,
    /// Finished jobs of the last [`COUNT_LAG`], by time.
    recently: VecDeque<(Duration, usize)>,
}

impl Reader {
    /// Takes it that this many jobs have arrived in total, the missing ones at `at`.
    fn at_least(&mut self, total: usize, at: Duration) {
        let at = self.arrived.last().map_or(at, |last| at.max(*last));
        self.arrived.resize(self.arrived.len().max(total), at);
    }

    fn read(&mut self, at: Duration, event: &Event) {
        while self.recently.front().is_some_and(|(then, _)| *then + COUNT_LAG < at) {
            self.recently.pop_front();
        }
        match event {
            Event::Hint { waiting } => self.at_least(self.finished + *waiting as usize, at),
            Event::Depth(Ok(depth)) => {
                let recently: usize = self.recently.iter().map(|(_, jobs)| jobs).sum();
                self.at_least(self.finished - recently + depth.total() as usize, at);
            }
            Event::Served { jobs, busy, .. } if *jobs > 0 => {
                let each = *busy / u32::try_from(*jobs).unwrap_or(u32::MAX);
                self.finished += *jobs as usize;
                self.recently.push_back((at, *jobs as usize));
                self.services.extend(std::iter::repeat_n(each, *jobs as usize));
                self.at_least(self.finished, at.saturating_sub(each));
            }
            _ => {}
        }
    }
}

/// Returns the arrivals of an event log. The last line of a controller epoch may have been cut off by a crash; it is
/// skipped in that case.
///
/// # Errors
///
/// Fails if any other line is not an entry, or if the first entry does not begin an epoch.
pub fn arrivals<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Arrivals, EventLogError> {
    let parsed = lines.into_iter().map(serde_json::from_str::<Entry>).enumerate();
    let mut parsed = parsed.peekable();
    let (mut reader, mut began, mut epoch, mut length) = (Reader::default(), None, None, Duration::ZERO);
    while let Some((n, entry)) = parsed.next() {
        let entry = match (entry, parsed.peek()) {
            (Ok(entry), _) => entry,
            (Err(_), None | Some((_, Ok(Entry::Epoch { .. })))) => continue,
            (Err(problem), Some(_)) => {
                return Err(EventLogError::Line { number: n + 1, problem: problem.to_string() });
            }
        };
        let at = match &entry {
            Entry::Epoch { rules, .. } => {
                epoch = Some(rules.started_at);
                continue;
            }
            Entry::Event { at, .. } | Entry::Same { at, .. } => {
                epoch.ok_or(EventLogError::NoEpoch(n + 1))? + at.since_start()
            }
        };
        // A clock that was set back between two epochs must not reorder what has been read.
        length = length.max(at.saturating_sub(*began.get_or_insert(at)));
        if let Entry::Event { event, .. } = &entry {
            reader.read(length, event);
        }
    }
    let mut services = reader.services.into_iter();
    let jobs = reader.arrived.into_iter().map(|at| (at, services.next())).collect();
    Ok(Arrivals { length, jobs })
}
