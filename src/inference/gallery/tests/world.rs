//! A gallery on a disk, with an index from 60 photos.

use std::sync::Arc;

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha12Rng};

use super::*;
use crate::{
    cloud::local::LocalObjects,
    inference::gallery::{
        GalleryStores,
        cache::{GalleryCache, IndexRules},
        store::{GalleryError, GalleryStore},
    },
    recognition::GalleryName,
    settings::Settings,
};

pub const RULES: IndexRules = IndexRules { min_photos: 60, max_others: 20 };
pub const DIMENSION: usize = 32;

/// A gallery on a disk.
pub struct World {
    pub folder: tempfile::TempDir,
    pub settings: Settings,
    pub objects: Arc<LocalObjects>,
    pub rng: ChaCha12Rng,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = crate::testing::settings();
        settings.local.data_dir = folder.path().to_owned();
        let objects = Arc::new(LocalObjects::open(folder.path()).unwrap());
        Self { folder, settings, objects, rng: ChaCha12Rng::seed_from_u64(1) }
    }

    pub fn stores(&self) -> GalleryStores {
        GalleryStores::new(self.objects.clone(), &self.settings)
    }

    /// The default gallery, in parts of eight photos.
    pub fn store(&self) -> GalleryStore {
        self.stores().gallery(&GalleryName::default()).with_max_part(8 * DIMENSION)
    }

    pub fn cache(&self) -> GalleryCache {
        GalleryCache::with_rules(self.store(), RULES)
    }

    pub fn embedding(&mut self) -> Vec<f32> {
        let mut embedding: Vec<f32> = (0..DIMENSION).map(|_| self.rng.random_range(-1.0..1.0)).collect();
        normalise(&mut embedding);
        embedding
    }

    pub fn person(&mut self, name: &str) -> Person {
        Person::new(name, vec![self.embedding(), self.embedding()])
    }

    /// Adds people with two photos each.
    pub async fn fill(&mut self, count: usize) -> Vec<Person> {
        let people: Vec<Person> = (0..count).map(|n| self.person(&format!("person {n:03}"))).collect();
        self.store().add_people(people.clone(), model()).await.unwrap();
        people
    }

    /// Returns every file below the data folder that contains the bytes.
    pub fn files_with(&self, bytes: &[u8]) -> Vec<std::path::PathBuf> {
        let mut folders = vec![self.folder.path().to_owned()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for path in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if std::fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes) {
                    found.push(path);
                }
            }
        }
        found
    }

    pub fn index_files(&self) -> usize {
        let Ok(folder) = self.folder.path().join("index").read_dir() else { return 0 };
        folder.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "index")).count()
    }
}

/// Announces nothing before photos are removed.
pub async fn silently(_: Vec<String>) -> Result<(), GalleryError> {
    Ok(())
}

pub fn bytes_of(embedding: &[f32]) -> Vec<u8> {
    embedding.iter().flat_map(|number| number.to_le_bytes()).collect()
}

pub fn named(gallery: &Gallery, embedding: &[f32]) -> String {
    gallery.nearest(embedding).unwrap().expect("somebody").0.to_owned()
}

/// Checks that the gallery finds what an exact scan of `people` finds.
pub fn check(gallery: &Gallery, people: &[Person], world: &mut World) {
    let exact = Gallery::new(gallery.version, people, gallery.model.clone());
    for _ in 0..20 {
        let probe = world.embedding();
        assert_eq!(gallery.nearest(&probe), exact.nearest(&probe));
        assert_eq!(gallery.candidates(&probe, 5), exact.candidates(&probe, 5));
    }
    for person in people {
        assert_eq!(named(gallery, &person.embeddings[0]), person.name);
    }
}
