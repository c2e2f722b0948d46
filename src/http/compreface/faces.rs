//! Faces as CompreFace describes them.

use serde_json::{Map, Value, json};

use super::{
    params::Params,
    refusal::Refusal,
    similarity::{rounded, similarity},
};
use crate::{
    inference::embeddings::similarity::dot,
    recognition::{Candidate, Face, Recognition},
};

/// Name of the detector in `plugins_versions`.
const DETECTOR: &str = "rollcall.FaceDetector";

/// Returns the positions of the faces that a request asks for, the largest first.
///
/// # Errors
/// There is none.
pub(super) fn wanted(recognition: &Recognition, params: &Params) -> Result<Vec<usize>, Refusal> {
    let faces = recognition.faces.iter().enumerate().filter(|(_, face)| face.score >= params.min_score);
    let wanted: Vec<usize> = faces.map(|(at, _)| at).take(params.limit).collect();
    if wanted.is_empty() { Err(Refusal::no_face()) } else { Ok(wanted) }
}

/// Returns the description of a face.
pub(super) fn described(recognition: &Recognition, face: &Face, params: &Params) -> Map<String, Value> {
    let mut described = Map::new();
    if let (true, Some(embedding)) = (params.plugins.calculator, &face.embedding) {
        described.insert("embedding".into(), json!(embedding));
    }
    let [x, y, width, height] = face.bbox;
    let pixel = |coordinate: f32, side: u32| (coordinate.round().max(0.0) as u32).min(side);
    let of_box = json!({
        "probability": rounded(face.score),
        "x_max": pixel(x + width, recognition.width),
        "y_max": pixel(y + height, recognition.height),
        "x_min": pixel(x, recognition.width),
        "y_min": pixel(y, recognition.height),
    });
    described.insert("box".into(), of_box);
    if params.plugins.landmarks {
        let landmarks = face.landmarks.map(|point| point.map(|coordinate| coordinate.round() as i32));
        described.insert("landmarks".into(), json!(landmarks));
    }
    if params.status {
        let timings = &recognition.timings;
        let times = json!({ "detector": timings.detect_ms.round(), "calculator": timings.embed_ms.round() });
        described.insert("execution_time".into(), times);
    }
    described
}

/// Adds the versions to a response, if they are wanted.
pub(super) fn add_versions(response: &mut Value, recognition: &Recognition, params: &Params) {
    if params.status {
        response["plugins_versions"] = json!({ "detector": DETECTOR, "calculator": recognition.model });
    }
}

/// Returns the subjects of a face.
pub(super) fn subjects(candidates: &[Candidate], params: &Params) -> Value {
    let subject =
        |candidate: &Candidate| json!({ "subject": candidate.name, "similarity": similarity(candidate.similarity) });
    candidates.iter().take(params.prediction_count).map(subject).collect()
}

/// Returns the embedding of a face, which workers return if they are asked to.
pub(super) fn embedding(face: &Face) -> Result<&[f32], Refusal> {
    face.embedding.as_deref().ok_or_else(Refusal::other_version)
}

/// Returns the cosine similarity of two embeddings of unit length.
///
/// # Errors
/// They come from different models.
pub(super) fn compared(a: &[f32], b: &[f32]) -> Result<f32, Refusal> {
    if a.len() == b.len() {
        return Ok(dot(a, b));
    }
    let why = format!("embeddings of {} and {} numbers come from different models", a.len(), b.len());
    Err(Refusal::internal(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recognition::{GalleryName, ModelId, Timings};

    fn recognition(scores: &[f32]) -> Recognition {
        let face = |score: &f32| Face {
            bbox: [-3.4, 2.6, 103.0, 300.0],
            landmarks: [[1.4, 2.6]; 5],
            score: *score,
            name: "unknown".into(),
            similarity: None,
            embedding: Some(vec![0.6, -0.8]),
        };
        Recognition {
            label: "unknown".into(),
            faces: scores.iter().map(face).collect(),
            classes: Vec::new(),
            width: 90,
            height: 200,
            gallery: GalleryName::default(),
            gallery_version: 1,
            model: Some(ModelId::known("m")),
            timings: Timings { decode_ms: 1.0, detect_ms: 12.4, embed_ms: 7.6 },
        }
    }

    fn params(query: &str) -> Params {
        Params::parse(query).expect(query)
    }

    #[test]
    fn a_face_has_a_box_within_the_image_and_what_was_asked_for() {
        let recognition = recognition(&[0.912_345_6]);
        let described = |query: &str| Value::Object(described(&recognition, &recognition.faces[0], &params(query)));
        let of_box = json!({ "probability": 0.91235, "x_min": 0, "y_min": 3, "x_max": 90, "y_max": 200 });
        assert_eq!(described(""), json!({ "box": of_box }));
        let everything = json!({
            "box": of_box,
            "embedding": [0.6_f32, -0.8_f32],
            "landmarks": [[1, 3], [1, 3], [1, 3], [1, 3], [1, 3]],
            "execution_time": { "detector": 12.0, "calculator": 8.0 },
        });
        assert_eq!(described("face_plugins=landmarks,calculator&status=true"), everything);
        let mut response = json!({ "result": [] });
        add_versions(&mut response, &recognition, &params("status=true"));
        assert_eq!(response["plugins_versions"], json!({ "detector": "rollcall.FaceDetector", "calculator": "m" }));
    }

    #[test]
    fn faces_are_limited_by_number_and_confidence() {
        let recognition = recognition(&[0.7, 0.9, 0.8]);
        let wanted = |query: &str| wanted(&recognition, &params(query)).map_err(|refusal| refusal.code_for_tests());
        assert_eq!(wanted(""), Ok(vec![0, 1, 2]));
        assert_eq!(wanted("limit=2"), Ok(vec![0, 1]));
        assert_eq!(wanted("limit=1&det_prob_threshold=0.75"), Ok(vec![1]));
        assert_eq!(wanted("det_prob_threshold=0.95"), Err((400, Some(28))));
    }

    #[test]
    fn subjects_are_as_many_as_asked_for() {
        let candidate = |name: &str, similarity| Candidate { name: name.into(), similarity };
        let candidates = [candidate("Ada", 1.0), candidate("Bob", -1.0)];
        assert_eq!(subjects(&candidates, &params("")), json!([{ "subject": "Ada", "similarity": 1.0 }]));
        assert_eq!(subjects(&candidates, &params("prediction_count=9"))[1]["subject"], "Bob");
        assert_eq!(subjects(&[], &params("")), json!([]));
    }
}
