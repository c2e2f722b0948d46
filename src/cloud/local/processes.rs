//! Instances as child processes, with the life of EC2's: pending until ready, running, stopping, stopped, startable again
//! under the same id, terminated.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{process::Command, sync::watch, time::Instant};

use crate::cloud::{CloudError, CloudResult, Compute, Instance, InstanceId, InstanceState};

/// How long a process may take to end after SIGTERM when it is terminated; then SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How long terminated instances are listed, and how many.
const REMEMBERED: (Duration, usize) = (Duration::from_secs(600), 100);

/// How a worker is started. The instance's id and secret are added as `--instance ID` and [`SECRET_VARIABLE`].
#[derive(Clone, Debug)]
pub struct Launcher {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub name_prefix: String,
}

/// Environment variable that carries an instance's secret: what says hello on the socket must know it.
pub const SECRET_VARIABLE: &str = "ROLLCALL_INSTANCE_SECRET";

struct Entry {
    instance: Instance,
    secret: String,
    changed: Instant,
}

#[derive(Default)]
struct Fleet {
    instances: BTreeMap<InstanceId, Entry>,
    launched: usize,
}

/// See the module.
pub struct LocalCompute {
    launcher: Launcher,
    fleet: Mutex<Fleet>,
    changes: watch::Sender<u64>,
}

impl LocalCompute {
    pub fn new(launcher: Launcher) -> Arc<Self> {
        Arc::new(Self { launcher, fleet: Mutex::default(), changes: watch::Sender::new(0) })
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn set(&self, entry: &mut Entry, state: InstanceState, reason: Option<String>) {
        entry.instance.state = state;
        entry.instance.reason = reason;
        entry.changed = Instant::now();
        self.changes.send_modify(|n| *n += 1);
    }

    /// Starts the process of an instance and watches over it.
    fn spawn(self: &Arc<Self>, id: &InstanceId) -> CloudResult<()> {
        let mut fleet = self.fleet();
        let Some(entry) = fleet.instances.get_mut(id) else {
            return Err(CloudError::NotFound(id.to_string()));
        };
        let mut command = Command::new(&self.launcher.program);
        command.args(&self.launcher.args).arg("--instance").arg(&id.0);
        command.env(SECRET_VARIABLE, &entry.secret).stdin(Stdio::null()).kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let reason = format!("{} could not be started: {error}", self.launcher.program.display());
                self.set(entry, InstanceState::Terminated, Some(reason.clone()));
                return Err(CloudError::NoCapacity(reason));
            }
        };
        entry.instance.pid = child.id();
        self.set(entry, InstanceState::Pending, None);
        let (this, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let status = child.wait().await;
            this.ended(&id, status.ok());
        });
        Ok(())
    }

    fn ended(&self, id: &InstanceId, status: Option<ExitStatus>) {
        let mut fleet = self.fleet();
        let Some(entry) = fleet.instances.get_mut(id) else { return };
        entry.instance.pid = None;
        let (state, reason) = after_end(entry.instance.state, status);
        tracing::info!(instance = %id, ?state, reason, "worker ended");
        self.set(entry, state, reason);
    }

    /// Whether `secret` is that of the instance.
    pub fn knows(&self, id: &InstanceId, secret: &str) -> bool {
        self.fleet().instances.get(id).is_some_and(|e| e.secret == secret)
    }

    /// The instance says that it serves.
    pub fn ready(&self, id: &InstanceId) {
        if let Some(entry) = self.fleet().instances.get_mut(id)
            && entry.instance.state == InstanceState::Pending
        {
            self.set(entry, InstanceState::Running, None);
        }
    }

    /// The instance says that it is about to stop; its process ends by itself.
    pub fn stopping(&self, id: &InstanceId) -> CloudResult<()> {
        let mut fleet = self.fleet();
        let entry = fleet.instances.get_mut(id).ok_or_else(|| CloudError::NotFound(id.to_string()))?;
        match entry.instance.state {
            InstanceState::Running => {
                self.set(entry, InstanceState::Stopping, Some("stopped itself".into()));
                Ok(())
            }
            InstanceState::Stopping | InstanceState::ShuttingDown => Ok(()),
            state => Err(CloudError::Conflict(format!("{id} is {state:?}"))),
        }
    }

    fn signal(&self, pid: Option<u32>, signal: Signal) {
        if let Some(pid) = pid {
            let _ = kill(Pid::from_raw(pid as i32), signal); // it may have ended already
        }
    }

    fn terminate_one(self: &Arc<Self>, id: &InstanceId) -> CloudResult<()> {
        let mut fleet = self.fleet();
        let entry = fleet.instances.get_mut(id).ok_or_else(|| CloudError::NotFound(id.to_string()))?;
        match (entry.instance.state, entry.instance.pid) {
            (InstanceState::ShuttingDown | InstanceState::Terminated, _) => {}
            (_, None) => self.set(entry, InstanceState::Terminated, Some("terminated while stopped".into())),
            (_, Some(pid)) => {
                self.set(entry, InstanceState::ShuttingDown, None);
                self.signal(Some(pid), Signal::SIGTERM);
                let (this, id) = (self.clone(), id.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(GRACE).await;
                    let pid = this.fleet().instances.get(&id).and_then(|e| e.instance.pid);
                    this.signal(pid, Signal::SIGKILL);
                });
            }
        }
        Ok(())
    }

    /// Waits until no instance has a process any more, at most `limit`.
    pub async fn all_ended(&self, limit: Duration) {
        let mut changes = self.changes.subscribe();
        let ended = async {
            while self.fleet().instances.values().any(|e| e.instance.pid.is_some()) {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        if tokio::time::timeout(limit, ended).await.is_err() {
            tracing::warn!("workers did not end in time");
        }
    }
}

/// What an instance becomes when its process has ended.
fn after_end(state: InstanceState, status: Option<ExitStatus>) -> (InstanceState, Option<String>) {
    use std::os::unix::process::ExitStatusExt as _;
    let reason = match status.map(|s| (s.code(), s.signal())) {
        Some((Some(0), _)) => "exited".to_owned(),
        Some((Some(code), _)) => format!("exited with code {code}"),
        Some((_, Some(signal))) => format!("killed by signal {signal}"),
        _ => "ended".to_owned(),
    };
    match state {
        InstanceState::Stopping | InstanceState::Stopped => (InstanceState::Stopped, None),
        InstanceState::ShuttingDown | InstanceState::Terminated => (InstanceState::Terminated, None),
        // Nobody asked for it: unlike a machine, a process that is gone cannot be started again as it was.
        InstanceState::Pending | InstanceState::Running => (InstanceState::Terminated, Some(reason)),
    }
}

/// 17 hex digits, as in EC2's ids.
fn new_id() -> InstanceId {
    InstanceId(format!("i-{:017x}", rand::random::<u128>() >> 60))
}

/// `compute` as the port sees it: spawning needs the shared handle.
#[async_trait]
impl Compute for Arc<LocalCompute> {
    async fn launch(&self, token: &str, count: usize) -> CloudResult<Vec<InstanceId>> {
        let ids = {
            let mut fleet = self.fleet();
            let same = fleet.instances.values().filter(|e| e.instance.token == token);
            let known: Vec<InstanceId> = same.map(|e| e.instance.id.clone()).collect();
            if !known.is_empty() {
                return Ok(known);
            }
            let mut ids = Vec::with_capacity(count);
            for _ in 0..count {
                fleet.launched += 1;
                let instance = Instance {
                    id: new_id(),
                    name: format!("{}{}", self.launcher.name_prefix, fleet.launched),
                    state: InstanceState::Pending,
                    token: token.to_owned(),
                    pid: None,
                    reason: None,
                };
                let secret = format!("{:032x}", rand::random::<u128>());
                ids.push(instance.id.clone());
                fleet.instances.insert(instance.id.clone(), Entry { instance, secret, changed: Instant::now() });
            }
            ids
        };
        let mut launched = Vec::with_capacity(count);
        let mut failure = None;
        for id in ids {
            match self.spawn(&id) {
                Ok(()) => launched.push(id),
                Err(error) => failure = Some(error),
            }
        }
        match failure.filter(|_| launched.is_empty()) {
            Some(error) => Err(error),
            None => Ok(launched),
        }
    }

    async fn start(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        let start = |id: &InstanceId| {
            let state = self.fleet().instances.get(id).map(|e| e.instance.state);
            match state.ok_or_else(|| CloudError::NotFound(id.to_string()))? {
                InstanceState::Stopped => self.spawn(id),
                InstanceState::Pending | InstanceState::Running => Ok(()),
                state => Err(CloudError::Conflict(format!("{id} is {state:?} and cannot be started"))),
            }
        };
        ids.iter().map(start).collect()
    }

    async fn terminate(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        ids.iter().map(|id| self.terminate_one(id)).collect()
    }

    async fn describe(&self) -> CloudResult<Vec<Instance>> {
        let mut fleet = self.fleet();
        let (age, most) = REMEMBERED;
        let ended = |e: &Entry| e.instance.state == InstanceState::Terminated;
        let mut times: Vec<Instant> = fleet.instances.values().filter(|e| ended(e)).map(|e| e.changed).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let oldest = times.get(most).copied();
        fleet
            .instances
            .retain(|_, e| !ended(e) || (e.changed.elapsed() < age && oldest.is_none_or(|oldest| e.changed > oldest)));
        Ok(fleet.instances.values().map(|e| e.instance.clone()).collect())
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.changes.subscribe())
    }
}
