//! Large galleries: what is found with an index is what is found without, whatever has changed since it was built, and
//! of a person who was removed nothing is left in its file.

use rand::RngExt as _;

use super::{world::*, *};
use crate::{
    cloud::ObjectStore as _,
    inference::gallery::{Galleries, GalleryStores},
    recognition::GalleryName,
};

#[tokio::test]
async fn an_index_and_the_changes_since_find_what_an_exact_scan_finds() {
    let mut world = World::new();
    let mut people = world.fill(50).await;
    let cache = world.cache();
    check(&cache.refresh().await.unwrap(), &people, &mut world);
    assert_eq!(world.index_files(), 1);
    for step in 0..60 {
        let changed = world.rng.random_range(0..people.len());
        match step % 3 {
            0 => {
                let gone = people.remove(changed);
                world.store().remove(&gone.name).await.unwrap().unwrap();
            }
            1 => {
                let new = world.person(&format!("new {step:02}"));
                world.store().add_people(vec![new.clone()], model()).await.unwrap();
                people.push(new);
            }
            _ => {
                let more = world.embedding();
                people[changed].embeddings.push(more.clone());
                world.store().add(&people[changed].name, vec![more], model()).await.unwrap();
            }
        }
        people.sort_by(|a, b| a.name.cmp(&b.name));
        let gallery = cache.refresh().await.unwrap();
        check(&gallery, &people, &mut world);
        if step % 7 == 0 {
            cache.renew_index().await.unwrap();
            check(&cache.current(), &people, &mut world);
            // Another process of the machine uses the index that is there, and what has changed since.
            check(&world.cache().refresh().await.unwrap(), &people, &mut world);
        }
        assert_eq!(world.index_files(), 1, "older ones are deleted");
    }
}

#[tokio::test]
async fn a_person_who_was_removed_is_in_no_file() {
    let mut world = World::new();
    let people = world.fill(50).await;
    let cache = world.cache();
    cache.refresh().await.unwrap();
    let (ada, bob) = (&people[20], &people[30]);
    assert_eq!(world.files_with(&bytes_of(&ada.embeddings[1])).len(), 2, "in a part and in the index");
    world.store().remove(&ada.name).await.unwrap().unwrap();
    assert_eq!(world.files_with(&bytes_of(&ada.embeddings[0])), [""; 0].map(std::path::PathBuf::from));
    assert_eq!(world.files_with(&bytes_of(&ada.embeddings[1])), [""; 0].map(std::path::PathBuf::from));
    assert_eq!(world.files_with(ada.name.as_bytes()), [""; 0].map(std::path::PathBuf::from));
    assert_ne!(named(&cache.current(), &ada.embeddings[0]), ada.name, "also before the refresh");

    // Removed by a node that does not share the disk: the worker erases them.
    let mut elsewhere = world.settings.clone();
    elsewhere.local.data_dir = world.folder.path().join("elsewhere");
    let store = GalleryStores::new(world.objects.clone(), &elsewhere).gallery(&GalleryName::default());
    store.remove(&bob.name).await.unwrap().unwrap();
    assert_eq!(world.files_with(&bytes_of(&bob.embeddings[0])).len(), 1, "in the index");
    cache.refresh().await.unwrap();
    assert_eq!(world.files_with(&bytes_of(&bob.embeddings[0])), [""; 0].map(std::path::PathBuf::from));
    assert_eq!(world.files_with(bob.name.as_bytes()), [""; 0].map(std::path::PathBuf::from));
    assert_ne!(named(&cache.current(), &bob.embeddings[0]), bob.name);
}

#[tokio::test]
async fn a_change_of_a_large_gallery_moves_only_its_part() {
    let mut world = World::new();
    world.fill(200).await;
    let cache = world.cache();
    cache.refresh().await.unwrap();
    let before = world.objects.list("rollcall-state", "gallery/parts/").await.unwrap();
    let ada = world.person("person 100a");
    let version = world.store().add_people(vec![ada.clone()], model()).await.unwrap().version;
    let after = world.objects.list("rollcall-state", "gallery/parts/").await.unwrap();
    let new: Vec<_> = after.iter().filter(|object| !before.contains(object)).collect();
    assert!(before.len() > 40 && (1..=2).contains(&new.len()), "{} parts, {} new", before.len(), new.len());
    assert_eq!(named(&*cache.at_least(version).await, &ada.embeddings[0]), "person 100a");
}

#[tokio::test]
async fn a_damaged_index_is_built_again() {
    let mut world = World::new();
    let people = world.fill(50).await;
    world.cache().refresh().await.unwrap();
    let index = world.folder.path().join("index").join(format!("{:020}-default.index", 1));
    let bytes = std::fs::read(&index).unwrap();
    std::fs::write(&index, &bytes[..bytes.len() / 2]).unwrap();
    check(&world.cache().refresh().await.unwrap(), &people, &mut world);
    assert!(std::fs::metadata(&index).unwrap().len() > bytes.len() as u64 / 2, "it was replaced");
}

#[tokio::test]
async fn galleries_with_different_names_have_different_people() {
    let mut world = World::new();
    let names = ["default", "staff", "guests"].map(|name| GalleryName::try_from(name.to_owned()).unwrap());
    let mut people = Vec::new();
    for name in &names {
        let person = world.person(&format!("one of {name}"));
        world.stores().gallery(name).add_people(vec![person.clone()], model()).await.unwrap();
        people.push(person);
    }
    let galleries = Galleries::new(world.stores());
    for (name, person) in names.iter().zip(&people) {
        galleries.cache(name).at_least(1).await;
        for other in &people {
            assert_eq!(named(&galleries.current(name), &other.embeddings[0]), person.name);
        }
    }
    world.stores().gallery(&names[1]).remove("one of staff").await.unwrap().unwrap();
    galleries.refresh().await;
    assert_eq!(galleries.current(&names[1]).nearest(&people[1].embeddings[0]), Ok(None));
    assert_eq!(named(&galleries.current(&names[2]), &people[2].embeddings[0]), "one of guests");
}
