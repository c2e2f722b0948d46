//! Checks that the results of completed uploads are stored: asks the server for each job's result, and looks into the
//! object store itself if it is on this machine.

use std::{fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::client::Client;
use crate::{
    cloud::{CloudError, ObjectStore},
    job::JobId,
    results::Status,
    results::keys,
    settings,
};

/// Time until all results must be stored. Responses are sent before results are stored.
const RESULT_TIMEOUT: Duration = Duration::from_secs(15);
/// Interval between requests for a result that is pending.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Jobs that are checked concurrently.
const CONCURRENCY: usize = 16;
/// Problems that are listed one by one.
const MAX_LISTED: usize = 20;

/// A completed upload whose job's id the server has returned.
#[derive(Clone, Debug)]
pub(super) struct Completed {
    pub(super) id: JobId,
    pub(super) path: PathBuf,
    pub(super) label: String,
}

/// The part of a stored result that is checked.
#[derive(Deserialize)]
struct Stored {
    file: String,
    status: Status,
    label: Option<String>,
}

/// Direct access to the object store.
pub(super) struct StoreProbe {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) buckets: settings::Store,
}

/// How much of the completed uploads is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct StoreCheck {
    /// Jobs that were checked.
    pub(super) jobs: usize,
    /// Jobs whose result the server returns with the label of the response.
    pub(super) results: usize,
    /// Inputs with the bytes that were uploaded. Absent without direct access to the object store.
    pub(super) inputs: Option<usize>,
    /// Outputs with the label of the response. Absent like `inputs`.
    pub(super) outputs: Option<usize>,
    /// The first problems.
    pub(super) problems: Vec<String>,
}

impl StoreCheck {
    /// Returns whether everything is stored.
    pub(super) fn is_complete(&self) -> bool {
        [Some(self.results), self.inputs, self.outputs].into_iter().flatten().all(|found| found == self.jobs)
    }

    /// Formats the check as lines of the report.
    pub(super) fn text(&self) -> String {
        let jobs = self.jobs;
        let mut out = format!("store      {} of {jobs} results by id", self.results);
        // Writing to a String cannot fail.
        let _ = match (self.inputs, self.outputs) {
            (Some(inputs), Some(outputs)) => writeln!(out, ", {inputs} inputs, {outputs} outputs"),
            _ => writeln!(out, "; inputs and outputs not checked (--data-dir)"),
        };
        for problem in &self.problems {
            let _ = writeln!(out, "           {problem}");
        }
        out
    }
}

/// Checks the job of every completed upload. The objects are read once the result is stored, because it is stored last.
pub(super) async fn check(client: &Client, store_probe: Option<&StoreProbe>, completed: Vec<Completed>) -> StoreCheck {
    let until = Instant::now() + RESULT_TIMEOUT;
    let initial = store_probe.map(|_| 0);
    let mut check = StoreCheck { jobs: completed.len(), inputs: initial, outputs: initial, ..StoreCheck::default() };
    let mut found = stream::iter(completed)
        .map(|job| async move {
            match result(client, &job, until).await {
                Ok(stored) => {
                    let objects = match store_probe {
                        Some(store_probe) => Some(objects(store_probe, &job, &stored.file).await),
                        None => None,
                    };
                    (job.id, Ok(()), objects)
                }
                Err(problem) => (job.id, Err(problem), None),
            }
        })
        .buffer_unordered(CONCURRENCY);
    while let Some((id, result, objects)) = found.next().await {
        let mut count = |found: Result<(), String>| match found {
            Ok(()) => 1,
            Err(problem) => {
                if check.problems.len() < MAX_LISTED {
                    check.problems.push(format!("{id}: {problem}"));
                }
                0
            }
        };
        check.results += count(result);
        if let Some((input, output)) = objects {
            let (input, output) = (count(input), count(output));
            check.inputs = check.inputs.map(|n| n + input);
            check.outputs = check.outputs.map(|n| n + output);
        }
    }
    drop(found);
    check
}

/// Returns the result of a job once it is finished, at most until `until`.
async fn result(client: &Client, job: &Completed, until: Instant) -> Result<Stored, String> {
    let url = client.at(&format!("/v1/recognitions/{}", job.id));
    loop {
        let problem = match client.http.get(url.clone()).timeout(RESULT_TIMEOUT).send().await {
            Err(e) => format!("the result could not be requested: {e}"),
            Ok(r) if !r.status().is_success() => format!("no result: {}", r.status()),
            Ok(r) => match r.json::<Stored>().await {
                Err(e) => format!("unreadable result: {e}"),
                Ok(Stored { status: Status::Pending, .. }) => "still pending".to_owned(),
                Ok(stored) => return same_label(stored, &job.label),
            },
        };
        if Instant::now() >= until {
            return Err(problem);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Returns the result if it has the label of the response.
fn same_label(stored: Stored, received: &str) -> Result<Stored, String> {
    match &stored.label {
        Some(label) if label == received => Ok(stored),
        Some(label) => Err(format!("the response was {received}, but {label} is stored")),
        None => Err(format!("the response was {received}, but a failure is stored")),
    }
}

/// Checks a job's input and output.
async fn objects(store_probe: &StoreProbe, job: &Completed, file: &str) -> (Result<(), String>, Result<(), String>) {
    let StoreProbe { objects, buckets } = store_probe;
    let sent = tokio::fs::read(&job.path).await;
    let input_key = keys::input_key(buckets, job.id, file);
    let input = match (objects.get(&buckets.input, &input_key).await, sent) {
        (Ok(object), Ok(sent)) if object.bytes == sent => Ok(()),
        (Ok(_), Ok(_)) => Err(format!("{}/{input_key} is not the photo that was uploaded", buckets.input)),
        (Ok(_), Err(e)) => Err(format!("{} can no longer be read: {e}", job.path.display())),
        (Err(e), _) => Err(missing(&buckets.input, &input_key, &e)),
    };
    let output_key = keys::output_key(buckets, job.id, file);
    let output = match objects.get(&buckets.output, &output_key).await {
        Ok(object) if object.bytes == job.label.as_bytes() => Ok(()),
        Ok(_) => Err(format!("{}/{output_key} is not the label in the response", buckets.output)),
        Err(e) => Err(missing(&buckets.output, &output_key, &e)),
    };
    (input, output)
}

fn missing(bucket: &str, key: &str, error: &CloudError) -> String {
    match error {
        CloudError::NotFound(_) => format!("{bucket}/{key} is missing"),
        other => format!("{bucket}/{key}: {other}"),
    }
}
