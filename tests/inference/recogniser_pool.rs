//! The threads that run models: warmed before they serve, bounded, and alive after a panic.

use std::sync::{
    Arc, Barrier,
    atomic::{AtomicUsize, Ordering},
};

use crate::support::{recogniser, settings};
use bytes::Bytes;
use futures_util::future::join_all;
use rollcall::{
    inference::{
        Recogniser, RecogniserFactory,
        gallery::Gallery,
        pool::{self, Work},
    },
    job::{Failure, FailureKind},
    recognition::{Recognition, Timings},
};

/// Returns the image's text and the thread's name as the label; panics if the text is `panic`.
struct Echo;

impl Recogniser for Echo {
    fn recognise(&mut self, image: &[u8], gallery: &Gallery, _embeddings: bool) -> Result<Recognition, Failure> {
        let text = String::from_utf8(image.to_vec()).unwrap();
        assert_ne!(text, "panic", "a panic on request");
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        Ok(Recognition {
            label: format!("{text}@{thread}"),
            faces: vec![],
            classes: vec![],
            width: 1,
            height: 1,
            gallery: Default::default(),
            gallery_version: gallery.version,
            model: None,
            timings: Timings::default(),
        })
    }
}

#[derive(Default)]
struct Echoes {
    built: AtomicUsize,
    /// Builds after this many fail.
    allowed: Option<usize>,
}

impl RecogniserFactory for Echoes {
    fn build(&self) -> anyhow::Result<Box<dyn Recogniser>> {
        let number = self.built.fetch_add(1, Ordering::SeqCst);
        anyhow::ensure!(self.allowed.is_none_or(|allowed| number < allowed), "no model number {number}");
        Ok(Box::new(Echo))
    }
}

fn work(text: &str) -> Work {
    Work { image: Bytes::copy_from_slice(text.as_bytes()), gallery: Arc::default(), embeddings: false }
}

/// ONNX Runtime registers the operators of Rollcall with the first session that has them, which it does not do safely
/// for several at a time: "the domain is already exist".
#[test]
fn the_first_recognisers_of_a_process_can_be_built_at_the_same_time() {
    let (settings, start) = (settings(), Barrier::new(8));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                recogniser(&settings);
            });
        }
    });
}

#[tokio::test]
async fn every_thread_is_ready_before_the_pool_is() {
    let echoes = Arc::new(Echoes::default());
    let pool = pool::start(3, echoes.clone()).await.unwrap();
    assert_eq!(echoes.built.load(Ordering::SeqCst), 3);
    let label = pool.run(work("hello"), None).await.outcome.unwrap().label;
    assert!(label.starts_with("hello@worker-"), "{label}");
}

#[tokio::test]
async fn a_pool_with_one_bad_recogniser_does_not_start() {
    let error = pool::start(3, Arc::new(Echoes { allowed: Some(2), ..Echoes::default() })).await.err().unwrap();
    assert!(error.to_string().contains("no model number 2"), "{error}");
}

#[tokio::test]
async fn each_of_many_more_jobs_than_threads_gets_its_own_result() {
    let pool = pool::start(2, Arc::new(Echoes::default())).await.unwrap();
    let texts: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let results = join_all(texts.iter().map(|text| pool.run(work(text), None))).await;
    for (text, result) in texts.iter().zip(results) {
        assert!(result.outcome.unwrap().label.starts_with(&format!("{text}@")));
    }
}

#[tokio::test]
async fn a_panic_fails_its_own_job_and_the_thread_goes_on_with_a_new_recogniser() {
    let echoes = Arc::new(Echoes::default());
    let pool = pool::start(1, echoes.clone()).await.unwrap();
    assert_eq!(pool.run(work("panic"), None).await.outcome.unwrap_err().kind, FailureKind::Internal);
    assert!(pool.run(work("after"), None).await.outcome.unwrap().label.starts_with("after@"));
    assert_eq!(echoes.built.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_recogniser_that_cannot_be_rebuilt_fails_later_jobs() {
    let pool = pool::start(1, Arc::new(Echoes { allowed: Some(1), ..Echoes::default() })).await.unwrap();
    assert!(pool.run(work("panic"), None).await.outcome.is_err());
    assert_eq!(pool.run(work("after"), None).await.outcome.unwrap_err().kind, FailureKind::Internal);
}

#[tokio::test]
async fn the_error_for_a_missing_or_wrong_model_names_the_cause() {
    use rollcall::inference::factory::factory;
    let good = crate::support::settings().recognition;
    let mut settings = good.clone();
    settings.detector = "nowhere/yunet.onnx".into();
    let error = format!("{:#}", pool::start(1, factory(&settings)).await.err().unwrap());
    assert!(error.contains("nowhere/yunet.onnx") && error.contains("make setup"), "{error}");
    settings = good.clone();
    settings.embedder = good.detector.clone();
    let error = format!("{:#}", pool::start(1, factory(&settings)).await.err().unwrap());
    assert!(error.contains("recognition.embedder"), "{error}");
    settings = good.clone();
    settings.detector = good.embedder.clone();
    let error = format!("{:#}", pool::start(1, factory(&settings)).await.err().unwrap());
    assert!(error.contains("no output cls_8"), "{error}");
}
