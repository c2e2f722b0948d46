//! With the policy `adaptive`, workers stop when what was learned says so, and a restart forgets nothing.

use std::time::Duration;

use rollcall_testing::uploads::{faceless, form, post};
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};

/// Longest wait for anything here, on a busy machine. Far less than `worker.idle_stop` below.
const TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_follows_the_learned_idle_limit_and_a_restart_forgets_nothing() {
    // If waiting costs nothing, no instance stays for long.
    let options = RollcallOptions::default()
        .env("ROLLCALL__FLEET__POLICY", "adaptive")
        .env("ROLLCALL__FLEET__WAIT_PRICE", "0")
        .env("ROLLCALL__FLEET__MAX_INSTANCES", "1")
        .env("ROLLCALL__WORKER__IDLE_STOP", "10m");
    let mut server = Rollcall::start(options).await;
    assert_eq!(server.fleet().await["adaptive"]["arrivals"], 0);
    let upload =
        async |server: &Rollcall| post(&server.url("/"), form(&[("a.png", &faceless(320, 240))])).await.status();
    assert_eq!(upload(&server).await, 200);
    wait_until("the worker stops itself", TIMEOUT, async || {
        let instances = server.fleet().await["instances"].clone();
        instances.as_array().is_some_and(|all| all.len() == 1 && all[0]["state"] == "stopped")
    })
    .await;

    server.stop().await;
    server.restart().await;
    wait_until("what was learned is there", TIMEOUT, async || server.fleet().await["adaptive"]["arrivals"] == 1).await;
    assert_eq!(upload(&server).await, 200);
    wait_until("learning goes on", TIMEOUT, async || server.fleet().await["adaptive"]["arrivals"] == 2).await;
}
