//! The photos to upload, and the expected label of each.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};

use crate::results::keys::stem;

/// Extensions of the files that are uploaded. Other files are skipped.
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// One photo of the folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Photo {
    /// Path below the folder, with `/` as separator.
    pub(super) relative: String,
    pub(super) path: PathBuf,
}

impl Photo {
    /// Returns the file name.
    pub(super) fn file(&self) -> &str {
        self.relative.rsplit('/').next().unwrap_or(&self.relative)
    }
}

/// Returns every photo below `dir`, ordered by relative path, so that every run uploads the same.
///
/// # Errors
/// A folder cannot be read, or there is no photo.
pub(super) fn collect(dir: &Path) -> anyhow::Result<Vec<Photo>> {
    let mut photos = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read folder {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read folder {}", folder.display()))?;
            let path = entry.path();
            // The type of the entry, not of its target: links to a parent folder must not be followed.
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                folders.push(path);
            } else if is_photo(&path) {
                let below = path.strip_prefix(dir).unwrap_or(&path);
                let relative = below.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
                photos.push(Photo { relative, path });
            }
        }
    }
    ensure!(!photos.is_empty(), "no photo ({}) below {}", EXTENSIONS.join(", "), dir.display());
    photos.sort();
    Ok(photos)
}

fn is_photo(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    EXTENSIONS.contains(&extension.as_str()) && path.is_file()
}

/// The expected labels.
#[derive(Debug)]
pub(super) enum Expectations {
    /// Labels by relative path, file name, or stem.
    Listed(HashMap<String, String>),
    /// The name of the folder that the photo is in.
    Folder,
}

impl Expectations {
    /// Reads a CSV file with the header `Image,Results`.
    ///
    /// # Errors
    /// The file cannot be read, has a different header, or gives an image two labels.
    pub(super) fn read(csv: &Path) -> anyhow::Result<Self> {
        let reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_path(csv)
            .with_context(|| format!("cannot read {}", csv.display()))?;
        Self::parse(reader).with_context(|| format!("{}", csv.display()))
    }

    fn parse<R: std::io::Read>(mut reader: csv::Reader<R>) -> anyhow::Result<Self> {
        let header = reader.headers()?.clone();
        let column = |name: &str| header.iter().position(|h| h.trim_start_matches('\u{feff}') == name);
        let (Some(image), Some(result)) = (column("Image"), column("Results")) else {
            bail!("the header must be Image,Results; it is {}", header.iter().collect::<Vec<_>>().join(","));
        };
        let mut labels = HashMap::new();
        for row in reader.records() {
            let row = row?;
            let (name, label) = (row[image].to_owned(), row[result].to_owned());
            let before = labels.insert(name.clone(), label.clone());
            if let Some(before) = before.filter(|b| *b != label) {
                bail!("{name} has two labels, {before} and {label}; identify images by their path below the folder");
            }
        }
        Ok(Self::Listed(labels))
    }

    /// Returns the expected label of a photo, if there is one.
    pub(super) fn of<'a>(&'a self, photo: &'a Photo) -> Option<&'a str> {
        match self {
            Self::Folder => photo.path.parent()?.file_name()?.to_str(),
            Self::Listed(labels) => {
                let names = [photo.relative.as_str(), photo.file(), stem(photo.file())];
                names.into_iter().find_map(|name| labels.get(name)).map(String::as_str)
            }
        }
    }
}

/// Returns the label in a reply to `POST /`: `label`, or `stem:label` with the stem of the uploaded file.
pub(super) fn label_of<'a>(reply: &'a str, file: &str) -> &'a str {
    let line = reply.trim();
    line.strip_prefix(stem(file)).and_then(|rest| rest.strip_prefix(':')).unwrap_or(line).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photo(relative: &str) -> Photo {
        Photo { relative: relative.into(), path: Path::new("/photos").join(relative) }
    }

    fn listed(text: &str) -> anyhow::Result<Expectations> {
        let reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        Expectations::parse(reader)
    }

    #[test]
    fn a_list_names_images_by_file_name_stem_or_path() {
        let e = listed("Image,Results\ntest_00,Paul\ntest_01.jpg, Ada \na/x.jpg,Bob\n").expect("valid");
        assert_eq!(e.of(&photo("test_00.jpg")), Some("Paul"));
        assert_eq!(e.of(&photo("deep/er/test_01.jpg")), Some("Ada"));
        assert_eq!(e.of(&photo("a/x.jpg")), Some("Bob"));
        assert_eq!(e.of(&photo("b/x.jpg")), None);
    }

    #[test]
    fn columns_may_be_in_any_order_and_after_a_byte_order_mark() {
        let e = listed("\u{feff}Results,Other,Image\nPaul,9,test_00\n").expect("valid");
        assert_eq!(e.of(&photo("test_00.png")), Some("Paul"));
    }

    #[test]
    fn a_list_that_contradicts_itself_or_has_another_header_is_refused() {
        let e = listed("Image,Results\nx,Paul\nx,Ada\n").expect_err("contradiction").to_string();
        assert!(e.contains("x has two labels, Paul and Ada"), "{e}");
        assert!(listed("Image,Results\nx,Paul\nx,Paul\n").is_ok());
        let e = listed("file,label\nx,Paul\n").expect_err("header").to_string();
        assert!(e.contains("Image,Results") && e.contains("file,label"), "{e}");
    }

    #[test]
    fn the_folder_of_a_photo_is_its_expected_label() {
        assert_eq!(Expectations::Folder.of(&photo("probes/Ada/x.jpg")), Some("Ada"));
        assert_eq!(Expectations::Folder.of(&photo("x.jpg")), Some("photos"));
    }

    #[test]
    fn both_styles_of_reply_are_parsed() {
        assert_eq!(label_of("Ada\n", "x.jpg"), "Ada");
        assert_eq!(label_of("x:Ada\n", "x.jpg"), "Ada");
        assert_eq!(label_of("x.y:Ada", "x.y.jpg"), "Ada");
        assert_eq!(label_of("y:Ada", "x.jpg"), "y:Ada", "the prefix is another file's");
        assert_eq!(label_of("no face", "x.jpg"), "no face");
    }

    #[test]
    fn photos_are_collected_recursively_in_order_and_other_files_skipped() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert!(collect(dir.path()).is_err_and(|e| e.to_string().contains("no photo")));
        std::fs::create_dir_all(dir.path().join("b/c")).expect("writable");
        for file in ["z.JPG", "b/a.png", "b/c/d.webp", "b/notes.txt", "README"] {
            std::fs::write(dir.path().join(file), b"x").expect("writable");
        }
        let found = collect(dir.path()).expect("photos");
        assert_eq!(found.iter().map(|p| p.relative.as_str()).collect::<Vec<_>>(), ["b/a.png", "b/c/d.webp", "z.JPG"]);
    }
}
