//! The web node of a stack is replaced only by one that serves: `up` waits for it, and clients do not notice.

use std::{sync::Arc, time::Duration};

use crate::support::account::{Account, program};
use rollcall_testing::uploads::{MACRON, form, photo};
use tokio::sync::watch;

/// Time between the requests of a client that watches the web node.
const EVERY: Duration = Duration::from_millis(20);

/// Requests `/readyz` until asked to end. Returns how many requests there were, and what failed.
async fn watch_web(url: String, end: watch::Receiver<bool>) -> (usize, Vec<String>) {
    let (mut requests, mut failed) = (0, Vec::new());
    while !*end.borrow() {
        requests += 1;
        match reqwest::get(&url).await {
            Ok(response) if response.status() == 200 => {}
            Ok(response) => failed.push(format!("{}", response.status())),
            Err(error) => failed.push(format!("{error:?}")),
        }
        tokio::time::sleep(EVERY).await;
    }
    (requests, failed)
}

/// Runs a command while a client watches the web node, and returns its output and what the client saw.
async fn run_watched(account: &Arc<Account>, arguments: &'static [&str]) -> (bool, String, Vec<String>) {
    let (end, ended) = watch::channel(false);
    let client = tokio::spawn(watch_web(account.web("/readyz"), ended));
    let same = account.clone();
    let output = tokio::task::spawn_blocking(move || same.run(arguments)).await.expect("no panic");
    let ready = reqwest::get(account.web("/readyz")).await.expect("a node serves as soon as the command has ended");
    assert_eq!(ready.status(), 200);
    end.send_replace(true);
    let (requests, failed) = client.await.expect("no panic");
    assert!(requests > 0, "a client watched");
    (output.success, output.err, failed)
}

/// Returns the ids of the machines that are running.
async fn running(account: &Account) -> Vec<String> {
    let machines = account.machines().await.into_iter();
    machines.filter(|(_, state)| state == "running").map(|(id, _)| id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_web_node_is_replaced_only_by_one_that_serves() {
    let account = Arc::new(Account::start(&[]).await);
    let bake = ["aws", "bake", "--base", "ami-12345678"];
    account.run(&bake).done();
    account.run(&["aws", "up", "--allow-from", "10.0.0.0/8"]).done();
    let ready = reqwest::get(account.web("/readyz")).await.expect("it serves as soon as `up` has ended");
    assert_eq!(ready.status(), 200);
    let first = running(&account).await;

    // A new image: requests are answered all the time, first by one node and then by the other.
    account.run(&bake).done();
    let (done, err, failed) = run_watched(&account, &["aws", "up"]).await;
    assert!(done, "{err}");
    assert_eq!(failed, Vec::<String>::new());
    let second = running(&account).await;
    assert!(second.len() == 1 && second != first, "{first:?} was replaced by {second:?}");

    // An image whose web node does not serve: `up` says so, and the node that does stays.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let real = std::path::absolute(rollcall_testing::program()).expect("a path");
    let script = format!("case \"$*\" in *serve*) exit 1 ;; esac\nexec {} \"$@\"", real.display());
    account.run(&[&bake[..], &["--program", &program(folder.path(), &script)]].concat()).done();
    account.expect_no_signal();
    let (done, err, failed) = run_watched(&account, &["aws", "up"]).await;
    assert!(!done && err.contains("Web:"), "{err}");
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(running(&account).await, second);
    let url = account.web("/v1/recognitions");
    let accepted = reqwest::Client::new().post(url).header("Prefer", "respond-async");
    let accepted = accepted.multipart(form(&[("a.jpg", &photo(MACRON))])).send().await.expect("a response");
    assert_eq!(accepted.status(), 202);
}
