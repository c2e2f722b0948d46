//! The lines of the audit log.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{access::Role, pseudonyms::Pseudonym, recognition::GalleryName};

/// Who has done something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Actor {
    /// The owner of a token, by its id.
    Token {
        /// The id, which is no secret.
        id: String,
        /// The token's role.
        role: Role,
    },
    /// A request without a token, where none was needed.
    Local,
    /// A request without a token, where `http.anonymous` allows it.
    Anonymous,
    /// A user of the command line, by the name of their account on the machine.
    User(String),
}

/// How it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is about to begin. If no other line follows, the process has died.
    Begun,
    /// The command has succeeded.
    Done,
    /// The command has failed.
    Failed,
    /// The status of the response.
    #[serde(untagged)]
    Status(u16),
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in UTC with milliseconds.
    pub at: String,
    /// Who.
    pub by: Actor,
    /// The address of the client, or of the last proxy before it that `http.proxies` does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// Method and route, without what clients choose; or the command.
    pub action: String,
    /// How it has ended.
    pub outcome: Outcome,
    /// The gallery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gallery: Option<GalleryName>,
    /// The people concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<Pseudonym>,
    /// Whether everybody in the gallery is concerned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub everybody: bool,
    /// The id of the job whose result is concerned, of the example, or of the token that was created or revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Entry {
    /// Creates an entry without a subject.
    pub fn new(now_ms: u64, by: Actor, action: impl Into<String>, outcome: Outcome) -> Self {
        Self {
            at: time(now_ms),
            by,
            from: None,
            action: action.into(),
            outcome,
            gallery: None,
            people: Vec::new(),
            everybody: false,
            id: None,
        }
    }

    /// Returns whether the entry concerns a person of a gallery.
    pub fn concerns(&self, gallery: &GalleryName, person: &Pseudonym) -> bool {
        self.people.contains(person) || (self.everybody && self.gallery.as_ref() == Some(gallery))
    }
}

/// Formats milliseconds since the Unix epoch. A time after the year 9999 is formatted as the end of that year.
pub fn time(ms: u64) -> String {
    const LAST: u64 = 253_402_300_799_999;
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_millis(ms.min(LAST))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_did_what_when_from_where_and_how_it_ended() {
        let by = Actor::Token { id: "AbC".into(), role: Role::Admin };
        let entry = Entry {
            from: Some([10, 0, 0, 7].into()),
            gallery: Some(GalleryName::default()),
            everybody: true,
            ..Entry::new(1_795_951_409_570, by, "DELETE /v1/people/{name}", Outcome::Status(204))
        };
        let line = serde_json::to_string(&entry).expect("JSON");
        let expected = r#"{"at":"2026-11-29T11:23:29.570Z","by":{"token":{"id":"AbC","role":"admin"}},"from":"10.0.0.7","action":"DELETE /v1/people/{name}","outcome":204,"gallery":"default","everybody":true}"#;
        assert_eq!(line, expected);
        assert_eq!(serde_json::from_str::<Entry>(&line).expect("an entry"), entry);
        for (by, outcome, text) in [
            (Actor::Local, Outcome::Begun, r#""by":"local","action":"x","outcome":"begun""#),
            (Actor::User("ada".into()), Outcome::Failed, r#""by":{"user":"ada"},"action":"x","outcome":"failed""#),
        ] {
            let entry = Entry::new(0, by, "x", outcome);
            let line = serde_json::to_string(&entry).expect("JSON");
            assert!(line.contains(text), "{line}");
            assert_eq!(serde_json::from_str::<Entry>(&line).expect("an entry"), entry);
        }
    }
}
