//! The photos of a gallery one by one: they are listed, found, moved, removed and kept by ids that stay the same.

use std::collections::HashSet;

use bytes::Bytes;

use super::{world::*, *};
use crate::{
    cloud::ObjectStore as _,
    inference::gallery::{Photo, PhotoId, store::GalleryError},
};

/// Returns the ids of all photos in the order of the gallery, with the names of their people.
async fn all(world: &World) -> Vec<(String, PhotoId)> {
    let photos = world.store().photos(None, 0, usize::MAX).await.unwrap();
    assert_eq!(photos.total, photos.photos.len());
    photos.photos.into_iter().map(|Photo { name, id, .. }| (name, id)).collect()
}

/// Returns the keys of the photos that are kept.
async fn kept(world: &World) -> Vec<String> {
    world.objects.list("rollcall-state", "private/photos/").await.unwrap().into_iter().map(|o| o.key).collect()
}

#[tokio::test]
async fn photos_are_listed_in_pages_whatever_the_parts() {
    let mut world = World::new();
    let people = world.fill(30).await;
    let expected: Vec<(String, PhotoId)> = people
        .iter()
        .flat_map(|person| person.embeddings.iter().map(|e| (person.name.clone(), PhotoId::of(e))))
        .collect();
    assert_eq!(all(&world).await, expected);
    assert!(world.store().manifest().await.unwrap().parts.len() > 5);
    for (skip, limit) in [(0, 1), (3, 20), (7, 9), (8, 8), (16, 1), (59, 5), (60, 5), (usize::MAX, usize::MAX)] {
        let page = world.store().photos(None, skip, limit).await.unwrap();
        let found: Vec<PhotoId> = page.photos.iter().map(|photo| photo.id).collect();
        let wanted: Vec<PhotoId> = expected.iter().map(|(_, id)| *id).skip(skip).take(limit).collect();
        assert_eq!((page.total, found), (60, wanted), "{skip} {limit}");
    }
    let of_one = world.store().photos(Some("person 011"), 1, 5).await.unwrap();
    assert_eq!((of_one.total, of_one.photos[0].id), (2, expected[23].1));
    let nobody = world.store().photos(Some("nobody"), 0, 5).await.unwrap();
    assert_eq!((nobody.total, nobody.photos.len()), (0, 0));
    let found = world.store().photo(expected[41].1).await.unwrap().expect("found");
    assert_eq!((found.name, found.embedding), (expected[41].0.clone(), people[20].embeddings[1].clone()));
    assert_eq!(world.store().photo(PhotoId::of(&[1.0])).await.unwrap(), None);
}

#[tokio::test]
async fn a_photo_keeps_its_id_when_it_is_added_again_or_its_person_is_renamed() {
    let mut world = World::new();
    world.fill(20).await;
    let (gallery, new) = (world.store(), world.embedding());
    let added = gallery.add("Ada", vec![new.clone()], model()).await.unwrap();
    let again =
        gallery.add("Ada", vec![world.embedding(), new.iter().map(|v| v * 3.0).collect()], model()).await.unwrap();
    assert_eq!((again.photos, again.ids.len(), again.ids[1]), (2, 2, added.ids[0]));

    let before: HashSet<PhotoId> = all(&world).await.into_iter().map(|(_, id)| id).collect();
    for (from, to) in [("Ada", "zoe"), ("zoe", "person 007"), ("person 003", "Bob")] {
        let version = gallery.manifest().await.unwrap().version;
        let manifest = gallery.rename(from, to).await.unwrap().expect("renamed");
        assert_eq!(manifest.version, version + 1);
        assert!(gallery.person(from).await.unwrap().is_none() && gallery.person(to).await.unwrap().is_some());
    }
    assert_eq!(gallery.person("person 007").await.unwrap().expect("a person").embeddings.len(), 4);
    assert_eq!(all(&world).await.into_iter().map(|(_, id)| id).collect::<HashSet<_>>(), before);
    assert!(all(&world).await.is_sorted_by(|a, b| a.0 <= b.0));
    assert!(gallery.rename("nobody", "Eve").await.unwrap().is_none());
    for (from, to) in [("Bob", "no face"), ("Bob", "a/b"), ("nobody", "")] {
        assert!(matches!(gallery.rename(from, to).await, Err(GalleryError::Refused(_))), "{to:?}");
    }
    world.settings.gallery.max_photos = 3;
    let refused = world.store().rename("Bob", "person 001").await;
    assert!(matches!(refused, Err(GalleryError::Refused(why)) if why.contains("gallery.max_photos")));
    assert!(gallery.person("Bob").await.unwrap().is_some());
}

#[tokio::test]
async fn of_a_photo_that_was_removed_nothing_is_left_and_who_has_no_other_is_gone() {
    let mut world = World::new();
    let people = world.fill(50).await;
    let cache = world.cache();
    cache.refresh().await.unwrap();
    let (ada, bob) = (&people[20], &people[30]);
    let ids = |embeddings: &[Vec<f32>]| embeddings.iter().map(|e| PhotoId::of(e)).collect::<HashSet<_>>();
    let mut gone = ids(&ada.embeddings);
    gone.extend(ids(&bob.embeddings[..1]));
    gone.insert(PhotoId::of(&[1.0]));
    for id in &gone {
        let name = if ids(&ada.embeddings).contains(id) { &ada.name } else { &bob.name };
        let photo = Bytes::from(format!("photo of {name}"));
        let there = world.store().keep_photo(name, *id, photo).await.unwrap();
        assert_eq!(there, *id != PhotoId::of(&[1.0]));
    }
    assert_eq!(kept(&world).await.len(), 3);

    let (manifest, removed) = world.store().remove_photos(&gone, silently).await.unwrap();
    assert_eq!((removed.len(), manifest.people(), manifest.photos()), (3, 49, 97));
    assert_eq!(kept(&world).await, [""; 0]);
    for embedding in ada.embeddings.iter().chain(&bob.embeddings[..1]) {
        assert_eq!(world.files_with(&bytes_of(embedding)), [""; 0].map(std::path::PathBuf::from));
    }
    let left = cache.refresh().await.unwrap();
    assert_eq!(named(&left, &bob.embeddings[1]), bob.name);
    assert_ne!(named(&left, &ada.embeddings[0]), ada.name);
    assert_eq!(world.store().remove_photos(&gone, silently).await.unwrap().1, [], "they are gone");
}

#[tokio::test]
async fn a_photo_that_is_kept_too_late_is_deleted() {
    let mut world = World::new();
    let gallery = world.store();
    let id = gallery.add("Ada", vec![world.embedding()], model()).await.unwrap().ids[0];
    gallery.remove("Ada").await.unwrap().expect("removed");
    assert!(!gallery.keep_photo("Ada", id, Bytes::from_static(b"photo")).await.unwrap());
    assert_eq!(kept(&world).await, [""; 0]);
}

#[tokio::test]
async fn everybody_is_removed_at_once_with_names_photos_and_indexes() {
    let mut world = World::new();
    world.fill(50).await;
    world.cache().refresh().await.unwrap();
    let gallery = world.store();
    assert!(gallery.reserve_name("Zoe").await.unwrap());
    let (name, id) = all(&world).await[7].clone();
    assert!(gallery.keep_photo(&name, id, Bytes::from_static(b"photo")).await.unwrap());
    let (manifest, people, photos) = gallery.clear().await.unwrap();
    assert_eq!((people, photos, manifest.people(), manifest.dimension()), (51, 100, 0, None));
    assert_eq!((world.index_files(), kept(&world).await.len()), (0, 0));
    assert!(gallery.reserved_names().await.unwrap().is_empty());
    let keys = world.objects.list("rollcall-state", "gallery/").await.unwrap();
    assert_eq!(keys.len(), 1, "only the manifest is left: {keys:?}");
    assert_eq!(gallery.clear().await.unwrap().1, 0);
    // The next model may be another.
    gallery.add("Ada", vec![vec![1.0, 0.0]], crate::recognition::ModelId::known("other")).await.unwrap();
}

#[tokio::test]
async fn a_name_is_reserved_until_its_first_photo_and_released_with_its_person() {
    let mut world = World::new();
    world.settings.gallery.max_people = 2;
    let gallery = world.store();
    let names = async || gallery.reserved_names().await.unwrap().into_iter().collect::<Vec<_>>();
    assert!(gallery.reserve_name("Ada").await.unwrap());
    assert!(!gallery.reserve_name("Ada").await.unwrap(), "it is reserved already");
    assert_eq!(gallery.manifest().await.unwrap().version, 0, "nobody is in the gallery");
    gallery.add("Ada", vec![world.embedding()], model()).await.unwrap();
    assert_eq!(names().await, [""; 0]);
    assert!(!gallery.reserve_name("Ada").await.unwrap(), "somebody has it");
    assert!(gallery.reserve_name("Bob").await.unwrap());
    let refused = gallery.reserve_name("Cleo").await;
    assert!(matches!(refused, Err(GalleryError::Refused(why)) if why.contains("gallery.max_people")));
    assert!(gallery.rename("Bob", "Eve").await.unwrap().is_some());
    assert_eq!(names().await, ["Eve"]);
    assert!(gallery.rename("Eve", "Ada").await.unwrap().is_some(), "merged with somebody who has photos");
    assert_eq!(names().await, [""; 0]);
    gallery.reserve_name("Bob").await.unwrap();
    assert!(gallery.rename("Ada", "Bob").await.unwrap().is_some());
    assert_eq!(names().await, [""; 0], "Bob has a photo");
    gallery.reserve_name("Ada").await.unwrap();
    assert!(gallery.remove("Ada").await.unwrap().is_some());
    assert!(gallery.remove("Ada").await.unwrap().is_none());
    gallery.reserve_name("Ada").await.unwrap();
    gallery.forget("Ada").await.unwrap();
    assert_eq!(names().await, [""; 0], "also when the person is erased");
}
