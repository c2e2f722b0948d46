//! Writes the audit log, one task per process, so that no request waits longer than it must.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    entry::{Actor, Entry, Outcome, time},
    lines::Lines,
};
use crate::{
    clock::now_ms,
    cloud::{CloudError, CloudResult},
    pseudonyms::{Pseudonym, Pseudonyms},
    recognition::GalleryName,
};

/// Entries that wait to be written. Further ones are dropped, and counted.
const MAX_WAITING: usize = 4_096;
/// Most entries in one write.
const MAX_BATCH: usize = 1_024;
/// Most people in one entry. More people are several entries.
const MAX_PEOPLE: usize = 1_000;
/// How long a change waits for its entry before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause after a write that failed.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How often old lines are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);

/// An entry could not be written, so what it is about must not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written, so nothing was changed; see the server's log")]
pub struct NotAudited;

/// An entry, and who waits until it is durable.
struct Waiting {
    /// `None`: what came before must be written.
    entry: Option<Entry>,
    written: Option<oneshot::Sender<bool>>,
}

/// The audit log of a process. Cheap to clone.
#[derive(Clone)]
pub struct AuditLog {
    sender: mpsc::Sender<Waiting>,
    pseudonyms: Pseudonyms,
    /// Entries have been dropped since the last one that was accepted.
    dropping: Arc<AtomicBool>,
}

impl AuditLog {
    /// Starts to write to `lines`, and to delete lines that are older than `retention`; `None` keeps them for ever. Needs
    /// a runtime.
    pub fn start(lines: Arc<dyn Lines>, pseudonyms: Pseudonyms, retention: Option<Duration>) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        if let Some(retention) = retention {
            tokio::spawn(expire(lines.clone(), retention, sender.downgrade()));
        }
        tokio::spawn(write_all(lines, receiver));
        Self { sender, pseudonyms, dropping: Arc::default() }
    }

    /// Returns the pseudonym of a person.
    pub fn pseudonym(&self, gallery: &GalleryName, name: &str) -> Pseudonym {
        self.pseudonyms.of(gallery, name)
    }

    /// Writes an entry soon. Never waits: if too many entries wait, it is dropped, and the log and the metric
    /// `rollcall_audit_dropped_total` say so.
    pub fn record(&self, entry: Entry) {
        for entry in in_parts(entry) {
            match self.sender.try_send(Waiting { entry: Some(entry), written: None }) {
                Ok(()) => self.dropping.store(false, Ordering::Relaxed),
                Err(_) => {
                    metrics::counter!("rollcall_audit_dropped_total").increment(1);
                    if !self.dropping.swap(true, Ordering::Relaxed) {
                        tracing::error!("entries of the audit log are dropped, because it cannot be written");
                    }
                }
            }
        }
    }

    /// Writes an entry, and returns when it is durable.
    ///
    /// # Errors
    /// It is not, after five seconds at most.
    pub async fn written(&self, entry: Entry) -> Result<(), NotAudited> {
        let entries = in_parts(entry).into_iter().map(Some).collect();
        timeout(PATIENCE, self.send(entries)).await.unwrap_or(Err(NotAudited))
    }

    /// Returns when everything that was recorded is durable, or after five seconds.
    pub async fn flush(&self) {
        if timeout(PATIENCE, self.send(vec![None])).await != Ok(Ok(())) {
            tracing::error!("the latest entries of the audit log are not written");
        }
    }

    async fn send(&self, entries: Vec<Option<Entry>>) -> Result<(), NotAudited> {
        let mut answers = Vec::new();
        for entry in entries {
            let (written, answer) = oneshot::channel();
            self.sender.send(Waiting { entry, written: Some(written) }).await.map_err(|_| NotAudited)?;
            answers.push(answer);
        }
        for answer in answers {
            if answer.await != Ok(true) {
                return Err(NotAudited);
            }
        }
        Ok(())
    }
}

/// Divides an entry with many people.
fn in_parts(entry: Entry) -> Vec<Entry> {
    if entry.people.len() <= MAX_PEOPLE {
        return vec![entry];
    }
    entry.people.chunks(MAX_PEOPLE).map(|people| Entry { people: people.to_vec(), ..entry.clone() }).collect()
}

async fn write_all(lines: Arc<dyn Lines>, mut receiver: mpsc::Receiver<Waiting>) {
    let mut waiting = VecDeque::new();
    while let Some(first) = receiver.recv().await {
        waiting.push_back(first);
        collect(&mut receiver, &mut waiting, lines.linger()).await;
        while let Err(error) = write(&*lines, &mut waiting).await {
            tracing::error!(%error, "the audit log cannot be written; what would be changed is refused");
            refuse(&mut waiting);
            if receiver.is_closed() {
                return; // this process ends
            }
            tokio::time::sleep(RETRY_EVERY).await;
            // Whoever has asked since is answered by the next attempt.
            while waiting.len() < MAX_BATCH
                && let Ok(next) = receiver.try_recv()
            {
                waiting.push_back(next);
            }
            if waiting.is_empty() {
                break;
            }
        }
    }
}

/// Adds what arrives until the linger of the first entry is over, the batch is full, or somebody waits.
async fn collect(receiver: &mut mpsc::Receiver<Waiting>, waiting: &mut VecDeque<Waiting>, linger: Duration) {
    let until = Instant::now() + linger;
    while waiting.len() < MAX_BATCH && waiting.iter().all(|entry| entry.written.is_none()) {
        match tokio::time::timeout_at(until, receiver.recv()).await {
            Ok(Some(next)) => waiting.push_back(next),
            Ok(None) | Err(_) => break,
        }
    }
    while waiting.len() < MAX_BATCH
        && let Ok(next) = receiver.try_recv()
    {
        waiting.push_back(next);
    }
}

/// Writes everything that waits, in one write.
async fn write(lines: &dyn Lines, waiting: &mut VecDeque<Waiting>) -> CloudResult<()> {
    let mut text = String::new();
    for entry in waiting.iter().filter_map(|waiting| waiting.entry.as_ref()) {
        text.push_str(&serde_json::to_string(entry).map_err(|error| CloudError::Invalid(error.to_string()))?);
        text.push('\n');
    }
    if !text.is_empty() {
        lines.append(text, now_ms()).await?;
    }
    for Waiting { written, .. } in waiting.drain(..) {
        let _ = written.map(|written| written.send(true)); // the request may have ended
    }
    Ok(())
}

/// Tells all who wait that their entries are not written, and drops these: what they are about is not done.
fn refuse(waiting: &mut VecDeque<Waiting>) {
    waiting.retain_mut(|entry| match entry.written.take() {
        Some(written) => {
            let _ = written.send(false); // the request may have ended
            false
        }
        None => true,
    });
}

/// Deletes old lines, until every log has been dropped.
async fn expire(lines: Arc<dyn Lines>, retention: Duration, log: mpsc::WeakSender<Waiting>) {
    while log.upgrade().is_some() {
        if let Err(error) = lines.expire(now_ms().saturating_sub(retention.as_millis() as u64)).await {
            tracing::warn!(%error, "old lines of the audit log could not be deleted");
        }
        tokio::time::sleep(EXPIRE_EVERY).await;
    }
}

/// Runs a command of a user with an entry before it begins and one when it has ended.
///
/// # Errors
/// The error of the command; or the first entry could not be written, and the command was not begun.
pub async fn audited<T>(
    lines: &dyn Lines,
    entry: Entry,
    command: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let append = async |entry: Entry| {
        let lines_of = |entry: &Entry| serde_json::to_string(entry).map(|line| line + "\n");
        let text = in_parts(entry).iter().map(lines_of).collect::<Result<String, _>>()?;
        anyhow::Ok(lines.append(text, now_ms()).await?)
    };
    append(entry.clone())
        .await
        .map_err(|error| error.context("the audit log cannot be written, so nothing was done"))?;
    let result = command.await;
    let outcome = if result.is_ok() { Outcome::Done } else { Outcome::Failed };
    let ended = Entry { at: time(now_ms()), outcome, ..entry };
    if let Err(error) = append(ended).await {
        tracing::error!(%error, "the audit log does not say how the command has ended");
    }
    result
}

/// Returns the user of this process.
pub fn user() -> Actor {
    let id = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(id).ok().flatten();
    Actor::User(user.map_or_else(|| id.to_string(), |user| user.name))
}

#[cfg(test)]
mod tests;
