//! The audit log of one machine: `audit.jsonl` in the data folder, and a file for each earlier day.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;

use super::lines::{Lines, day};
use crate::{
    cloud::{CloudError, CloudResult},
    private_files::{create_private, create_private_folder},
};

/// The file of the day. Those of earlier days have the day in their names: `audit-2026-11-30.jsonl`.
const TODAY: &str = "audit.jsonl";
const BEFORE: &str = "audit-";
const AFTER: &str = ".jsonl";
/// Held while lines are written or files are renamed, by any process.
const LOCK: &str = "audit.lock";

/// Files of lines. Cheap to clone.
#[derive(Clone)]
pub(super) struct AuditFile {
    folder: PathBuf,
}

impl AuditFile {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> CloudResult<T> {
        let this = self.clone();
        let place = self.folder.join(TODAY);
        let result = tokio::task::spawn_blocking(move || work(&this)).await;
        let result = result.unwrap_or_else(|error| Err(io::Error::other(error)));
        result.map_err(|error| CloudError::Unavailable(format!("{}: {error}", place.display())))
    }

    /// Locks the files until the returned one is dropped.
    fn lock(&self) -> io::Result<File> {
        create_private_folder(&self.folder)?;
        lock_files(&self.folder)
    }

    fn append_now(&self, lines: &str, now_ms: u64) -> io::Result<()> {
        let _lock = self.lock()?;
        let path = self.folder.join(TODAY);
        if let Some(last) = modified_ms(&path)?
            && day(last) != day(now_ms)
        {
            self.close_day(&path, &day(last))?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
        let end = file.seek(SeekFrom::End(0))?;
        let written = complete_line(&mut file, end).and_then(|()| file.write_all(lines.as_bytes()));
        if let Err(error) = written.and_then(|()| file.sync_data()) {
            let _ = file.set_len(end); // they are written again; a part of a line would be taken for damage
            return Err(error);
        }
        Ok(())
    }

    /// Moves the lines of a day to their own file. There may be one already, if the clock was set back.
    fn close_day(&self, path: &Path, day: &str) -> io::Result<()> {
        let closed = self.folder.join(format!("{BEFORE}{day}{AFTER}"));
        if !closed.exists() {
            return fs::rename(path, closed);
        }
        let lines = fs::read(path)?;
        let mut file = OpenOptions::new().append(true).open(closed)?;
        file.write_all(&lines)?;
        file.sync_data()?;
        fs::remove_file(path)
    }

    /// Returns the files of earlier days with their days, in order.
    fn closed(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let mut closed = Vec::new();
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(closed),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let day = name.to_str().and_then(|name| name.strip_prefix(BEFORE)?.strip_suffix(AFTER));
            closed.extend(day.map(|day| (day.to_owned(), entry.path())));
        }
        closed.sort();
        Ok(closed)
    }

    fn since_now(&self, since_ms: u64) -> io::Result<Vec<String>> {
        let since = day(since_ms);
        let mut files: Vec<PathBuf> =
            self.closed()?.into_iter().filter(|(day, _)| *day >= since).map(|(_, path)| path).collect();
        files.push(self.folder.join(TODAY));
        let mut lines = Vec::new();
        for path in files {
            match fs::read_to_string(path) {
                Ok(text) => lines.extend(text.lines().map(str::to_owned)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(lines)
    }

    fn expire_now(&self, before_ms: u64) -> io::Result<()> {
        let _lock = self.lock()?;
        let before = day(before_ms);
        for (_, path) in self.closed()?.into_iter().filter(|(day, _)| *day < before) {
            fs::remove_file(path)?;
        }
        let today = self.folder.join(TODAY);
        if modified_ms(&today)?.is_some_and(|last| day(last) < before) {
            fs::remove_file(today)?; // nothing has been written for so long
        }
        Ok(())
    }
}

/// Locks the audit log in a data folder until the returned file is dropped: its files keep their names and lengths.
pub(crate) fn lock_files(folder: &Path) -> io::Result<File> {
    let lock = create_private(&folder.join(LOCK))?;
    lock.lock()?;
    Ok(lock)
}

/// Ends the last line, if a process was killed while it was written.
fn complete_line(file: &mut File, end: u64) -> io::Result<()> {
    if end == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::Start(end - 1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

/// Returns when a file was last written, in milliseconds since the Unix epoch; `None` if there is none.
fn modified_ms(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(meta.modified()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Lines for AuditFile {
    async fn append(&self, lines: String, now_ms: u64) -> CloudResult<()> {
        self.blocking(move |this| this.append_now(&lines, now_ms)).await
    }

    async fn since(&self, since_ms: u64) -> CloudResult<Vec<String>> {
        self.blocking(move |this| this.since_now(since_ms)).await
    }

    async fn expire(&self, before_ms: u64) -> CloudResult<()> {
        self.blocking(move |this| this.expire_now(before_ms)).await
    }

    fn linger(&self) -> Duration {
        Duration::from_millis(100)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::FileTimes, os::unix::fs::PermissionsExt as _, time::SystemTime};

    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;
    const NOW: u64 = 1_795_951_409_570; // 2026-11-29

    /// Makes a file look as if it was last written at `ms`.
    fn written_at(path: &Path, ms: u64) {
        let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        File::options().write(true).open(path).expect("a file").set_times(times).expect("set");
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().expect("text")).collect();
        names.retain(|name| name != LOCK);
        names.sort();
        names
    }

    #[tokio::test]
    async fn each_day_has_a_file_that_only_its_owner_can_read_and_old_ones_expire() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = AuditFile::new(folder.path());
        for back in [2, 1, 0] {
            let now = NOW - back * DAY_MS;
            log.append(format!("{back}\n"), now).await.expect("written");
            written_at(&folder.path().join(TODAY), now);
        }
        assert_eq!(names(folder.path()), ["audit-2026-11-27.jsonl", "audit-2026-11-28.jsonl", TODAY]);
        for name in names(folder.path()) {
            let mode = fs::metadata(folder.path().join(&name)).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(log.since(0).await.expect("read"), ["2", "1", "0"]);
        assert_eq!(log.since(NOW - DAY_MS).await.expect("read"), ["1", "0"]);
        log.expire(NOW - DAY_MS).await.expect("expired");
        assert_eq!(names(folder.path()), ["audit-2026-11-28.jsonl", TODAY]);
        log.expire(NOW + DAY_MS).await.expect("expired");
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[tokio::test]
    async fn processes_that_write_at_the_same_time_keep_each_others_lines() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let now = crate::clock::now_ms();
        let logs: Vec<_> = (0..20).map(|_| AuditFile::new(folder.path())).collect();
        let writes = logs.iter().enumerate().map(|(n, log)| log.append(format!("{n:02}\n"), now));
        for written in futures_util::future::join_all(writes).await {
            written.expect("written");
        }
        // A process was killed while it wrote its line.
        let mut file = OpenOptions::new().append(true).open(folder.path().join(TODAY)).expect("a file");
        file.write_all(b"cut off").expect("written");
        logs[0].append("next\n".into(), now).await.expect("written");
        let lines = logs[0].since(0).await.expect("read");
        let all: std::collections::BTreeSet<String> = lines[..20].iter().cloned().collect();
        assert_eq!(all, (0..20).map(|n| format!("{n:02}")).collect());
        assert_eq!(lines[20..], ["cut off", "next"]);
    }
}
