//! What a worker has measured, as sent to a node.

use metrics::{counter, histogram};
use serde::{Deserialize, Serialize};

use super::catalogue::{Kind, Metric};
use crate::wire::Wire;

/// What a worker has measured since its last report. It is sent through the queue of its replies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// One per metric and combination of labels.
    pub samples: Vec<Sample>,
}

/// What was measured of one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// What was measured.
    pub value: Value,
}

/// The measured value of a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// What a counter has increased by.
    Counted(u64),
    /// The values of a histogram.
    Observed(Vec<f32>),
}

impl Wire for WorkerReport {
    /// Far from the versions of replies, which come through the same queue.
    const VERSION: u8 = 129;
}

impl WorkerReport {
    /// Adds what was measured to the metrics of this process. What is not in the catalogue is ignored: a worker of another
    /// version may measure it, and nobody may add labels at will.
    pub fn replay(&self) {
        for Sample { name, labels, value } in &self.samples {
            let Some(metric) = Metric::find(name).filter(|metric| metric.allows(labels)) else {
                tracing::debug!(name, "ignored what a worker has measured: it is not in the catalogue");
                continue;
            };
            match (metric.kind, value) {
                (Kind::Counter, Value::Counted(by)) => counter!(metric.name, labels).increment(*by),
                (Kind::Histogram(_), Value::Observed(values)) => {
                    let histogram = histogram!(metric.name, labels);
                    values.iter().filter(|value| value.is_finite()).for_each(|value| histogram.record(*value));
                }
                (Kind::Counter | Kind::Gauge | Kind::Histogram(_), _) => {
                    tracing::debug!(name, "ignored what a worker has measured: it is of another type");
                }
            }
        }
    }
}
