//! `rollcall enroll` enrols the usable photos of a folder and reports the others.

use std::{path::Path, sync::Arc};

use crate::support::{MemoryStore, gallery_in, newest, recogniser, sample, settings};
use rollcall::{
    cli::enroll::{Args, enroll},
    recognition::GalleryName,
};

fn put(dir: &Path, path: &str, bytes: &[u8]) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn bad_photos_are_reported_and_the_rest_is_enrolled_and_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let good = sample("person_a_1.jpg");
    put(dir.path(), "Emmanuel/one.jpg", &good);
    put(dir.path(), "Emmanuel/cut.jpg", &good[..good.len() / 2]);
    put(dir.path(), "Emmanuel/notes.txt", b"not a photo");
    put(dir.path(), "Emmanuel/.hidden", b"left alone");
    put(dir.path(), "Jacinda/photo.jpg", &sample("person_b_1.jpg"));
    put(dir.path(), "unknown/photo.jpg", &good);
    let (settings, store) = (settings(), Arc::new(MemoryStore::default()));
    let args = Args { dir: dir.path().to_owned(), replace: false, gallery: GalleryName::default() };

    let summary = enroll(&args, &settings, store.clone()).await.unwrap();
    assert_eq!((summary.people, summary.photos, summary.gallery_version), (2, 2, 1));
    let mut rejected: Vec<String> = summary.rejected.iter().map(|(p, why)| format!("{}: {why}", p.display())).collect();
    rejected.sort();
    for (line, parts) in
        rejected.iter().zip([["cut.jpg", "damaged"], ["notes.txt", "not an image"], ["unknown", "name"]])
    {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    assert_eq!(rejected.len(), 3);

    let gallery = newest(gallery_in(&store, &settings)).await;
    let mut recogniser = recogniser(&settings);
    for (photo, name) in [("person_a_2.jpg", "Emmanuel"), ("person_b_2.jpg", "Jacinda"), ("impostor_1.jpg", "unknown")]
    {
        assert_eq!(recogniser.recognise(&sample(photo), &gallery, false).unwrap().label, name);
    }

    // Once more: everything is there already, and nothing is written.
    let again = enroll(&args, &settings, store.clone()).await.unwrap();
    assert_eq!((again.photos, again.gallery_version, store.writes()), (2, 1, 2), "a part and the manifest");
}

#[tokio::test]
async fn a_folder_without_one_good_photo_is_an_error() {
    let (settings, store) = (settings(), Arc::new(MemoryStore::default()));
    let dir = tempfile::tempdir().unwrap();
    let args = Args { dir: dir.path().to_owned(), replace: false, gallery: GalleryName::default() };
    let empty = enroll(&args, &settings, store.clone()).await.unwrap_err().to_string();
    assert!(empty.contains("one folder per person"), "{empty}");
    put(dir.path(), "Ada/photo.jpg", b"not a photo");
    let bad = enroll(&args, &settings, store.clone()).await.unwrap_err().to_string();
    assert!(bad.contains("no photo in"), "{bad}");
    assert_eq!(store.writes(), 0);
}
