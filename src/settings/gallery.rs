//! `[gallery]`: the people who are known.

use std::time::Duration;

use super::{
    layers::{Layers, SettingsError},
    units::HOUR,
};

/// `[gallery]`.
#[derive(Clone, Debug)]
pub struct Gallery {
    /// How often a worker reads the gallery anew.
    pub refresh: Duration,
    /// Most people.
    pub max_people: usize,
    /// Most photos of one person.
    pub max_photos: usize,
}

impl Gallery {
    pub(super) fn from_layers(l: &Layers) -> Result<Self, SettingsError> {
        Ok(Self {
            refresh: l.duration("gallery.refresh", Duration::from_millis(100), HOUR)?,
            max_people: l.count("gallery.max_people", 1, 1_000_000)?,
            max_photos: l.count("gallery.max_photos", 1, 1000)?,
        })
    }
}
