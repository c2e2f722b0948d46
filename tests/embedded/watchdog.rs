//! A server tells systemd when it serves, and then that it responds, unless it hangs.

use std::{os::unix::net::UnixDatagram, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall_testing::{Rollcall, RollcallOptions};

/// Longest wait for a sign of life, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Three times as long as the unit here allows.
const LONG: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_tells_systemd_that_it_serves_and_then_that_it_responds_until_it_hangs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let options = RollcallOptions::default().env("NOTIFY_SOCKET", path.to_str().expect("a path"));
    let server = Rollcall::start(options.env("WATCHDOG_USEC", "1000000")).await;
    let receive = || {
        let mut text = [0; 64];
        socket.recv(&mut text).map(|n| String::from_utf8_lossy(&text[..n]).trim_end().to_owned())
    };
    socket.set_read_timeout(Some(TIMEOUT)).expect("a time limit");
    let began: Vec<String> = (0..4).map(|_| receive().expect("a sign of life")).collect();
    assert_eq!(began.iter().filter(|sign| *sign == "READY=1").count(), 1, "{began:?}");
    assert_eq!(began.iter().filter(|sign| *sign == "WATCHDOG=1").count(), 3, "{began:?}");
    let pid = Pid::from_raw(server.pid() as i32);
    kill(pid, Signal::SIGSTOP).expect("it runs");
    socket.set_read_timeout(Some(LONG)).expect("a time limit");
    while receive().is_ok() {} // those that it had sent
    kill(pid, Signal::SIGCONT).expect("it runs");
    socket.set_read_timeout(Some(TIMEOUT)).expect("a time limit");
    assert_eq!(receive().expect("a sign of life"), "WATCHDOG=1");
}
