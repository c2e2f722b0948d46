//! A face that was rejected as a person's is not given their name again until a photo of theirs is more similar to it.

use std::os::unix::fs::DirEntryExt as _;

use super::{
    world::{World, bytes_of, named},
    *,
};
use crate::{
    inference::gallery::{MAX_REJECTED, Rejection},
    wire::{Wire, WireError},
};

/// Returns a unit vector at an angle, in degrees.
fn at(degrees: f32) -> Vec<f32> {
    vec![degrees.to_radians().cos(), degrees.to_radians().sin()]
}

fn reject(gallery: &Whole, name: &str, face: &[f32]) -> Whole {
    let change = Change::Reject(name.into(), face.to_vec(), model());
    gallery.after(&change, LIMITS).unwrap().expect("something has changed")
}

/// Returns the name of the nearest person at an angle.
fn name_at(gallery: &Whole, degrees: f32) -> Option<String> {
    gallery.gallery().nearest(&at(degrees)).unwrap().map(|(name, _)| name.to_owned())
}

fn some(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn a_rejected_face_has_the_name_of_the_next_person_until_a_photo_is_more_similar() {
    let gallery = add(&Whole::default(), &[one("ada", &at(0.0)), one("bob", &at(90.0))].concat()).unwrap().unwrap();
    assert_eq!([10.0, 20.0, 30.0].map(|degrees| name_at(&gallery, degrees)), [some("ada"), some("ada"), some("ada")]);
    let rejected = reject(&gallery, "ada", &at(20.0));
    assert_eq!(rejected.manifest.version, gallery.manifest.version + 1);
    for (degrees, name) in [(0.0, "ada"), (9.0, "ada"), (11.0, "bob"), (20.0, "bob"), (30.0, "bob"), (-30.0, "ada")] {
        assert_eq!(name_at(&rejected, degrees), some(name), "at {degrees} degrees");
    }
    let candidates = rejected.gallery().candidates(&at(20.0), 5).unwrap();
    assert_eq!(candidates.iter().map(|candidate| candidate.name.as_str()).collect::<Vec<_>>(), ["bob"]);
    assert_eq!(rejected.after(&Change::Reject("ada".into(), at(20.0), model()), LIMITS), Ok(None), "known already");

    let more = add(&rejected, &one("ada", &at(26.0))).unwrap().unwrap();
    for (degrees, name) in [(26.0, "ada"), (24.0, "ada"), (22.0, "bob"), (20.0, "bob")] {
        assert_eq!(name_at(&more, degrees), some(name), "at {degrees} degrees");
    }
    let same = add(&more, &one("ada", &at(20.0))).unwrap().unwrap();
    assert_eq!(name_at(&same, 20.0), some("ada"), "a photo of that very face");
    assert!(same.people()[0].rejected.is_empty());
}

#[test]
fn a_photo_that_shows_the_rejected_face_is_removed_and_the_person_with_the_last_one() {
    let gallery = add(&Whole::default(), &[one("ada", &at(0.0)), one("ada", &at(50.0))].concat()).unwrap().unwrap();
    let fewer = reject(&gallery, "ada", &at(50.0));
    assert_eq!((fewer.people()[0].embeddings.len(), fewer.people()[0].rejected.len()), (1, 1));
    assert_eq!(name_at(&fewer, 50.0), None);
    let nobody = reject(&fewer, "ada", &at(0.0));
    assert!(nobody.people().is_empty() && nobody.manifest.with_rejected.is_empty());
    assert_eq!(nobody.after(&Change::Reject("ada".into(), at(0.0), model()), LIMITS), Ok(None));
    for (face, model) in [(vec![1.0, 0.0, 0.0], "m"), (vec![0.0, 0.0], "m"), (at(9.0), "other")] {
        let change = Change::Reject("ada".into(), face, ModelId::known(model));
        assert!(fewer.after(&change, LIMITS).is_err());
    }
}

#[test]
fn the_newest_rejected_faces_of_a_person_are_kept_and_move_with_the_person() {
    let mut gallery =
        add(&Whole::default(), &[one("ada", &at(0.0)), one("eve", &at(180.0))].concat()).unwrap().unwrap();
    for n in 0..MAX_REJECTED + 3 {
        gallery = reject(&gallery, "ada", &at(20.0 + 2.0 * n as f32));
    }
    assert_eq!(gallery.people()[0].rejected.len(), MAX_REJECTED);
    assert_eq!([20.0, 26.0].map(|degrees| gallery.people()[0].rejected.contains(&at(degrees))), [false, true]);
    let renamed = Change::Rename { from: "ada".into(), to: "zoe".into() };
    let renamed = gallery.after(&renamed, LIMITS).unwrap().unwrap();
    assert_eq!(name_at(&renamed, 60.0), some("eve"));
    // Whoever is joined with someone else keeps what neither of them is.
    let joined = Change::Rename { from: "eve".into(), to: "zoe".into() };
    let joined = reject(&renamed, "eve", &at(-60.0)).after(&joined, LIMITS).unwrap().unwrap();
    assert_eq!(
        [60.0, -60.0, 0.0, 180.0].map(|degrees| name_at(&joined, degrees).is_some()),
        [false, false, true, true]
    );
}

/// A manifest or a part, as a release reads it that knows no rejected faces.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Earlier<const VERSION: u8>;

impl<const VERSION: u8> Wire for Earlier<VERSION> {
    const VERSION: u8 = VERSION;
}

#[test]
fn a_gallery_without_rejected_faces_is_stored_as_before_and_an_earlier_release_refuses_another() {
    let gallery = add(&Whole::default(), &one("ada", &at(0.0))).unwrap().unwrap();
    let bytes = |gallery: &Whole| {
        let parts = gallery.parts.values().map(|part| wire::to_bytes(part).unwrap());
        (wire::to_bytes(&gallery.manifest).unwrap(), parts.collect::<Vec<_>>().remove(0))
    };
    let (manifest, part) = bytes(&gallery);
    assert_eq!((manifest[0], part[0]), (3, 1));
    let first = |name: &str| [&1_u64.to_le_bytes()[..], &(name.len() as u64).to_le_bytes(), name.as_bytes()].concat();
    let expected = [&[1][..], &first("ada"), &1_u64.to_le_bytes(), &2_u64.to_le_bytes(), &bytes_of(&at(0.0))].concat();
    assert_eq!(part, expected, "the bytes of earlier releases");
    assert_eq!(wire::from_bytes::<Part>(&part).as_ref(), Ok(gallery.parts.values().next().unwrap()));
    assert_eq!(wire::from_bytes(&manifest), Ok(gallery.manifest.clone()));

    let rejected = reject(&gallery, "ada", &at(20.0));
    let (manifest, part) = bytes(&rejected);
    assert_eq!(wire::from_bytes::<Part>(&part).as_ref(), Ok(rejected.parts.values().next().unwrap()));
    assert_eq!(wire::from_bytes(&manifest), Ok(rejected.manifest.clone()));
    let refused = |found, expected| WireError::Version { found, expected };
    assert_eq!(wire::from_bytes::<Earlier<3>>(&manifest).unwrap_err(), refused(4, 3));
    assert_eq!(wire::from_bytes::<Earlier<1>>(&part).unwrap_err(), refused(2, 1));
    let mut nobody = part.to_vec();
    nobody[expected.len() + 8] = 1; // the position of the person
    assert!(wire::from_bytes::<Part>(&nobody).is_err());

    let accepted = add(&rejected, &one("ada", &at(20.0))).unwrap().unwrap();
    assert_eq!(bytes(&accepted).0[0], 3, "once there is none, earlier releases can read it again");
}

#[tokio::test]
async fn whoever_is_removed_is_also_gone_from_what_others_are_not() {
    let mut world = World::new();
    let people = world.fill(12).await;
    let (store, face) = (world.store(), world.embedding());
    let done = store.reject(&people[3].name, face.clone(), model()).await.unwrap();
    assert_eq!(done, Some(Rejection { version: 2, rejected: 1, removed: 0, photos: 2 }));
    let other = world.embedding();
    store.reject(&people[4].name, other.clone(), model()).await.unwrap().expect("somebody");
    assert_eq!(store.reject("nobody", face.clone(), model()).await.unwrap(), None);
    assert_eq!(world.files_with(&bytes_of(&face)).len(), 1);

    // The rejected face is enrolled from another photo, and removed.
    let mut similar = face.clone();
    similar.iter_mut().zip(&people[5].embeddings[0]).for_each(|(a, b)| *a += b);
    store.add("stranger", vec![similar], model()).await.unwrap();
    store.remove("stranger").await.unwrap().expect("somebody");
    assert_eq!(world.files_with(&bytes_of(&face)).len(), 0);
    assert_eq!(world.files_with(&bytes_of(&other)).len(), 1, "another face");
    store.remove(&people[4].name).await.unwrap().expect("somebody");
    assert_eq!(world.files_with(&bytes_of(&other)).len(), 0, "it is removed with whom it is not");
    assert!(store.manifest().await.unwrap().with_rejected.is_empty());
}

#[tokio::test]
async fn rejected_faces_are_respected_in_a_gallery_with_an_index() {
    let mut world = World::new();
    let people = world.fill(40).await;
    let (store, cache) = (world.store(), world.cache());
    cache.refresh().await.unwrap();
    assert_eq!(world.index_files(), 1);
    for person in &people[..15] {
        let mut face = person.embeddings[0].clone();
        face[0] += 0.2;
        store.reject(&person.name, face.clone(), model()).await.unwrap().expect("somebody");
        let gallery = cache.refresh().await.unwrap();
        normalise(&mut face);
        assert_ne!(named(&gallery, &face), person.name);
        assert_eq!(named(&gallery, &person.embeddings[1]), person.name);
    }
    let check = |gallery: &Gallery| {
        let exact: Vec<Person> = people.clone();
        for person in &exact {
            assert_eq!(named(gallery, &person.embeddings[1]), person.name);
            let mut face = person.embeddings[0].clone();
            face[0] += 0.2;
            normalise(&mut face);
            assert_eq!(
                named(gallery, &face) == person.name,
                person.rejected.is_empty() && !people[..15].contains(person)
            );
        }
    };
    check(&cache.current());
    // Another process builds an index of this version, and has nothing to do afterwards.
    store.index_files().delete().unwrap();
    let fresh = world.cache();
    check(&fresh.refresh().await.unwrap());
    // An index that is built anew is another file of the same name.
    let files = || std::fs::read_dir(world.folder.path().join("index")).unwrap().map(|file| file.unwrap().ino());
    let before: Vec<u64> = files().collect();
    fresh.renew_index().await.unwrap();
    assert_eq!(files().collect::<Vec<_>>(), before, "30 photos are kept out of it, which are more than 20");
    check(&fresh.current());
    // Once nothing is rejected of a person, they may be in the index again.
    let mut face = people[0].embeddings[0].clone();
    face[0] += 0.2;
    store.add(&people[0].name, vec![face.clone()], model()).await.unwrap();
    normalise(&mut face);
    assert_eq!(named(&fresh.refresh().await.unwrap(), &face), people[0].name);
}
