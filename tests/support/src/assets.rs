//! Finds the files that `make setup` and `make setup-test` install in `.assets`.

use std::path::{Path, PathBuf};

/// Returns the folder of the package under test.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .and_then(Path::parent)
        .expect("tests/support is two levels below the root")
}

/// Returns the path of something that `make setup-test` installs.
pub fn asset(path: &str) -> PathBuf {
    let asset = root().join(".assets").join(path);
    assert!(asset.exists(), "{} is missing: run make setup-test", asset.display());
    asset
}

/// Returns the paths of the sample photos, which `make setup` installs.
pub fn sample_photos() -> Vec<PathBuf> {
    photos_below(asset("photos"))
}

/// Returns the paths of the `.jpg` files in a folder and its subfolders, sorted.
pub fn photos_below(folder: PathBuf) -> Vec<PathBuf> {
    let mut photos = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "jpg") {
                photos.push(path);
            }
        }
    }
    photos.sort();
    photos
}

/// Returns the bytes of the sample photo with this file name.
pub fn sample(name: &str) -> Vec<u8> {
    let photo = sample_photos().into_iter().find(|p| p.file_name().unwrap() == name);
    std::fs::read(photo.unwrap_or_else(|| panic!("no {name} in .assets/photos: run make setup"))).unwrap()
}
