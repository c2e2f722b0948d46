//! `[gallery]`: the enrolled people.

use std::time::Duration;

use super::{
    layers::SettingsError,
    reader::{HOUR, MILLISECOND, Reader},
};

/// Settings of the gallery.
#[derive(Clone, Debug)]
pub struct Gallery {
    /// How often a worker checks for a new version of the gallery.
    pub refresh: Duration,
    /// Maximum number of people.
    pub max_people: usize,
    /// Maximum number of photos per person.
    pub max_photos: usize,
    /// Whether the photos of people who are added by HTTP are kept.
    pub keep_photos: bool,
}

impl Gallery {
    pub(super) fn read(r: &Reader<'_>) -> Result<Self, SettingsError> {
        Ok(Self {
            refresh: r.duration("gallery.refresh", 100 * MILLISECOND..=HOUR)?,
            max_people: r.count("gallery.max_people", 1..=1_000_000)?,
            max_photos: r.count("gallery.max_photos", 1..=1000)?,
            keep_photos: r.choice("gallery.keep_photos", &[("yes", true), ("no", false)])?,
        })
    }
}
