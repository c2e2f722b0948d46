//! What tests of recognition share: settings with the models of `make setup`, photos, a store in memory.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use rollcall::{
    cloud::{CloudError, CloudResult, ETag, Object, ObjectInfo, ObjectStore, Precondition},
    inference::{
        Recogniser,
        factory::factory,
        gallery::{Gallery, GalleryStores, Person, cache::GalleryCache, store::GalleryStore},
    },
    job::Failure,
    recognition::{GalleryName, ModelId, Recognition},
    settings::{Int8, Layers, Machine, Settings},
};
pub use rollcall_testing::assets::{asset, sample};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the defaults with the fp32 embedder, and the paths of the installed models.
pub fn settings() -> Settings {
    let layers = Layers::load(None, HashMap::new()).unwrap();
    let mut settings = Settings::from_layers(&layers, Machine::with_cores(2)).unwrap();
    settings.recognition.runtime = asset("onnxruntime/libonnxruntime.so");
    settings.recognition.detector = asset("models/face_detection_yunet_2023mar.onnx");
    settings.recognition.embedder = asset("models/face_recognition_sface_2021dec.onnx");
    settings.recognition.embedder_is_auto = false;
    settings
}

/// Returns the same with the int8 embedder, if this CPU has the instructions for it.
pub fn int8_settings() -> Option<Settings> {
    let mut settings = settings();
    settings.recognition.embedder = asset("models/face_recognition_sface_2021dec_int8.onnx");
    if [Int8::Avx512Vnni, Int8::AvxVnni].contains(&Int8::detect()) {
        return Some(settings);
    }
    eprintln!("SKIPPED: this CPU has neither AVX-512 VNNI nor AVX-VNNI");
    None
}

/// Returns the same with an embedder that is not SFace.
pub fn other_settings() -> Settings {
    let mut settings = settings();
    settings.recognition.embedder = root().join("tests/models/mean_embedder.onnx");
    settings
}

/// Returns the default gallery in a store.
pub fn gallery_in(store: &Arc<MemoryStore>, settings: &Settings) -> GalleryStore {
    GalleryStores::new(store.clone(), settings).gallery(&GalleryName::default())
}

/// Everybody in a gallery.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    pub version: u64,
    pub model: Option<ModelId>,
    pub people: Vec<Person>,
}

impl Contents {
    pub async fn of(gallery: &GalleryStore) -> Self {
        let manifest = gallery.manifest().await.unwrap();
        let people = gallery.everybody().await.unwrap();
        Self { version: manifest.version, model: manifest.model, people }
    }

    pub fn names(&self) -> Vec<&str> {
        self.people.iter().map(|person| person.name.as_str()).collect()
    }
}

/// Returns the newest version of a gallery, to be searched.
pub async fn newest(gallery: GalleryStore) -> Arc<Gallery> {
    GalleryCache::new(gallery).refresh().await.unwrap()
}

pub fn model(id: &str) -> ModelId {
    ModelId::try_from(id.to_owned()).unwrap()
}

/// Returns the folder of the LFW photos if it exists: they are not part of the project, because they have no licence.
/// Tests that need them have `lfw` in their name, so that the runner shows what they print.
pub fn lfw() -> Option<PathBuf> {
    let path = std::env::var_os("ROLLCALL_LFW").map_or_else(|| root().join("../shared/photos/lfw"), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: there are no LFW photos at {}; set ROLLCALL_LFW to their folder", path.display());
    None
}

pub fn recogniser(settings: &Settings) -> Box<dyn Recogniser> {
    factory(&settings.recognition).build().unwrap()
}

/// Recognises an image with an empty gallery, and returns everything in it, with embeddings.
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
        Ok(matching
            .map(|((_, k), (bytes, _))| ObjectInfo { key: k.clone(), size: bytes.len() as u64, modified_ms: 0 })
            .collect())
    }

    async fn delete(&self, bucket: &str, k: &str) -> CloudResult<()> {
        self.objects.lock().unwrap().remove(&key(bucket, k));
        Ok(())
    }

    async fn check(&self, _: &str) -> CloudResult<()> {
        Ok(())
    }
}
