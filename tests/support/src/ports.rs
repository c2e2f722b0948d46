//! Ports for the processes that tests start: none twice in one test program, and none of those that the system gives to
//! connections by itself, so that nothing takes one before its process does.

use std::{
    net::TcpListener,
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// From here on there are so many.
const PORTS: (u16, u16) = (10_000, 20_000);

/// The next port that is free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        // Test programs that follow each other begin at different places.
        let at = (process::id() as u16).wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.0 + at % PORTS.1;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
