//! What clients were promised, kept outside of the cluster, and how it is checked when all is over.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::{StreamExt as _, stream};
use reqwest::Client;
use serde_json::Value;

use super::world::{Access, Kept};

/// What the cluster has promised about an upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promise {
    /// Nothing: it was refused, or there was no response.
    #[default]
    None,
    /// The client has the answer. It need not be stored.
    Answered,
    /// The result will be found under the id.
    Accepted,
}

/// How far a deletion is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletion {
    #[default]
    NotAsked,
    /// There was no response.
    Unknown,
    Confirmed,
}

/// A photo that was sent.
#[derive(Clone, Debug, Default)]
pub struct Upload {
    /// In its bytes and in its name.
    pub marker: String,
    /// The right answer.
    pub label: &'static str,
    pub id: Option<String>,
    pub promise: Promise,
    /// Whether its client has finished with it.
    pub over: bool,
    pub deletion: Deletion,
    /// What is found under its id at the end: `None` if nothing.
    pub found: Option<Value>,
}

impl Upload {
    /// Returns what is wrong with a recognition of it.
    fn wrong(&self, recognition: &Value) -> Option<String> {
        let file = recognition["file"].as_str().unwrap_or_default();
        let right = recognition["label"] == self.label && file.starts_with(&self.marker);
        (!right).then(|| format!("{} should be {}: {recognition}", self.marker, self.label))
    }

    /// Returns what is not as promised.
    fn violation(&self, kept: &Kept) -> Option<String> {
        let wrong = match (self.deletion, &self.found) {
            (Deletion::Confirmed, Some(found)) => format!("was deleted, and there is {found}"),
            (Deletion::Confirmed, None) if kept.markers.contains(&self.marker) => "was deleted, and is stored".into(),
            (Deletion::NotAsked, None) if self.promise == Promise::Accepted => "was accepted, and is lost".into(),
            (_, Some(found)) if found["status"] == "done" => self.wrong(found)?,
            (_, Some(found)) => format!("is not done: {found}"),
            _ => return None,
        };
        Some(format!("{} ({:?}, {:?}) {wrong}", self.marker, self.id, self.promise))
    }
}

/// Everything that was promised.
#[derive(Default)]
pub struct Ledger {
    pub uploads: Vec<Upload>,
    /// People by name: whether they were added, and whether they were erased; `None` if there was no response.
    pub people: BTreeMap<String, (Option<bool>, Option<bool>)>,
    ids: HashMap<String, usize>,
    found_people: HashSet<String>,
    violations: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// Counts something.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = self.counts.clone();
        let with = |promise| self.uploads.iter().filter(|upload| upload.promise == promise).count() as u64;
        counts.insert("uploads", self.uploads.len() as u64);
        counts.insert("uploads answered", with(Promise::Answered));
        counts.insert("uploads promised", with(Promise::Accepted));
        let deleted = self.uploads.iter().filter(|upload| upload.deletion == Deletion::Confirmed);
        counts.insert("results deleted", deleted.count() as u64);
        counts.insert("people added", self.people.values().filter(|(added, _)| *added == Some(true)).count() as u64);
        counts.insert("people erased", self.people.values().filter(|(_, gone)| *gone == Some(true)).count() as u64);
        counts
    }

    pub fn violation(&mut self, text: String) {
        eprintln!("violation: {text}");
        self.violations.push(text);
    }

    /// Records a promise.
    pub fn promise(&mut self, upload: usize, id: &str, promise: Promise) {
        if let Some(other) = self.ids.insert(id.to_owned(), upload).filter(|other| *other != upload) {
            self.violation(format!("{id} is the id of uploads {other} and {upload}"));
        }
        let entry = &mut self.uploads[upload];
        if entry.id.as_ref().is_some_and(|known| known != id) {
            let text = format!("{} has the ids {:?} and {id}", entry.marker, entry.id);
            self.violation(text);
        }
        let entry = &mut self.uploads[upload];
        entry.id = Some(id.to_owned());
        entry.promise = if entry.promise == Promise::Accepted { Promise::Accepted } else { promise };
    }

    /// Checks a recognition of an upload.
    pub fn check(&mut self, upload: usize, recognition: &Value) {
        if let Some(wrong) = self.uploads[upload].wrong(recognition) {
            self.violation(wrong);
        }
    }

    /// Asks the cluster what it has under each id, and whom it knows.
    pub async fn ask(&mut self, access: &Access) {
        let client = Client::new();
        let get = |path: String| {
            let request = client.get(access.url(0, &path)).bearer_auth(&access.admin);
            async move { request.send().await.expect("a response") }
        };
        let asked = self.uploads.iter().enumerate().filter_map(|(n, upload)| Some((n, upload.id.clone()?)));
        let found: Vec<(usize, Option<Value>)> = stream::iter(asked)
            .map(|(n, id)| {
                let response = get(format!("/v1/recognitions/{id}"));
                async move {
                    let response = response.await;
                    match response.status().as_u16() {
                        404 => (n, None),
                        200 => (n, Some(response.json().await.expect("JSON"))),
                        status => (n, Some(Value::from(status))),
                    }
                }
            })
            .buffer_unordered(8)
            .collect()
            .await;
        for (n, value) in found {
            self.uploads[n].found = value;
        }
        let response = get("/v1/people?gallery=chaos&limit=10000".to_owned()).await;
        let people: Value = response.json().await.expect("JSON");
        let names = people["people"].as_array().into_iter().flatten().filter_map(|person| person["name"].as_str());
        self.found_people = names.map(str::to_owned).collect();
    }

    /// Returns everything that is not as promised.
    pub fn violations(&self, kept: &Kept) -> Vec<String> {
        let mut violations = self.violations.clone();
        let uploads = self.uploads.iter().filter_map(|upload| upload.violation(kept));
        let orphans = kept.objects.iter().filter(|(_, id)| !kept.records.contains(id));
        let orphans = orphans.map(|(object, _)| format!("{object} has no record"));
        let people = self.people.iter().filter_map(|(name, &(added, erased))| {
            let (there, stored) = (self.found_people.contains(name), kept.people.contains(name));
            match erased {
                Some(true) if there || stored => Some(format!("{name} was erased: known {there}, stored {stored}")),
                Some(false) if added == Some(true) && !there => Some(format!("{name} was added, and is not known")),
                _ => None,
            }
        });
        violations.extend(uploads.chain(orphans).chain(people));
        violations
    }
}

#[test]
fn a_ledger_finds_what_is_lost_or_left() {
    let upload = |promise, deletion, found: Option<&str>| {
        let mut ledger = Ledger::default();
        let found = found.map(|status| serde_json::json!({ "status": status, "label": "a", "file": "m.png" }));
        ledger.uploads.push(Upload { marker: "m".into(), label: "a", deletion, found, ..Upload::default() });
        ledger.promise(0, "id", promise);
        ledger
    };
    let wrong = |ledger: Ledger, kept: &Kept| ledger.violations(kept).len();
    let nothing = Kept::default();
    let marker = Kept { markers: ["m".to_owned()].into(), ..Kept::default() };
    let orphan = Kept { objects: vec![("input/x".into(), "x".into())], ..Kept::default() };
    use Deletion::{Confirmed, NotAsked, Unknown};
    use Promise::{Accepted, Answered, None as Nothing};
    for (ledger, kept, expected) in [
        (upload(Accepted, NotAsked, Some("done")), &marker, 0),
        (upload(Accepted, NotAsked, None), &nothing, 1),
        (upload(Accepted, NotAsked, Some("pending")), &nothing, 1),
        (upload(Answered, NotAsked, None), &nothing, 0),
        (upload(Answered, NotAsked, Some("pending")), &nothing, 1),
        (upload(Nothing, NotAsked, Some("done")), &nothing, 0),
        (upload(Accepted, Confirmed, None), &nothing, 0),
        (upload(Accepted, Confirmed, None), &marker, 1),
        (upload(Accepted, Confirmed, Some("done")), &nothing, 1),
        (upload(Accepted, Unknown, None), &marker, 0),
        (upload(Accepted, NotAsked, Some("done")), &orphan, 1),
    ] {
        let state = format!("{:?}", ledger.uploads);
        assert_eq!(wrong(ledger, kept), expected, "{state}");
    }
    let mut twice = upload(Accepted, NotAsked, Some("done"));
    twice.uploads.push(twice.uploads[0].clone());
    twice.promise(1, "id", Accepted);
    assert_eq!(wrong(twice, &nothing), 1, "one id for two uploads");
    let mut mixed = upload(Accepted, NotAsked, Some("done"));
    mixed.uploads[0].label = "b";
    assert_eq!(wrong(mixed, &nothing), 1, "another's answer");
    for (found, kept, person, expected) in [
        (true, Kept::default(), (Some(true), Some(false)), 0),
        (false, Kept::default(), (Some(true), Some(false)), 1),
        (true, Kept::default(), (Some(true), Some(true)), 1),
        (false, Kept { people: ["p".to_owned()].into(), ..Kept::default() }, (Some(true), Some(true)), 1),
        (false, Kept::default(), (None, Some(false)), 0),
    ] {
        let mut ledger = Ledger { people: [("p".to_owned(), person)].into(), ..Ledger::default() };
        ledger.found_people.extend(found.then(|| "p".to_owned()));
        assert_eq!(wrong(ledger, &kept), expected, "{person:?}");
    }
}
