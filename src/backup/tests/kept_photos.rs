//! Kept photos of people who are not in the galleries of a backup are not part of it either.

use crate::inference::gallery::{GalleryStores, PhotoId};
use crate::recognition::{GalleryName, ModelId};

use super::*;

/// Adds a person with a photo that is kept, and returns its key.
async fn enrol(galleries: &GalleryStores, gallery: &str, name: &str, embedding: [f32; 2]) -> String {
    let store = galleries.gallery(&gallery.parse::<GalleryName>().expect("a name"));
    let added = store.add(name, vec![embedding.to_vec()], ModelId::known("a")).await.expect("added");
    let id: PhotoId = added.ids[0];
    assert!(store.keep_photo(name, id, Bytes::from_static(b"photo")).await.expect("kept"));
    format!("private/photos/{gallery}/{id}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_photo_of_who_is_added_while_a_backup_is_made_is_not_part_of_it() {
    let world = World::new().await;
    let state = world.settings.store.state.clone();
    let galleries = GalleryStores::new(world.objects.clone(), &world.settings);
    let mut expected = vec![
        enrol(&galleries, "default", "Ada", [1.0, 0.0]).await,
        enrol(&galleries, "default", "Zoe", [0.6, 0.8]).await,
        enrol(&galleries, "staff", "Ada", [1.0, 0.0]).await,
    ];
    let removed = enrol(&galleries, "default", "Eve", [0.0, 1.0]).await;
    // What cannot be read is not thrown away: whose photos these are, nobody can tell.
    let damaged = format!("private/photos/damaged/{}", PhotoId::of(&[1.0]));
    for (key, bytes) in [("galleries/damaged/current", "x"), (&damaged, "photo")] {
        world.objects.put(&state, key, Bytes::from(bytes), Precondition::Always).await.expect("stored");
    }
    expected.push(damaged);
    let photo_of_nobody = format!("private/photos/default/{}", PhotoId::of(&[1.0]));
    world.objects.put(&state, &photo_of_nobody, Bytes::from("x"), Precondition::Always).await.expect("stored");
    let written: &'static str = format!("objects/{state}/gallery/current").leak();
    let runtime = tokio::runtime::Handle::current();
    let archive = tokio::task::spawn_blocking(move || {
        let change = || {
            runtime.block_on(async {
                let gallery = galleries.gallery(&GalleryName::default());
                gallery.remove("Eve").await.expect("removed").expect("somebody");
                enrol(&galleries, "default", "Bob", [-1.0, 0.0]).await;
                enrol(&galleries, "guests", "Bob", [-1.0, 0.0]).await;
            });
        };
        backup_while(&world, [(written, Box::new(change) as _)])
    });
    let files = files(&archive.await.expect("no panic"));
    let prefix = format!("objects/{state}/");
    let kept: HashSet<&str> = files.keys().filter_map(|name| name.strip_prefix(&prefix)).collect();
    let kept: HashSet<&str> = kept.into_iter().filter(|key| key.starts_with("private/photos/")).collect();
    assert_eq!(kept, expected.iter().map(String::as_str).collect::<HashSet<_>>());
    assert!(!kept.contains(removed.as_str()));
}
