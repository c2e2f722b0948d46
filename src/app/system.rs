//! The actix system in which a command or a role runs.

use actix::System;

use super::watchdog;

/// Runs a command that ends by itself.
pub fn block_on<T>(command: impl Future<Output = T>) -> T {
    System::new().block_on(command)
}

/// Starts actors and runs them until an actor or a signal stops the system. Returns its exit code.
///
/// # Errors
/// The actors cannot be started.
pub fn run(start: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<i32> {
    let system = System::new();
    system.block_on(async {
        watchdog::start();
        start.await
    })?;
    Ok(system.run_with_code()?)
}
