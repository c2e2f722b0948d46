//! The JSON of a recognition: the same shape whether it was waited for, is pending, or was found by its id.

use serde::Serialize;
use serde_json::Value;

use super::error::Problem;
use crate::{
    recognition::{Class, Face, JobResult, Recognition, Status, Timings},
    wire::{JobId, Reply},
};

#[derive(Debug, Serialize)]
pub struct Answer {
    /// Absent where the file was refused before it became a job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub file: String,
    pub status: Status,
    #[serde(flatten)]
    seen: Option<Seen>,
    /// Why there is no recognition: problem details.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Value>,
    /// The instance that did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    #[serde(flatten)]
    times: Times,
}

#[derive(Debug, Serialize)]
struct Seen {
    label: String,
    faces: Vec<SeenFace>,
    classes: Vec<Class>,
    width: u32,
    height: u32,
    gallery_version: u64,
    timings: SeenTimings,
}

#[derive(Debug, Serialize)]
struct SeenTimings {
    #[serde(flatten)]
    stages: Timings,
    /// Milliseconds from the worker's receive to its reply; not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_ms: Option<f32>,
}

/// A face without its embedding.
#[derive(Debug, Serialize)]
struct SeenFace {
    bbox: [f32; 4],
    landmarks: [[f32; 2]; 5],
    score: f32,
    name: String,
    similarity: Option<f32>,
}

#[derive(Debug, Default, Serialize)]
struct Times {
    /// Milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    submitted_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_ms: Option<u64>,
}

impl Answer {
    /// A job that is queued.
    pub fn pending(id: JobId, file: String) -> Self {
        Self::new(Some(id.to_string()), file, Status::Pending)
    }

    /// A file that was refused or whose job failed.
    pub fn failed(file: String, problem: &Problem) -> Self {
        Self { problem: Some(problem.to_json()), ..Self::new(None, file, Status::Failed) }
    }

    /// A recognition as the worker replied it.
    pub fn done(file: String, recognition: Recognition, reply: ReplyHead) -> Self {
        Self {
            seen: Some(Seen::new(recognition, Some(reply.worker_ms))),
            worker: Some(reply.worker),
            ..Self::new(Some(reply.id.to_string()), file, Status::Done)
        }
    }

    /// What the store holds.
    pub fn stored(record: JobResult) -> Self {
        Self {
            seen: record.recognition.map(|recognition| Seen::new(recognition, None)),
            problem: record.failure.map(|failure| Problem::from(failure).to_json()),
            worker: record.worker,
            times: Times { submitted_ms: Some(record.submitted_ms), finished_ms: record.finished_ms },
            ..Self::new(Some(record.id), record.file, record.status)
        }
    }

    /// The line that `POST /` answers; `None` unless done.
    pub fn label(&self) -> Option<&str> {
        self.seen.as_ref().map(|seen| seen.label.as_str())
    }

    fn new(id: Option<String>, file: String, status: Status) -> Self {
        Self { id, file, status, seen: None, problem: None, worker: None, times: Times::default() }
    }
}

/// A reply without its outcome.
pub struct ReplyHead {
    pub id: JobId,
    pub worker: String,
    pub worker_ms: f32,
}

/// The outcome of a reply apart from who did it.
pub fn split(reply: Reply) -> (Result<Recognition, Problem>, ReplyHead) {
    let head = ReplyHead { id: reply.id, worker: reply.worker, worker_ms: reply.worker_ms };
    (reply.outcome.map_err(|failure| Problem::from(failure).id(reply.id)), head)
}

impl Seen {
    fn new(r: Recognition, worker_ms: Option<f32>) -> Self {
        Self {
            label: r.label,
            faces: r.faces.into_iter().map(SeenFace::from).collect(),
            classes: r.classes,
            width: r.width,
            height: r.height,
            gallery_version: r.gallery_version,
            timings: SeenTimings { stages: r.timings, worker_ms },
        }
    }
}

impl From<Face> for SeenFace {
    fn from(f: Face) -> Self {
        Self { bbox: f.bbox, landmarks: f.landmarks, score: f.score, name: f.name, similarity: f.similarity }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::recognition::{Failure, FailureKind};

    fn recognition() -> Recognition {
        let face = Face {
            bbox: [1.0, 2.0, 3.0, 4.0],
            landmarks: [[0.0; 2]; 5],
            score: 0.9,
            name: "Ada".into(),
            similarity: Some(0.75),
            embedding: Some(vec![1.0]),
        };
        Recognition {
            label: "Ada".into(),
            faces: vec![face],
            classes: vec![],
            width: 20,
            height: 10,
            gallery_version: 3,
            timings: Timings::default(),
        }
    }

    #[test]
    fn an_answer_has_faces_and_timings_and_no_embedding() {
        let id = JobId(5);
        let reply = Reply { id, outcome: Ok(recognition()), worker: "i-1".into(), worker_ms: 12.5 };
        let (outcome, head) = split(reply);
        let json = serde_json::to_value(Answer::done("a.jpg".into(), outcome.expect("done"), head)).expect("JSON");
        assert_eq!(json["id"], json!(id.to_string()));
        assert_eq!(json["status"], "done");
        assert_eq!(json["label"], "Ada");
        assert_eq!(json["faces"][0]["similarity"], 0.75);
        assert_eq!(json["faces"][0].get("embedding"), None);
        assert_eq!(
            (&json["width"], &json["height"], &json["timings"]["worker_ms"]),
            (&json!(20), &json!(10), &json!(12.5))
        );
        assert!(json["timings"]["detect_ms"].is_number());
    }

    #[test]
    fn a_stored_failure_carries_its_problem() {
        let record = JobResult {
            id: "x".into(),
            file: "a.jpg".into(),
            status: Status::Failed,
            recognition: None,
            failure: Some(Failure::new(FailureKind::Damaged, "cut off")),
            worker: Some("i-1".into()),
            submitted_ms: 1,
            finished_ms: Some(2),
        };
        let json = serde_json::to_value(Answer::stored(record)).expect("JSON");
        assert_eq!((&json["status"], &json["problem"]["status"]), (&json!("failed"), &json!(422)));
        assert_eq!(json["problem"]["detail"], "cut off");
        assert_eq!(json.get("label"), None);
    }
}
