//! The end of a process: signals, and uploads that still wait.

use std::time::Duration;

use actix::System;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How long uploads that wait may go on after the process was asked to end.
const HTTP_GRACE: Duration = Duration::from_secs(5);
/// Exit code of a process that was asked to end twice (128 + SIGINT, as shells have it).
const EXIT_INTERRUPTED: i32 = 130;

/// Waits for a signal; a second one stops the system at once.
pub(super) async fn wait_to_end() {
    wait_for_signal().await;
    actix::spawn(async {
        wait_for_signal().await;
        System::current().stop_with_code(EXIT_INTERRUPTED);
    });
}

/// Waits for a signal; a second one ends the process at once.
#[cfg(feature = "aws")]
pub(crate) async fn asked_to_end() {
    wait_for_signal().await;
    actix::spawn(async {
        wait_for_signal().await;
        std::process::exit(EXIT_INTERRUPTED);
    });
}

/// Lets uploads that wait have their answers, for some seconds.
pub(super) async fn finish_uploads(handle: actix_web::dev::ServerHandle, ending: watch::Sender<bool>) {
    ending.send_replace(true);
    if tokio::time::timeout(HTTP_GRACE, handle.stop(true)).await.is_err() {
        tracing::warn!("uploads were still waiting; their jobs are kept");
    }
}

/// Waits for SIGTERM or SIGINT.
pub(super) async fn wait_for_signal() {
    // Signals can be listened to on every Unix; without them the process could not be ended properly.
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
