//! `rollcall enroll`: a gallery from folders of photos.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use anyhow::bail;

use super::photos::{self, Photo};
use crate::{
    cloud::ObjectStore,
    inference::{
        gallery::{Gallery, Person, check_name},
        gallery_store::GalleryStore,
    },
    recognition::Recognition,
    settings::{RecogniserKind, Settings},
};

/// Add people to the gallery from a folder per person, several photos each.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder of folders: DIR/NAME/photo.jpg.
    pub dir: PathBuf,
}

/// What became of the photos.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// People in the folder.
    pub people: usize,
    /// Enrolled now or already there.
    pub photos: usize,
    /// Path and reason of each photo that was left out.
    pub rejected: Vec<(PathBuf, String)>,
    /// Path and number of faces of each photo with several: the largest was taken.
    pub crowded: Vec<(PathBuf, usize)>,
    /// Version of the gallery afterwards.
    pub gallery_version: u64,
}

/// # Errors
/// Not one photo could be enrolled, or models or store cannot be used.
pub async fn run(args: Args, settings: &Settings, store: Arc<dyn ObjectStore>) -> anyhow::Result<()> {
    let summary = enroll(&args, settings, store).await?;
    for (path, faces) in &summary.crowded {
        eprintln!("{}: {faces} faces; the largest was enrolled", path.display());
    }
    for (path, reason) in &summary.rejected {
        eprintln!("{}: left out: {reason}", path.display());
    }
    println!(
        "{} photos of {} people are enrolled, {} left out; the gallery is at version {}",
        summary.photos,
        summary.people,
        summary.rejected.len(),
        summary.gallery_version
    );
    Ok(())
}

/// As [`run`], with the summary instead of prints.
pub async fn enroll(args: &Args, settings: &Settings, store: Arc<dyn ObjectStore>) -> anyhow::Result<Summary> {
    if settings.recognition.kind != RecogniserKind::Face {
        bail!("recognition.kind is \"classifier\": a classifier has no gallery");
    }
    let mut summary = Summary::default();
    let wanted = within_limits(photos::by_person(&args.dir)?, settings.gallery.max_photos, &mut summary);
    let threads = photos::cores().min(wanted.len().max(1));
    let pool = photos::pool(settings, threads).await?;
    let paths = wanted.iter().map(|p| p.path.clone()).collect();
    let results = photos::recognise(&pool, threads, paths, Arc::new(Gallery::default()), true).await;

    let mut people: BTreeMap<String, Vec<Vec<f32>>> = BTreeMap::new();
    for (photo, result) in wanted.into_iter().zip(results) {
        match result.and_then(largest_face) {
            Ok((embedding, faces)) => {
                if faces > 1 {
                    summary.crowded.push((photo.path, faces));
                }
                people.entry(photo.person).or_default().push(embedding);
                summary.photos += 1;
            }
            Err(reason) => summary.rejected.push((photo.path, reason)),
        }
    }
    if people.is_empty() {
        for (path, reason) in &summary.rejected {
            eprintln!("{}: left out: {reason}", path.display());
        }
        bail!("no photo of {} could be enrolled", args.dir.display());
    }
    summary.people = people.len();
    let people = people.into_iter().map(|(name, embeddings)| Person { name, embeddings }).collect();
    let gallery = GalleryStore::new(store, settings.store.state.clone(), settings.gallery.clone());
    summary.gallery_version = gallery.add_people(people).await?.version;
    Ok(summary)
}

/// The photos whose person can be in the gallery, at most `max_photos` of each.
fn within_limits(photos: Vec<Photo>, max_photos: usize, summary: &mut Summary) -> Vec<Photo> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    let mut refused = HashSet::new();
    let mut kept = Vec::new();
    for photo in photos {
        if let Err(why) = check_name(&photo.person) {
            if refused.insert(photo.person) {
                let folder = photo.path.parent().map(PathBuf::from).unwrap_or_default();
                summary.rejected.push((folder, why.to_string()));
            }
            continue;
        }
        let so_far = count.entry(photo.person.clone()).or_default();
        *so_far += 1;
        if *so_far > max_photos {
            let why = format!("more than {max_photos} photos of {} (gallery.max_photos)", photo.person);
            summary.rejected.push((photo.path, why));
        } else {
            kept.push(photo);
        }
    }
    kept
}

/// The embedding of the largest face, and how many faces there are.
fn largest_face(recognition: Recognition) -> Result<(Vec<f32>, usize), String> {
    let faces = recognition.faces.len();
    let embedding = recognition.faces.into_iter().next().and_then(|f| f.embedding);
    embedding.map(|e| (e, faces)).ok_or_else(|| "no face was found".to_owned())
}
