//! Tells systemd that this process responds, if a unit asks for that (`WatchdogSec=`): it restarts one that hangs.

use sd_notify::NotifyState;

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
