//! `rollcall enroll`: adds people to the gallery from folders of photos.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
    sync::Arc,
};

use anyhow::bail;

use super::{
    audit::{CommandLog, Subject},
    photos::{self, LabelledPhoto},
};
use crate::{
    cloud::ObjectStore,
    inference::{
        gallery::{Gallery, GalleryStores, Person, check_name},
        photo_quality::{PhotoWarning, warnings},
    },
    recognition::{GalleryName, ModelId, Recognition, common_model},
    settings::{RecogniserKind, Settings},
};

/// Add people to the gallery from one folder of photos per person.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder with one folder per person: DIR/NAME/photo.jpg.
    pub dir: PathBuf,
    /// Remove everybody else, to switch to another model.
    #[arg(long)]
    pub replace: bool,
    /// Skip photos that may not be good ones: with a small face, one that is turned away, or several.
    #[arg(long)]
    pub refuse_poor: bool,
    /// The gallery to which the people are added; it is created if it does not exist.
    #[arg(long, value_name = "NAME", default_value_t)]
    pub gallery: GalleryName,
}

/// The outcome of an enrolment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// People in the folder.
    pub people: usize,
    /// Photos that were enrolled, now or before.
    pub photos: usize,
    /// Path of each photo that was skipped, and why.
    pub rejected: Vec<(PathBuf, String)>,
    /// Path of each photo that was enrolled although it may not be a good one, and why.
    pub poor: Vec<(PathBuf, String)>,
    /// Version of the gallery afterwards.
    pub gallery_version: u64,
}

/// Enrols the photos and prints the summary.
///
/// # Errors
/// Same as [`enroll`].
pub(super) async fn run(args: Args, settings: &Settings, store: Arc<dyn ObjectStore>) -> anyhow::Result<()> {
    let photos = photos::by_person(&args.dir)?;
    let people: BTreeSet<&str> = photos.iter().map(|photo| photo.person.as_str()).collect();
    let people = people.into_iter().collect();
    let subject = Subject { gallery: Some(&args.gallery), people, everybody: args.replace, ..Subject::default() };
    let log = CommandLog::new(settings, store.clone());
    let summary = log.run("enroll", subject, enroll(&args, settings, store)).await?;
    for (path, warnings) in &summary.poor {
        eprintln!("{}: enrolled, but {warnings}", path.display());
    }
    for (path, reason) in &summary.rejected {
        eprintln!("{}: skipped: {reason}", path.display());
    }
    println!(
        "{} photos of {} people enrolled, {} skipped; the gallery is at version {}",
        summary.photos,
        summary.people,
        summary.rejected.len(),
        summary.gallery_version
    );
    Ok(())
}

/// Enrols the photos below `args.dir`. Photos that cannot be used are in the summary.
///
/// # Errors
/// No photo could be enrolled, the gallery contains embeddings of an incompatible model, a limit of the gallery was
/// exceeded, the folders cannot be read, or the models or the store cannot be used.
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
    let mut models = Vec::new();
    for (photo, result) in wanted.into_iter().zip(results) {
        match result.and_then(largest_face) {
            Ok(LargestFace { warnings, .. }) if args.refuse_poor && !warnings.is_empty() => {
                summary.rejected.push((photo.path, in_words(&warnings)));
            }
            Ok(LargestFace { embedding, model, warnings }) => {
                if !warnings.is_empty() {
                    summary.poor.push((photo.path, in_words(&warnings)));
                }
                people.entry(photo.person).or_default().push(embedding);
                models.push(model);
                summary.photos += 1;
            }
            Err(reason) => summary.rejected.push((photo.path, reason)),
        }
    }
    let Some(model) = common_model(&models).map_err(anyhow::Error::msg)? else {
        for (path, reason) in &summary.rejected {
            eprintln!("{}: skipped: {reason}", path.display());
        }
        bail!("no photo in {} could be enrolled", args.dir.display());
    };
    summary.people = people.len();
    let people = people.into_iter().map(|(name, embeddings)| Person::new(name, embeddings)).collect();
    let gallery = GalleryStores::new(store, settings).gallery(&args.gallery);
    let gallery =
        if args.replace { gallery.replace(people, model).await? } else { gallery.add_people(people, model).await? };
    summary.gallery_version = gallery.version;
    Ok(summary)
}

/// Returns the photos whose person may be in the gallery, at most `max_photos` per person. Rejects the others in
/// `summary`.
fn within_limits(photos: Vec<LabelledPhoto>, max_photos: usize, summary: &mut Summary) -> Vec<LabelledPhoto> {
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

/// What is enrolled from a photo.
struct LargestFace {
    embedding: Vec<f32>,
    model: ModelId,
    /// Why the photo may not be a good one.
    warnings: Vec<PhotoWarning>,
}

fn in_words(warnings: &[PhotoWarning]) -> String {
    warnings.iter().map(PhotoWarning::to_string).collect::<Vec<_>>().join(", and ")
}

fn largest_face(recognition: Recognition) -> Result<LargestFace, String> {
    let warnings = warnings(&recognition.faces, None);
    let embedding = recognition.faces.into_iter().next().and_then(|f| f.embedding).ok_or("no face was found")?;
    let model = recognition.model.ok_or("its embedding has no model")?;
    Ok(LargestFace { embedding, model, warnings })
}
