//! Instances as child processes, with the states of EC2: pending until they are ready, running, stopping, stopped (and
//! startable again under the same id), terminated.

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
use tokio::{
    process::Command,
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use crate::cloud::{CloudError, CloudResult, Compute, Instance, InstanceId, InstanceState};

/// Time between SIGTERM and SIGKILL when a process is terminated.
const GRACE: Duration = Duration::from_secs(5);
/// Time between two heartbeats of a worker.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);
/// Number of heartbeats in a row that an unresponsive worker has missed. Shorter than `queue.visibility` by default, so
/// that another worker is there when the jobs of a hung one become visible again.
const MISSED: u32 = 4;
/// How long a terminated instance remains listed, and how many at most.
const REMEMBERED: (Duration, usize) = (Duration::from_secs(600), 100);

/// How a worker is started.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The program of each instance.
    pub program: PathBuf,
    /// Its arguments, which are followed by `--instance ID`. The secret is in its environment: see [`SECRET_VARIABLE`].
    pub args: Vec<OsString>,
    /// What the names of instances begin with; a number follows.
    pub name_prefix: String,
}

/// Name of the environment variable that holds a token of the user: workers are started without it.
pub const TOKEN_VARIABLE: &str = "ROLLCALL_TOKEN";
/// Name of the environment variable that holds an instance's secret. Callers on the socket must present the secret.
pub const SECRET_VARIABLE: &str = "ROLLCALL_INSTANCE_SECRET";

struct Entry {
    instance: Instance,
    secret: String,
    changed: Instant,
    /// Heartbeats that its worker has missed since the last one.
    missed: u32,
    /// How long its worker waits for a job before it stops, if the controller decides on it.
    idle_limit: Option<Duration>,
}

#[derive(Default)]
struct Fleet {
    instances: BTreeMap<InstanceId, Entry>,
    launched: usize,
}

/// Runs instances as child processes of this process.
pub struct LocalCompute {
    launcher: Launcher,
    fleet: Mutex<Fleet>,
    changes: watch::Sender<u64>,
}

impl LocalCompute {
    /// Creates an adapter with no instances.
    pub fn new(launcher: Launcher) -> Arc<Self> {
        Arc::new(Self { launcher, fleet: Mutex::default(), changes: watch::Sender::new(0) })
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn set(&self, entry: &mut Entry, state: InstanceState, reason: Option<String>) {
        entry.instance.state = state;
        entry.instance.unresponsive = false;
        entry.instance.reason = reason;
        entry.changed = Instant::now();
        self.changes.send_modify(|n| *n += 1);
    }

    /// Starts the process of an instance and waits for its end in the background.
    fn spawn(self: &Arc<Self>, entry: &mut Entry) -> CloudResult<()> {
        let id = entry.instance.id.clone();
        let mut command = Command::new(&self.launcher.program);
        command.args(&self.launcher.args).arg("--instance").arg(&id.0);
        command.env_remove(TOKEN_VARIABLE).env(SECRET_VARIABLE, &entry.secret).stdin(Stdio::null()).kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let reason = format!("the worker's program could not be started: {error}");
                tracing::error!(program = %self.launcher.program.display(), %error, "no worker can be started");
                self.set(entry, InstanceState::Terminated, Some(reason.clone()));
                return Err(CloudError::NoCapacity(reason));
            }
        };
        entry.instance.pid = child.id();
        entry.instance.came_up = None;
        entry.missed = 0;
        entry.idle_limit = None; // of the run before
        self.set(entry, InstanceState::Pending, None);
        let this = self.clone();
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
        // A process that was asked to end has left this state.
        if entry.instance.state == InstanceState::Pending {
            entry.instance.came_up = Some(false);
        }
        let (state, reason) = after_end(entry.instance.state, status);
        tracing::info!(instance = %id, ?state, reason, "worker ended");
        self.set(entry, state, reason);
    }

    /// Returns whether `secret` is that of the instance.
    pub(super) fn knows(&self, id: &InstanceId, secret: &str) -> bool {
        self.fleet().instances.get(id).is_some_and(|e| e.secret == secret)
    }

    /// Records that an instance has reported that it is ready. Ignored unless it is pending.
    pub fn ready(&self, id: &InstanceId) {
        if let Some(entry) = self.fleet().instances.get_mut(id)
            && entry.instance.state == InstanceState::Pending
        {
            entry.instance.came_up = Some(true);
            self.set(entry, InstanceState::Running, None);
        }
    }

    /// Records that the worker of an instance responds. Returns how long it waits for a job before it stops, if the
    /// controller decides on it.
    pub(super) fn heartbeat(&self, id: &InstanceId) -> Option<Duration> {
        let mut fleet = self.fleet();
        let entry = fleet.instances.get_mut(id)?;
        entry.missed = 0;
        if entry.instance.unresponsive {
            self.set_unresponsive(entry, false);
        }
        entry.idle_limit
    }

    /// Counts the heartbeats that workers miss, until it is dropped. Ticks are counted, not time, so that workers have
    /// missed none while this process itself was stopped.
    pub(super) async fn watch_heartbeats(&self) {
        let mut ticks = tokio::time::interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for entry in self.fleet().instances.values_mut().filter(|e| e.instance.state == InstanceState::Running) {
                entry.missed += 1;
                if entry.missed == MISSED {
                    tracing::warn!(instance = %entry.instance.id, "worker does not respond");
                    self.set_unresponsive(entry, true);
                }
            }
        }
    }

    fn set_unresponsive(&self, entry: &mut Entry, unresponsive: bool) {
        entry.instance.unresponsive = unresponsive;
        self.changes.send_modify(|n| *n += 1);
    }

    /// Records that an instance has reported that it is stopping. Its process ends by itself.
    ///
    /// # Errors
    /// `NotFound` for an unknown instance, `Conflict` for one that is neither running, stopping nor shutting down.
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

    fn start_one(self: &Arc<Self>, id: &InstanceId) -> CloudResult<()> {
        let mut fleet = self.fleet();
        let entry = fleet.instances.get_mut(id).ok_or_else(|| CloudError::NotFound(id.to_string()))?;
        match entry.instance.state {
            InstanceState::Stopped => self.spawn(entry),
            InstanceState::Pending | InstanceState::Running => Ok(()),
            state => Err(CloudError::Conflict(format!("{id} is {state:?} and cannot be started"))),
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

    /// Waits until no instance has a process, for at most `limit`.
    pub(super) async fn all_ended(&self, limit: Duration) {
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

/// Returns the state of an instance whose process has ended, and the reason if its end was not requested.
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
        // A process that ended without being asked to leaves nothing to start again, unlike a stopped machine.
        InstanceState::Pending | InstanceState::Running => (InstanceState::Terminated, Some(reason)),
    }
}

/// Returns an id with 17 hex digits, like EC2's.
fn new_id() -> InstanceId {
    InstanceId(format!("i-{:017x}", rand::random::<u128>() >> 60))
}

// Implemented for the shared handle, which the tasks that wait for processes need.
#[async_trait]
impl Compute for Arc<LocalCompute> {
    async fn launch(&self, token: &str, count: usize) -> CloudResult<Vec<InstanceId>> {
        let mut fleet = self.fleet();
        let same = fleet.instances.values().filter(|e| e.instance.token == token);
        let known: Vec<InstanceId> = same.map(|e| e.instance.id.clone()).collect();
        if !known.is_empty() {
            return Ok(known);
        }
        let mut launched = Vec::with_capacity(count);
        let mut failure = None;
        for _ in 0..count {
            fleet.launched += 1;
            let instance = Instance {
                id: new_id(),
                name: format!("{}{}", self.launcher.name_prefix, fleet.launched),
                state: InstanceState::Pending,
                token: token.to_owned(),
                pid: None,
                reason: None,
                unresponsive: false,
                outdated: false,
                came_up: None,
            };
            let id = instance.id.clone();
            let secret = format!("{:032x}", rand::random::<u128>());
            let mut entry = Entry { instance, secret, changed: Instant::now(), missed: 0, idle_limit: None };
            match self.spawn(&mut entry) {
                Ok(()) => launched.push(id.clone()),
                Err(error) => failure = Some(error),
            }
            fleet.instances.insert(id, entry);
        }
        match failure.filter(|_| launched.is_empty()) {
            Some(error) => Err(error),
            None => Ok(launched),
        }
    }

    async fn start(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        ids.iter().map(|id| self.start_one(id)).collect()
    }

    async fn terminate(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        ids.iter().map(|id| self.terminate_one(id)).collect()
    }

    async fn describe(&self) -> CloudResult<Vec<Instance>> {
        let mut fleet = self.fleet();
        let (max_age, max_count) = REMEMBERED;
        let ended = |e: &Entry| e.instance.state == InstanceState::Terminated;
        let mut times: Vec<Instant> = fleet.instances.values().filter(|e| ended(e)).map(|e| e.changed).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let oldest = times.get(max_count).copied();
        fleet.instances.retain(|_, e| {
            !ended(e) || (e.changed.elapsed() < max_age && oldest.is_none_or(|oldest| e.changed > oldest))
        });
        Ok(fleet.instances.values().map(|e| e.instance.clone()).collect())
    }

    fn limit_idle(&self, limits: &[(InstanceId, Duration)]) {
        let mut fleet = self.fleet();
        for (id, limit) in limits {
            if let Some(entry) = fleet.instances.get_mut(id) {
                entry.idle_limit = Some(*limit);
            }
        }
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.changes.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn the_state_before_the_process_exit_decides_stopped_or_terminated() {
        let code = |code: i32| Some(ExitStatus::from_raw(code << 8));
        let signal = |signal: Signal| Some(ExitStatus::from_raw(signal as i32));
        for status in [code(0), code(1), signal(Signal::SIGTERM), None] {
            assert_eq!(after_end(InstanceState::Stopping, status), (InstanceState::Stopped, None));
            assert_eq!(after_end(InstanceState::ShuttingDown, status), (InstanceState::Terminated, None));
            for state in [InstanceState::Pending, InstanceState::Running] {
                let (after, reason) = after_end(state, status);
                assert_eq!(after, InstanceState::Terminated, "{state:?}, {status:?}");
                assert!(reason.is_some(), "nobody asked for it: {state:?}, {status:?}");
            }
        }
        let reason = |status| after_end(InstanceState::Running, status).1.expect("a reason");
        assert_eq!(reason(code(0)), "exited");
        assert_eq!(reason(code(70)), "exited with code 70");
        assert_eq!(reason(signal(Signal::SIGKILL)), "killed by signal 9");
    }

    #[tokio::test]
    async fn an_instance_whose_program_cannot_be_started_is_terminated_with_the_reason() {
        let (program, name_prefix) = ("/no/such/program".into(), String::new());
        let compute = LocalCompute::new(Launcher { program, args: vec![], name_prefix });
        assert!(matches!(compute.launch("t", 2).await, Err(CloudError::NoCapacity(_))));
        let instances = compute.describe().await.expect("described");
        assert_eq!(instances.len(), 2);
        for instance in instances {
            assert_eq!(instance.state, InstanceState::Terminated);
            let reason = instance.reason.expect("a reason");
            assert!(reason.contains("No such file") && !reason.contains("/no/such"), "clients see it: {reason}");
        }
    }

    #[tokio::test]
    async fn a_boot_has_failed_if_the_process_ends_before_it_is_ready() {
        let compute = |script: &str| {
            let (program, args) = ("/bin/sh".into(), vec!["-c".into(), script.into()]);
            LocalCompute::new(Launcher { program, args, name_prefix: String::new() })
        };
        let ended = async |compute: &Arc<LocalCompute>| {
            compute.all_ended(Duration::from_secs(60)).await;
            compute.describe().await.expect("described")[0].came_up
        };
        let fails = compute("exit 1");
        fails.launch("t", 1).await.expect("launched");
        assert_eq!(ended(&fails).await, Some(false));

        let ready = compute("exec sleep 60");
        let ids = ready.launch("t", 1).await.expect("launched");
        assert_eq!(ready.describe().await.expect("described")[0].came_up, None, "it may become ready");
        ready.ready(&ids[0]);
        ready.terminate(&ids).await.into_iter().for_each(|result| result.expect("terminated"));
        assert_eq!(ended(&ready).await, Some(true), "and then it ended");

        let terminated = compute("exec sleep 60");
        let ids = terminated.launch("t", 1).await.expect("launched");
        terminated.terminate(&ids).await.into_iter().for_each(|result| result.expect("terminated"));
        assert_eq!(ended(&terminated).await, None, "it was asked to end");
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_hundred_terminated_instances_are_listed_for_ten_minutes() {
        let (program, name_prefix) = ("/no/such/program".into(), "i-".to_owned());
        let compute = LocalCompute::new(Launcher { program, args: vec![], name_prefix });
        for token in 1..=150 {
            assert!(compute.launch(&token.to_string(), 1).await.is_err());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let mut names: Vec<_> = compute.describe().await.expect("described").into_iter().map(|i| i.name).collect();
        names.sort();
        let mut latest: Vec<_> = (51..=150).map(|number| format!("i-{number}")).collect();
        latest.sort();
        assert_eq!(names, latest);
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(compute.describe().await.expect("described").is_empty());
    }
}
