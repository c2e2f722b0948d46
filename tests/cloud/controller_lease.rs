//! Of several controllers one acts at a time, and when it dies or gives up another takes over.

use std::{sync::Arc, time::Duration};

use futures_util::future::{join_all, select_all};
use rollcall::cloud::{ObjectStore, Precondition, lease::Lease, local::LocalObjects};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

const TIME: Duration = Duration::from_secs(30);

/// Leases of several processes on one object.
fn leases(n: usize) -> (TempDir, Arc<LocalObjects>, Vec<Lease>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Arc::new(LocalObjects::open(folder.path()).expect("a store"));
    let lease = |n| Lease::new(store.clone(), "state", "controller", &format!("node {n}"), TIME);
    let leases = (0..n).map(lease).collect();
    (folder, store, leases)
}

#[tokio::test(start_paused = true)]
async fn of_contenders_at_the_same_time_one_acts() {
    let (_folder, _store, leases) = leases(8);
    let contenders: Vec<_> = leases.iter().map(|lease| Box::pin(lease.acquire())).collect();
    let (mut held, _, others) = select_all(contenders).await;
    tokio::select! {
        () = held.lost() => panic!("it renews for as long as it lives"),
        _ = select_all(others) => panic!("two act"),
        () = tokio::time::sleep(20 * TIME) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_holder_dies_another_takes_over_within_the_time_and_with_a_higher_epoch() {
    let (_folder, _store, leases) = leases(2);
    let mut held = leases[0].acquire().await;
    let other = tokio::spawn({
        let lease = leases[1].clone();
        async move { lease.acquire().await }
    });
    assert!(timeout(5 * TIME, held.lost()).await.is_err(), "it renews for as long as it lives");
    assert!(!other.is_finished());
    let epoch = held.epoch();
    drop(held);
    let died = Instant::now(); // of the paused clock
    let held = other.await.expect("no panic");
    assert_eq!(held.epoch(), epoch + 1);
    assert!(died.elapsed() <= TIME * 4 / 3, "{:?}", died.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lease_given_up_is_taken_without_waiting_for_its_end() {
    let (_folder, _store, leases) = leases(2);
    let held = leases[0].acquire().await;
    let other = tokio::spawn({
        let lease = leases[1].clone();
        async move { lease.acquire().await }
    });
    tokio::time::sleep(TIME / 2).await;
    let epoch = held.epoch();
    held.release().await;
    let given_up = Instant::now();
    assert_eq!(other.await.expect("no panic").epoch(), epoch + 1);
    assert!(given_up.elapsed() <= TIME / 3, "{:?}", given_up.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_lease_was_taken_learns_it() {
    let (_folder, store, leases) = leases(1);
    let mut held = leases[0].acquire().await;
    store.put("state", "controller", "taken by force".into(), Precondition::Always).await.expect("written");
    timeout(TIME, held.lost()).await.expect("it notices at its next renewal");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_reach_the_store_gives_up_before_another_may_act() {
    let (folder, _store, leases) = leases(1);
    let mut held = leases[0].acquire().await;
    let began = Instant::now();
    // The store is gone: every write fails.
    std::fs::remove_dir_all(folder.path()).expect("ours");
    timeout(TIME, held.lost()).await.expect("it gives up in time");
    assert!(began.elapsed() < TIME, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn epochs_only_rise() {
    let (_folder, store, leases) = leases(3);
    let mut last = 0;
    for (n, lease) in leases.iter().cycle().take(9).enumerate() {
        if n == 5 {
            store.delete("state", "controller").await.expect("deleted");
            while rollcall::clock::now_ms() <= last {} // a few takings took less than as many milliseconds
        }
        let held = lease.acquire().await;
        assert!(held.epoch() > last, "also after the lease was deleted");
        last = held.epoch();
        held.release().await;
    }
    let racers = join_all(leases.iter().map(|lease| timeout(TIME / 10, lease.acquire()))).await;
    assert_eq!(racers.into_iter().flatten().count(), 1);
}
