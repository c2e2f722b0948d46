//! The tokens as a web node knows them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use super::{
    store::{AccessError, TokenStore},
    token::{Record, Token},
};
use crate::cloud::ETag;

/// Age from which the records are read again before a request is decided, so that a revoked token is refused after this
/// time at the latest.
const MAX_AGE: Duration = Duration::from_secs(5);
/// The same for a request whose token is not known, so that a new token is accepted at once, and guesses cost little.
const MAX_AGE_OF_UNKNOWN: Duration = Duration::from_secs(1);

/// The tokens of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Shared>);

struct Shared {
    store: TokenStore,
    known: watch::Sender<Known>,
    /// Held while the store is read: one read at a time.
    reading: Mutex<Option<ETag>>,
    /// Whether there was a token since the start.
    any: AtomicBool,
}

#[derive(Clone)]
struct Known {
    records: Arc<Vec<Record>>,
    read_at: Instant,
}

impl Tokens {
    /// Reads the records.
    ///
    /// # Errors
    /// They cannot be read, so it is not known whether there are tokens.
    pub async fn open(store: TokenStore) -> Result<Self, AccessError> {
        let (records, etag) = store.read_if_changed(None).await?.unwrap_or_default();
        let any = AtomicBool::new(!records.is_empty());
        let known = watch::Sender::new(Known { records: Arc::new(records), read_at: Instant::now() });
        Ok(Self(Arc::new(Shared { store, known, reading: Mutex::new(etag), any })))
    }

    /// Creates a cache that knows of no token yet.
    #[cfg(test)]
    pub fn none(store: TokenStore) -> Self {
        let known = watch::Sender::new(Known { records: Arc::default(), read_at: Instant::now() });
        Self(Arc::new(Shared { store, known, reading: Mutex::default(), any: AtomicBool::new(false) }))
    }

    /// Returns whether there is a token, or was one since the process started: revoking the last one must not open the
    /// server.
    pub async fn any(&self) -> bool {
        let any = !self.records(MAX_AGE).await.is_empty();
        self.0.any.fetch_or(any, Ordering::Relaxed) || any
    }

    /// Returns the record of a token; `None` if it was revoked or never existed.
    pub async fn find(&self, token: &Token) -> Option<Record> {
        let of = |records: &[Record]| records.iter().find(|record| record.is_of(token)).cloned();
        match of(&self.records(MAX_AGE).await) {
            None => of(&self.records(MAX_AGE_OF_UNKNOWN).await),
            found => found,
        }
    }

    /// Returns the records, read again if they are older than `max_age`. If that fails, the old ones stay in use.
    async fn records(&self, max_age: Duration) -> Arc<Vec<Record>> {
        let fresh = |known: &Known| known.read_at.elapsed() < max_age;
        let known = self.0.known.borrow().clone();
        if fresh(&known) {
            return known.records;
        }
        let mut etag = self.0.reading.lock().await;
        let known = self.0.known.borrow().clone();
        if fresh(&known) {
            return known.records;
        }
        let records = match self.0.store.read_if_changed(etag.as_ref()).await {
            Ok(None) => known.records,
            Ok(Some((records, new))) => {
                *etag = new;
                Arc::new(records)
            }
            Err(error) => {
                tracing::warn!(%error, "the tokens could not be read: using those read before");
                known.records
            }
        };
        self.0.known.send_replace(Known { records: records.clone(), read_at: Instant::now() });
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::token::Role, cloud::local::LocalObjects};

    #[tokio::test]
    async fn a_token_is_accepted_at_once_and_refused_soon_after_it_was_revoked() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = TokenStore::new(Arc::new(LocalObjects::open(folder.path()).expect("a store")), "state".into());
        let tokens = Tokens::open(store.clone()).await.expect("read");
        assert!(!tokens.any().await);
        let (first, second) = (store.create(Role::Read, "a").await, store.create(Role::Admin, "b").await);
        let (first, second) = (first.expect("created"), second.expect("created"));
        tokio::time::pause();
        tokio::time::advance(MAX_AGE_OF_UNKNOWN).await;
        assert_eq!(tokens.find(&first).await.map(|record| record.role), Some(Role::Read));
        assert_eq!(tokens.find(&second).await.map(|record| record.role), Some(Role::Admin));
        assert!(tokens.any().await);

        assert!(store.revoke(first.id()).await.expect("revoked"));
        assert!(!store.revoke(first.id()).await.expect("nothing to revoke"));
        assert!(tokens.find(&first).await.is_some(), "not read again yet");
        tokio::time::advance(MAX_AGE).await;
        assert!(tokens.find(&first).await.is_none());
        assert!(tokens.find(&second).await.is_some());
        assert_eq!(store.list().await.expect("listed").len(), 1);

        assert!(store.revoke(second.id()).await.expect("revoked"));
        tokio::time::advance(MAX_AGE).await;
        assert!(tokens.find(&second).await.is_none());
        assert!(tokens.any().await, "there was one");
    }

    #[tokio::test]
    async fn a_label_with_control_characters_or_of_excessive_length_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = TokenStore::new(Arc::new(LocalObjects::open(folder.path()).expect("a store")), "state".into());
        for label in ["a\nb", &"x".repeat(101)] {
            assert!(matches!(store.create(Role::Read, label).await, Err(AccessError::Refused(_))));
        }
    }
}
