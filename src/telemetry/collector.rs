//! Collects what a worker measures until it is reported.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SetRecorderError,
    SharedString, Unit,
};

use super::report::{Sample, Value};

/// Values of one histogram that are kept until they are reported, which is what a worker measures in minutes. Further ones
/// are dropped.
const MAX_VALUES: usize = 10_000;

/// What a worker has measured since its last report. Cheap to clone.
#[derive(Clone, Default)]
pub struct Collector(Arc<Collected>);

#[derive(Default)]
struct Collected {
    counters: Mutex<HashMap<Key, Arc<Count>>>,
    histograms: Mutex<HashMap<Key, Arc<Observed>>>,
}

#[derive(Default)]
struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Observed(Mutex<Vec<f32>>);

impl HistogramFn for Observed {
    fn record(&self, value: f64) {
        let mut values = lock(&self.0);
        if values.len() < MAX_VALUES {
            values.push(value as f32);
        }
    }
}

/// Locks a mutex whose content is valid even if its holder has panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Collector {
    /// Creates a collector, and makes it the recorder of this process.
    ///
    /// # Errors
    /// There is one already.
    pub fn install() -> Result<Self, SetRecorderError<Self>> {
        let collector = Self::default();
        metrics::set_global_recorder(collector.clone())?;
        Ok(collector)
    }

    /// Returns whether it has values of histograms, which only jobs leave: an idle worker has nothing to report.
    pub fn has_values(&self) -> bool {
        lock(&self.0.histograms).values().any(|observed| !lock(&observed.0).is_empty())
    }

    /// Returns what was measured since the last call.
    pub fn take(&self) -> Vec<Sample> {
        let counters = lock(&self.0.counters);
        let counted = counters.iter().filter_map(|(key, count)| match count.0.swap(0, Ordering::Relaxed) {
            0 => None,
            counted => Some(sample(key, Value::Counted(counted))),
        });
        let histograms = lock(&self.0.histograms);
        let observed = histograms.iter().filter_map(|(key, observed)| {
            let values = std::mem::take(&mut *lock(&observed.0));
            (!values.is_empty()).then(|| sample(key, Value::Observed(values)))
        });
        counted.chain(observed).collect()
    }
}

fn sample(key: &Key, value: Value) -> Sample {
    let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
    Sample { name: key.name().to_owned(), labels, value }
}

impl Recorder for Collector {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(lock(&self.0.counters).entry(key.clone()).or_default().clone())
    }

    /// Gauges of workers would need the workers' names, and are not reported.
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(lock(&self.0.histograms).entry(key.clone()).or_default().clone())
    }
}
