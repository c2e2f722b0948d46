//! The signals that end a process.

use actix::System;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a process that was asked to end twice (128 + SIGINT, by the convention of shells).
const EXIT_INTERRUPTED: i32 = 130;

/// Waits for a signal; a second one stops the system immediately.
pub(super) async fn wait_to_end() {
    wait_for_signal().await;
    actix::spawn(async {
        wait_for_signal().await;
        System::current().stop_with_code(EXIT_INTERRUPTED);
    });
}

/// Waits for a signal; a second one ends the process immediately.
#[cfg(feature = "aws")]
pub(crate) async fn asked_to_end() {
    wait_for_signal().await;
    actix::spawn(async {
        wait_for_signal().await;
        std::process::exit(EXIT_INTERRUPTED);
    });
}

/// Waits for SIGTERM or SIGINT.
pub(super) async fn wait_for_signal() {
    // Every Unix supports signal handlers; without them the process could not shut down cleanly.
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
