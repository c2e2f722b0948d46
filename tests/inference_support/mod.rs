//! What tests of recognition share: settings with the models of `make setup`, photos, a store in memory.
#![allow(dead_code)] // each test uses a part

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use rollcall::{
    cloud::{CloudError, CloudResult, ETag, Object, ObjectInfo, ObjectStore, Precondition},
    inference::{Recogniser, factory::factory, gallery::Gallery},
    job::Failure,
    recognition::Recognition,
    settings::{Layers, Settings},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A path that `make setup-test` makes.
pub fn asset(path: &str) -> PathBuf {
    let asset = root().join(".assets").join(path);
    assert!(asset.exists(), "{} is missing: run make setup-test", asset.display());
    asset
}

/// The defaults, with the models wherever the test runs.
pub fn settings() -> Settings {
    let layers = Layers::load(None, HashMap::new()).unwrap();
    let mut settings = Settings::from_layers(&layers, 2).unwrap();
    settings.recognition.runtime = asset("onnxruntime/libonnxruntime.so");
    settings.recognition.detector = asset("models/face_detection_yunet_2023mar.onnx");
    settings.recognition.embedder = asset("models/face_recognition_sface_2021dec.onnx");
    settings
}

/// The folder of LFW photos, if it is there: they have no licence to be part of the project.
pub fn lfw() -> Option<PathBuf> {
    let path = std::env::var_os("ROLLCALL_LFW").map_or_else(|| root().join("../shared/photos/lfw"), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: no LFW photos at {}; set ROLLCALL_LFW to test with them", path.display());
    None
}

/// The sample photos that come with `make setup`.
pub fn sample_photos() -> Vec<PathBuf> {
    let mut photos = Vec::new();
    let mut folders = vec![asset("photos")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "jpg") {
                photos.push(path);
            }
        }
    }
    photos.sort();
    photos
}

/// The bytes of a sample photo by its file name.
pub fn sample(name: &str) -> Vec<u8> {
    let photo = sample_photos().into_iter().find(|p| p.file_name().unwrap() == name);
    std::fs::read(photo.unwrap_or_else(|| panic!("no {name} in .assets/photos: run make setup"))).unwrap()
}

pub fn recogniser(settings: &Settings) -> Box<dyn Recogniser> {
    factory(&settings.recognition).build().unwrap()
}

/// Everything in an image, with embeddings, by an empty gallery.
pub fn see(recogniser: &mut dyn Recogniser, image: &[u8]) -> Result<Recognition, Failure> {
    recogniser.recognise(image, &Gallery::default(), true)
}

pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(p, q)| p * q).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Objects in memory, with the port's conditional puts. Counts the calls.
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<(String, String), (Bytes, u64)>>,
    written: AtomicUsize,
    read: AtomicUsize,
}

impl MemoryStore {
    pub fn writes(&self) -> usize {
        self.written.load(Ordering::SeqCst)
    }

    pub fn reads(&self) -> usize {
        self.read.load(Ordering::SeqCst)
    }
}

fn key(bucket: &str, key: &str) -> (String, String) {
    (bucket.to_owned(), key.to_owned())
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn put(&self, bucket: &str, k: &str, bytes: Bytes, when: Precondition) -> CloudResult<ETag> {
        // Lets concurrent writers come between a read and its write.
        tokio::task::yield_now().await;
        let mut objects = self.objects.lock().unwrap();
        let present = objects.get(&key(bucket, k)).map(|(_, version)| ETag(version.to_string()));
        let holds = match &when {
            Precondition::Always => true,
            Precondition::Absent => present.is_none(),
            Precondition::Match(etag) => present.as_ref() == Some(etag),
        };
        if !holds {
            return Err(CloudError::Conflict(k.to_owned()));
        }
        let version = self.written.fetch_add(1, Ordering::SeqCst) as u64;
        objects.insert(key(bucket, k), (bytes, version));
        Ok(ETag(version.to_string()))
    }

    async fn get(&self, bucket: &str, k: &str) -> CloudResult<Object> {
        self.read.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let objects = self.objects.lock().unwrap();
        let (bytes, version) = objects.get(&key(bucket, k)).ok_or_else(|| CloudError::NotFound(k.to_owned()))?;
        Ok(Object { bytes: bytes.clone(), etag: ETag(version.to_string()) })
    }

    async fn get_if_changed(&self, bucket: &str, k: &str, etag: &ETag) -> CloudResult<Option<Object>> {
        Ok(Some(self.get(bucket, k).await?).filter(|object| object.etag != *etag))
    }

    async fn list(&self, bucket: &str, prefix: &str) -> CloudResult<Vec<ObjectInfo>> {
        let objects = self.objects.lock().unwrap();
        let matching = objects.iter().filter(|((b, k), _)| b == bucket && k.starts_with(prefix));
        Ok(matching.map(|((_, k), (bytes, _))| ObjectInfo { key: k.clone(), size: bytes.len() as u64 }).collect())
    }

    async fn delete(&self, bucket: &str, k: &str) -> CloudResult<()> {
        self.objects.lock().unwrap().remove(&key(bucket, k));
        Ok(())
    }
}
