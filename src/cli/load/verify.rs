//! Whether everything that was answered is kept: asked of the server by each job's id, and looked up in the object
//! store itself where that is within reach.

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

/// Answers go out before results are stored; how long a result may take to appear, for all jobs together.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);
/// Jobs looked up at once.
const AT_ONCE: usize = 16;
/// Problems that are listed one by one.
const LISTED: usize = 20;

/// An upload that was answered.
#[derive(Clone, Debug)]
pub struct Answered {
    pub id: JobId,
    pub path: PathBuf,
    pub label: String,
}

/// What the server says of a job under its id; it says more.
#[derive(Deserialize)]
struct Kept {
    file: String,
    status: Status,
    label: Option<String>,
}

/// The object store, looked into directly.
pub struct StoreProbe {
    pub objects: Arc<dyn ObjectStore>,
    pub buckets: settings::Store,
}

/// What of the answered jobs is in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCheck {
    /// Jobs looked for.
    pub jobs: usize,
    /// Jobs whose result the server gives under their id, with the label that was answered.
    pub results: usize,
    /// Inputs with the bytes that were sent. Absent if the object store is out of reach.
    pub inputs: Option<usize>,
    /// Outputs with the label that was answered. Absent like `inputs`.
    pub outputs: Option<usize>,
    /// The first that are missing or differ, and how.
    pub problems: Vec<String>,
}

impl StoreCheck {
    /// Everything that was looked for was found.
    pub fn is_complete(&self) -> bool {
        [Some(self.results), self.inputs, self.outputs].into_iter().flatten().all(|found| found == self.jobs)
    }

    pub(super) fn text(&self) -> String {
        let jobs = self.jobs;
        let mut out = format!("store      {} of {jobs} results by id", self.results);
        // Writing to a String cannot fail.
        let _ = match (self.inputs, self.outputs) {
            (Some(inputs), Some(outputs)) => writeln!(out, ", {inputs} inputs, {outputs} outputs"),
            _ => writeln!(out, "; inputs and outputs are out of reach (--data-dir)"),
        };
        for problem in &self.problems {
            let _ = writeln!(out, "           {problem}");
        }
        out
    }
}

/// Looks for every answered job. The objects are looked for once the job's record is there: it is written last.
pub async fn check(client: &Client, store_probe: Option<&StoreProbe>, answered: Vec<Answered>) -> StoreCheck {
    let until = Instant::now() + PATIENCE;
    let count = store_probe.map(|_| 0);
    let mut check = StoreCheck { jobs: answered.len(), inputs: count, outputs: count, ..StoreCheck::default() };
    let mut found = stream::iter(answered)
        .map(|job| async move {
            match result(client, &job, until).await {
                Ok(kept) => {
                    let objects = match store_probe {
                        Some(store_probe) => Some(objects(store_probe, &job, &kept.file).await),
                        None => None,
                    };
                    (job.id, Ok(()), objects)
                }
                Err(problem) => (job.id, Err(problem), None),
            }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((id, result, objects)) = found.next().await {
        let mut note = |what: Result<(), String>| match what {
            Ok(()) => 1,
            Err(problem) => {
                if check.problems.len() < LISTED {
                    check.problems.push(format!("{id}: {problem}"));
                }
                0
            }
        };
        check.results += note(result);
        if let Some((input, output)) = objects {
            let (input, output) = (note(input), note(output));
            check.inputs = check.inputs.map(|n| n + input);
            check.outputs = check.outputs.map(|n| n + output);
        }
    }
    drop(found);
    check
}

/// The result of a finished job, waited for until `until`.
async fn result(client: &Client, job: &Answered, until: Instant) -> Result<Kept, String> {
    let url = client.at(&format!("/v1/recognitions/{}", job.id));
    loop {
        let problem = match client.http.get(url.clone()).timeout(PATIENCE).send().await {
            Err(e) => format!("the result could not be asked for: {e}"),
            Ok(r) if !r.status().is_success() => format!("no result: {}", r.status()),
            Ok(r) => match r.json::<Kept>().await {
                Err(e) => format!("unreadable result: {e}"),
                Ok(Kept { status: Status::Pending, .. }) => "still pending".to_owned(),
                Ok(kept) => return same_label(kept, &job.label),
            },
        };
        if Instant::now() >= until {
            return Err(problem);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn same_label(kept: Kept, answered: &str) -> Result<Kept, String> {
    match &kept.label {
        Some(label) if label == answered => Ok(kept),
        Some(label) => Err(format!("{answered} was answered, {label} is kept")),
        None => Err(format!("{answered} was answered, a failure is kept")),
    }
}

/// Whether a job's input and output are there and right.
async fn objects(store_probe: &StoreProbe, job: &Answered, file: &str) -> (Result<(), String>, Result<(), String>) {
    let StoreProbe { objects, buckets } = store_probe;
    let sent = tokio::fs::read(&job.path).await;
    let input_key = keys::input_key(buckets, job.id, file);
    let input = match (objects.get(&buckets.input, &input_key).await, sent) {
        (Ok(object), Ok(sent)) if object.bytes == sent => Ok(()),
        (Ok(_), Ok(_)) => Err(format!("{}/{input_key} is not the photo that was sent", buckets.input)),
        (Ok(_), Err(e)) => Err(format!("{} cannot be read any more: {e}", job.path.display())),
        (Err(e), _) => Err(missing(&buckets.input, &input_key, &e)),
    };
    let output_key = keys::output_key(buckets, job.id, file);
    let output = match objects.get(&buckets.output, &output_key).await {
        Ok(object) if object.bytes == job.label.as_bytes() => Ok(()),
        Ok(_) => Err(format!("{}/{output_key} is not the label that was answered", buckets.output)),
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
