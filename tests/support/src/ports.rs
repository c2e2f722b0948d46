//! Ports for the processes that tests start.

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    process,
    sync::{
        Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

/// The first port, and the number of ports. They are below the system's ephemeral ports, so that no connection takes a
/// port before the process for which it is meant.
const PORTS: (u16, u16) = (10_000, 20_000);

/// Returns a port on which nobody listens, and which no other test gets before this process has ended.
///
/// Each port that is given out has a locked file, which the system unlocks when the process ends, however it ends.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static GIVEN: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let folder = env::temp_dir().join("rollcall-test-ports");
    fs::create_dir_all(&folder).expect("a folder for the locks");
    loop {
        // Processes begin at different ports, so that they rarely try the same one.
        let at = (process::id() as u16).wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.0 + at % PORTS.1;
        let lock = File::create(folder.join(port.to_string())).expect("a lock");
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            GIVEN.lock().expect("no panic").push(lock);
            return port;
        }
    }
}
