//! Samples the fleet while the load runs, and formats its changes as a table.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::client::Client;
use crate::{
    cloud::Depth,
    fleet::{Counts, LearnedTimes},
    simulator,
};

/// Interval between reads of `/v1/fleet`.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);
/// Maximum number of rows of the table. If there are more changes, evenly spaced ones are shown.
const MAX_ROWS: usize = 24;
/// Longest sparkline, in characters.
const SPARK_WIDTH: usize = 60;

/// The fleet at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Sample {
    /// Milliseconds since the load began.
    pub(super) at_ms: u64,
    /// Instances by state.
    pub(super) counts: Counts,
    /// Depth of the request queue.
    pub(super) depth: Depth,
}

impl From<&Sample> for simulator::Sample {
    fn from(sample: &Sample) -> Self {
        let Counts { pending, running, stopping, stopped, .. } = sample.counts;
        let (waiting, in_flight) = (sample.depth.visible + sample.depth.delayed, sample.depth.in_flight);
        Self { at: Duration::from_millis(sample.at_ms), waiting, in_flight, pending, running, stopping, stopped }
    }
}

/// The part of `/v1/fleet` that is read.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct FleetResponse {
    pub(super) counts: Counts,
    pub(super) depth: Depth,
    pub(super) max_instances: usize,
    pub(super) policy: String,
    pub(super) learned: LearnedTimes,
}

/// Samples the fleet until it is stopped.
pub(super) struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Sampler {
    /// Starts sampling. The first sample is taken before this returns, so that it shows the fleet before the load.
    pub(super) async fn start(client: Client, started: Instant) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let sample = {
            let samples = samples.clone();
            move || {
                let (client, samples) = (client.clone(), samples.clone());
                async move {
                    if let Some(sample) = read(&client, started).await {
                        // A panic cannot leave the list half changed, so a poisoned lock is usable.
                        samples.lock().unwrap_or_else(|e| e.into_inner()).push(sample);
                    }
                }
            }
        };
        sample().await;
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks.tick().await; // the first tick is immediate, and its sample has been taken
            loop {
                ticks.tick().await;
                sample().await;
            }
        });
        Self { samples, task }
    }

    /// Stops and returns all samples; none if the server has no fleet.
    pub(super) fn stop(self) -> Vec<Sample> {
        self.task.abort();
        std::mem::take(&mut *self.samples.lock().unwrap_or_else(|e| e.into_inner())) // as above
    }
}

#[expect(clippy::disallowed_methods, reason = "measures when a sample is taken")]
async fn read(client: &Client, started: Instant) -> Option<Sample> {
    let fleet = now(client).await?;
    Some(Sample { at_ms: started.elapsed().as_millis() as u64, counts: fleet.counts, depth: fleet.depth })
}

/// Returns the fleet as it is; `None` if the server has none.
pub(super) async fn now(client: &Client) -> Option<FleetResponse> {
    let response = client.http.get(client.at("/v1/fleet")).timeout(10 * SAMPLE_INTERVAL).send().await.ok()?;
    response.error_for_status().ok()?.json().await.ok()
}

/// Returns the first sample and those at which the counts changed.
pub(super) fn changes(samples: &[Sample]) -> Vec<Sample> {
    let mut changes: Vec<Sample> = Vec::new();
    for sample in samples {
        if changes.last().is_none_or(|last| last.counts != sample.counts) {
            changes.push(*sample);
        }
    }
    changes
}

/// Formats a table of the changes and a sparkline of the running instances. Empty if there are no samples.
pub(super) fn table(samples: &[Sample]) -> String {
    let changes = changes(samples);
    let Some(last) = samples.last() else { return String::new() };
    let mut out = String::from("      at  pending  running  stopping  stopped  queue\n");
    let rows = changes.len().min(MAX_ROWS);
    for row in 0..rows {
        // Evenly spaced, including the first and the last.
        let s = changes[row * (changes.len() - 1) / (rows - 1).max(1)];
        let c = s.counts;
        let at = s.at_ms as f64 / 1e3;
        let depth = s.depth.total();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{at:>6.1} s {:>8} {:>8} {:>9} {:>8} {depth:>6}",
            c.pending, c.running, c.stopping, c.stopped
        );
    }
    if changes.len() > rows {
        let _ = writeln!(out, "({rows} of {} changes; --json prints all)", changes.len());
    }
    let _ = writeln!(out, "running  {}  0 to {:.1} s", sparkline(samples), last.at_ms as f64 / 1e3);
    out
}

/// Formats running instances over time in at most [`SPARK_WIDTH`] characters. The maximum has full height.
fn sparkline(samples: &[Sample]) -> String {
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = samples.iter().map(|s| s.counts.running).max().unwrap_or(0).max(1);
    let width = samples.len().min(SPARK_WIDTH);
    (0..width)
        .map(|column| {
            let span = &samples[column * samples.len() / width..(column + 1) * samples.len() / width];
            let running = span.iter().map(|s| s.counts.running).max().unwrap_or(0);
            LEVELS[(running * 8).div_ceil(most)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64, running: usize) -> Sample {
        Sample { at_ms, counts: Counts { running, ..Counts::default() }, depth: Depth::default() }
    }

    #[test]
    fn the_table_has_one_row_per_change_and_a_sparkline_of_running_instances() {
        let samples: Vec<_> = [0, 0, 1, 2, 2, 0].iter().enumerate().map(|(i, r)| sample(i as u64 * 200, *r)).collect();
        assert_eq!(changes(&samples).iter().map(|s| s.at_ms).collect::<Vec<_>>(), [0, 400, 600, 1000]);
        let table = table(&samples);
        assert_eq!(table.lines().count(), 1 + 4 + 1, "{table}");
        assert!(table.contains("  ▄██ "), "{table}");
    }

    #[test]
    fn many_changes_are_thinned_out_keeping_the_first_and_the_last() {
        let samples: Vec<_> = (0..1000).map(|i| sample(i * 200, (i % 7) as usize)).collect();
        let table = table(&samples);
        assert!(table.contains("24 of 1000 changes"), "{table}");
        let rows: Vec<&str> = table.lines().skip(1).take(24).collect();
        assert!(rows[0].starts_with("   0.0 s") && rows[23].starts_with(" 199.8 s"), "{table}");
        assert!(table.lines().all(|l| l.chars().count() < 100), "{table}");
    }

    #[test]
    fn without_samples_there_is_no_table() {
        assert_eq!(table(&[]), "");
    }
}
