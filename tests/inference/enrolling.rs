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
    let args = Args { dir: dir.path().to_owned(), replace: false, refuse_poor: false, gallery: GalleryName::default() };

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

/// Returns a photo, and beside it another.
fn beside(left: &str, right: &str) -> Vec<u8> {
    let [left, right] = [left, right].map(|name| image::load_from_memory(&sample(name)).unwrap().to_rgb8());
    let mut both = image::RgbImage::new(left.width() + right.width(), left.height().max(right.height()));
    image::imageops::replace(&mut both, &left, 0, 0);
    image::imageops::replace(&mut both, &right, i64::from(left.width()), 0);
    png(both)
}

fn png(image: image::RgbImage) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

#[tokio::test]
async fn poor_photos_are_reported_and_skipped_if_they_are_to_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = image::load_from_memory(&sample("person_a_1.jpg")).unwrap();
    put(dir.path(), "Emmanuel/good.jpg", &sample("person_a_1.jpg"));
    put(dir.path(), "Emmanuel/two.png", &beside("person_a_2.jpg", "person_b_1.jpg"));
    put(dir.path(), "Emmanuel/small.png", &png(good.thumbnail(100, 100).to_rgb8()));
    let (settings, store) = (settings(), Arc::new(MemoryStore::default()));
    let args =
        |refuse_poor| Args { dir: dir.path().to_owned(), replace: false, refuse_poor, gallery: GalleryName::default() };
    let lines = |photos: &[(std::path::PathBuf, String)]| {
        let mut lines: Vec<String> = photos.iter().map(|(path, why)| format!("{}: {why}", path.display())).collect();
        lines.sort();
        lines
    };
    let refused = enroll(&args(true), &settings, store.clone()).await.unwrap();
    assert_eq!((refused.photos, refused.poor.len()), (1, 0));
    let enrolled = enroll(&args(false), &settings, store.clone()).await.unwrap();
    assert_eq!((enrolled.photos, enrolled.rejected.len()), (3, 0));
    for lines in [lines(&refused.rejected), lines(&enrolled.poor)] {
        assert!(lines.len() == 2, "{lines:?}");
        assert!(lines[0].ends_with("small.png: the face is small"), "{lines:?}");
        assert!(lines[1].ends_with("two.png: there are several faces, of which the largest is used"), "{lines:?}");
    }
}

#[tokio::test]
async fn a_folder_without_one_good_photo_is_an_error() {
    let (settings, store) = (settings(), Arc::new(MemoryStore::default()));
    let dir = tempfile::tempdir().unwrap();
    let args = Args { dir: dir.path().to_owned(), replace: false, refuse_poor: false, gallery: GalleryName::default() };
    let empty = enroll(&args, &settings, store.clone()).await.unwrap_err().to_string();
    assert!(empty.contains("one folder per person"), "{empty}");
    put(dir.path(), "Ada/photo.jpg", b"not a photo");
    let bad = enroll(&args, &settings, store.clone()).await.unwrap_err().to_string();
    assert!(bad.contains("no photo in"), "{bad}");
    assert_eq!(store.writes(), 0);
}
