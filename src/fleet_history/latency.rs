//! How long answers take, by stage.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Deserialize;

/// The stages of an answer, after its whole time. They add up to it.
///
/// `store`: the upload is written to the store, if it is too large for a message. `queue`: the job waits in the queue,
/// and the reply comes back. `worker`: what a worker needs besides the next three: until a thread is free, and to read a
/// stored payload. Results are stored after the answer, so that is no part of it.
pub const STAGES: [&str; 7] = ["total", "store", "queue", "worker", "decode", "detect", "embed"];

/// The percentiles that are kept of a bucket.
pub(super) const QUANTILES: [f64; 3] = [0.50, 0.90, 0.99];
/// For each stage, its [`QUANTILES`] in milliseconds.
pub(super) type Quantiles = [[f32; 3]; STAGES.len()];

/// The longest time that is distinguished from longer ones, in microseconds: an hour.
const MAX_US: u64 = 3_600_000_000;
/// Precision of the percentiles in decimal digits.
const DIGITS: u8 = 2;

/// How long the stages of one answer took, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency([u64; STAGES.len()]);

/// What a result may say of its own stages, in milliseconds.
#[derive(Default, Deserialize)]
struct Timed {
    #[serde(default)]
    timings: Stages,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stages {
    decode_ms: f32,
    detect_ms: f32,
    embed_ms: f32,
}

impl Latency {
    /// Splits the time between a submission and its reply: `stored` of it was before the job was queued, and `worker_ms`
    /// passed in the worker. `result` is the result as JSON, which may have `timings`; those of other handlers count as
    /// zero.
    ///
    /// Times that do not fit into the one that contains them are cut: they come from other machines.
    pub fn new(total: Duration, stored: Duration, worker_ms: f32, result: &[u8]) -> Self {
        let Stages { decode_ms, detect_ms, embed_ms } =
            serde_json::from_slice::<Timed>(result).unwrap_or_default().timings;
        let total = micros(total).max(1);
        let store = micros(stored).min(total);
        let in_worker = of_ms(worker_ms).min(total - store);
        let mut worker = in_worker;
        let [decode, detect, embed] = [decode_ms, detect_ms, embed_ms].map(|ms| {
            let stage = of_ms(ms).min(worker);
            worker -= stage;
            stage
        });
        Self([total, store, total - store - in_worker, worker, decode, detect, embed])
    }

    #[cfg(test)]
    pub(super) fn stages(&self) -> [u64; STAGES.len()] {
        self.0
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(MAX_US)
}

/// Returns milliseconds as microseconds. What is no time counts as zero.
fn of_ms(ms: f32) -> u64 {
    Duration::try_from_secs_f32(ms / 1e3).map_or(0, micros)
}

/// The distribution of the latencies of a bucket.
pub(super) struct Latencies([Histogram<u32>; STAGES.len()]);

impl Latencies {
    pub fn new() -> Self {
        // The arguments are constants, with which it succeeds.
        let empty = || Histogram::new_with_bounds(1, MAX_US, DIGITS).expect("valid bounds");
        Self(std::array::from_fn(|_| empty()))
    }

    pub fn add(&mut self, latency: &Latency) {
        for (histogram, value) in self.0.iter_mut().zip(latency.0) {
            histogram.saturating_record(value);
        }
    }

    /// Returns the number of latencies.
    pub fn len(&self) -> u32 {
        u32::try_from(self.0[0].len()).unwrap_or(u32::MAX)
    }

    pub fn quantiles(&self) -> Quantiles {
        std::array::from_fn(|stage| QUANTILES.map(|q| self.0[stage].value_at_quantile(q) as f32 / 1e3))
    }
}
