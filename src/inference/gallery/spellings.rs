//! Finds a person by a name in another case.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    error::GalleryError,
    manifest::{Manifest, PartId},
    store::GalleryStore,
};
use crate::cloud::CloudError;

/// Attempts to read a version all of whose parts are there.
const MAX_READS: usize = 10;
/// Parts that are in memory at the same time.
const PARTS: usize = 16;

/// The names of a part, by their forms without case.
type Names = Arc<HashMap<String, String>>;

/// The names of galleries without their case, part by part: a part never changes, so only parts that are new are read.
#[derive(Default)]
pub struct Spellings(Mutex<HashMap<String, HashMap<PartId, Names>>>);

impl Spellings {
    /// Returns the name of whoever is meant by `name`: of the person with that name, also if it is only reserved, or else
    /// of one whose name differs in case only. `None` if there is nobody.
    ///
    /// Reads the parts of the gallery that have changed since the last call that needed them: at first, all of them.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn resolve(&self, gallery: &GalleryStore, name: &str) -> Result<Option<String>, GalleryError> {
        let reserved = gallery.reserved_names().await?;
        if reserved.contains(name) || gallery.person(name).await?.is_some() {
            return Ok(Some(name.to_owned()));
        }
        let folded = fold(name);
        if let Some(found) = reserved.into_iter().find(|known| fold(known) == folded) {
            return Ok(Some(found));
        }
        for _ in 0..MAX_READS {
            let manifest = gallery.manifest().await?;
            let read = self.read(gallery, &manifest).await;
            if let Some(names) = gallery.unless_newer(&manifest, read).await? {
                return Ok(names.iter().find_map(|names| names.get(&folded).cloned()));
            }
        }
        Err(CloudError::Unavailable("others keep changing the gallery".into()).into())
    }

    /// Returns the names of every part of a version.
    async fn read(&self, gallery: &GalleryStore, manifest: &Manifest) -> Result<Vec<Names>, GalleryError> {
        let mut known = self.known().get(&gallery.prefix).cloned().unwrap_or_default();
        let used: Vec<PartId> = manifest.parts.iter().map(|part| part.id).collect();
        known.retain(|id, _| used.contains(id) && *id != PartId::SNAPSHOT);
        let missing = (0..used.len()).filter(|at| !known.contains_key(&used[*at]));
        let missing: Vec<usize> = missing.collect();
        for some in missing.chunks(PARTS) {
            let parts = gallery.parts(manifest, some.iter().copied().collect::<BTreeSet<_>>()).await?;
            for (at, part) in parts {
                let names = part.people.into_iter().map(|person| (fold(&person.name), person.name));
                known.insert(used[at], Arc::new(names.collect()));
            }
        }
        let names = used.iter().filter_map(|id| known.get(id).cloned()).collect();
        self.known().insert(gallery.prefix.clone(), known);
        Ok(names)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, HashMap<PartId, Names>>> {
        // A panic while it was locked leaves a map that is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fold(name: &str) -> String {
    name.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inference::gallery::GalleryStores,
        recognition::{GalleryName, ModelId},
        testing::World,
    };

    #[tokio::test]
    async fn a_name_is_found_in_any_case_and_its_own_first() {
        let world = World::new().await;
        let stores = GalleryStores::new(world.objects.clone(), &world.settings);
        // One person in a part.
        let gallery = stores.gallery(&GalleryName::default()).with_max_part(1);
        let add = async |name: &str, x: f32| {
            gallery.add(name, vec![vec![x, 1.0]], ModelId::known("m")).await.expect("added");
        };
        let spellings = Spellings::default();
        let found = async |name: &str| spellings.resolve(&gallery, name).await.expect("read");
        assert_eq!(found("Ada").await, None);
        add("Ada", 0.0).await;
        add("Zo\u{eb}", 0.1).await;
        for (name, expected) in [
            ("Ada", Some("Ada")),
            ("ada", Some("Ada")),
            ("ADA", Some("Ada")),
            ("ZO\u{cb}", Some("Zo\u{eb}")),
            ("zoe", None),
        ] {
            assert_eq!(found(name).await.as_deref(), expected, "{name}");
        }
        add("ada", 0.2).await;
        assert_eq!(found("ada").await.as_deref(), Some("ada"), "the name itself comes first");
        gallery.remove("Ada").await.expect("removed");
        assert_eq!(found("ADA").await.as_deref(), Some("ada"));
        gallery.remove("ada").await.expect("removed");
        assert_eq!(found("ADA").await, None);
        assert!(gallery.reserve_name("Bob").await.expect("reserved"));
        assert_eq!(found("BOB").await.as_deref(), Some("Bob"), "also without an example");
        let other = stores.gallery(&"staff".parse().expect("a name"));
        assert_eq!(spellings.resolve(&other, "ZO\u{cb}").await.expect("read"), None, "of another gallery");
    }
}
