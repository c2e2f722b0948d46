//! Photos in one folder per person, and their recognition on several threads.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    inference::{
        factory::factory,
        gallery::Gallery,
        pool::{self, Pool, Work},
    },
    recognition::Recognition,
    settings::Settings,
};

/// A photo in a person's folder.
#[derive(Clone, Debug)]
pub(super) struct LabelledPhoto {
    /// Name of the folder.
    pub(super) person: String,
    pub(super) path: PathBuf,
}

/// Returns the photos in the folders of `dir`, ordered by person and file name. Treats every visible file in a folder
/// as a photo; skips hidden files and folders.
///
/// # Errors
/// `dir` or one of its folders cannot be read, no folder contains a visible file, or a folder's name is not UTF-8.
pub(super) fn by_person(dir: &Path) -> anyhow::Result<Vec<LabelledPhoto>> {
    let mut photos = Vec::new();
    for folder in visible(dir)?.into_iter().filter(|p| p.is_dir()) {
        let name = folder.file_name().and_then(|n| n.to_str());
        let person = name.with_context(|| format!("{}: the folder's name is not UTF-8", folder.display()))?.to_owned();
        let files = visible(&folder)?.into_iter().filter(|p| p.is_file());
        photos.extend(files.map(|path| LabelledPhoto { person: person.clone(), path }));
    }
    if photos.is_empty() {
        bail!("{} has no photos: create one folder per person in it, with their photos inside", dir.display());
    }
    Ok(photos)
}

/// Returns the paths of the entries of `dir` that are not hidden, sorted.
fn visible(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut paths: Vec<PathBuf> = entries
        .with_context(|| format!("cannot read the folder {}", dir.display()))?
        .into_iter()
        .filter(|e| !e.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|e| e.path())
        .collect();
    paths.sort();
    Ok(paths)
}

/// Starts `threads` threads with one recogniser each.
pub(super) async fn pool(settings: &Settings, threads: usize) -> anyhow::Result<Pool> {
    pool::start(threads, factory(&settings.recognition)).await
}

/// Returns the number of CPUs available to this process, or 1 if it is unknown.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Recognises files, `threads` at a time, and shows a progress bar on a terminal. Results are in the order of `paths`.
/// Each error contains only the reason, not the path.
pub(super) async fn recognise(
    pool: &Pool,
    threads: usize,
    paths: Vec<PathBuf>,
    gallery: Arc<Gallery>,
    embeddings: bool,
) -> Vec<Result<Recognition, String>> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} photos, {eta} left")
        .expect("the template is a constant and known to be valid");
    let bar = ProgressBar::new(paths.len() as u64).with_style(style);
    let results = stream::iter(paths)
        .map(|path| {
            let (gallery, bar) = (gallery.clone(), &bar);
            async move {
                let read = tokio::fs::read(&path).await.map_err(|e| format!("cannot be read: {e}"));
                let result = match read {
                    Ok(bytes) => {
                        let work = Work { image: bytes.into(), gallery, embeddings };
                        pool.run(work, None).await.outcome.map_err(|failure| failure.message)
                    }
                    Err(error) => Err(error),
                };
                bar.inc(1);
                result
            }
        })
        .buffered(threads)
        .collect()
        .await;
    bar.finish_and_clear();
    results
}
