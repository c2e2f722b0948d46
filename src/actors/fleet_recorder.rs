//! Writes the record of the fleet (`fleet.record`) beside the actor: a slow disk must not hold up decisions.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
};

use crate::fleet::{Event, FleetCore, Time, record::EventRecorder};

/// Most bytes of a record. A record with a hole could not be replayed, so a full one ends where it is.
const MOST_BYTES: u64 = 64 << 20;
/// Lines that may wait for the disk.
const WAITING: usize = 10_000;

/// See the module.
pub struct FleetRecorder {
    scribe: EventRecorder,
    /// `None` when recording has ended.
    lines: Option<SyncSender<String>>,
    left: u64,
}

impl FleetRecorder {
    /// Appends the life of `core` to the file, which is begun anew if more than half of it is used up.
    pub fn open(path: &Path, core: &FleetCore) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let used = path.metadata().map_or(0, |m| m.len());
        let anew = used > MOST_BYTES / 2;
        let file = OpenOptions::new().create(true).append(!anew).write(true).truncate(anew).open(path)?;
        let (lines, waiting) = sync_channel(WAITING);
        std::thread::Builder::new().name("fleet-record".into()).spawn(move || write(file, waiting))?;
        let left = MOST_BYTES - if anew { 0 } else { used };
        let mut recorder = Self { scribe: EventRecorder::default(), lines: Some(lines), left };
        // A line of a former life that was cut off ends here.
        if used > 0 && !anew && !ends_with_newline(path)? {
            recorder.send("\n".to_owned());
        }
        recorder.send(EventRecorder::life(core.epoch(), core.rules()));
        Ok(recorder)
    }

    /// `at` is the time the core was told.
    pub fn hear(&mut self, at: Time, event: &Event) {
        if self.lines.is_some() {
            let line = self.scribe.event(at, event);
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
        tracing::warn!("the record of the fleet ends here: {problem}; it is taken up when the server starts anew");
        self.lines = None;
    }
}

fn write(mut file: File, lines: std::sync::mpsc::Receiver<String>) {
    for line in lines {
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::warn!(%error, "the record of the fleet cannot be written");
            return; // the sender notices
        }
    }
}

fn ends_with_newline(path: &Path) -> io::Result<bool> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        fleet::record::replay,
        settings::{Layers, Settings},
    };

    fn core(epoch: u64) -> FleetCore {
        let layers = Layers::load(None, Default::default()).expect("defaults");
        let settings = Settings::from_layers(&layers, 2).expect("valid");
        FleetCore::new(settings.fleet_rules(Duration::from_secs(1)), epoch)
    }

    /// What is in the file once it is replayed as so many lives.
    async fn events_of(path: &Path, lives: usize) -> Vec<u64> {
        loop {
            let file = io::BufReader::new(File::open(path).expect("the record"));
            if let Ok(replayed) = replay(file, None)
                && replayed.len() == lives
                && replayed.last().is_some_and(|life| life.events > 0)
            {
                return replayed.iter().map(|life| life.events).collect();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn lives_follow_each_other_even_after_a_line_that_was_cut_off() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("deep/er/fleet.jsonl");
        FleetRecorder::open(&path, &core(1)).expect("writable").hear(Time::ZERO, &Event::Tick);
        assert_eq!(events_of(&path, 1).await, [1]);
        OpenOptions::new().append(true).open(&path).expect("open").write_all(b"{\"eve").expect("written");
        assert_eq!(events_of(&path, 1).await, [1], "a cut-off last line is left out");
        let mut second = FleetRecorder::open(&path, &core(2)).expect("writable");
        second.hear(Time::ZERO, &Event::Tick);
        second.hear(Duration::from_secs(1), &Event::Tick);
        drop(second);
        while events_of(&path, 2).await != [1, 2] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
