//! Pseudonyms of people: what is kept of a name where the name itself must not be readable.
//!
//! A pseudonym is an HMAC of gallery and name. Whoever has the key and a name can tell which pseudonym is theirs; nobody
//! can tell a name from its pseudonym without the key, not even by trying all names.

use std::fmt;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{
    cloud::{CloudError, CloudResult, ObjectStore, Precondition},
    recognition::GalleryName,
};

/// Key of the object in the state bucket with the HMAC's key. Workers may not read it.
const KEY: &str = "private/pseudonyms.key";
/// Length of the HMAC's key in bytes.
const KEY_BYTES: usize = 32;
/// Length of a pseudonym in bytes: enough that no two names have the same one.
const PSEUDONYM_BYTES: usize = 16;

/// The pseudonym of a person in a gallery: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pseudonym(String);

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Computes pseudonyms. Cheap to clone.
#[derive(Clone)]
pub struct Pseudonyms(Hmac<Sha256>);

impl Pseudonyms {
    /// Reads the key in `bucket`, or creates it. All processes of a cluster have the same one.
    ///
    /// # Errors
    /// `Invalid` if the object is not a key. Any error of the store.
    pub async fn open(store: &dyn ObjectStore, bucket: &str) -> CloudResult<Self> {
        loop {
            match store.get(bucket, KEY).await {
                Ok(object) => return Self::of_key(&object.bytes),
                Err(CloudError::NotFound(_)) => {}
                Err(other) => return Err(other),
            }
            let key: [u8; KEY_BYTES] = rand::random();
            match store.put(bucket, KEY, Bytes::copy_from_slice(&key), Precondition::Absent).await {
                Ok(_) => return Self::of_key(&key),
                Err(CloudError::Conflict(_)) => {} // another process has just created it
                Err(other) => return Err(other),
            }
        }
    }

    fn of_key(key: &[u8]) -> CloudResult<Self> {
        if key.len() != KEY_BYTES {
            let why = format!("{KEY} has {} bytes instead of {KEY_BYTES}; restore it, or delete it", key.len());
            return Err(CloudError::Invalid(why));
        }
        Ok(Self(Hmac::new_from_slice(key).expect("an HMAC takes keys of any length")))
    }

    /// Creates a key of its own, for tests.
    #[cfg(test)]
    pub fn random() -> Self {
        Self::of_key(&rand::random::<[u8; KEY_BYTES]>()).expect("a key")
    }

    /// Returns the pseudonym of a person in a gallery.
    pub fn of(&self, gallery: &GalleryName, name: &str) -> Pseudonym {
        // The name of a gallery contains no zero byte.
        let digest = self.0.clone().chain_update(gallery.as_str()).chain_update([0]).chain_update(name).finalize();
        let digest = digest.into_bytes();
        Pseudonym(digest.iter().take(PSEUDONYM_BYTES).map(|byte| format!("{byte:02x}")).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn all_processes_of_a_cluster_compute_the_same_pseudonyms_and_another_cluster_does_not() {
        let (world, other) = (World::new().await, World::new().await);
        let state = &world.settings.store.state;
        let (first, second) = tokio::join!(
            Pseudonyms::open(&*world.objects, state),
            Pseudonyms::open(&*world.objects, state) // both find no key
        );
        let (first, second) = (first.expect("a key"), second.expect("a key"));
        let other = Pseudonyms::open(&*other.objects, state).await.expect("a key");
        let (default, staff) = (GalleryName::default(), GalleryName::try_from("staff".to_owned()).expect("a name"));
        let ada = first.of(&default, "Ada");
        assert_eq!(ada, second.of(&default, "Ada"));
        assert_ne!(ada, other.of(&default, "Ada"));
        assert_ne!(ada, first.of(&staff, "Ada"));
        assert_ne!(ada, first.of(&default, "Bob"));
        assert_eq!(ada.to_string().len(), 32);
        assert!(!ada.to_string().contains("Ada"));
    }

    #[tokio::test]
    async fn a_damaged_key_is_refused_and_not_replaced() {
        let world = World::new().await;
        let state = &world.settings.store.state;
        world.objects.put(state, KEY, Bytes::from_static(b"short"), Precondition::Always).await.expect("put");
        assert!(matches!(Pseudonyms::open(&*world.objects, state).await, Err(CloudError::Invalid(_))));
    }
}
