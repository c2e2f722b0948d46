//! All embedded queues of one machine. They share one journal.

use std::{
    collections::HashMap,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64},
    time::Duration,
};

use async_trait::async_trait;

use super::{
    clock::Clock,
    format,
    journal::{self, Journal, Repair},
    queue::{LocalQueue, closing},
};
use crate::cloud::{CloudError, CloudResult, Polling, Queue, QueueSpec, Queues, queue_limits::check_visibility};

/// Name of the journal in the data folder.
const FILE: &str = "queues.redb";

/// Repairs the journal in `dir`, a data folder that no process uses. Returns `None` if it is not damaged.
///
/// # Errors
/// The folder is in use, or a file cannot be read or written.
pub fn repair_queues(dir: &Path) -> anyhow::Result<Option<Repair>> {
    format::check_folder(dir)?;
    let report = Arc::new(std::panic::take_hook());
    let others = report.clone();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(journal::REPAIR_THREAD) {
            others(panic);
        }
    }));
    let repaired = journal::repair(&dir.join(FILE));
    std::panic::set_hook(Box::new(move |panic| report(panic)));
    repaired
}

/// Returns whether a process has the journal in `dir` open.
///
/// # Errors
/// The file cannot be read.
pub fn queues_in_use(dir: &Path) -> io::Result<bool> {
    let file = match File::open(dir.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Returns the groups of all messages of the journal in `dir`, which are the ids of their jobs. No process uses the
/// folder.
///
/// # Errors
/// The journal is damaged, or cannot be read.
pub fn queued_jobs(dir: &Path) -> anyhow::Result<Vec<String>> {
    journal::groups(&dir.join(FILE))
}

/// The embedded queues of one machine.
pub struct Broker {
    journal: Arc<Journal>,
    file: PathBuf,
    clock: Arc<Clock>,
    last_seq: Arc<AtomicU64>,
    queues: Mutex<HashMap<String, Arc<LocalQueue>>>,
}

impl Broker {
    /// Opens the journal in `dir`, a folder that exists, or creates one. A durable queue that is created again has its
    /// earlier messages.
    ///
    /// # Errors
    /// The file is open in another process, cannot be read or written, or is damaged.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let file = dir.join(FILE);
        Ok(Self::on(Arc::new(Journal::open(&file)?), file)?)
    }

    /// Creates a broker whose queues are in this journal, which is this file.
    pub(super) fn on(journal: Arc<Journal>, file: PathBuf) -> CloudResult<Self> {
        let last_seq = Arc::new(AtomicU64::new(journal.last_seq()?));
        Ok(Self { journal, file, clock: Arc::new(Clock::new()), last_seq, queues: Mutex::default() })
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<String, Arc<LocalQueue>>> {
        self.queues.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Resolves when the journal turns out to be damaged, with what to do about it. Nothing works any more then.
    pub fn damaged(&self) -> impl Future<Output = String> + use<> {
        let (mut damage, file) = (self.journal.damage(), self.file.display().to_string());
        async move {
            match damage.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(damage)) => journal::damaged(&file, damage),
                _ => std::future::pending().await, // the journal was closed
            }
        }
    }

    /// Makes durable every message that has been sent so far, to any queue.
    pub(super) async fn flush(&self) -> CloudResult<()> {
        self.journal.flush().await.unwrap_or_else(|_| Err(closing()))
    }

    /// Copies everything that has been sent so far, to any queue, to the journal at `path`, an empty file. Blocks.
    ///
    /// # Errors
    /// The journal or the copy cannot be written, or the journal is damaged.
    pub fn copy_to(&self, path: &Path) -> CloudResult<()> {
        self.journal.flush().blocking_recv().unwrap_or_else(|_| Err(closing()))?;
        self.journal.copy_to(path)
    }

    /// Returns the groups of the messages in a queue.
    ///
    /// # Errors
    /// `NotFound` if the queue was never created.
    pub fn groups(&self, queue: &str) -> CloudResult<Vec<String>> {
        Ok(self.find(queue)?.groups())
    }

    /// Returns the queue of that name, or `NotFound`.
    pub(super) fn find(&self, name: &str) -> CloudResult<Arc<LocalQueue>> {
        self.queues().get(name).cloned().ok_or_else(|| CloudError::NotFound(format!("queue {name}")))
    }
}

/// How the embedded queues are polled: a call costs next to nothing, and a few deletes share a commit of the journal.
pub(super) const POLLING: Polling = Polling {
    delete_linger: Duration::from_millis(5),
    poll_linger: Duration::ZERO,
    rare_pause: Duration::ZERO,
    max_prefetch_delay: Duration::ZERO,
    finish_poll: false,
    max_receives: 1,
};

#[async_trait]
impl Queues for Broker {
    fn polling(&self) -> Polling {
        POLLING
    }

    async fn create(&self, spec: QueueSpec) -> CloudResult<Arc<dyn Queue>> {
        check_visibility(spec.visibility)?;
        let mut queues = self.queues();
        if let Some(queue) = queues.get(&spec.name) {
            if *queue.spec() != spec {
                return Err(CloudError::Invalid(format!("queue {} exists with different settings", spec.name)));
            }
            return Ok(queue.clone());
        }
        let dead_letter = match &spec.dead_letter {
            None => None,
            Some(name) => Some(
                queues
                    .get(name)
                    .cloned()
                    .ok_or_else(|| CloudError::Invalid(format!("create the dead-letter queue {name} first")))?,
            ),
        };
        let shared = (self.clock.clone(), self.last_seq.clone());
        let queue = Arc::new(LocalQueue::open(spec, dead_letter, &self.journal, shared)?);
        queues.insert(queue.spec().name.clone(), queue.clone());
        Ok(queue)
    }

    async fn open(&self, name: &str) -> CloudResult<Arc<dyn Queue>> {
        Ok(self.find(name)?)
    }
}
