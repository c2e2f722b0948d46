//! The records of all tokens, in one object that is replaced by conditional puts.

use std::sync::Arc;

use bytes::Bytes;

use super::token::{Record, Role, Token, TokenId};
use crate::{
    clock::now_ms,
    cloud::{CloudError, ETag, Object, ObjectStore, Precondition},
    recognition::GalleryName,
};

/// Key of the records in the state bucket.
const KEY: &str = "access/tokens.json";
/// Most tokens of a cluster. Every request looks through them.
const MAX_TOKENS: usize = 1_000;
/// Longest label, in characters.
const MAX_LABEL: usize = 100;
/// Attempts to write while others write at the same time.
const MAX_ATTEMPTS: usize = 10;

/// Why tokens were not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The change is invalid; the message says what is allowed.
    #[error("{0}")]
    Refused(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] CloudError),
}

/// The records of all tokens. Cheap to clone.
#[derive(Clone)]
pub struct TokenStore {
    store: Arc<dyn ObjectStore>,
    bucket: String,
}

impl TokenStore {
    /// Creates a handle to the tokens in `bucket` of `store`.
    pub fn new(store: Arc<dyn ObjectStore>, bucket: String) -> Self {
        Self { store, bucket }
    }

    /// Returns whether a token was ever created. Without one, a server on loopback is open.
    pub async fn any(&self) -> Result<bool, AccessError> {
        Ok(self.read().await?.1.is_some())
    }

    /// Returns the records of all tokens, the oldest first.
    pub async fn list(&self) -> Result<Vec<Record>, AccessError> {
        Ok(self.read().await?.0)
    }

    /// Creates a token, which may be bound to a gallery.
    pub async fn create(&self, gallery: Option<GalleryName>, role: Role, label: &str) -> Result<Token, AccessError> {
        if label.chars().count() > MAX_LABEL || label.chars().any(char::is_control) {
            let why = format!("a label has at most {MAX_LABEL} characters, and no control character");
            return Err(AccessError::Refused(why));
        }
        let token = Token::new();
        let record = token.record(role, gallery, label.to_owned(), now_ms());
        self.update(|records| {
            if records.len() >= MAX_TOKENS {
                return Err(AccessError::Refused(format!("there are {MAX_TOKENS} tokens already; revoke some")));
            }
            records.push(record.clone());
            Ok(true)
        })
        .await?;
        Ok(token)
    }

    /// Revokes tokens, all at once, and returns the ids of which there is none.
    pub async fn revoke(&self, ids: &[TokenId]) -> Result<Vec<TokenId>, AccessError> {
        let known = self.list().await?;
        self.update(|records| {
            let before = records.len();
            records.retain(|record| !ids.contains(&record.id));
            Ok(records.len() < before)
        })
        .await?;
        Ok(ids.iter().filter(|id| known.iter().all(|record| record.id != **id)).cloned().collect())
    }

    /// Applies a change to the newest records, and returns what it returns: whether anything has changed.
    async fn update(
        &self,
        change: impl Fn(&mut Vec<Record>) -> Result<bool, AccessError>,
    ) -> Result<bool, AccessError> {
        for _ in 0..MAX_ATTEMPTS {
            let (mut records, etag) = self.read().await?;
            if !change(&mut records)? {
                return Ok(false);
            }
            let bytes = serde_json::to_vec(&records).map_err(|error| AccessError::Refused(error.to_string()))?;
            let when = etag.map_or(Precondition::Absent, Precondition::Match);
            match self.store.put(&self.bucket, KEY, bytes.into(), when).await {
                Ok(_) => return Ok(true),
                Err(CloudError::Conflict(_) | CloudError::NotFound(_)) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(CloudError::Conflict("others keep changing the tokens; try again".into()).into())
    }

    async fn read(&self) -> Result<(Vec<Record>, Option<ETag>), AccessError> {
        match self.store.get(&self.bucket, KEY).await {
            Ok(Object { bytes, etag }) => Ok((decode(&bytes)?, Some(etag))),
            Err(CloudError::NotFound(_)) => Ok((Vec::new(), None)),
            Err(other) => Err(other.into()),
        }
    }

    /// Reads the records if they have changed; `None` if they still have this tag.
    pub(super) async fn read_if_changed(
        &self,
        etag: Option<&ETag>,
    ) -> Result<Option<(Vec<Record>, Option<ETag>)>, AccessError> {
        let Some(etag) = etag else { return self.read().await.map(Some) };
        match self.store.get_if_changed(&self.bucket, KEY, etag).await {
            Ok(None) => Ok(None),
            Ok(Some(Object { bytes, etag })) => Ok(Some((decode(&bytes)?, Some(etag)))),
            Err(CloudError::NotFound(_)) => Ok(Some((Vec::new(), None))),
            Err(other) => Err(other.into()),
        }
    }
}

fn decode(bytes: &Bytes) -> Result<Vec<Record>, CloudError> {
    serde_json::from_slice(bytes).map_err(|error| CloudError::Invalid(format!("{KEY}: {error}")))
}
