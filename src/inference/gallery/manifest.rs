//! The manifest of a gallery: its version, its model and its parts.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use ulid::Ulid;

use super::{
    part::Part,
    person::Person,
    refused::{self, Refused},
};
use crate::{
    recognition::ModelId,
    wire::{Body, Wire, WireError},
};

/// Stands for a version that is too high for the id of a part.
const UNKNOWN: u32 = u32::MAX;

/// Identifies a part, whose content never changes: a ULID. The first 32 of its random bits are the version of the gallery
/// that the part was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartId(pub u128);

impl PartId {
    /// The part of a snapshot, which earlier releases wrote in place of a manifest.
    pub(super) const SNAPSHOT: Self = Self(0);

    /// Creates a new id for a part of this version of a gallery.
    pub(super) fn new(version: u64) -> Self {
        let id = Ulid::generate();
        let version = u128::from(u32::try_from(version).unwrap_or(UNKNOWN));
        let random = version << 48 | id.random() & ((1 << 48) - 1);
        Self(Ulid::from_parts(id.timestamp_ms(), random).0)
    }

    /// Returns whether no manifest after `current` can contain the part for the first time: its writer read an earlier
    /// version, and replaces no other.
    ///
    /// Parts of earlier releases have a random number in place of the version. It is nearly always higher than any
    /// version, and then the answer is `false`.
    pub(super) fn is_too_late(self, current: &Manifest) -> bool {
        let version = (Ulid(self.0).random() >> 48) as u32;
        version != UNKNOWN && u64::from(version) <= current.version
    }

    /// Returns when the id was created, in milliseconds since the Unix epoch.
    pub(super) fn created_ms(self) -> u64 {
        Ulid(self.0).timestamp_ms()
    }
}

impl std::fmt::Display for PartId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ulid(self.0).fmt(f)
    }
}

/// What the manifest knows of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartInfo {
    /// The part.
    pub id: PartId,
    /// The part's first name. Names up to the first of the next part belong here, and lower ones to the first part.
    pub first: String,
    /// Number of people.
    pub people: u32,
    /// Number of photos of all of them.
    pub photos: u32,
}

impl PartInfo {
    /// Describes a part that is not empty.
    pub(super) fn of(id: PartId, part: &Part) -> Self {
        let first = part.people.first().map(|person| person.name.clone()).unwrap_or_default();
        Self { id, first, people: part.people.len() as u32, photos: part.photos() as u32 }
    }
}

/// Reads ids, which must be in their order: a manifest has one encoding.
fn ascending<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<PartId>, D::Error> {
    let ids = Vec::<PartId>::deserialize(deserializer)?;
    if ids.is_sorted_by(|a, b| a < b) {
        Ok(ids.into_iter().collect())
    } else {
        Err(D::Error::custom("parts out of order"))
    }
}

/// One version of a gallery, without its people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Increases by one with each change; 0 is the empty gallery before the first.
    pub version: u64,
    /// The model of the first embedding; the others are of models that can be compared with it. `None` if there are no
    /// embeddings, or if the release that wrote the gallery did not record the model.
    pub model: Option<ModelId>,
    /// Length of the embeddings; 0 if there are none.
    pub(super) dimension: u32,
    /// Ordered by name.
    pub(super) parts: Vec<PartInfo>,
    /// The parts that have rejected faces.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", deserialize_with = "ascending")]
    pub(super) with_rejected: BTreeSet<PartId>,
    /// The part of a snapshot, with everybody.
    #[serde(skip)]
    pub(super) snapshot: Part,
}

impl Wire for Manifest {
    const VERSION: u8 = 4; // 1 and 2 were snapshots with all people; 1 had no model; 3 had no rejected faces

    fn version(&self) -> u8 {
        if self.with_rejected.is_empty() { 3 } else { 4 }
    }

    fn from_earlier(version: u8, body: Body<'_>) -> Option<Result<Self, WireError>> {
        #[derive(Deserialize)]
        struct First(u64, Vec<Person>);
        #[derive(Deserialize)]
        struct Second(u64, Vec<Person>, Option<ModelId>);
        #[derive(Deserialize)]
        struct Third(u64, Option<ModelId>, u32, Vec<PartInfo>);
        match version {
            3 => Some(body.decode().map(|Third(version, model, dimension, parts)| Self {
                version,
                model,
                dimension,
                parts,
                ..Self::default()
            })),
            1 => Some(body.decode().map(|First(version, people)| Self::of_snapshot(version, people, None))),
            2 => Some(body.decode().map(|Second(version, people, model)| Self::of_snapshot(version, people, model))),
            _ => None,
        }
    }
}

impl Manifest {
    /// Returns the manifest of a snapshot, with everybody in it.
    pub(crate) fn of_snapshot(version: u64, people: Vec<Person>, model: Option<ModelId>) -> Self {
        let dimension = people.iter().flat_map(|p| &p.embeddings).next().map_or(0, Vec::len) as u32;
        let snapshot = Part { people };
        let parts = match snapshot.people.len() {
            0 => Vec::new(),
            _ => vec![PartInfo::of(PartId::SNAPSHOT, &snapshot)],
        };
        Self { version, model, dimension, parts, with_rejected: BTreeSet::new(), snapshot }
    }

    /// Returns the number of people.
    pub fn people(&self) -> usize {
        self.parts.iter().map(|part| part.people as usize).sum()
    }

    /// Returns the number of photos of all people.
    pub fn photos(&self) -> usize {
        self.parts.iter().map(|part| part.photos as usize).sum()
    }

    /// Checks that embeddings of `model` can be compared with those of the gallery.
    ///
    /// # Errors
    /// They cannot be compared; the message names both models and says what to do.
    pub fn check_model(&self, model: &ModelId) -> Result<(), Refused> {
        refused::check_model(self.model.as_ref(), model)
    }

    /// Returns the length of the embeddings; `None` if there are none.
    pub fn dimension(&self) -> Option<usize> {
        (self.dimension > 0).then_some(self.dimension as usize)
    }

    /// Returns the positions of the parts that have rejected faces.
    pub(super) fn positions_with_rejected(&self) -> BTreeSet<usize> {
        (0..self.parts.len()).filter(|at| self.with_rejected.contains(&self.parts[*at].id)).collect()
    }

    /// Returns the position of the part to which a name belongs; 0 if there are no parts.
    pub(super) fn part_of(&self, name: &str) -> usize {
        self.parts.partition_point(|part| part.first.as_str() <= name).saturating_sub(1)
    }
}
