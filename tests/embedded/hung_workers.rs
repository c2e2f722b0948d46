//! A worker that hangs is replaced, and what it held is done by another.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall_testing::http::Client;
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_a_hung_worker_holds_is_done_by_its_replacement() {
    let options =
        RollcallOptions::default().env("ROLLCALL__FLEET__MAX_INSTANCES", "1").env("ROLLCALL__WORKER__IDLE_STOP", "10m");
    let server = Rollcall::start(options).await;
    let warm = post(&server.url("/"), form(&[("warm.png", &faceless(64, 64))])).await;
    assert_eq!(warm.status(), 200);
    let hung = server.worker_pids().await;
    assert_eq!(hung.len(), 1);
    kill(Pid::from_raw(hung[0] as i32), Signal::SIGSTOP).expect("the worker is there");

    let request = Client::new().post(server.url("/v1/recognitions")).multipart(form(&[("a.png", &faceless(80, 80))]));
    let response = tokio::time::timeout(Duration::from_secs(90), request.send()).await;
    assert_eq!(response.expect("no later than the visibility timeout").expect("a response").status(), 200);
    wait_until("the hung worker has ended", Duration::from_secs(30), async || {
        !std::path::Path::new(&format!("/proc/{}", hung[0])).exists()
    })
    .await;
    let fleet = server.fleet().await.to_string();
    assert!(fleet.contains("the worker does not respond"), "{fleet}");
}
