//! The job handler that recognises images.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use metrics::histogram;

use super::{
    RecogniserFactory,
    embeddings::similarity::normalise,
    gallery::{Galleries, Gallery, GalleryStores},
};
use crate::{
    job::{Failure, FailureKind, Job, JobKind, Output, Retention},
    recognition::{Candidate, GalleryName, Identification, MAX_CANDIDATES_IN_ALL, Recognition, Task, Timings},
    worker::{Executor, JobHandler},
};

/// Returns what is stored of a job: everything if it is to recognise an image, otherwise nothing.
pub fn retention(kind: JobKind) -> Retention {
    if Task::of(kind) == Some(Task::Recognise) { Retention::Keep } else { Retention::Discard }
}

/// Finds the people who are most similar to each of the embeddings in a payload, which is a JSON array.
fn match_embeddings(payload: &[u8], gallery: &Gallery, count: usize) -> Result<Vec<Vec<Candidate>>, Failure> {
    let damaged = |why: String| Failure::new(FailureKind::Damaged, why);
    let embeddings: Vec<Vec<f32>> = serde_json::from_slice(payload).map_err(|error| damaged(error.to_string()))?;
    if embeddings.len().saturating_mul(count) > MAX_CANDIDATES_IN_ALL {
        return Err(damaged(format!("{count} candidates for each of {} embeddings are too many", embeddings.len())));
    }
    let candidates = embeddings.into_iter().map(|mut embedding| {
        if !normalise(&mut embedding) {
            return Err(damaged("an embedding is zero or not finite".into()));
        }
        gallery.candidates(&embedding, count).map_err(|refused| damaged(refused.to_string()))
    });
    candidates.collect()
}

/// Finds the people who are most similar to each face, which has its embedding. If the candidates of all faces would be
/// more than [`MAX_CANDIDATES_IN_ALL`], only the first faces, which are the largest, have some.
fn identify(recognition: Recognition, gallery: &Gallery, count: usize) -> Result<Identification, Failure> {
    let faces = recognition.faces.iter().take(MAX_CANDIDATES_IN_ALL / count.max(1));
    let candidates = faces.map(|face| gallery.candidates(face.embedding.as_deref().unwrap_or_default(), count));
    let candidates = candidates.collect::<Result<Vec<_>, _>>();
    let candidates = candidates.map_err(|refused| Failure::new(FailureKind::Internal, refused.to_string()))?;
    Ok(Identification { recognition, candidates })
}

/// Recognises the images of jobs with the newest version of their gallery.
pub struct RecognitionHandler {
    recognisers: Arc<dyn RecogniserFactory>,
    galleries: Arc<Galleries>,
}

impl RecognitionHandler {
    /// Reads the default gallery, and refreshes all that are used every `refresh` until the process ends.
    ///
    /// # Errors
    /// The gallery cannot be read.
    pub async fn start(
        recognisers: Arc<dyn RecogniserFactory>,
        galleries: GalleryStores,
        refresh: Duration,
    ) -> anyhow::Result<Self> {
        let galleries = Arc::new(Galleries::new(galleries));
        galleries.cache(&GalleryName::default()).refresh().await?;
        let refreshed = galleries.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(refresh).await;
                refreshed.refresh().await;
            }
        });
        Ok(Self { recognisers, galleries })
    }
}

/// Returns the gallery that a job names.
fn gallery_of(job: &Job) -> Result<GalleryName, Failure> {
    if job.dataset.is_empty() {
        return Ok(GalleryName::default());
    }
    GalleryName::try_from(job.dataset.clone()).map_err(|why| Failure::new(FailureKind::Internal, why))
}

/// Records how long the stages of a recognition took.
fn measure(timings: &Timings) {
    for (stage, ms) in [("decode", timings.decode_ms), ("detect", timings.detect_ms), ("embed", timings.embed_ms)] {
        histogram!("rollcall_job_stage_duration_seconds", "stage" => stage).record(f64::from(ms) / 1e3);
    }
}

/// Returns what a job must contain to use a gallery.
pub fn dataset(gallery: &GalleryName) -> String {
    if gallery.is_default() { String::new() } else { gallery.to_string() }
}

#[async_trait]
impl JobHandler for RecognitionHandler {
    fn executor(&self) -> anyhow::Result<Executor> {
        let mut recogniser = self.recognisers.build()?;
        let galleries = self.galleries.clone();
        Ok(Box::new(move |job, image| {
            let task = Task::of(job.kind).ok_or_else(|| {
                let why = format!("this worker does not know jobs of the kind {}: upgrade it", job.kind.0);
                Failure::new(FailureKind::Internal, why)
            })?;
            let embed = task == Task::Embed;
            let name = gallery_of(job)?;
            // A photo that is enrolled needs no name, so a gallery that its embedding does not fit is no failure here.
            let gallery = if embed { Arc::default() } else { galleries.current(&name) };
            if !embed && gallery.version == 0 && job.min_version > 0 {
                // An empty gallery would make everybody unknown.
                return Err(Failure::new(FailureKind::Internal, format!("the gallery {name} could not be read")));
            }
            if let Task::Match(count) = task {
                return Output::json(&match_embeddings(image, &gallery, count)?, "");
            }
            let embeddings = task != Task::Recognise;
            let recognition = Recognition { gallery: name, ..recogniser.recognise(image, &gallery, embeddings)? };
            measure(&recognition.timings);
            match task {
                Task::Identify(count) => Output::json(&identify(recognition, &gallery, count)?, ""),
                _ => Output::json(&recognition, recognition.label.clone()),
            }
        }))
    }

    fn retention(&self, kind: JobKind) -> Retention {
        retention(kind)
    }

    async fn prepare(&self, job: &Job) {
        // A name that is invalid fails the job.
        if let Ok(name) = gallery_of(job) {
            self.galleries.cache(&name).at_least(job.min_version).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inference::{Recogniser, gallery::Person},
        recognition::{EMBED, Face, MAX_CANDIDATES, NO_FACE, RECOGNISE, Timings},
        testing::World,
    };

    /// Returns the recognition of an image without a face.
    fn nothing(gallery_version: u64) -> Recognition {
        Recognition {
            label: NO_FACE.into(),
            faces: Vec::new(),
            classes: Vec::new(),
            width: 1,
            height: 1,
            gallery: GalleryName::default(),
            gallery_version,
            model: None,
            timings: Timings::default(),
        }
    }

    /// Sees no face.
    struct Blind;

    impl Recogniser for Blind {
        fn recognise(&mut self, _: &[u8], gallery: &Gallery, _: bool) -> Result<Recognition, Failure> {
            Ok(nothing(gallery.version))
        }
    }

    struct Blinds;

    impl RecogniserFactory for Blinds {
        fn build(&self) -> anyhow::Result<Box<dyn Recogniser>> {
            Ok(Box::new(Blind))
        }
    }

    #[tokio::test]
    async fn a_job_whose_gallery_could_not_be_read_fails_and_names_nobody_unknown() {
        let world = World::new().await;
        let galleries = GalleryStores::new(world.objects.clone(), &world.settings);
        let staff = GalleryName::try_from("staff".to_owned()).expect("a name");
        let model = crate::recognition::ModelId::known("m");
        galleries.gallery(&staff).add("Ada", vec![vec![1.0, 0.0]], model).await.expect("added");
        let handler = RecognitionHandler::start(Arc::new(Blinds), galleries, Duration::from_secs(60)).await;
        let (handler, mut job) = (handler.expect("started"), world.job(1, ""));
        (job.kind, job.dataset, job.min_version) = (RECOGNISE, "staff".into(), 1);
        let mut execute = handler.executor().expect("an executor");
        let failure = execute(&job, b"").expect_err("it was not prepared");
        assert!(failure.kind == FailureKind::Internal && failure.message.contains("staff"), "{failure}");
        handler.prepare(&job).await;
        let output = execute(&job, b"").expect("done");
        let recognition: Recognition = serde_json::from_slice(&output.result).expect("JSON");
        assert_eq!((recognition.gallery, recognition.gallery_version), (staff, 1));
        let unknown = Job { kind: JobKind(999), ..job.clone() };
        let failure = execute(&unknown, b"").expect_err("of an unknown kind");
        assert!(failure.kind == FailureKind::Internal && failure.message.contains("999"), "{failure}");
        job.dataset = "../x".into();
        assert!(execute(&job, b"").is_err(), "not a name");
    }

    #[test]
    fn candidates_come_from_embeddings_of_any_length_that_fit_the_gallery() {
        let person = |name: &str, embeddings: Vec<Vec<f32>>| Person::new(name, embeddings);
        let people = [
            person("Ada", vec![vec![1.0, 0.0], vec![0.6, 0.8]]),
            person("Bob", vec![vec![0.0, 1.0]]),
            person("Cleo", vec![vec![-1.0, 0.0]]),
        ];
        let gallery = Gallery::new(1, &people, None);
        let matched = |payload: &str, count| match_embeddings(payload.as_bytes(), &gallery, count);
        let names = |found: &[Candidate]| found.iter().map(|c| (c.name.clone(), c.similarity)).collect::<Vec<_>>();
        let found = matched("[[0.0, 2.0], [-3.0, 0.0]]", 2).expect("matched");
        assert_eq!(names(&found[0]), [("Bob".into(), 1.0), ("Ada".into(), 0.8)]);
        assert_eq!(names(&found[1]), [("Cleo".into(), 1.0), ("Bob".into(), 0.0)]);
        assert_eq!(matched("[[1.0, 0.0]]", 9).expect("matched")[0].len(), 3);
        for (payload, part) in [
            ("[[1.0, 0.0, 0.0]]", "different models"),
            ("[[0.0, 0.0]]", "zero"),
            ("[[1e39, 0.0]]", "not finite"),
            ("[[]]", "zero"),
            ("{}", "expected"),
        ] {
            let failure = matched(payload, 1).expect_err(payload);
            assert!(failure.kind == FailureKind::Damaged && failure.message.contains(part), "{payload}: {failure}");
        }
    }

    #[test]
    fn no_result_has_more_candidates_than_a_reply_can_hold() {
        let people: Vec<_> = (0..MAX_CANDIDATES)
            .map(|n| Person::new(format!("{n:03}{}", "\u{10348}".repeat(97)), vec![vec![1.0, 0.0]]))
            .collect();
        let gallery = Gallery::new(1, &people, None);
        let payload = |count: usize| serde_json::to_vec(&vec![[1.0, 0.0]; count]).expect("JSON");
        let failure = match_embeddings(&payload(11), &gallery, MAX_CANDIDATES).expect_err("too many");
        assert!(failure.kind == FailureKind::Damaged && failure.message.contains("too many"), "{failure}");
        let largest = match_embeddings(&payload(10), &gallery, MAX_CANDIDATES).expect("matched");
        assert_eq!(largest.iter().map(Vec::len).sum::<usize>(), MAX_CANDIDATES_IN_ALL);
        let bytes = serde_json::to_vec(&largest).expect("JSON").len();
        assert!(bytes < crate::cloud::queue_limits::MAX_BODY * 3 / 5, "{bytes} bytes");

        let face = Face {
            bbox: Default::default(),
            landmarks: Default::default(),
            score: 1.0,
            name: "x".into(),
            similarity: None,
            embedding: Some(vec![1.0, 0.0]),
        };
        let recognition = Recognition { faces: vec![face; 50], ..nothing(1) };
        let of = |count| identify(recognition.clone(), &gallery, count).expect("identified").candidates;
        assert_eq!(of(20).iter().map(Vec::len).collect::<Vec<_>>(), [20; 50]);
        assert_eq!(of(MAX_CANDIDATES).iter().map(Vec::len).collect::<Vec<_>>(), [MAX_CANDIDATES; 10]);
    }

    #[test]
    fn only_what_is_recognised_is_stored() {
        for kind in [EMBED, Task::Identify(1).kind(), Task::Match(9).kind(), JobKind(2), JobKind(999)] {
            assert_eq!(retention(kind), Retention::Discard);
        }
        assert_eq!(retention(RECOGNISE), Retention::Keep);
    }
}
