//! Embeddings of different models are never compared: not when people are enrolled, and not when they are recognised.
//! Variants of one model are, and so are galleries of the release that did not record the model.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::support::{
    Contents, MemoryStore, asset, gallery_in, int8_settings, lfw, model, newest, other_settings, recogniser, sample,
    settings,
};
use rollcall::{
    cli::enroll::{Args, Summary, enroll},
    cloud::{ObjectStore as _, Precondition},
    inference::{
        factory::factory,
        gallery::{Gallery, GalleryStores, keys::KEY},
        handler::RecognitionHandler,
    },
    job::{Failure, FailureKind, Job, JobId, JobKind, Payload},
    recognition::{EMBED, GalleryName, ModelId, RECOGNISE, Recognition},
    settings::Settings,
    worker::JobHandler as _,
};

async fn enrolled(
    dir: PathBuf,
    replace: bool,
    settings: &Settings,
    store: &Arc<MemoryStore>,
) -> anyhow::Result<Summary> {
    enroll(&Args { dir, replace, refuse_poor: false, gallery: GalleryName::default() }, settings, store.clone()).await
}

/// A gallery with the sample photos.
async fn of_samples(settings: &Settings) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::default());
    enrolled(asset("photos/known"), false, settings, &store).await.unwrap();
    store
}

fn assert_refused(error: &str, gallery: &ModelId, given: &ModelId) {
    let parts =
        [&format!("the model {gallery},"), &format!("those of {given}:"), "enroll --replace", "import --replace"];
    assert!(parts.iter().all(|part| error.contains(*part)), "{error}");
}

/// Runs a job on a worker with these settings and a sample photo, and returns its outcome.
async fn run_job(settings: &Settings, store: &Arc<MemoryStore>, kind: JobKind) -> Result<Recognition, Failure> {
    let galleries = GalleryStores::new(store.clone(), settings);
    let handler = RecognitionHandler::start(factory(&settings.recognition), galleries, Duration::from_secs(60)).await;
    let mut execute = handler.unwrap().executor().unwrap();
    let job = Job {
        id: JobId(1),
        kind,
        reply_to: String::new(),
        file: "a.jpg".into(),
        payload: Payload::Inline("".into()),
        dataset: String::new(),
        min_version: 0,
        submitted_ms: 0,
    };
    execute(&job, &sample("person_a_2.jpg")).map(|output| serde_json::from_slice(&output.result).unwrap())
}

#[tokio::test]
async fn a_worker_whose_embedder_does_not_fit_the_gallery_fails_its_jobs() {
    let (settings, other) = (settings(), other_settings());
    let store = of_samples(&settings).await;
    let fitting = run_job(&settings, &store, RECOGNISE).await.unwrap();
    assert_eq!((fitting.label.as_str(), &fitting.model), ("Emmanuel_Macron", &Some(model("sface-2021dec"))));

    let id = recogniser(&other).model().unwrap().clone();
    let failure = run_job(&other, &store, RECOGNISE).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Internal);
    assert_refused(&failure.message, &model("sface-2021dec"), &id);
    // What is to be enrolled is embedded: the gallery that it goes to decides.
    let embedded = run_job(&other, &store, EMBED).await.unwrap();
    assert_eq!((embedded.model, embedded.faces[0].name.as_str()), (Some(id), "unknown"));
    assert_eq!(embedded.faces[0].embedding.as_ref().unwrap().len(), 128, "as long as those of SFace");
}

#[tokio::test]
async fn another_model_can_enrol_photos_only_by_replacing_the_whole_gallery() {
    let (settings, other) = (settings(), other_settings());
    let store = of_samples(&settings).await;
    let before = Contents::of(&gallery_in(&store, &settings)).await;
    assert_eq!(before.model, Some(model("sface-2021dec")));

    let id = recogniser(&other).model().unwrap().clone();
    let error = enrolled(asset("photos/probes"), false, &other, &store).await.unwrap_err();
    assert_refused(&error.to_string(), &model("sface-2021dec"), &id);
    assert_eq!(Contents::of(&gallery_in(&store, &settings)).await, before);

    let summary = enrolled(asset("photos/probes"), true, &other, &store).await.unwrap();
    assert_eq!((summary.people, summary.gallery_version), (2, before.version + 1));
    let after = Contents::of(&gallery_in(&store, &settings)).await;
    assert_eq!(after.model, Some(id));
    assert!(after.people.iter().all(|person| person.embeddings.len() == 1), "the others are gone");
    assert!(run_job(&settings, &store, RECOGNISE).await.is_err());
    assert!(run_job(&other, &store, RECOGNISE).await.is_ok());
}

/// The snapshot of two people that the release before this one wrote, before galleries had a model.
const OLD_SNAPSHOT: &[u8] = include_bytes!("gallery_without_model.bin");

#[tokio::test]
async fn a_snapshot_without_a_model_opens_and_adopts_one_on_next_enrolment() {
    let settings = settings();
    let store = Arc::new(MemoryStore::default());
    store.put(&settings.store.state, KEY, OLD_SNAPSHOT.into(), Precondition::Always).await.unwrap();
    let old = Contents::of(&gallery_in(&store, &settings)).await;
    assert_eq!((old.version, old.people.len(), &old.model), (1, 2, &None));
    let seen = run_job(&settings, &store, RECOGNISE).await.unwrap();
    assert_eq!((seen.label.as_str(), seen.gallery_version), ("Emmanuel_Macron", 1), "it is used as before");
    assert!(run_job(&other_settings(), &store, RECOGNISE).await.is_ok(), "as before: its model is not recorded");

    let left = gallery_in(&store, &settings).remove("Jacinda_Ardern").await.unwrap().unwrap();
    assert_eq!((left.people(), &left.model), (1, &None), "nothing was embedded");
    enrolled(asset("photos/probes"), false, &settings, &store).await.unwrap();
    let new = Contents::of(&gallery_in(&store, &settings)).await;
    assert_eq!((new.version, new.people.len(), &new.model), (3, 2, &Some(model("sface-2021dec"))));
    assert!(run_job(&other_settings(), &store, RECOGNISE).await.is_err());
}

/// Recognises all photos of a folder of people. Returns the person and the label of each.
fn named(dir: &Path, settings: &Settings, gallery: &Gallery) -> Vec<(String, String)> {
    let entries = |dir: &Path| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut recogniser = recogniser(settings);
    let mut named = Vec::new();
    for person in entries(dir) {
        let name = person.file_name().unwrap().to_string_lossy();
        for photo in entries(&person) {
            let seen = recogniser.recognise(&std::fs::read(photo).unwrap(), gallery, false).unwrap();
            named.push((name.to_string(), seen.label));
        }
    }
    named
}

async fn assert_named(photos: PathBuf, enrolling: &Settings, recognising: &Settings) {
    let store = Arc::new(MemoryStore::default());
    enrolled(photos.join("known"), false, enrolling, &store).await.unwrap();
    let gallery = newest(gallery_in(&store, enrolling)).await;
    let probes = named(&photos.join("probes"), recognising, &gallery);
    let wrong: Vec<_> = probes.iter().filter(|(person, label)| person != label).collect();
    assert!(!probes.is_empty() && wrong.is_empty(), "{wrong:?}");
    let strangers = named(&photos.join("strangers"), recognising, &gallery);
    let known: Vec<_> = strangers.iter().filter(|(_, label)| label != "unknown").collect();
    assert!(!strangers.is_empty() && known.is_empty(), "{known:?}");
}

#[tokio::test]
async fn int8_and_fp32_can_use_each_others_gallery() {
    let Some(int8) = int8_settings() else { return };
    assert_named(asset("photos"), &settings(), &int8).await;
    assert_named(asset("photos"), &int8, &settings()).await;
}

#[tokio::test]
async fn int8_names_people_of_lfw_with_an_fp32_gallery() {
    let (Some(lfw), Some(int8)) = (lfw(), int8_settings()) else { return };
    assert_named(lfw, &settings(), &int8).await;
}
