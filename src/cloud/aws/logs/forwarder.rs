//! Sends entries of the journal to a log stream.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use anyhow::Context as _;
use aws_sdk_cloudwatchlogs::{Client, types::InputLogEvent};
use backon::{ExponentialBuilder, Retryable as _};
use futures_util::StreamExt as _;
use tokio::{
    io::AsyncRead,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use super::{
    super::{
        call_sites::CallSite as _,
        errors::{classify, code},
    },
    batch::Pending,
    journal::{Entry, parse},
};
use crate::cloud::{CloudError, CloudResult};

/// Batching window: how long an entry waits for others.
const LINGER: Duration = Duration::from_secs(5);
/// Longest line of the journal that is read, in bytes. systemd divides what services write into lines of 48 KiB, and JSON
/// needs at most six characters for one.
const LONGEST_LINE: usize = 1 << 20;
/// How long the journal must be silent before the forwarder ends: other units log while the machine shuts down.
const QUIET: Duration = Duration::from_millis(500);
/// How long the forwarder takes at most to end: once for what it is sending, and once for the rest. The unit's
/// `TimeoutStopSec` is longer.
const GRACE: Duration = Duration::from_secs(8);

/// A log stream, and the position in the journal up to which it has been written.
pub(super) struct Forwarder {
    client: Client,
    group: String,
    stream: String,
    cursor: PathBuf,
}

impl Forwarder {
    pub(super) fn new(client: Client, group: String, stream: &str, cursor: PathBuf) -> Self {
        Self { client, group, stream: stream.to_owned(), cursor }
    }

    /// Returns the position in the journal up to which it was sent; `None` if nothing was.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn cursor(&self) -> anyhow::Result<Option<String>> {
        match std::fs::read_to_string(&self.cursor) {
            Ok(cursor) => Ok(Some(cursor.trim().to_owned()).filter(|cursor| !cursor.is_empty())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| self.cursor.display().to_string()),
        }
    }

    /// Sends what `journal` writes, until `end` completes. While a batch is being sent, nothing is read, so memory is bounded:
    /// entries wait on the machine's disk, in the journal.
    ///
    /// # Errors
    /// The journal ended, or the position cannot be written.
    pub(super) async fn run(
        &self,
        journal: impl AsyncRead + Unpin,
        end: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let mut lines = FramedRead::new(journal, LinesCodec::new_with_max_length(LONGEST_LINE));
        let mut end = pin!(end);
        let (mut pending, mut due) = (Pending::default(), None);
        loop {
            let line = tokio::select! {
                () = &mut end => break,
                line = lines.next() => Some(line),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
            };
            let ended = matches!(line, Some(None));
            if let Some(Some(line)) = line
                && let Some(entry) = read(line)?
            {
                pending.push(entry);
                due = due.or(Some(Instant::now() + LINGER));
            } else if ended || due.is_some_and(|due| due <= Instant::now()) {
                due = None;
            }
            if due.is_none() || pending.is_full() {
                let mut sending = pin!(self.send(&mut pending));
                // A call that was made is not abandoned: its batch would be sent again.
                let sent = tokio::select! {
                    () = &mut end => None,
                    sent = sending.as_mut() => Some(sent?),
                };
                if sent.is_none() {
                    match timeout(GRACE, sending).await {
                        Ok(sent) => sent?,
                        Err(_) => return leave_rest(),
                    }
                    break;
                }
                due = None;
            }
            anyhow::ensure!(!ended, "the journal ended");
        }
        let rest = async {
            while let Ok(Some(line)) = timeout(QUIET, lines.next()).await {
                if let Some(entry) = read(line)? {
                    pending.push(entry);
                }
                if pending.is_full() {
                    self.send(&mut pending).await?;
                }
            }
            self.send(&mut pending).await
        };
        match timeout(GRACE, rest).await {
            Ok(sent) => sent,
            Err(_) => leave_rest(),
        }
    }

    /// Sends all that is pending, and writes the position after each batch. Returns only when all was sent.
    async fn send(&self, pending: &mut Pending) -> anyhow::Result<()> {
        while !pending.is_empty() {
            let batch = pending.batch();
            let put = async || self.put(&batch).await;
            let put = put.retry(backoff()).when(is_transient).notify(|error, pause| {
                tracing::warn!(%error, ?pause, "logs not sent: trying again");
            });
            match put.await {
                Ok(0) => {}
                Ok(rejected) => tracing::warn!(rejected, "log events are too old or too new, and were dropped"),
                Err(error) => tracing::warn!(%error, dropped = batch.len(), "log events were dropped"),
            }
            let n = batch.len();
            if let Some(cursor) = pending.remove(n) {
                write(&self.cursor, &cursor).with_context(|| self.cursor.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Sends one batch, and creates the stream if there is none yet. Returns how many events were rejected.
    async fn put(&self, batch: &[&Entry]) -> CloudResult<usize> {
        match self.put_to_stream(batch).await {
            Err(CloudError::NotFound(_)) => {
                self.create_stream().await?;
                self.put_to_stream(batch).await
            }
            put => put,
        }
    }

    async fn put_to_stream(&self, batch: &[&Entry]) -> CloudResult<usize> {
        let event = |entry: &&Entry| InputLogEvent::builder().timestamp(entry.at_ms).message(&entry.message).build();
        let events: Vec<_> = batch.iter().map(event).collect::<Result<_, _>>().map_err(invalid)?;
        let call = self.client.put_log_events().log_group_name(&self.group).log_stream_name(&self.stream);
        let output = match call.set_log_events(Some(events)).recorded().send().await {
            Ok(output) => output,
            Err(error) if code(&error) == "DataAlreadyAcceptedException" => return Ok(0),
            Err(error) => {
                let refused = code(&error) == "InvalidParameterException";
                let error = classify(&format!("log stream {} of {}", self.stream, self.group), error);
                return Err(match error {
                    // A wrong clock or a limit, for example: it passes, and the journal keeps the events.
                    CloudError::Invalid(why) if !refused => CloudError::Unavailable(why),
                    error => error,
                });
            }
        };
        let Some(rejected) = output.rejected_log_events_info else { return Ok(0) };
        let old = rejected.too_old_log_event_end_index().max(rejected.expired_log_event_end_index()).unwrap_or(0);
        let new = rejected.too_new_log_event_start_index().map_or(0, |start| batch.len() as i32 - start);
        Ok((old + new).max(0) as usize)
    }

    async fn create_stream(&self) -> CloudResult<()> {
        let call = self.client.create_log_stream().log_group_name(&self.group).log_stream_name(&self.stream);
        match call.recorded().send().await {
            Err(error) if code(&error) != "ResourceAlreadyExistsException" => {
                Err(classify(&format!("log group {}", self.group), error))
            }
            _ => Ok(()),
        }
    }
}

/// Ends without having sent everything: there is not enough time.
fn leave_rest() -> anyhow::Result<()> {
    tracing::warn!("the end of the log was not sent: the next start continues there");
    Ok(())
}

/// Returns the entry of a line, if it has one.
fn read(line: Result<String, LinesCodecError>) -> anyhow::Result<Option<Entry>> {
    match line {
        Ok(line) => Ok(parse(&line)),
        Err(LinesCodecError::MaxLineLengthExceeded) => {
            tracing::warn!(LONGEST_LINE, "an entry of the journal is too long, and was dropped");
            Ok(None)
        }
        Err(LinesCodecError::Io(error)) => Err(error).context("the journal cannot be read"),
    }
}

/// Retries for ever, at most once a minute.
fn backoff() -> ExponentialBuilder {
    let (first, longest) = (Duration::from_millis(200), Duration::from_secs(60));
    ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest).without_max_times().with_jitter()
}

/// Returns whether the call may succeed later. Rights and the log group may come with an update of the stack.
fn is_transient(error: &CloudError) -> bool {
    !matches!(error, CloudError::Invalid(_))
}

fn invalid(error: impl std::fmt::Display) -> CloudError {
    CloudError::Invalid(error.to_string())
}

/// Replaces a file by one with this text, or leaves it as it is.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(partial, path)
}

#[cfg(test)]
mod tests;
