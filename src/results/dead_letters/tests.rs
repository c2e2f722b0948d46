//! A job that was given up is kept until it is sent again or purged, and its result is a failure.

use super::*;
use crate::{
    cloud::ObjectStore as _,
    job::{FailureKind, Output, Retention},
    testing::World,
    wire,
};

fn failure() -> Failure {
    Failure::new(FailureKind::Internal, "it kills workers")
}

/// Returns a job whose payload is in the store, and its message.
async fn large(world: &World, id: u128) -> (Job, Bytes) {
    let stored = world.results.store_payload(JobId(id), Retention::Keep, "a.txt", "large".into()).await;
    let job = Job { payload: stored.expect("stored"), ..world.job(id, "") };
    let message = wire::to_bytes(&job).expect("encoded");
    (job, message)
}

async fn status(world: &World, id: JobId) -> Option<Status> {
    world.results.stored(id).await.expect("read").status()
}

async fn listed(world: &World) -> Vec<String> {
    world.results.dead_letters().await.expect("listed").into_iter().map(|letter| letter.id).collect()
}

#[tokio::test]
async fn a_job_that_was_given_up_has_failed_and_is_listed_with_the_reason() {
    let world = World::new().await;
    let (job, message) = large(&world, 1).await;
    world.results.store_pending(job.id, job.file.clone()).await.expect("stored");
    for _ in 0..2 {
        assert_eq!(world.results.bury(&job, message.clone(), &failure()).await, Ok(true), "even if repeated");
        assert_eq!(status(&world, job.id).await, Some(Status::Failed));
    }
    let [letter] = &world.results.dead_letters().await.expect("listed")[..] else { panic!("one") };
    assert_eq!((&letter.id, &*letter.file, &*letter.reason), (&job.id.to_string(), "a.txt", "it kills workers"));
    let age = crate::clock::now_ms() - letter.given_up_ms;
    assert!(age < 60_000, "{age} ms");
}

#[tokio::test]
async fn a_dead_letter_is_shown_with_what_is_known_of_its_message() {
    let world = World::new().await;
    let (job, message) = large(&world, 1).await;
    for _ in 0..2 {
        world.results.bury(&job, message.clone(), &failure()).await.expect("buried");
    }
    let details = world.results.dead_letter(job.id).await.expect("read").expect("a dead letter");
    let list = world.results.dead_letters().await.expect("listed");
    assert_eq!((&details.letter, details.times_ms.len()), (&list[0], 2));
    assert_eq!(details.times_ms.last(), Some(&details.letter.given_up_ms));
    assert_eq!((details.message_bytes, details.submitted_ms), (message.len() as u64, Some(job.submitted_ms)));
    let key = format!("{}/{}/a.txt", world.settings.store.input, job.id);
    assert_eq!(details.payload_key, Some(key));

    let unreadable = JobId(2);
    world.results.store_pending(unreadable, "b.txt".into()).await.expect("stored");
    world.results.bury_unreadable(unreadable, "of later".into(), &failure()).await.expect("buried");
    let details = world.results.dead_letter(unreadable).await.expect("read").expect("a dead letter");
    assert_eq!((&*details.letter.file, details.submitted_ms, details.payload_key), ("b.txt", None, None));
    let failed = world.job(3, "x");
    world.results.store_failure(&failed, &failure(), "i-1").await.expect("stored");
    assert_eq!(world.results.dead_letter(failed.id).await, Ok(None), "it was not given up");
}

#[tokio::test]
async fn dead_letters_are_counted_without_reading_any() {
    let world = World::new().await;
    assert_eq!(world.results.count_dead_letters().await, Ok(0));
    for id in [1, 1, 2] {
        let (job, message) = large(&world, id).await;
        assert_eq!(world.results.bury(&job, message, &failure()).await, Ok(true));
    }
    assert_eq!(world.results.count_dead_letters().await, Ok(2), "one of them was given up twice");
    // One whose result is damaged is not listed, but counts.
    let state = &world.settings.store.state;
    let damaged = world.objects.put(state, &keys::result_key(JobId(2)), "damaged".into(), Precondition::Always).await;
    damaged.expect("written");
    assert_eq!(listed(&world).await, [JobId(1).to_string()]);
    assert_eq!(world.results.count_dead_letters().await, Ok(2));
}

#[tokio::test]
async fn a_job_that_no_worker_could_read_has_failed_and_can_be_sent_again() {
    let world = World::new().await;
    let newer = Bytes::from_static(&[9, 1, 2]);
    let bury = async |id| world.results.bury_unreadable(JobId(id), newer.clone(), &failure()).await.expect("stored");
    world.results.store_pending(JobId(1), "a.txt".into()).await.expect("stored");
    assert!(bury(1).await && bury(1).await, "even if repeated");
    let [letter] = &world.results.dead_letters().await.expect("listed")[..] else { panic!("one") };
    assert_eq!((&letter.id, &*letter.file, &*letter.reason), (&JobId(1).to_string(), "a.txt", "it kills workers"));
    assert_eq!(world.results.send_again(&*world.requests, JobId(1), "here").await, Ok(true));
    let again = world.receive().await;
    assert_eq!((again.body, again.group), (newer.clone(), Some(JobId(1).to_string())));

    assert!(!bury(2).await, "nothing was promised, so it may be a photo of which nothing is kept");
    assert_eq!(status(&world, JobId(2)).await, Some(Status::Failed), "but who is promised it later is told");
    world.results.store_pending(JobId(2), "b.txt".into()).await.expect("stored");
    assert_eq!(status(&world, JobId(2)).await, Some(Status::Failed));
    let (done, _) = large(&world, 3).await;
    let output = Output::json(&"x", "x").expect("JSON");
    world.results.store_output(&done, "large".into(), &output, "i-1").await.expect("stored");
    assert!(!bury(3).await, "only its message was left");
    assert_eq!(status(&world, JobId(3)).await, Some(Status::Done));
    world.results.delete(JobId(3)).await.expect("deleted");
    assert!(!bury(3).await);
    assert_eq!((status(&world, JobId(3)).await, listed(&world).await), (Some(Status::Deleted), vec![]));
}

#[tokio::test]
async fn a_dead_letter_that_is_sent_again_is_the_same_job_and_is_listed_no_more() {
    let world = World::new().await;
    let (job, message) = large(&world, 1).await;
    world.send(&job).await; // its id is in the window for duplicates
    let delivery = world.receive().await;
    world.requests.delete(vec![delivery.receipt]).await.remove(0).expect("deleted");
    world.results.bury(&job, message.clone(), &failure()).await.expect("buried");

    assert_eq!(world.results.send_again(&*world.requests, job.id, "here").await, Ok(true));
    assert_eq!(listed(&world).await, [""; 0]);
    assert_eq!(status(&world, job.id).await, Some(Status::Failed), "until it is done");
    let again = world.receive().await;
    let here = Job { reply_to: "here".into(), ..job.clone() };
    assert_eq!(wire::from_bytes::<Job>(&again.body).expect("a job"), here, "its sender may be gone, with its queue");
    assert_eq!(again.receives, 1);
    let output = Output::json(&"x", "x").expect("JSON");
    world.results.store_output(&job, "large".into(), &output, "i-1").await.expect("stored");
    assert_eq!(status(&world, job.id).await, Some(Status::Done));
    assert_eq!(world.results.send_again(&*world.requests, job.id, "here").await, Ok(false));
}

#[tokio::test]
async fn a_job_that_is_given_up_again_is_a_dead_letter_again() {
    let world = World::new().await;
    let (job, message) = large(&world, 1).await;
    for _ in 0..2 {
        world.results.bury(&job, message.clone(), &failure()).await.expect("buried");
        assert_eq!(listed(&world).await, [job.id.to_string()]);
        assert_eq!(world.results.send_again(&*world.requests, job.id, "here").await, Ok(true));
        let delivery = world.receive().await;
        assert_eq!(delivery.group, Some(job.id.to_string()));
        world.requests.delete(vec![delivery.receipt]).await.remove(0).expect("deleted");
    }
}

#[tokio::test]
async fn a_purge_deletes_the_failed_result_with_its_payload() {
    let world = World::new().await;
    let (job, message) = large(&world, 1).await;
    world.results.bury(&job, message, &failure()).await.expect("buried");
    assert_eq!(world.results.purge_dead_letter(job.id).await, Ok(true));
    assert_eq!((listed(&world).await, world.everything().await.len()), (Vec::new(), 1), "the tombstone");
    assert_eq!(status(&world, job.id).await, Some(Status::Deleted));
    assert_eq!(world.results.purge_dead_letter(job.id).await, Ok(false));
}

#[tokio::test]
async fn deleting_the_result_deletes_the_dead_letter_as_well() {
    let world = World::new().await;
    let (job, message) = large(&world, 1).await;
    world.results.bury(&job, message, &failure()).await.expect("buried");
    assert_eq!(world.results.delete(job.id).await, Ok(true));
    assert_eq!(world.everything().await.len(), 1, "the tombstone");
    assert_eq!(listed(&world).await, [""; 0]);
}

#[tokio::test]
async fn a_purge_leaves_the_result_of_a_job_that_was_done_in_the_meantime() {
    let world = World::new().await;
    let (job, message) = large(&world, 1).await;
    world.results.bury(&job, message, &failure()).await.expect("buried");
    let output = Output::json(&"x", "x").expect("JSON");
    world.results.store_output(&job, "large".into(), &output, "i-1").await.expect("stored");
    assert_eq!(world.results.purge_dead_letter(job.id).await, Ok(true));
    assert_eq!((listed(&world).await, status(&world, job.id).await), (Vec::new(), Some(Status::Done)));
    assert_eq!(world.everything().await.len(), 3, "payload, summary and result");
}

#[tokio::test]
async fn the_dead_letter_of_a_job_that_is_done_is_cleared_away() {
    let world = World::new().await;
    let (job, message) = large(&world, 1).await;
    world.results.bury(&job, message, &failure()).await.expect("buried");
    let output = Output::json(&"x", "x").expect("JSON");
    world.results.store_output(&job, "large".into(), &output, "i-1").await.expect("stored");
    assert_eq!(listed(&world).await, [""; 0]);
    assert_eq!(world.everything().await.len(), 3, "payload, summary and result");
}
