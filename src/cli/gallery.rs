//! `rollcall gallery`: lists, removes, erases, imports and exports people.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::audit::{CommandLog, Subject};
use crate::{
    cloud::ObjectStore,
    erasure::{Erasure, Erasures},
    inference::{
        embeddings::similarity::normalise,
        gallery::{GalleryStores, Person, check_name, store::GalleryStore},
        model,
    },
    private_files::create_private,
    recognition::{GalleryName, ModelId, common_model},
    results::Erased,
    settings::Settings,
};

/// List, remove, erase, import and export people.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The gallery.
    #[arg(long, value_name = "NAME", default_value_t, global = true)]
    gallery: GalleryName,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// List the galleries.
    Names,
    /// List people and how many photos each has.
    List,
    /// Remove a person and all of their embeddings.
    Remove {
        /// The name.
        name: String,
    },
    /// Erase a person: also every stored result that names them, with image, label and dead letters
    Forget {
        /// The name.
        name: String,
        /// Print what was erased as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add embeddings from a file: JSON Lines {"name": "Ada", "embedding": [0.1, ...]}, or CSV name,v1,v2,...
    ///
    /// A line with "rejected": true is of a face that is not the person's; it needs another of the person's own. A line of
    /// JSON may contain the id of its model, "model": "sface-2021dec", as in exported files. Embeddings
    /// without one are assumed to come from the model in recognition.embedder.
    Import {
        /// The file.
        file: PathBuf,
        /// Remove all other people, to switch to another model.
        #[arg(long)]
        replace: bool,
    },
    /// Write all embeddings to a file, as JSON Lines.
    Export {
        /// The file.
        file: PathBuf,
    },
}

/// One line of an embeddings file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    embedding: Vec<f32>,
    /// The model that made the embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<ModelId>,
    /// Whether the face is not the person's, though it was given the name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rejected: bool,
}

/// The content of an embeddings file.
#[derive(Debug, PartialEq)]
struct Embeddings {
    people: Vec<Person>,
    /// The model of the first embedding that has one.
    model: Option<ModelId>,
    /// Whether there are embeddings without a model.
    without_model: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// The gallery or the file cannot be read or written, there is no such person, the file contains an invalid line, or
/// its embeddings do not fit the gallery.
pub(super) async fn run(args: Args, settings: &Settings, store: Arc<dyn ObjectStore>) -> anyhow::Result<()> {
    let Args { gallery, command } = args;
    let subject = |people| Subject { gallery: Some(&gallery), people, ..Subject::default() };
    let (action, subject) = match &command {
        Command::Names => return names(settings, store).await,
        Command::List => ("gallery list", Subject { everybody: true, ..subject(Vec::new()) }),
        Command::Remove { name } => ("gallery remove", subject(vec![name.as_str()])),
        Command::Forget { name, .. } => ("gallery forget", subject(vec![name.as_str()])),
        Command::Import { .. } => ("gallery import", Subject { everybody: true, ..subject(Vec::new()) }),
        Command::Export { .. } => ("gallery export", Subject { everybody: true, ..subject(Vec::new()) }),
    };
    let log = CommandLog::new(settings, store.clone());
    log.run(action, subject, perform(&gallery, &command, settings, store)).await
}

async fn names(settings: &Settings, store: Arc<dyn ObjectStore>) -> anyhow::Result<()> {
    let galleries = GalleryStores::new(store, settings);
    galleries.names().await?.iter().for_each(|name| println!("{name}"));
    Ok(())
}

async fn perform(
    gallery_name: &GalleryName,
    command: &Command,
    settings: &Settings,
    store: Arc<dyn ObjectStore>,
) -> anyhow::Result<()> {
    let gallery = GalleryStores::new(store.clone(), settings).gallery(gallery_name);
    match command {
        Command::Names => unreachable!("names() has handled it, because it concerns nobody"),
        Command::List => {
            let mut reader = gallery.reader(None).await?;
            while let Some(part) = reader.next().await? {
                part.people.iter().for_each(|person| println!("{}\t{}", person.name, person.embeddings.len()));
            }
        }
        Command::Remove { name } => {
            let left = gallery.remove(name).await?.with_context(|| format!("nobody is called {name:?}"))?;
            println!("{name} removed; the gallery has {} people, version {}", left.people(), left.version);
        }
        Command::Forget { name, json } => {
            let (erasure, _) = Erasures::new(store, settings).erase(gallery_name, name).await?;
            if erasure.is_empty() {
                bail!("nobody is called {name:?}, and no result names them");
            }
            println!("{}", if *json { serde_json::to_string(&erasure)? } else { described(name, &erasure) });
        }
        Command::Import { file, replace } => {
            let Embeddings { people, model, without_model } = read(file)?;
            let assumed = without_model.then(|| model::id(&settings.recognition.embedder)).transpose()?;
            let model = common_model(model.iter().chain(&assumed)).map_err(anyhow::Error::msg)?;
            let model = model.expect("there are embeddings, with or without a model");
            let now = if *replace {
                gallery.replace(people, model).await?
            } else {
                gallery.add_people(people, model).await?
            };
            println!("the gallery has {} people, version {}", now.people(), now.version);
        }
        Command::Export { file } => {
            let people = export(&gallery, file).await?;
            println!("{people} people exported to {}", file.display());
        }
    }
    Ok(())
}

/// Describes what was erased.
fn described(name: &str, Erasure { photos, reserved_name, erased }: &Erasure) -> String {
    let Erased { results, images, labels, dead_letters } = erased;
    let reserved = if *reserved_name { "a name without photos, " } else { "" };
    format!(
        "{name} erased ({reserved}photos in the gallery: {photos}, results: {results}, images: {images}, labels: {labels}, dead \
         letters: {dead_letters})"
    )
}

/// Reads an embeddings file. An error lists every invalid line.
fn read(file: &Path) -> anyhow::Result<Embeddings> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let json = text.trim_start().starts_with('{');
    let mut people: BTreeMap<String, Person> = BTreeMap::new();
    let mut bad = Vec::new();
    let (mut dimension, mut model, mut without_model) = (None, None, false);
    let entries = if json { json_lines(&text) } else { csv_lines(&text) };
    for (line, entry) in entries {
        match entry.and_then(|entry| checked(entry, &mut dimension, &mut model)) {
            Ok(entry) => {
                without_model |= entry.model.is_none();
                let new = || Person::new(entry.name.clone(), Vec::new());
                let person = people.entry(entry.name.clone()).or_insert_with(new);
                let embeddings = if entry.rejected { &mut person.rejected } else { &mut person.embeddings };
                embeddings.push(entry.embedding);
            }
            Err(problem) => bad.push(format!("line {line}: {problem}")),
        }
    }
    if !bad.is_empty() {
        bail!("{} has invalid lines; nothing was imported:\n  {}", file.display(), bad.join("\n  "));
    }
    if people.is_empty() {
        bail!("{} has no embeddings: write one per line, as JSON or as CSV (name,v1,v2,...)", file.display());
    }
    let people = people.into_values().collect();
    Ok(Embeddings { people, model, without_model })
}

/// A line's number, from 1, and its entry.
type Line = (u64, Result<Entry, String>);

fn json_lines(text: &str) -> Vec<Line> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(number, line)| (number, serde_json::from_str(line).map_err(|e| e.to_string()))).collect()
}

fn csv_lines(text: &str) -> Vec<Line> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let records = reader.records().map(|record| match record {
        Ok(record) => (record.position().map_or(0, |p| p.line()), csv_entry(&record)),
        Err(error) => (error.position().map_or(0, |p| p.line()), Err(error.to_string())),
    });
    records.collect()
}

fn csv_entry(record: &csv::StringRecord) -> Result<Entry, String> {
    let mut fields = record.iter();
    let name = fields.next().unwrap_or_default().to_owned();
    let number = |field: &str| field.trim().parse::<f32>().map_err(|_| format!("{field:?} is not a number"));
    Ok(Entry { name, embedding: fields.map(number).collect::<Result<_, _>>()?, model: None, rejected: false })
}

/// Returns the entry if a gallery can hold it together with the entries before it, whose length is `dimension` and
/// whose model is `model`.
fn checked(entry: Entry, dimension: &mut Option<usize>, model: &mut Option<ModelId>) -> Result<Entry, String> {
    check_name(&entry.name).map_err(|e| e.to_string())?;
    let length = entry.embedding.len();
    if length == 0 {
        return Err("the embedding is empty".into());
    }
    let wanted = *dimension.get_or_insert(length);
    if length != wanted {
        return Err(format!("the embedding has {length} numbers, but those above have {wanted}"));
    }
    if !normalise(&mut entry.embedding.clone()) {
        return Err("the embedding is zero or not finite".into());
    }
    if let Some(own) = &entry.model {
        let wanted = model.get_or_insert_with(|| own.clone());
        if !own.is_comparable_to(wanted) {
            return Err(format!("the embedding comes from the model {own}, but those above come from {wanted}"));
        }
    }
    Ok(entry)
}

/// Writes all embeddings to a file, and returns the number of people.
async fn export(gallery: &GalleryStore, file: &Path) -> anyhow::Result<usize> {
    let cannot_write = || format!("cannot write {}", file.display());
    let mut reader = gallery.reader(None).await?;
    let mut out = BufWriter::new(create(file).with_context(cannot_write)?);
    let mut people = 0;
    while let Some(part) = reader.next().await? {
        people += part.people.len();
        write(&part.people, reader.manifest().model.as_ref(), &mut out).with_context(cannot_write)?;
    }
    out.flush().with_context(cannot_write)?;
    Ok(people)
}

/// Creates the file of an export, or empties it. Embeddings are biometric data, so it is private; but a pipe or a
/// terminal is not a file to be made private.
fn create(file: &Path) -> std::io::Result<File> {
    if file.exists() && !file.is_file() {
        return File::create(file);
    }
    let private = create_private(file)?;
    private.set_len(0)?;
    Ok(private)
}

fn write(people: &[Person], model: Option<&ModelId>, out: &mut impl Write) -> anyhow::Result<()> {
    for person in people {
        let photos = person.embeddings.iter().map(|embedding| (embedding, false));
        for (embedding, rejected) in photos.chain(person.rejected.iter().map(|embedding| (embedding, true))) {
            let (name, embedding) = (person.name.clone(), embedding.clone());
            let entry = Entry { name, embedding, model: model.cloned(), rejected };
            writeln!(out, "{}", serde_json::to_string(&entry)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn json_lines_and_csv_are_equivalent() {
        let json = file("{\"name\":\"Ada, L.\",\"embedding\":[1,0.5]}\n\n{\"name\":\"Bob\",\"embedding\":[0,-1e0]}\n");
        let csv = file("\"Ada, L.\",1, 0.5\nBob,0,-1.0\n");
        let embeddings = read(json.path()).unwrap();
        assert_eq!(embeddings, read(csv.path()).unwrap());
        assert_eq!(embeddings.people[0], Person::new("Ada, L.", vec![vec![1.0, 0.5]]));
    }

    #[test]
    fn an_error_lists_every_invalid_line() {
        let csv = file("Ada,1,2\nunknown,1,2\nBob,1,x\nEve,1,2\nMallory,1\nZero,0,0\n");
        let error = read(csv.path()).unwrap_err().to_string();
        for part in ["line 2:", "line 3: \"x\"", "line 5: the embedding has 1 numbers", "line 6:"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(!error.contains("line 1:") && !error.contains("line 4:"));
        let json = file("{\"name\":\"Ada\",\"embedding\":[1]}\n{\"name\":\"Bob\"}\nnonsense\n");
        let error = read(json.path()).unwrap_err().to_string();
        assert!(error.contains("line 2:") && error.contains("line 3:"), "{error}");
        assert!(read(file("").path()).unwrap_err().to_string().contains("no embeddings"));
    }

    #[test]
    fn an_exported_file_can_be_imported() {
        let mut people = vec![Person::new("Ada", vec![vec![0.6, 0.8], vec![1.0, 0.0]])];
        people[0].rejected.push(vec![0.0, 1.0]);
        for model in [None, Some(ModelId::known("m"))] {
            let mut out = tempfile::NamedTempFile::new().unwrap();
            write(&people, model.as_ref(), &mut out).unwrap();
            let without_model = model.is_none();
            assert_eq!(read(out.path()).unwrap(), Embeddings { people: people.clone(), model, without_model });
        }
    }

    #[test]
    fn a_file_with_embeddings_of_different_models_is_refused() {
        let line = |name: &str, model: &str| {
            let json = serde_json::json!({ "name": name, "embedding": [1], "model": model });
            format!("{json}\n")
        };
        let variants = file(&[line("Ada", "m"), line("Bob", "m-int8")].concat());
        assert_eq!(read(variants.path()).unwrap().model, Some(ModelId::known("m")));
        let mixed = file(&[line("Ada", "m"), line("Bob", "other"), line("Eve", "not an id")].concat());
        let error = read(mixed.path()).unwrap_err().to_string();
        assert!(
            error.contains("line 2: the embedding comes from the model other, but those above come from m"),
            "{error}"
        );
        assert!(error.contains("line 3: \"not an id\" is not a valid id of a model"), "{error}");
    }
}
