//! Tokens, and the records that are kept of them.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::recognition::GalleryName;

/// What a token begins with, so that scanners for leaked secrets can find it.
const PREFIX: &str = "rollcall_";
/// Bytes of the id.
const ID: usize = 6;
/// Bytes of the secret.
const SECRET: usize = 32;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Uploads photos, and reads results by their ids.
    Upload,
    /// Reads results by their ids, the names of the people, the fleet and the metrics.
    Read,
    /// Everything: also adds and removes people, deletes results, and manages dead letters.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upload => "upload",
            Self::Read => "read",
            Self::Admin => "admin",
        })
    }
}

/// Identifies a token in lists and logs. It is no secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub String);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A token: `rollcall_` and then, in base64 for URLs, its id and its secret. It is never stored or logged.
pub struct Token {
    id: TokenId,
    secret: [u8; SECRET],
}

impl Token {
    /// Creates a new token.
    pub fn new() -> Self {
        let id: [u8; ID] = rand::random();
        Self { id: TokenId(URL_SAFE_NO_PAD.encode(id)), secret: rand::random() }
    }

    /// Returns what is kept of the token.
    pub fn record(&self, role: Role, gallery: Option<GalleryName>, label: String, created_ms: u64) -> Record {
        Record { id: self.id.clone(), role, gallery, label, created_ms, hash: self.hash() }
    }

    /// Returns the text that clients send.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}{}", self.id, URL_SAFE_NO_PAD.encode(self.secret))
    }

    /// Returns the id of the token.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// The secret has too many bits to be guessed, so a fast hash without salt is enough.
    fn hash(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.secret))
    }
}

impl Default for Token {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows the id, so that the secret gets into no log.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let rest = text.strip_prefix(PREFIX).ok_or(NotAToken)?;
        let (id, secret) = rest.split_at_checked(ID.div_ceil(3) * 4).ok_or(NotAToken)?;
        let secret = URL_SAFE_NO_PAD.decode(secret).map_err(|_| NotAToken)?;
        Ok(Self { id: TokenId(id.to_owned()), secret: secret.try_into().map_err(|_| NotAToken)? })
    }
}

/// The text is not a token. It is not shown, because it may be nearly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not a token")]
pub struct NotAToken;

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The token.
    pub id: TokenId,
    /// What it allows.
    pub role: Role,
    /// The gallery to which it is bound: then it is a key of the API of CompreFace, and allows nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gallery: Option<GalleryName>,
    /// What it is for, in the words of whoever created it.
    pub label: String,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// SHA-256 of its secret, in base64.
    hash: String,
}

impl Record {
    /// Returns whether this is the record of `token`.
    pub fn is_of(&self, token: &Token) -> bool {
        // What an attacker could learn from the time of this comparison is a prefix of a hash, not of the secret.
        self.id == token.id && self.hash == token.hash()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_by_its_record_and_only_by_it() {
        let (token, other) = (Token::new(), Token::new());
        let record = token.record(Role::Read, None, "entrance".into(), 1);
        let parsed: Token = token.reveal().parse().expect("a token");
        assert!(record.is_of(&token) && record.is_of(&parsed) && !record.is_of(&other));
        let forged = Token { id: token.id().clone(), secret: [0; SECRET] };
        assert!(!record.is_of(&forged));
    }

    #[test]
    fn neither_the_record_nor_the_debug_text_contains_the_secret() {
        let token = Token::new();
        let secret = token.reveal()[PREFIX.len() + 8..].to_owned();
        let record = token.record(Role::Admin, None, String::new(), 1);
        let kept = format!("{token:?} {record:?} {}", serde_json::to_string(&record).expect("JSON"));
        assert!(kept.contains(&token.id().0) && !kept.contains(&secret), "{kept}");
    }

    #[test]
    fn other_text_is_not_a_token() {
        let good = Token::new().reveal();
        for bad in
            ["", "rollcall_", "Bearer x", &good[1..], &good[..good.len() - 1], &format!("{good}A"), "rollcall_äöü"]
        {
            assert_eq!(bad.parse::<Token>().err(), Some(NotAToken), "{bad:?}");
        }
    }
}
