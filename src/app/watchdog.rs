//! Tells systemd that this process serves (`Type=notify`), and then that it responds, if a unit asks for that
//! (`WatchdogSec=`): it restarts one that hangs.

use sd_notify::NotifyState;

/// Reports that the start is complete. Does nothing if no service manager wants to know.
pub(super) fn ready() {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!(%error, "systemd cannot be told that this process serves");
    }
}

/// Starts to send signs of life, twice in the time that the unit allows. They come from the thread of the actors, so that
/// they stop when that hangs.
pub(super) fn start() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    actix::spawn(async move {
        let mut ticks = tokio::time::interval(limit / 2);
        loop {
            ticks.tick().await;
            if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
                tracing::warn!(%error, "systemd cannot be told that this process responds");
            }
        }
    });
}
