//! The tokens as a web node knows them.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use super::{
    store::{AccessError, Snapshot, TokenStore},
    token::{Record, Token},
};

/// Age from which the records are read again before a request is decided, so that a revoked token is refused after this
/// time at the latest.
const MAX_AGE: Duration = Duration::from_secs(5);
/// The same for a request whose token is not known, so that a new token is accepted at once, and guesses cost little.
const MAX_AGE_OF_UNKNOWN: Duration = Duration::from_secs(1);

/// Longest time for which requests wait while the records are read again. After that, the old ones stay in use.
const PATIENCE: Duration = Duration::from_secs(1);

/// The tokens of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Shared>);

struct Shared {
    store: TokenStore,
    known: watch::Sender<Known>,
    /// Held while the store is read: one read at a time.
    reading: Mutex<Snapshot>,
}

#[derive(Clone)]
struct Known {
    records: Arc<Vec<Record>>,
    /// Whether there are records, or were some.
    ever: bool,
    read_at: Instant,
}

impl Tokens {
    /// Reads the records.
    ///
    /// # Errors
    /// They cannot be read, so it is not known whether there are tokens.
    pub async fn open(store: TokenStore) -> Result<Self, AccessError> {
        let mut read = Snapshot::default();
        store.renew(&mut read).await?;
        let known = Known { records: Arc::new(read.records()), ever: read.any(), read_at: Instant::now() };
        Ok(Self(Arc::new(Shared { store, known: watch::Sender::new(known), reading: Mutex::new(read) })))
    }

    /// Creates a cache that knows of no token yet.
    #[cfg(test)]
    pub fn none(store: TokenStore) -> Self {
        let known = Known { records: Arc::default(), ever: false, read_at: Instant::now() };
        Self(Arc::new(Shared { store, known: watch::Sender::new(known), reading: Mutex::default() }))
    }

    /// Returns whether there is a token, or ever was one: revoking the last one does not open the server.
    pub async fn any(&self) -> bool {
        let known = self.0.known.borrow().ever;
        known || self.known(MAX_AGE_OF_UNKNOWN).await.ever
    }

    /// Returns the record of a token; `None` if it was revoked or never existed.
    pub async fn find(&self, token: &Token) -> Option<Record> {
        let of = |records: &[Record]| records.iter().find(|record| record.is_of(token)).cloned();
        match of(&self.known(MAX_AGE).await.records) {
            None => of(&self.known(MAX_AGE_OF_UNKNOWN).await.records),
            found => found,
        }
    }

    /// Returns what is known, read again if it is older than `max_age`. If that fails, what was known stays in use.
    async fn known(&self, max_age: Duration) -> Known {
        let fresh = |known: &Known| known.read_at.elapsed() < max_age;
        let known = self.0.known.borrow().clone();
        if fresh(&known) {
            return known;
        }
        let mut read = self.0.reading.lock().await;
        let mut known = self.0.known.borrow().clone();
        if fresh(&known) {
            return known;
        }
        match tokio::time::timeout(PATIENCE, self.0.store.renew(&mut read)).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => {
                known.ever |= read.any();
                known.records = Arc::new(read.records());
            }
            Ok(Err(error)) => tracing::warn!(%error, "the tokens could not be read: using those read before"),
            Err(_) => tracing::warn!("the tokens could not be read in time: using those read before"),
        }
        known.read_at = Instant::now();
        self.0.known.send_replace(known.clone());
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::token::{Role, TokenId},
        cloud::{CloudError, ObjectStore as _, Precondition, local::LocalObjects},
        recognition::GalleryName,
    };

    #[tokio::test]
    async fn a_token_is_accepted_at_once_and_refused_soon_after_it_was_revoked() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = TokenStore::new(Arc::new(LocalObjects::open(folder.path()).expect("a store")), "state".into());
        let tokens = Tokens::open(store.clone()).await.expect("read");
        assert!(!tokens.any().await);
        let (first, second) = (store.create(None, Role::Read, "a").await, store.create(None, Role::Admin, "b").await);
        let (first, second) = (first.expect("created"), second.expect("created"));
        tokio::time::pause();
        tokio::time::advance(MAX_AGE_OF_UNKNOWN).await;
        assert_eq!(tokens.find(&first).await.map(|record| record.role), Some(Role::Read));
        assert_eq!(tokens.find(&second).await.map(|record| record.role), Some(Role::Admin));
        assert!(tokens.any().await);

        let revoke = async |token: &Token| store.revoke(std::slice::from_ref(token.id())).await.expect("revoked");
        assert_eq!(revoke(&first).await, []);
        assert_eq!(revoke(&first).await, std::slice::from_ref(first.id()), "nothing to revoke");
        assert!(tokens.find(&first).await.is_some(), "not read again yet");
        tokio::time::advance(MAX_AGE).await;
        assert!(tokens.find(&first).await.is_none());
        assert!(tokens.find(&second).await.is_some());
        assert_eq!(store.list().await.expect("listed").len(), 1);

        assert_eq!(revoke(&second).await, []);
        tokio::time::advance(MAX_AGE).await;
        assert!(tokens.find(&second).await.is_none());
        assert!(tokens.any().await, "there was one");
        assert!(Tokens::open(store).await.expect("read").any().await, "also after a restart");
    }

    #[tokio::test]
    async fn keys_are_in_an_object_of_their_own_that_earlier_releases_do_not_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let objects = Arc::new(LocalObjects::open(folder.path()).expect("a store"));
        let store = TokenStore::new(objects.clone(), "state".into());
        let tokens = Tokens::open(store.clone()).await.expect("read");
        let staff = GalleryName::try_from("staff".to_owned()).expect("a name");
        let key = store.create(Some(staff.clone()), Role::Admin, "key").await.expect("created");
        assert!(store.any().await.expect("read"), "a key is a token");
        assert!(matches!(objects.get("state", "access/tokens.json").await, Err(CloudError::NotFound(_))));
        let token = store.create(None, Role::Read, "token").await.expect("created");
        let object = async |name: &str| {
            let object = objects.get("state", &format!("access/{name}.json")).await.expect("an object");
            String::from_utf8(object.bytes.to_vec()).expect("text")
        };
        let (of_tokens, of_keys) = (object("tokens").await, object("keys").await);
        assert!(of_tokens.contains(&token.id().0) && !of_tokens.contains(&key.id().0), "{of_tokens}");
        assert!(of_keys.contains(&key.id().0) && !of_keys.contains(&token.id().0), "{of_keys}");
        let listed = store.list().await.expect("listed");
        assert_eq!(listed.iter().map(|record| record.label.as_str()).collect::<Vec<_>>(), ["key", "token"]);

        tokio::time::pause();
        tokio::time::advance(MAX_AGE).await;
        assert_eq!(tokens.find(&key).await.and_then(|record| record.gallery), Some(staff));
        assert_eq!(tokens.find(&token).await.map(|record| record.gallery), Some(None));
        assert!(tokens.any().await);
        let unknown = TokenId("unknown".into());
        let revoked = store.revoke(&[key.id().clone(), unknown.clone()]).await.expect("revoked");
        assert_eq!(revoked, [unknown]);
        tokio::time::advance(MAX_AGE).await;
        assert!(tokens.find(&key).await.is_none() && tokens.find(&token).await.is_some());
        assert_eq!(object("keys").await, "[]");

        // Without its gallery, a key would be a token without limits.
        objects.put("state", "access/keys.json", of_tokens.into(), Precondition::Always).await.expect("put");
        assert!(store.list().await.is_err());
        tokio::time::advance(MAX_AGE).await;
        assert!(tokens.find(&key).await.is_none());
    }

    #[tokio::test]
    async fn a_label_with_control_characters_or_of_excessive_length_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = TokenStore::new(Arc::new(LocalObjects::open(folder.path()).expect("a store")), "state".into());
        for label in ["a\nb", &"x".repeat(101)] {
            assert!(matches!(store.create(None, Role::Read, label).await, Err(AccessError::Refused(_))));
        }
    }
}
