//! Photos that are kept without an embedding are found and deleted, whatever has left them.

use std::{fs::File, time::Duration};

use bytes::Bytes;

use super::{
    faults::{BUCKET, Fault, Faulty},
    world::*,
    *,
};
use crate::{
    cloud::{ObjectStore as _, Precondition},
    inference::gallery::{GalleryStores, OrphanSweep, PhotoId},
    recognition::GalleryName,
};

const PHOTO: Bytes = Bytes::from_static(b"photo");
const HOUR: Duration = Duration::from_secs(3600);

/// Puts a photo that was last written some time ago, and returns its key.
async fn put(world: &World, gallery: &str, id: PhotoId, age: Duration) -> String {
    let key = format!("private/photos/{gallery}/{id}");
    world.objects.put(BUCKET, &key, PHOTO, Precondition::Always).await.unwrap();
    let file = world.folder.path().join("objects").join(BUCKET).join(&key);
    let file = File::options().write(true).open(file).unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    file.set_modified(written - age).unwrap();
    key
}

async fn kept(world: &World) -> Vec<String> {
    world.objects.list(BUCKET, "private/photos/").await.unwrap().into_iter().map(|object| object.key).collect()
}

#[tokio::test]
async fn photos_without_an_embedding_are_deleted_when_they_are_old() {
    let mut world = World::new();
    let people = world.fill(30).await;
    let staff = world.stores().gallery(&"staff".parse::<GalleryName>().unwrap());
    staff.add_people(people[..1].to_vec(), model()).await.unwrap();
    let mut expected = Vec::new();
    for person in &people {
        expected.push(put(&world, "default", PhotoId::of(&person.embeddings[1]), HOUR).await);
    }
    expected.push(put(&world, "staff", PhotoId::of(&people[0].embeddings[0]), HOUR).await);
    // Of whoever was removed; in another gallery only; and in a gallery that has no manifest.
    let [young, gone] = [world.embedding(), world.embedding()].map(|embedding| PhotoId::of(&embedding));
    expected.push(put(&world, "default", young, Duration::from_secs(60)).await);
    put(&world, "default", gone, HOUR).await;
    put(&world, "staff", PhotoId::of(&people[1].embeddings[0]), HOUR).await;
    put(&world, "guests", PhotoId::of(&people[0].embeddings[0]), HOUR).await;
    expected.sort();
    let mut sweep = OrphanSweep::new(world.stores());
    sweep.run().await.unwrap();
    assert_eq!(kept(&world).await, expected);

    // What was read of parts that have not changed since still counts, and what has changed is read again.
    world.store().remove(&people[3].name).await.unwrap().expect("removed");
    let gone = put(&world, "default", PhotoId::of(&people[3].embeddings[1]), HOUR).await;
    sweep.run().await.unwrap();
    expected.retain(|key| *key != gone);
    assert_eq!(kept(&world).await, expected);
}

#[tokio::test]
async fn a_photo_is_not_deleted_because_its_person_is_renamed_meanwhile() {
    let mut world = World::new();
    let people = world.fill(30).await;
    let key = put(&world, "default", PhotoId::of(&people[29].embeddings[0]), HOUR).await;
    let faulty = Faulty::new(&world);
    let between = world.store().manifest().await.unwrap().parts[3].id;
    faulty.next(format!("gallery/parts/{between}").leak(), Fault::Renamed("person 029", "Ada"));
    OrphanSweep::new(GalleryStores::new(faulty, &world.settings)).run().await.unwrap();
    assert_eq!(kept(&world).await, [key]);
    assert!(world.store().person("Ada").await.unwrap().is_some(), "it was renamed");
}

#[tokio::test]
async fn photos_are_not_deleted_if_their_gallery_cannot_be_read_and_other_galleries_are_searched() {
    let mut world = World::new();
    let people = world.fill(30).await;
    let gone = PhotoId::of(&world.embedding());
    let left = put(&world, "default", gone, HOUR).await;
    put(&world, "guests", PhotoId::of(&people[0].embeddings[0]), HOUR).await;
    let part = world.objects.list(BUCKET, "gallery/parts/").await.unwrap().remove(3).key;
    world.objects.delete(BUCKET, &part).await.unwrap();
    let mut sweep = OrphanSweep::new(world.stores());
    assert!(sweep.run().await.unwrap_err().to_string().contains(&part));
    assert_eq!(kept(&world).await, [left]);
}
