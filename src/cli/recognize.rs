//! `rollcall recognize`: recognises files in this process.

use std::{path::PathBuf, sync::Arc};

use anyhow::bail;
use serde::Serialize;

use super::photos;
use crate::{
    cloud::ObjectStore,
    inference::gallery::{GalleryStores, cache::GalleryCache},
    recognition::{Face, GalleryName, Recognition},
    settings::Settings,
};

/// Recognise image files in this process, without a cluster.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// JPEG, PNG or WebP files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The gallery that names the faces.
    #[arg(long, value_name = "NAME", default_value_t)]
    gallery: GalleryName,
    /// Print one JSON object per file, with all faces.
    #[arg(long)]
    json: bool,
}

/// One line of the output with `--json`.
#[derive(Serialize)]
struct Line<'a> {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recognition: Option<&'a Recognition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// Recognises the files and prints their labels.
///
/// # Errors
/// The models cannot be loaded, the gallery cannot be read, or a file could not be recognised; the results of the
/// others are printed.
pub(super) async fn run(args: Args, settings: &Settings, store: Arc<dyn ObjectStore>) -> anyhow::Result<()> {
    let store = GalleryStores::new(store, settings).gallery(&args.gallery);
    let gallery = GalleryCache::new(store).refresh().await?;
    let threads = photos::cores().min(args.files.len());
    let pool = photos::pool(settings, threads).await?;
    let results = photos::recognise(&pool, threads, args.files.clone(), gallery, false).await;
    for (path, result) in args.files.iter().zip(&results) {
        let file = path.display().to_string();
        if args.json {
            let error = result.as_ref().err().map(String::as_str);
            println!("{}", serde_json::to_string(&Line { file, recognition: result.as_ref().ok(), error })?);
        } else {
            match result {
                Ok(recognition) => println!("{file}: {}{}", recognition.label, details(recognition)),
                Err(error) => eprintln!("{file}: {error}"),
            }
        }
    }
    match results.iter().filter(|r| r.is_err()).count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} files could not be recognised", results.len()),
    }
}

/// Formats what the label is based on: the name and similarity of every face, or the classes.
fn details(recognition: &Recognition) -> String {
    let face = |f: &Face| match f.similarity {
        Some(similarity) => format!("{} {similarity:.2}", f.name),
        None => f.name.clone(),
    };
    let faces = recognition.faces.iter().map(face);
    let classes = recognition.classes.iter().map(|c| format!("{} {:.2}", c.label, c.probability));
    let parts: Vec<String> = faces.chain(classes).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}
