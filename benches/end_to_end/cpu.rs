//! CPU time and memory of processes.

use std::{fs, time::Duration};

use nix::sys::resource::{UsageWho, getrusage};

/// Ticks per second in `/proc/PID/stat` (`USER_HZ`): 100 on every architecture that set-up knows.
const TICKS: f64 = 100.0;

/// Returns the CPU time of this process.
pub fn own() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process can ask for its own usage");
    let time = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// Returns the CPU time of other processes: user and system time in `/proc/PID/stat`.
pub fn of(pids: &[u32]) -> Duration {
    let ticks = |pid: &u32| -> u64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    };
    Duration::from_secs_f64(pids.iter().map(ticks).sum::<u64>() as f64 / TICKS)
}

/// Returns the largest amount of memory in MB that one of these processes has had.
pub fn peak_mb(pids: &[u32]) -> f64 {
    let kib = |pid: &u32| -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    pids.iter().filter_map(kib).max().unwrap_or(0) as f64 * 1024.0 / 1e6
}
