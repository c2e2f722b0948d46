//! The records of all tokens, in two objects that are replaced by conditional puts.
//!
//! Those of tokens that are bound to a gallery have an object of their own: releases that know no such tokens would take
//! them for tokens without limits, and write them back without their galleries.

use std::sync::Arc;

use bytes::Bytes;

use super::token::{Record, Role, Token, TokenId};
use crate::{
    clock::now_ms,
    cloud::{CloudError, ETag, Object, ObjectStore, Precondition},
    recognition::GalleryName,
};

/// Key, in the state bucket, of the records of tokens that are bound to no gallery.
const TOKENS: &str = "access/tokens.json";
/// The same, of those that are bound to one.
const KEYS: &str = "access/keys.json";
/// Most tokens of a cluster. Every request looks through them.
const MAX_TOKENS: usize = 1_000;
/// Longest label, in characters.
const MAX_LABEL: usize = 100;
/// Attempts to write while others write at the same time.
const MAX_ATTEMPTS: usize = 10;

/// Whether tokens are bound to a gallery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Free,
    Bound,
}

impl Kind {
    fn key(self) -> &'static str {
        match self {
            Self::Free => TOKENS,
            Self::Bound => KEYS,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Free => Self::Bound,
            Self::Bound => Self::Free,
        }
    }
}

/// Records of one kind, and the tag of their object if there is one.
type Stored = (Vec<Record>, Option<ETag>);

/// All records as they were read.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    free: Stored,
    bound: Stored,
}

impl Snapshot {
    /// Returns whether there are tokens, or were some.
    pub fn any(&self) -> bool {
        self.free.1.is_some() || self.bound.1.is_some()
    }

    /// Returns all records, the oldest first.
    pub fn records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.free.0.iter().chain(&self.bound.0).cloned().collect();
        records.sort_by_key(|record| record.created_ms);
        records
    }
}

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
        Ok(self.snapshot().await?.any())
    }

    /// Returns the records of all tokens, the oldest first.
    pub async fn list(&self) -> Result<Vec<Record>, AccessError> {
        Ok(self.snapshot().await?.records())
    }

    /// Creates a token, which may be bound to a gallery.
    pub async fn create(&self, gallery: Option<GalleryName>, role: Role, label: &str) -> Result<Token, AccessError> {
        if label.chars().count() > MAX_LABEL || label.chars().any(char::is_control) {
            let why = format!("a label has at most {MAX_LABEL} characters, and no control character");
            return Err(AccessError::Refused(why));
        }
        let token = Token::new();
        let kind = if gallery.is_some() { Kind::Bound } else { Kind::Free };
        let others = self.read(kind.other()).await?.0.len();
        let record = token.record(role, gallery, label.to_owned(), now_ms());
        self.update(kind, |records| {
            if records.len() + others >= MAX_TOKENS {
                return Err(AccessError::Refused(format!("there are {MAX_TOKENS} tokens already; revoke some")));
            }
            records.push(record.clone());
            Ok(true)
        })
        .await?;
        Ok(token)
    }

    /// Revokes tokens, and returns the ids of which there is none.
    pub async fn revoke(&self, ids: &[TokenId]) -> Result<Vec<TokenId>, AccessError> {
        let known = self.list().await?;
        for kind in [Kind::Free, Kind::Bound] {
            self.update(kind, |records| {
                let before = records.len();
                records.retain(|record| !ids.contains(&record.id));
                Ok(records.len() < before)
            })
            .await?;
        }
        Ok(ids.iter().filter(|id| known.iter().all(|record| record.id != **id)).cloned().collect())
    }

    /// Applies a change to the newest records of a kind, and returns what it returns: whether anything has changed.
    async fn update(
        &self,
        kind: Kind,
        change: impl Fn(&mut Vec<Record>) -> Result<bool, AccessError>,
    ) -> Result<bool, AccessError> {
        for _ in 0..MAX_ATTEMPTS {
            let (mut records, etag) = self.read(kind).await?;
            if !change(&mut records)? {
                return Ok(false);
            }
            let bytes = serde_json::to_vec(&records).map_err(|error| AccessError::Refused(error.to_string()))?;
            let when = etag.map_or(Precondition::Absent, Precondition::Match);
            match self.store.put(&self.bucket, kind.key(), bytes.into(), when).await {
                Ok(_) => return Ok(true),
                Err(CloudError::Conflict(_) | CloudError::NotFound(_)) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(CloudError::Conflict("others keep changing the tokens; try again".into()).into())
    }

    async fn read(&self, kind: Kind) -> Result<Stored, AccessError> {
        match self.store.get(&self.bucket, kind.key()).await {
            Ok(Object { bytes, etag }) => Ok((decode(&bytes, kind)?, Some(etag))),
            Err(CloudError::NotFound(_)) => Ok((Vec::new(), None)),
            Err(other) => Err(other.into()),
        }
    }

    /// Reads the records of a kind, unless they still are what is known.
    async fn renewed(&self, kind: Kind, known: &Stored) -> Result<Option<Stored>, AccessError> {
        let Some(etag) = &known.1 else {
            let read = self.read(kind).await?;
            return Ok(read.1.is_some().then_some(read));
        };
        match self.store.get_if_changed(&self.bucket, kind.key(), etag).await {
            Ok(None) => Ok(None),
            Ok(Some(Object { bytes, etag })) => Ok(Some((decode(&bytes, kind)?, Some(etag)))),
            Err(CloudError::NotFound(_)) => Ok(Some((Vec::new(), None))),
            Err(other) => Err(other.into()),
        }
    }

    /// Reads what has changed since all records were read, and returns whether anything has.
    pub(super) async fn renew(&self, known: &mut Snapshot) -> Result<bool, AccessError> {
        let (free, bound) =
            futures_util::try_join!(self.renewed(Kind::Free, &known.free), self.renewed(Kind::Bound, &known.bound))?;
        let changed = free.is_some() || bound.is_some();
        known.free = free.unwrap_or_else(|| std::mem::take(&mut known.free));
        known.bound = bound.unwrap_or_else(|| std::mem::take(&mut known.bound));
        Ok(changed)
    }

    async fn snapshot(&self) -> Result<Snapshot, AccessError> {
        let mut snapshot = Snapshot::default();
        self.renew(&mut snapshot).await?;
        Ok(snapshot)
    }
}

fn decode(bytes: &Bytes, kind: Kind) -> Result<Vec<Record>, CloudError> {
    let invalid = |why: String| CloudError::Invalid(format!("{}: {why}", kind.key()));
    let records: Vec<Record> = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    match records.iter().find(|record| kind == Kind::Bound && record.gallery.is_none()) {
        None => Ok(records),
        Some(record) => Err(invalid(format!("the key {} has no gallery", record.id))),
    }
}
