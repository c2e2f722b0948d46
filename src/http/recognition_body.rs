//! The JSON of one file's recognition: the same shape whether it was waited for, is pending, or was read from the
//! store.

use serde::Serialize;
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Ref, RefOr,
        schema::{AllOfBuilder, AnyOfBuilder, Schema},
    },
};

use super::{error::Problem, openapi::ProblemDetails};
use crate::{
    job::{Failure, FailureKind, JobId, Reply},
    recognition::{Class, Face, GalleryName, ModelId, Recognition, Timings},
    results::{JobResult, Status},
};

/// The JSON of one file's recognition.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Recognition)]
pub struct RecognitionBody {
    /// Absent if the file was refused before it became a job.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<String>,
    pub file: String,
    pub status: Status,
    #[serde(flatten)]
    #[schema(ignore)]
    seen: Option<Seen>,
    /// Why there is no recognition: problem details.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ProblemDetails, required = false)]
    problem: Option<Value>,
    /// The instance that ran the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    worker: Option<String>,
    /// When it was submitted; only in stored results, like `finished_ms`. Milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    submitted_ms: Option<u64>,
    /// When it was finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    finished_ms: Option<u64>,
}

/// What was recognised in a file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Recognised)]
pub struct Seen {
    label: String,
    faces: Vec<SeenFace>,
    classes: Vec<Class>,
    width: u32,
    height: u32,
    #[serde(skip_serializing_if = "GalleryName::is_default")]
    #[schema(value_type = String, required = false)]
    gallery: GalleryName,
    gallery_version: u64,
    model: Option<ModelId>,
    timings: SeenTimings,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecognitionTimings)]
pub struct SeenTimings {
    #[serde(flatten)]
    stages: Timings,
    /// Milliseconds for which a thread of the worker was busy with the job; not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    worker_ms: Option<f32>,
}

/// A face without its embedding.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Face)]
pub struct SeenFace {
    bbox: [f32; 4],
    landmarks: [[f32; 2]; 5],
    score: f32,
    name: String,
    similarity: Option<f32>,
}

/// One file's recognition, as responses have it: with what was recognised unless it is pending or has failed.
pub struct RecognitionAnswer;

impl PartialSchema for RecognitionAnswer {
    fn schema() -> RefOr<Schema> {
        let (status, recognised) = (Ref::from_schema_name("Recognition"), Ref::from_schema_name("Recognised"));
        let done = AllOfBuilder::new().item(status.clone()).item(recognised);
        AnyOfBuilder::new().item(done).item(status).into()
    }
}

impl ToSchema for RecognitionAnswer {}

/// The recognitions of several files, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub struct Recognitions {
    #[schema(value_type = Vec<RecognitionAnswer>)]
    pub recognitions: Vec<RecognitionBody>,
}

/// The recognition of one file, or those of several.
#[derive(ToSchema)]
#[schema(as = RecognitionOrRecognitions)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what POST responds with")]
pub enum CreateAnswer {
    One(RecognitionAnswer),
    Several(Recognitions),
}

impl RecognitionBody {
    /// Creates the body for a job that is queued.
    pub fn pending(id: JobId, file: String) -> Self {
        Self::new(Some(id.to_string()), file, Status::Pending)
    }

    /// Creates the body for a file that was refused or whose job has failed.
    pub fn failed(file: String, problem: &Problem) -> Self {
        Self { problem: Some(problem.to_json()), ..Self::new(None, file, Status::Failed) }
    }

    /// Creates the body for a worker's reply.
    ///
    /// # Errors
    /// The job has failed.
    pub fn replied(file: String, reply: Reply) -> Result<Self, Problem> {
        let recognition = reply.outcome.and_then(|json| recognition(&json));
        let recognition = recognition.map_err(|failure| Problem::from(failure).id(reply.id))?;
        Ok(Self {
            seen: Some(Seen::new(recognition, Some(reply.worker_ms))),
            worker: Some(reply.worker),
            ..Self::new(Some(reply.id.to_string()), file, Status::Done)
        })
    }

    /// Creates the body for a stored result.
    ///
    /// # Errors
    /// The stored result is not a recognition.
    pub fn stored(result: JobResult) -> Result<Self, Problem> {
        let seen = result.output.map(|json| recognition(json.get().as_bytes())).transpose()?;
        Ok(Self {
            seen: seen.map(|recognition| Seen::new(recognition, None)),
            problem: result.failure.map(|failure| Problem::from(failure).to_json()),
            worker: result.worker,
            submitted_ms: Some(result.submitted_ms),
            finished_ms: result.finished_ms,
            ..Self::new(Some(result.id), result.file, result.status)
        })
    }

    /// Returns the gallery, and the names of the faces; `None` unless the job is done.
    pub fn people(&self) -> Option<(&GalleryName, impl Iterator<Item = &str>)> {
        self.seen.as_ref().map(|seen| (&seen.gallery, seen.faces.iter().map(|face| face.name.as_str())))
    }

    /// Returns the label, which is the line that `POST /` responds with; `None` unless the job is done.
    pub fn label(&self) -> Option<&str> {
        self.seen.as_ref().map(|seen| seen.label.as_str())
    }

    fn new(id: Option<String>, file: String, status: Status) -> Self {
        Self { id, file, status, seen: None, problem: None, worker: None, submitted_ms: None, finished_ms: None }
    }
}

/// Reads the result of a recognition job.
///
/// # Errors
/// It is not a recognition: the worker runs another version, or another handler.
pub fn recognition(json: &[u8]) -> Result<Recognition, Failure> {
    serde_json::from_slice(json).map_err(|error| {
        tracing::error!(%error, "the result of a job is not a recognition");
        Failure::new(FailureKind::Internal, "the result is not a recognition; do all workers run this version?")
    })
}

impl Seen {
    fn new(r: Recognition, worker_ms: Option<f32>) -> Self {
        Self {
            label: r.label,
            faces: r.faces.into_iter().map(SeenFace::from).collect(),
            classes: r.classes,
            width: r.width,
            height: r.height,
            gallery: r.gallery,
            gallery_version: r.gallery_version,
            model: r.model,
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

    fn recognition() -> Recognition {
        let face = Face {
            bbox: [1.0, 2.0, 3.0, 4.0],
            landmarks: [[0.0; 2]; 5],
            score: 0.9,
            name: "Ada".into(),
            similarity: Some(0.75),
            embedding: Some(vec![1.0]),
        };
        let other = Face { bbox: [5.0, 6.0, 7.0, 8.0], landmarks: [[1.0; 2]; 5], name: "Bob".into(), ..face.clone() };
        Recognition {
            label: "Ada".into(),
            faces: vec![face, other],
            classes: vec![],
            width: 20,
            height: 10,
            gallery: GalleryName::default(),
            gallery_version: 3,
            model: Some(ModelId::known("m")),
            timings: Timings::default(),
        }
    }

    #[test]
    fn a_response_has_faces_and_timings_but_no_embedding() {
        let id = JobId(5);
        let result = serde_json::to_vec(&recognition()).expect("JSON");
        let reply = Reply { id, outcome: Ok(result.into()), worker: "i-1".into(), worker_ms: 12.5 };
        let body = RecognitionBody::replied("a.jpg".into(), reply).expect("done");
        assert_eq!(body.label(), Some("Ada"));
        let json = serde_json::to_value(body).expect("JSON");
        assert_eq!(json["id"], json!(id.to_string()));
        assert_eq!(json["status"], "done");
        assert_eq!((&json["label"], &json["model"]), (&json!("Ada"), &json!("m")));
        let faces = json["faces"].as_array().expect("faces");
        let seen: Vec<_> =
            faces.iter().map(|f| (&f["name"], &f["bbox"], &f["landmarks"][4], f.get("embedding"))).collect();
        let expected = [
            (&json!("Ada"), &json!([1.0, 2.0, 3.0, 4.0]), &json!([0.0, 0.0]), None),
            (&json!("Bob"), &json!([5.0, 6.0, 7.0, 8.0]), &json!([1.0, 1.0]), None),
        ];
        assert_eq!(seen, expected);
        assert_eq!(faces[0]["similarity"], 0.75);
        assert_eq!(
            (&json["width"], &json["height"], &json["timings"]["worker_ms"]),
            (&json!(20), &json!(10), &json!(12.5))
        );
        assert!(json["timings"]["detect_ms"].is_number());
    }

    #[test]
    fn a_stored_failure_carries_its_problem() {
        let result = JobResult {
            id: "x".into(),
            file: "a.jpg".into(),
            status: Status::Failed,
            output: None,
            summary: None,
            failure: Some(Failure::new(FailureKind::Damaged, "cut off")),
            worker: Some("i-1".into()),
            submitted_ms: 1,
            finished_ms: Some(2),
        };
        let json = serde_json::to_value(RecognitionBody::stored(result).expect("readable")).expect("JSON");
        assert_eq!((&json["status"], &json["problem"]["status"]), (&json!("failed"), &json!(422)));
        assert_eq!(json["problem"]["detail"], "cut off");
        assert_eq!(json.get("label"), None);
    }

    #[test]
    fn results_without_a_model_are_read() {
        // As stored by the release that did not record the model.
        let stored = r#"{"id":"x","file":"a.jpg","status":"done","recognition":{"label":"Ada","faces":[{"bbox":[1.0,2.0,
            3.0,4.0],"landmarks":[[0.0,0.0],[0.0,0.0],[0.0,0.0],[0.0,0.0],[0.0,0.0]],"score":0.9,"name":"Ada",
            "similarity":0.75,"embedding":null}],"classes":[],"width":20,"height":10,"gallery_version":3,"timings":
            {"decode_ms":1.0,"detect_ms":2.0,"embed_ms":3.0}},"failure":null,"worker":"i-1","submitted_ms":1,
            "finished_ms":2}"#;
        let result: JobResult = serde_json::from_str(stored).expect("a result");
        let json = serde_json::to_value(RecognitionBody::stored(result).expect("readable")).expect("JSON");
        assert_eq!((&json["label"], &json["model"]), (&json!("Ada"), &Value::Null));
        assert_eq!(json["faces"][0]["name"], "Ada");
    }

    #[test]
    fn a_reply_that_is_not_a_recognition_is_500_and_not_an_empty_response() {
        let reply = Reply { id: JobId(5), outcome: Ok("[]".into()), worker: "i-1".into(), worker_ms: 1.0 };
        assert_eq!(RecognitionBody::replied("a.jpg".into(), reply).expect_err("refused").status.as_u16(), 500);
    }
}
