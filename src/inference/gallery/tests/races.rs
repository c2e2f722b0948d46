//! Removals that are repeated after they have failed, and removals and enrolments while others rename the person.

use std::collections::HashSet;

use bytes::Bytes;

use super::{
    faults::{DELETE_PART, Fault, Faulty, assert_only_current_parts},
    world::*,
    *,
};
use crate::inference::gallery::{PhotoId, store::GalleryStore};

const PHOTO: Bytes = Bytes::from_static(b"photo");

/// Adds a person with one photo, which is kept.
async fn add(world: &mut World, gallery: &GalleryStore, name: &str) -> (Vec<f32>, PhotoId) {
    let embedding = world.embedding();
    let id = gallery.add(name, vec![embedding.clone()], model()).await.unwrap().ids[0];
    assert!(gallery.keep_photo(name, id, PHOTO).await.unwrap());
    (embedding, id)
}

#[tokio::test]
async fn a_photo_is_removed_although_its_person_is_renamed_meanwhile() {
    let mut world = World::new();
    world.fill(20).await;
    let faulty = Faulty::new(&world);
    let gallery = faulty.store(&world);
    for (from, to) in [("Ada", "Zoe"), ("zack", "Bob")] {
        let (_, id) = add(&mut world, &gallery, from).await;
        faulty.next("delete private/photos/", Fault::Renamed(from, to));
        let (manifest, removed) = gallery.remove_photos(&HashSet::from([id]), silently).await.unwrap();
        let removed: Vec<_> = removed.into_iter().map(|photo| (photo.name, photo.id)).collect();
        assert_eq!(removed, [(to.to_owned(), id)]);
        assert_eq!(manifest.photos(), 40);
        assert_eq!(gallery.photo(id).await.unwrap(), None);
        assert_eq!(gallery.kept_photo(id).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_photo_is_found_although_its_person_is_renamed_while_the_gallery_is_read() {
    let mut world = World::new();
    world.fill(20).await;
    let faulty = Faulty::new(&world);
    let gallery = faulty.store(&world);
    let (_, id) = add(&mut world, &gallery, "zoe").await;
    let between = gallery.manifest().await.unwrap().parts[3].id;
    faulty.next(format!("gallery/parts/{between}").leak(), Fault::Renamed("zoe", "Ada"));
    let found = gallery.photo(id).await.unwrap().expect("found");
    assert_eq!(found.id, id);
}

#[tokio::test]
async fn a_photo_is_kept_although_its_person_is_renamed_since() {
    let mut world = World::new();
    world.fill(20).await;
    let gallery = world.store();
    let id = gallery.add("Ada", vec![world.embedding()], model()).await.unwrap().ids[0];
    gallery.rename("Ada", "Zoe").await.unwrap().expect("renamed");
    assert!(gallery.keep_photo("Ada", id, PHOTO).await.unwrap());
    assert_eq!(gallery.kept_photo(id).await.unwrap(), Some(PHOTO));
}

#[tokio::test]
async fn a_repeated_removal_of_a_photo_deletes_the_part_that_the_first_has_left() {
    let mut world = World::new();
    world.fill(5).await;
    let faulty = Faulty::new(&world);
    let gallery = faulty.store(&world);
    let (embedding, id) = add(&mut world, &gallery, "Ada").await;
    faulty.next(DELETE_PART, Fault::Fails);
    gallery.remove_photos(&HashSet::from([id]), silently).await.unwrap_err();
    assert_ne!(world.files_with(&bytes_of(&embedding)), [""; 0].map(std::path::PathBuf::from), "the fault leaves it");
    assert_eq!(gallery.remove_photos(&HashSet::from([id]), silently).await.unwrap().1, []);
    assert_eq!(world.files_with(&bytes_of(&embedding)), [""; 0].map(std::path::PathBuf::from));
    assert_only_current_parts(&world).await;
}

#[tokio::test]
async fn a_repeated_removal_of_a_photo_erases_it_in_the_index_that_the_first_has_left() {
    let mut world = World::new();
    world.fill(50).await;
    let gallery = world.store();
    let (embedding, id) = add(&mut world, &gallery, "Ada").await;
    world.cache().refresh().await.unwrap();
    let index = world.folder.path().join("index");
    let file = index.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|e| e == "index")).expect("an index");
    assert!(world.files_with(&bytes_of(&embedding)).contains(&file));
    // A process that is killed after the new manifest leaves the index as it was.
    let saved = std::fs::read(&file).unwrap();
    gallery.remove_photos(&HashSet::from([id]), silently).await.unwrap();
    std::fs::write(&file, saved).unwrap();
    gallery.remove_photos(&HashSet::from([id]), silently).await.unwrap();
    assert_eq!(world.files_with(&bytes_of(&embedding)), [""; 0].map(std::path::PathBuf::from));
    // An index of the current version is not worth less for the id of no photo.
    world.cache().refresh().await.unwrap();
    assert_eq!(world.index_files(), 1);
    gallery.remove_photos(&HashSet::from([id]), silently).await.unwrap();
    assert_eq!(world.index_files(), 1);
}

#[tokio::test]
async fn everybody_is_removed_by_a_repeated_call_if_the_first_fails_anywhere() {
    for fault in ["delete private/photos/", "put gallery/current", DELETE_PART] {
        let mut world = World::new();
        let people = world.fill(5).await;
        let faulty = Faulty::new(&world);
        let gallery = faulty.store(&world);
        let (_, id) = add(&mut world, &gallery, "Ada").await;
        faulty.next(fault, Fault::Fails);
        gallery.clear().await.unwrap_err();
        gallery.clear().await.unwrap();
        assert_eq!(gallery.kept_photo(id).await.unwrap(), None, "{fault}");
        assert_eq!(gallery.manifest().await.unwrap().people(), 0, "{fault}");
        assert_only_current_parts(&world).await;
        for embedding in people.iter().flat_map(|person| &person.embeddings) {
            assert_eq!(world.files_with(&bytes_of(embedding)), [""; 0].map(std::path::PathBuf::from), "{fault}");
        }
    }
}

#[tokio::test]
async fn of_everybody_who_is_removed_the_photos_are_deleted_before_nobody_knows_their_ids() {
    let mut world = World::new();
    let faulty = Faulty::new(&world);
    let gallery = faulty.store(&world);
    let (_, id) = add(&mut world, &gallery, "Ada").await;
    faulty.next("put gallery/current", Fault::Fails);
    gallery.clear().await.unwrap_err();
    assert_eq!(gallery.kept_photo(id).await.unwrap(), None);
    assert_eq!(gallery.clear().await.unwrap().2, 1, "it is counted by the call that removes it");
}

#[tokio::test]
async fn a_change_that_writes_no_part_is_applied_although_it_seems_to_conflict() {
    let mut world = World::new();
    let faulty = Faulty::new(&world);
    let gallery = faulty.store(&world);
    let remove = async |id| gallery.remove_photos(&HashSet::from([id]), silently).await.unwrap().1.len();
    for by_id in [true, false] {
        let (embedding, id) = add(&mut world, &gallery, "Ada").await;
        faulty.next("put gallery/current", Fault::Twice);
        let removed = if by_id { remove(id).await } else { gallery.clear().await.unwrap().2 };
        assert_eq!(removed, 1, "the last photo of the gallery");
        assert_eq!(gallery.manifest().await.unwrap().people(), 0);
        assert_eq!(world.files_with(&bytes_of(&embedding)), [""; 0].map(std::path::PathBuf::from));
    }
}
