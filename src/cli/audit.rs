//! `rollcall audit`: shows the audit log; and what the other commands need to write it.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;

use crate::{
    audit::{self, Actor, Entry, Lines, Outcome},
    clock::now_ms,
    cloud::ObjectStore,
    pseudonyms::Pseudonyms,
    recognition::GalleryName,
    settings::Settings,
};

/// Show who has changed, deleted or looked at what is stored of people.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Only what concerns this person
    #[arg(long, value_name = "NAME")]
    person: Option<String>,
    /// The gallery of the person
    #[arg(long, value_name = "NAME", default_value_t)]
    gallery: GalleryName,
    /// Only what was done since: a duration, such as 12h or 7days, or a time, such as 2026-11-30T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// Print the lines as they are, as JSON
    #[arg(long)]
    json: bool,
}

/// The beginning of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Ago(Duration),
    /// Milliseconds since the Unix epoch.
    At(u64),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        return Ok(Since::At(since.as_millis() as u64));
    }
    humantime::parse_duration(text).map(Since::Ago).map_err(|error| format!("neither a time nor a duration: {error}"))
}

/// Prints the lines.
///
/// # Errors
/// The log cannot be read.
pub(super) async fn run(args: Args, settings: &Settings, store: Arc<dyn ObjectStore>) -> anyhow::Result<()> {
    let person = match &args.person {
        Some(name) => Some(Pseudonyms::open(&*store, &settings.store.state).await?.of(&args.gallery, name)),
        None => None,
    };
    let since_ms = match args.since {
        None => 0,
        Some(Since::At(ms)) => ms,
        Some(Since::Ago(ago)) => now_ms().saturating_sub(ago.as_millis() as u64),
    };
    let since = audit::time(since_ms);
    for line in audit::lines(settings, store).since(since_ms).await.context("the audit log cannot be read")? {
        // The last line may have been cut off by a crash.
        let Ok(entry) = serde_json::from_str::<Entry>(&line) else { continue };
        if entry.at < since || person.as_ref().is_some_and(|person| !entry.concerns(&args.gallery, person)) {
            continue;
        }
        println!("{}", if args.json { line } else { described(&entry) });
    }
    Ok(())
}

fn described(entry: &Entry) -> String {
    let by = match &entry.by {
        Actor::Token { id, role } => format!("token {id} ({role})"),
        Actor::Local => "local".to_owned(),
        Actor::Anonymous => "anonymous".to_owned(),
        Actor::User(name) => format!("user {name}"),
    };
    let outcome = match entry.outcome {
        Outcome::Begun => "begun".to_owned(),
        Outcome::Done => "done".to_owned(),
        Outcome::Failed => "failed".to_owned(),
        Outcome::Status(status) => status.to_string(),
    };
    let mut text = format!("{} {by}", entry.at);
    if let Some(from) = entry.from {
        text += &format!(" from {from}");
    }
    text += &format!(": {} {outcome}", entry.action);
    if let Some(gallery) = &entry.gallery {
        text += &format!(" gallery={gallery}");
    }
    if let Some(id) = &entry.id {
        text += &format!(" id={id}");
    }
    if entry.everybody {
        text += " everybody";
    }
    match &*entry.people {
        [] => {}
        [person] => text += &format!(" person={person}"),
        people => text += &format!(" people={}", people.len()),
    }
    text
}

/// Writes the entries of a command.
pub(super) struct CommandLog {
    lines: Arc<dyn Lines>,
    store: Arc<dyn ObjectStore>,
    state: String,
}

/// What a command does to whom.
#[derive(Default)]
pub(super) struct Subject<'a> {
    pub gallery: Option<&'a GalleryName>,
    pub people: Vec<&'a str>,
    pub everybody: bool,
    /// The id of a token or a job.
    pub id: Option<String>,
}

impl CommandLog {
    pub(super) fn new(settings: &Settings, store: Arc<dyn ObjectStore>) -> Self {
        Self { lines: audit::lines(settings, store.clone()), store, state: settings.store.state.clone() }
    }

    /// Runs a command with an entry before it begins and one when it has ended.
    ///
    /// # Errors
    /// The error of the command; or the first entry could not be written, and the command was not begun.
    pub(super) async fn run<T>(
        &self,
        action: &str,
        subject: Subject<'_>,
        command: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut entry = Entry::new(now_ms(), audit::user(), format!("rollcall {action}"), Outcome::Begun);
        entry.gallery = subject.gallery.cloned();
        (entry.everybody, entry.id) = (subject.everybody, subject.id);
        if let (Some(gallery), false) = (subject.gallery, subject.people.is_empty()) {
            let pseudonyms = Pseudonyms::open(&*self.store, &self.state).await?;
            entry.people = subject.people.iter().map(|name| pseudonyms.of(gallery, name)).collect();
        }
        audit::audited(&*self.lines, entry, command).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::Role, testing::World};

    #[test]
    fn a_period_begins_at_a_time_or_some_time_ago() {
        assert_eq!(since("7days"), Ok(Since::Ago(Duration::from_secs(7 * 24 * 3600))));
        assert_eq!(since("1970-01-01T00:00:01Z"), Ok(Since::At(1_000)));
        assert!(since("yesterday").is_err());
    }

    #[tokio::test]
    async fn an_entry_is_one_line_of_text() {
        let world = World::new().await;
        let pseudonyms = Pseudonyms::open(&*world.objects, &world.settings.store.state).await.expect("a key");
        let by = Actor::Token { id: "AbC".into(), role: Role::Admin };
        let mut entry = Entry::new(0, by, "DELETE /v1/people/{name}", Outcome::Status(204));
        entry.from = Some([10, 0, 0, 7].into());
        entry.gallery = Some(GalleryName::default());
        entry.people = vec![pseudonyms.of(&GalleryName::default(), "Ada")];
        let expected = format!(
            "1970-01-01T00:00:00.000Z token AbC (admin) from 10.0.0.7: DELETE /v1/people/{{name}} 204 gallery=default \
             person={}",
            entry.people[0]
        );
        assert_eq!(described(&entry), expected);
    }
}
