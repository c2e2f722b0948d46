use proptest::prelude::*;

use std::collections::BTreeMap;

use super::{
    change::{Change, Limits, Next},
    manifest::{Manifest, PartId},
    part::Part,
    person::{Person, check_name},
    refused::Refused,
    search::Gallery,
};
use crate::{inference::embeddings::similarity::normalise, recognition::ModelId, wire};

mod faults;
mod indexes;
mod parts;
mod photos;
mod races;
mod rejected;
mod scores;
mod sweep;
mod world;

/// A version of a gallery with all its parts.
#[derive(Clone, Debug, Default, PartialEq)]
struct Whole {
    manifest: Manifest,
    parts: BTreeMap<PartId, Part>,
}

const LIMITS: Limits = Limits { max_people: 100, max_photos: 100, max_part: 33 };

impl Whole {
    /// A gallery in the form in which earlier releases stored it.
    fn snapshot(version: u64, people: Vec<Person>) -> Self {
        let bytes = [&[1][..], &wire::to_bytes(&Snapshot(version, people)).unwrap()[1..]].concat();
        let manifest: Manifest = wire::from_bytes(&bytes).unwrap();
        let parts = manifest.parts.iter().map(|part| (part.id, manifest.snapshot.clone())).collect();
        Self { manifest, parts }
    }

    fn people(&self) -> Vec<Person> {
        self.manifest.parts.iter().flat_map(|part| self.parts[&part.id].people.clone()).collect()
    }

    fn gallery(&self) -> Gallery {
        Gallery::new(self.manifest.version, &self.people(), self.manifest.model.clone())
    }

    /// Returns the next version; `None` if it would be the same. Only the parts that the change concerns are read.
    fn after(&self, change: &Change, limits: Limits) -> Result<Option<Self>, Refused> {
        let concerned = change.concerned(&self.manifest);
        let read = concerned.into_iter().map(|at| (at, self.parts[&self.manifest.parts[at].id].clone())).collect();
        let Some(Next { manifest, written, obsolete, .. }) = change.apply(&self.manifest, read, limits)? else {
            return Ok(None);
        };
        let mut parts = self.parts.clone();
        parts.retain(|id, _| !obsolete.contains(id) && *id != PartId::SNAPSHOT);
        parts.extend(written);
        Ok(Some(Self { manifest, parts }))
    }

    fn with(&self, people: &[Person], model: &ModelId, max_people: usize, max_photos: usize) -> Changed {
        self.after(&Change::Add(people.to_vec(), model.clone()), Limits { max_people, max_photos, ..LIMITS })
    }

    fn without(&self, name: &str) -> Option<Self> {
        self.after(&Change::Remove(name.into()), LIMITS).unwrap()
    }
}

type Changed = Result<Option<Whole>, Refused>;

#[derive(serde::Serialize, serde::Deserialize)]
struct Snapshot(u64, Vec<Person>);

impl wire::Wire for Snapshot {}

fn vector() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-1.0_f32..1.0, 11).prop_filter("not zero", |v| v.iter().any(|x| x.abs() > 0.1))
}

fn people() -> impl Strategy<Value = Vec<Person>> {
    let person = ("[a-h]", prop::collection::vec(vector(), 1..4));
    prop::collection::vec(person.prop_map(|(name, embeddings)| Person::new(name, embeddings)), 1..12)
}

fn model() -> ModelId {
    ModelId::known("m")
}

fn add(gallery: &Whole, people: &[Person]) -> Changed {
    gallery.with(people, &model(), 100, 100)
}

fn one(name: &str, embedding: &[f32]) -> Vec<Person> {
    vec![Person::new(name, vec![embedding.to_vec()])]
}

proptest! {
    #[test]
    fn the_nearest_person_matches_a_brute_force_search(people in people(), mut probe in vector()) {
        let gallery = add(&Whole::default(), &people).unwrap().unwrap();
        normalise(&mut probe);
        let cosine = |e: &Vec<f32>| e.iter().zip(&probe).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let people = gallery.people();
        let best = people.iter().flat_map(|p| &p.embeddings).map(cosine).fold(f64::MIN, f64::max);
        let gallery = gallery.gallery();
        let (name, similarity) = gallery.nearest(&probe).unwrap().unwrap();
        prop_assert!((f64::from(similarity) - best).abs() < 1e-5);
        let person = people.iter().find(|p| p.name == name).unwrap();
        prop_assert!(person.embeddings.iter().any(|e| (cosine(e) - best).abs() < 1e-5));
    }

    #[test]
    fn people_are_sorted_and_unique_and_embeddings_of_unit_length(people in people()) {
        let gallery = add(&Whole::default(), &people).unwrap().unwrap();
        prop_assert!(gallery.people().windows(2).all(|w| w[0].name < w[1].name));
        for e in gallery.people().iter().flat_map(|p| &p.embeddings) {
            prop_assert!((e.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn adding_again_changes_nothing(people in people()) {
        let gallery = add(&Whole::default(), &people).unwrap().unwrap();
        prop_assert_eq!(add(&gallery, &people).unwrap(), None);
    }

    #[test]
    fn removing_undoes_adding(people in people(), embedding in vector()) {
        let before = add(&Whole::default(), &people).unwrap().unwrap();
        let after = add(&before, &one("zoe", &embedding)).unwrap().unwrap().without("zoe").unwrap();
        prop_assert_eq!(after.people(), before.people());
        prop_assert_eq!(after.manifest.version, before.manifest.version + 2);
        prop_assert_eq!(after.without("zoe"), None);
    }
}

#[test]
fn names_that_are_labels_or_paths_are_rejected() {
    let long = "x".repeat(101);
    for name in [
        "",
        " ",
        " Ada",
        "a/b",
        "a\nb",
        "a\u{202E}b",
        "a\u{61C}b",
        "a\u{2028}b",
        "..",
        "unknown",
        "Unknown",
        "no face",
        &long,
    ] {
        assert!(check_name(name).is_err(), "{name:?}");
    }
    for name in ["Ada", "Ada Lovelace", "Łukasz", "明", &"x".repeat(100)] {
        assert_eq!(check_name(name), Ok(()));
    }
}

#[test]
fn a_gallery_holds_embeddings_of_one_length_until_it_is_empty() {
    let gallery = add(&Whole::default(), &one("ada", &[1.0, 0.0])).unwrap().unwrap();
    let error = add(&gallery, &one("bob", &[1.0, 0.0, 0.0])).unwrap_err();
    assert!(error.0.contains("3 numbers") && error.0.contains("have 2"), "{error}");
    assert!(gallery.gallery().nearest(&[1.0, 0.0, 0.0]).is_err());
    assert!(add(&gallery.without("ada").unwrap(), &one("bob", &[1.0, 0.0, 0.0])).unwrap().is_some());
}

#[test]
fn embeddings_without_direction_are_rejected() {
    for bad in [[0.0, 0.0], [f32::NAN, 1.0], [f32::INFINITY, 1.0]] {
        assert!(add(&Whole::default(), &one("ada", &bad)).is_err());
    }
    assert!(add(&Whole::default(), &one("ada", &[])).is_err());
    assert!(add(&Whole::default(), &[Person::new("ada", vec![])]).is_err());
}

#[test]
fn an_exceeded_limit_is_named() {
    let gallery = Whole::default().with(&one("ada", &[1.0, 0.0]), &model(), 1, 1).unwrap().unwrap();
    assert!(gallery.with(&one("bob", &[1.0, 0.0]), &model(), 1, 1).unwrap_err().0.contains("gallery.max_people"));
    assert!(gallery.with(&one("ada", &[0.0, 1.0]), &model(), 1, 1).unwrap_err().0.contains("gallery.max_photos"));
}

#[test]
fn nobody_is_nearest_in_an_empty_gallery() {
    assert_eq!(Gallery::default().nearest(&[1.0]), Ok(None));
}

#[test]
fn a_gallery_keeps_the_model_of_its_first_embedding_until_it_is_empty() {
    let with =
        |gallery: &Whole, name: &str, model: &str| gallery.with(&one(name, &[1.0, 0.0]), &ModelId::known(model), 9, 9);
    let gallery = with(&Whole::default(), "ada", "m").unwrap().unwrap();
    let variant = with(&gallery, "bob", "m-int8").unwrap().unwrap();
    assert_eq!(
        (&gallery.manifest.model, &variant.manifest.model),
        (&Some(model()), &Some(model())),
        "variants of a model fit"
    );
    let error = with(&variant, "eve", "other").unwrap_err().to_string();
    for part in ["the model m,", "those of other:", "enroll --replace", "import --replace", "recognition.embedder"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let fewer = variant.without("bob").unwrap();
    assert_eq!(fewer.manifest.model, Some(model()));
    let empty = fewer.without("ada").unwrap();
    assert_eq!((&empty.manifest.model, empty.manifest.check_model(&ModelId::known("other"))), (&None, Ok(())));
    assert_eq!(with(&empty, "eve", "other").unwrap().unwrap().manifest.model, Some(ModelId::known("other")));
}

#[test]
fn a_photo_embedded_by_another_variant_counts_as_the_same_photo() {
    let at = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
    let gallery = add(&Whole::default(), &one("ada", &at(0.0))).unwrap().unwrap();
    let unrecorded = Whole::snapshot(1, gallery.people());
    let with = |gallery: &Whole, model: &str, degrees| {
        gallery.with(&one("ada", &at(degrees)), &ModelId::known(model), 9, 9).unwrap()
    };
    for (gallery, model) in [(&gallery, "m-int8"), (&unrecorded, "m"), (&unrecorded, "m-int8")] {
        assert_eq!(with(gallery, model, 9.0), None, "a cosine of 0.988");
        assert!(with(gallery, model, 20.0).is_some(), "a cosine of 0.940");
    }
    assert!(with(&gallery, "m", 9.0).is_some(), "one variant differs by rounding alone");
}

#[test]
fn a_gallery_without_a_model_adopts_the_model_of_the_next_enrolment() {
    let ada = Person::new("ada", vec![vec![1.0, 0.0]]);
    let gallery = Whole::snapshot(7, vec![ada]);
    assert_eq!(gallery.manifest.check_model(&model()), Ok(()));
    let fewer = add(&gallery, &one("bob", &[1.0, 0.0])).unwrap().unwrap();
    assert_eq!((fewer.manifest.version, fewer.manifest.model), (8, Some(model())));
}
