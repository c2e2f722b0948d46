//! `rollcall evaluate`: measures the accuracy of the models and the threshold on your own photos.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::photos;
use crate::{
    inference::{
        evaluation::{self, Sample, Samples},
        gallery::Gallery,
        pool::Pool,
    },
    recognition::{ModelId, Timings, common_model},
    settings::{RecogniserKind, Settings},
};

/// Measure accuracy on photos of known people and of strangers. Changes nothing.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder with known/ (to enrol), probes/ (other photos of the same people) and, optionally, strangers/, each with
    /// one folder per person.
    pub dir: PathBuf,
    /// Threads to recognise on; by default one per core.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The result; what `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// The model that embedded the faces.
    pub model: ModelId,
    /// Accuracy.
    #[serde(flatten)]
    pub report: evaluation::Report,
    /// Photos in which no face was found. They do not count in any rate.
    pub without_face: Vec<PathBuf>,
    /// Path of each photo that could not be read, and why.
    pub unreadable: Vec<(PathBuf, String)>,
    /// The embeddings, for evaluation at other thresholds.
    #[serde(skip)]
    pub samples: Samples,
    /// Speed of the same run.
    pub speed: Speed,
}

/// How fast photos were turned into embeddings.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Speed {
    /// Photos that were recognised.
    pub photos: usize,
    /// Threads that recognised them.
    pub threads: usize,
    /// Photos per second, all threads together.
    pub images_per_second: f32,
    /// Mean time of each step.
    pub mean: Timings,
}

/// Evaluates and prints the result.
///
/// # Errors
/// Same as [`evaluate`].
pub(super) async fn run(args: Args, settings: &Settings) -> anyhow::Result<()> {
    let evaluation = evaluate(&args, settings).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&evaluation)?);
    } else {
        print!("{}", text(&evaluation));
    }
    Ok(())
}

/// Evaluates the models and `recognition.threshold` on the photos below `args.dir`.
///
/// # Errors
/// The folders are not as described, no photo has a face, the models cannot be loaded, or `recognition.kind` is not
/// `face`.
#[expect(clippy::disallowed_methods, reason = "measures the speed of recognition")]
pub async fn evaluate(args: &Args, settings: &Settings) -> anyhow::Result<Evaluation> {
    if settings.recognition.kind != RecogniserKind::Face {
        bail!("recognition.kind is \"classifier\"; only face recognition is evaluated");
    }
    let threads = args.threads.unwrap_or_else(photos::cores).max(1);
    let pool = photos::pool(settings, threads).await?;
    let mut reader = Reader {
        pool,
        threads,
        models: vec![],
        without_face: vec![],
        unreadable: vec![],
        sum: Timings::default(),
        read: 0,
    };
    let start = Instant::now();
    let known = reader.samples(&args.dir.join("known")).await?;
    let probes = reader.samples(&args.dir.join("probes")).await?;
    let strangers = args.dir.join("strangers");
    let strangers = if strangers.is_dir() { reader.samples(&strangers).await? } else { Vec::new() };
    let took = start.elapsed().as_secs_f32();
    let mean = |sum: f32| sum / reader.read.max(1) as f32;
    let model = common_model(&reader.models).map_err(anyhow::Error::msg)?.context("no photo has a face")?;
    let samples = Samples { model: model.clone(), known, probes, strangers };
    Ok(Evaluation {
        report: samples.evaluate(settings.recognition.threshold)?,
        model,
        samples,
        speed: Speed {
            photos: reader.read,
            threads,
            images_per_second: reader.read as f32 / took,
            mean: Timings {
                decode_ms: mean(reader.sum.decode_ms),
                detect_ms: mean(reader.sum.detect_ms),
                embed_ms: mean(reader.sum.embed_ms),
            },
        },
        without_face: reader.without_face,
        unreadable: reader.unreadable,
    })
}

/// Reads folders of photos, and collects the photos without a sample and the time that was spent.
struct Reader {
    pool: Pool,
    threads: usize,
    /// The model of each sample.
    models: Vec<ModelId>,
    without_face: Vec<PathBuf>,
    unreadable: Vec<(PathBuf, String)>,
    sum: Timings,
    read: usize,
}

impl Reader {
    /// Returns one sample per photo with a face.
    async fn samples(&mut self, dir: &Path) -> anyhow::Result<Vec<Sample>> {
        let wanted = photos::by_person(dir)?;
        let paths = wanted.iter().map(|p| p.path.clone()).collect();
        let results = photos::recognise(&self.pool, self.threads, paths, Arc::new(Gallery::default()), true).await;
        let mut samples = Vec::new();
        for (photo, result) in wanted.into_iter().zip(results) {
            let recognition = match result {
                Ok(recognition) => recognition,
                Err(reason) => {
                    self.unreadable.push((photo.path, reason));
                    continue;
                }
            };
            self.read += 1;
            self.sum.decode_ms += recognition.timings.decode_ms;
            self.sum.detect_ms += recognition.timings.detect_ms;
            self.sum.embed_ms += recognition.timings.embed_ms;
            match recognition.faces.into_iter().next().and_then(|f| f.embedding) {
                Some(embedding) => {
                    self.models.extend(recognition.model);
                    samples.push(Sample { person: photo.person, embedding });
                }
                None => self.without_face.push(photo.path),
            }
        }
        Ok(samples)
    }
}

fn text(evaluation: &Evaluation) -> String {
    let Evaluation { model, report: r, without_face, unreadable, speed, .. } = evaluation;
    let percent = |share: Option<f32>| share.map_or("-".to_owned(), |s| format!("{:.2} %", 100.0 * s));
    let mut lines = vec![format!(
        "{} known photos enrolled, {} probes of the same people, {} of strangers; embedded by {model}",
        r.known, r.probes, r.strangers
    )];
    if let Some(v) = &r.verification {
        lines.push(format!(
            "verification, {} pairs of the same person and {} of different people:",
            v.same, v.different
        ));
        lines.push(format!(
            "  balanced accuracy            {} at the best threshold, {:.3}",
            percent(Some(v.balanced_accuracy)),
            v.best_threshold
        ));
        lines.push(format!("  TAR at FAR 1e-3              {}", percent(Some(v.tar_at_far_1e3))));
    }
    lines.push(format!("1-nearest-neighbour            {}", percent(r.identification)));
    lines.push(format!("at the threshold {:.3} (recognition.threshold):", r.threshold));
    lines.push(format!("  known people named correctly {}", percent(r.known_named_right)));
    lines.push(format!("  known people misnamed        {}", percent(r.known_named_wrong)));
    lines.push(format!(
        "  strangers named              {} (false-accept rate), {} predicted from the known people",
        percent(r.strangers_named),
        percent(Some(r.predicted_strangers_named as f32))
    ));
    let mean = speed.mean;
    lines.push(format!(
        "{} photos on {} threads, {:.1} per second; mean {:.2} ms to decode, {:.2} to detect, {:.2} to embed and name",
        speed.photos, speed.threads, speed.images_per_second, mean.decode_ms, mean.detect_ms, mean.embed_ms
    ));
    lines.extend(without_face.iter().map(|path| format!("{}: no face was found", path.display())));
    lines.extend(unreadable.iter().map(|(path, reason)| format!("{}: {reason}", path.display())));
    lines.join("\n") + "\n"
}
