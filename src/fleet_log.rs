//! The file of the fleet's event log (`fleet.record`). A separate thread writes it, so that a slow disk does not delay
//! decisions.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    fleet::{
        Event, FleetCore, Timestamp,
        event_log::{Entry, EventEncoder},
    },
    private_files::{create_private, create_private_folder},
};

/// Maximum size of an event log in bytes. A log with a gap could not be replayed, so recording ends when it is full.
const MAX_BYTES: u64 = 64 << 20;
/// Number of lines that may wait for the disk.
const MAX_WAITING: usize = 10_000;
/// How long a line waits for others to share its write: there are several events per job.
const LINGER: Duration = Duration::from_millis(100);

/// Records the events of a controller, until the file is full or the disk cannot keep up.
pub struct EventRecorder {
    encoder: EventEncoder,
    /// `None` when recording has ended.
    lines: Option<SyncSender<String>>,
    left: u64,
    /// The writer, and what tells it by its end to linger no longer.
    writer: Option<(JoinHandle<()>, SyncSender<()>)>,
}

impl EventRecorder {
    /// Begins the epoch of `core` at the end of the file. Empties the file first if it exceeds half of its maximum
    /// size, and removes the epochs that ended before `before_ms` (Unix epoch), if that is given.
    ///
    /// # Errors
    ///
    /// Fails if the file or its folder cannot be created or written.
    pub fn open(path: &Path, core: &FleetCore, before_ms: Option<u64>) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            create_private_folder(folder)?;
        }
        let mut file = create_private(path)?;
        if file.metadata()?.len() > MAX_BYTES / 2 {
            file.set_len(0)?;
        } else if let Some(before_ms) = before_ms {
            remove_expired(path, &mut file, before_ms)?;
        }
        let used = file.seek(SeekFrom::End(0))?;
        let (lines, waiting) = sync_channel(MAX_WAITING);
        let (open, closing) = sync_channel(0);
        let writer = std::thread::Builder::new().name("fleet-record".into());
        let writer = writer.spawn(move || write(file, &waiting, &closing))?;
        let left = MAX_BYTES - used;
        let (encoder, lines, writer) = (EventEncoder::default(), Some(lines), Some((writer, open)));
        let mut recorder = Self { encoder, lines, left, writer };
        // Terminates the last line of an earlier epoch, which may have been cut off.
        if used > 0 && !ends_with_newline(path)? {
            recorder.send("\n".to_owned());
        }
        recorder.send(EventEncoder::epoch(core.epoch(), core.rules()));
        Ok(recorder)
    }

    /// Records an event that the core receives at `at`. Does nothing once recording has ended.
    pub fn record(&mut self, at: Timestamp, event: &Event) {
        if self.lines.is_some() {
            let line = self.encoder.event(at, event);
            self.send(line);
        }
    }

    fn send(&mut self, line: String) {
        let Some(lines) = &self.lines else { return };
        let room = self.left.checked_sub(line.len() as u64);
        let problem = match (room, room.map(|_| lines.try_send(line))) {
            (Some(left), Some(Ok(()))) => {
                self.left = left;
                return;
            }
            (None, _) => "it is full",
            (_, Some(Err(TrySendError::Full(_)))) => "the disk is too slow",
            (_, _) => "it cannot be written",
        };
        tracing::warn!("recording of the fleet's event log has ended: {problem}; it resumes when the server restarts");
        self.lines = None;
    }
}

/// Writes what is left, without lingering.
impl Drop for EventRecorder {
    fn drop(&mut self) {
        self.lines = None;
        if let Some((writer, open)) = self.writer.take() {
            drop(open);
            let _ = writer.join(); // the panic hook has reported a panic
        }
    }
}

fn write(mut file: File, lines: &Receiver<String>, closing: &Receiver<()>) {
    while let Ok(first) = lines.recv() {
        let _ = closing.recv_timeout(LINGER); // there is no message: it lingers until the recorder is dropped
        let text: String = std::iter::once(first).chain(lines.try_iter()).collect();
        if let Err(error) = file.write_all(text.as_bytes()) {
            tracing::warn!(%error, "the fleet's event log cannot be written");
            return; // the sender sees a closed channel
        }
    }
}

/// Removes from the file the epochs that ended before `before_ms` (Unix epoch).
fn remove_expired(path: &Path, file: &mut File, before_ms: u64) -> io::Result<()> {
    let Ok(text) = String::from_utf8(std::fs::read(path)?) else { return Ok(()) }; // it is no event log
    let kept = unexpired(&text, before_ms);
    if kept.len() < text.len() {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(kept.as_bytes())?;
    }
    Ok(())
}

/// How each controller epoch of an event log begins.
const EPOCH: &str = "{\"life\":";

/// Returns an event log without the epochs that ended before `before_ms` (Unix epoch), that is, whose last event is older.
/// An epoch is kept as a whole, because only a whole one can be replayed. What cannot be read has no time, and is kept.
fn unexpired(text: &str, before_ms: u64) -> String {
    let mut epochs: Vec<&str> = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.starts_with(EPOCH) {
            epochs.push(&text[begin..end]);
            begin = end;
        }
        end += line.len();
    }
    epochs.push(&text[begin..end]);
    epochs.into_iter().filter(|epoch| ended_ms(epoch).is_none_or(|ended_ms| ended_ms >= before_ms)).collect()
}

/// Returns when the last event of an epoch was (Unix epoch); `None` if its text cannot be read.
fn ended_ms(epoch: &str) -> Option<u64> {
    let Ok(Entry::Epoch { rules, .. }) = serde_json::from_str(epoch.lines().next()?) else { return None };
    // The last line may have been cut off.
    let last = epoch.lines().rev().find_map(|line| match serde_json::from_str(line) {
        Ok(Entry::Event { at, .. } | Entry::Same { at, .. }) => Some(at),
        _ => None,
    });
    let ended = rules.started_at.saturating_add(last.unwrap_or_default().since_start());
    Some(u64::try_from(ended.as_millis()).unwrap_or(u64::MAX))
}

fn ends_with_newline(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::{
        fleet::event_log::replay,
        settings::{Layers, Machine, Settings},
    };

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn core(epoch: u64) -> FleetCore {
        core_of(epoch, Duration::from_secs(1))
    }

    /// Returns the core of a controller that starts at that time since the Unix epoch.
    fn core_of(epoch: u64, started_at: Duration) -> FleetCore {
        let layers = Layers::load(None, Default::default()).expect("defaults");
        let settings = Settings::from_layers(&layers, Machine::with_cores(2)).expect("valid");
        FleetCore::new(settings.fleet_rules(started_at), epoch)
    }

    /// Returns the number of events of each epoch, once the file can be replayed as so many epochs.
    async fn events_of(path: &Path, epochs: usize) -> Vec<u64> {
        loop {
            let text = std::fs::read_to_string(path).expect("the event log");
            if let Ok(replayed) = replay(text.lines(), None)
                && replayed.len() == epochs
                && replayed.last().is_some_and(|epoch| epoch.events > 0)
            {
                return replayed.iter().map(|epoch| epoch.events).collect();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn epochs_are_appended_even_after_a_truncated_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("deep/er/fleet.jsonl");
        EventRecorder::open(&path, &core(1), None).expect("writable").record(Timestamp::START, &Event::Tick);
        assert_eq!(events_of(&path, 1).await, [1]);
        OpenOptions::new().append(true).open(&path).expect("open").write_all(b"{\"eve").expect("written");
        assert_eq!(events_of(&path, 1).await, [1], "a cut-off last line is left out");
        let mut second = EventRecorder::open(&path, &core(2), None).expect("writable");
        second.record(Timestamp::START, &Event::Tick);
        second.record(Timestamp::new(Duration::from_secs(1)), &Event::Tick);
        drop(second);
        while events_of(&path, 2).await != [1, 2] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let text = std::fs::read_to_string(&path).expect("the event log");
        for (path, mode) in [(path.as_path(), 0o600), (path.parent().expect("a folder"), 0o700)] {
            assert_eq!(path.metadata().expect("the path exists").permissions().mode() & 0o777, mode, "{path:?}");
        }
        assert!(text.contains(r#""epoch":1"#) && text.contains(r#""epoch":2"#), "{text}");
    }

    #[test]
    fn epochs_that_ended_before_the_retention_are_removed_when_the_log_is_opened() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("fleet.jsonl");
        // Begun and ended on these days; the clock was set back before the last one.
        for (epoch, began, ended) in [(1, 0, 9), (2, 9, 20), (3, 21, 21), (4, 2, 8)] {
            let mut recorder = EventRecorder::open(&path, &core_of(epoch, DAY * began), None).expect("writable");
            recorder.record(Timestamp::START, &Event::Tick);
            recorder.record(Timestamp::new(DAY * (ended - began)), &Event::Tick);
        }
        OpenOptions::new().append(true).open(&path).expect("open").write_all(b"{\"eve").expect("written");
        let begun = || -> Vec<(u64, u64)> {
            let text = std::fs::read_to_string(&path).expect("the event log");
            let replayed = replay(text.lines(), None).expect("an event log");
            replayed.iter().map(|epoch| (epoch.started_ms / DAY.as_millis() as u64, epoch.events)).collect()
        };
        drop(EventRecorder::open(&path, &core_of(5, DAY * 40), None).expect("writable"));
        assert_eq!(begun(), [(0, 2), (9, 2), (21, 2), (2, 2), (40, 0)], "for ever");
        let before_ms = DAY.as_millis() as u64 * 10;
        drop(EventRecorder::open(&path, &core_of(6, DAY * 40), Some(before_ms)).expect("writable"));
        assert_eq!(begun(), [(9, 2), (21, 2), (40, 0), (40, 0)]);
    }

    #[test]
    fn what_is_no_event_log_is_left_alone() {
        for text in ["", "a diary\n", "{\"life\":{}}\n{\"other\":1}\n", "\n\n{\"life\":"] {
            assert_eq!(unexpired(text, u64::MAX), text);
        }
    }
}
