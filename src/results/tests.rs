//! What is kept of a job is complete, is found by its id, and is gone when it is deleted.

use super::*;
use crate::{
    job::{FailureKind, Reply},
    testing::{DISCARDED, World},
};

fn output() -> Output {
    Output::json(&["x"], "summary of x").expect("JSON")
}

fn failure() -> Failure {
    Failure::new(FailureKind::Damaged, "cut off")
}

/// Returns a job whose payload is in the store.
async fn claimed(world: &World, id: u128, retention: Retention) -> Job {
    let payload = world.results.store_payload(JobId(id), retention, "a.txt", "large".into()).await.expect("stored");
    Job { payload, ..world.job(id, "") }
}

/// Returns the stored result as a reply.
async fn reply(world: &World, id: JobId) -> Option<Reply> {
    world.results.get(id).await.expect("read").and_then(|result| result.reply(id))
}

async fn text(world: &World, path: &str) -> String {
    let (bucket, key) = path.split_once('/').expect("bucket/key");
    let object = world.objects.get(bucket, key).await.expect("an object");
    String::from_utf8(object.bytes.into()).expect("UTF-8")
}

#[tokio::test]
async fn payload_summary_and_result_of_a_job_are_stored_and_deleted_together() {
    let world = World::new().await;
    let other = world.job(2, "other");
    world.results.store_output(&other, "other".into(), &output(), "i-1").await.expect("stored");
    let others = world.everything().await;
    assert_eq!(others.len(), 3, "one object in each bucket: {others:?}");

    for payload in ["small", "large"] {
        let job = match payload {
            "small" => world.job(1, payload),
            _ => claimed(&world, 3, Retention::Keep).await,
        };
        world.results.store_output(&job, payload.into(), &output(), "i-1").await.expect("stored");
        let all = besides_tombstones(&world).await;
        let mine: Vec<&String> = all.iter().filter(|path| !others.contains(path)).collect();
        assert_eq!(mine.len(), 3, "{mine:?}");
        assert_eq!(text(&world, mine[0]).await, payload);
        assert_eq!(text(&world, mine[1]).await, "summary of x");
        assert!(text(&world, mine[2]).await.contains("\"status\":\"done\""));

        assert_eq!(world.results.delete(job.id).await, Ok(true));
        assert_eq!(besides_tombstones(&world).await, others, "nothing of the job is left, and all of the other");
        assert_eq!(world.results.delete(job.id).await, Ok(false), "it is gone");
    }
}

/// Returns all objects except tombstones, which have nothing but an id.
async fn besides_tombstones(world: &World) -> Vec<String> {
    let mut all = world.everything().await;
    for id in 1..10 {
        if let Stored::Deleted(file) = world.results.stored(JobId(id)).await.expect("read") {
            assert_eq!(file, None, "the deletion is complete");
            let key = keys::result_key(JobId(id));
            let text = text(world, &format!("{}/{key}", world.settings.store.state)).await;
            assert!(!text.contains("a.txt"), "{text}");
            all.retain(|path| !path.ends_with(&key));
        }
    }
    all
}

#[tokio::test]
async fn a_job_deleted_while_running_stores_nothing_even_if_it_runs_again() {
    for payload in ["small", "large"] {
        let world = World::new().await;
        let job = match payload {
            "small" => world.job(1, payload),
            _ => claimed(&world, 1, Retention::Keep).await,
        };
        assert_eq!(world.results.delete(job.id).await, Ok(true), "there is no result yet");
        for _ in 0..2 {
            assert_eq!(world.results.bury(&job, "message".into(), &failure()).await, Ok(false));
            world.results.store_output(&job, payload.into(), &output(), "i-1").await.expect("ignored");
            world.results.store_failure(&job, &failure(), "i-1").await.expect("ignored");
            world.results.store_pending(job.id, "a.txt".into()).await.expect("ignored");
            assert_eq!(besides_tombstones(&world).await, [""; 0]);
        }
        assert!(world.results.get(job.id).await.expect("read").is_none());
        assert_eq!(world.results.delete(job.id).await, Ok(false));
    }
}

#[tokio::test]
async fn a_deletion_that_was_interrupted_is_completed_when_it_is_repeated() {
    let world = World::new().await;
    let job = world.job(1, "x");
    world.results.store_output(&job, "x".into(), &output(), "i-1").await.expect("stored");
    let (_, when) = world.results.stored_with_condition(job.id).await.expect("read");
    world.results.put_tombstone(job.id, job.file.clone(), when).await.expect("put");
    assert_eq!(world.everything().await.len(), 3, "payload and summary are still there");
    assert_eq!(world.results.delete(job.id).await, Ok(true));
    assert_eq!(besides_tombstones(&world).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_concurrent_with_a_store_leaves_nothing_behind() {
    let world = World::new().await;
    for id in 1..10 {
        let (job, output) = (world.job(id, "x"), output());
        let store = world.results.store_output(&job, "x".into(), &output, "i-1");
        let (stored, deleted) = tokio::join!(store, world.results.delete(job.id));
        assert_eq!((stored, deleted), (Ok(()), Ok(true)));
    }
    assert_eq!(besides_tombstones(&world).await, [""; 0]);
}

#[tokio::test]
async fn a_failure_is_stored_without_its_payload_and_can_be_deleted() {
    let world = World::new().await;
    let job = claimed(&world, 1, Retention::Keep).await;
    world.results.store_failure(&job, &failure(), "i-1").await.expect("stored");
    assert_eq!(world.everything().await.len(), 1, "the result alone");
    let result = world.results.get(job.id).await.expect("read").expect("a result");
    assert_eq!(
        (result.status, result.failure, result.worker.as_deref()),
        (Status::Failed, Some(failure()), Some("i-1"))
    );
    assert_eq!((result.submitted_ms, result.finished_ms.is_some(), result.file.as_str()), (1, true, "a.txt"));
    assert_eq!(world.results.delete(job.id).await, Ok(true));
    assert_eq!(besides_tombstones(&world).await, [""; 0]);
}

#[tokio::test]
async fn a_job_that_is_done_twice_keeps_its_first_answer() {
    let world = World::new().await;
    let job = world.job(1, "x");
    let answers = ["first", "second"].map(|text| Output::json(&text, text).expect("JSON"));
    for (answer, worker) in answers.iter().zip(["i-1", "i-2"]) {
        world.results.store_output(&job, "x".into(), answer, worker).await.expect("stored");
    }
    let result = world.results.get(job.id).await.expect("read").expect("a result");
    assert_eq!(result.worker.as_deref(), Some("i-1"));
    assert_eq!(result.into_output().as_ref(), Some(&answers[0]));
    let all = world.everything().await;
    let label = all.iter().find(|path| path.starts_with(&world.settings.store.output)).expect("a summary");
    assert_eq!(text(&world, label).await, "first");
}

#[tokio::test]
async fn a_job_that_was_done_stays_done_although_a_later_run_of_it_fails() {
    let world = World::new().await;
    let job = claimed(&world, 1, Retention::Keep).await;
    world.results.store_output(&job, "large".into(), &output(), "i-1").await.expect("stored");
    let before = world.everything().await;
    world.results.store_failure(&job, &failure(), "i-2").await.expect("ignored");
    assert_eq!(world.results.bury(&job, "message".into(), &failure()).await, Ok(false));
    assert_eq!(world.everything().await, before, "the payload belongs to the result");
    assert_eq!(reply(&world, job.id).await.expect("a reply").outcome, Ok(output().result));
}

#[tokio::test]
async fn a_pending_job_cannot_be_deleted_and_does_not_hide_a_result() {
    let world = World::new().await;
    let (id, job) = (JobId(1), world.job(1, "x"));
    world.results.store_pending(id, "a.txt".into()).await.expect("stored");
    assert_eq!(world.results.get(id).await.expect("read").expect("a result").status, Status::Pending);
    assert_eq!(reply(&world, id).await, None, "there is no reply yet");
    assert!(matches!(world.results.delete(id).await, Err(CloudError::Conflict(_))));

    world.results.store_output(&job, "x".into(), &output(), "i-1").await.expect("stored");
    world.results.store_pending(id, "a.txt".into()).await.expect("ignored");
    assert_eq!(world.results.get(id).await.expect("read").expect("a result").status, Status::Done);
}

#[tokio::test]
async fn a_payload_to_be_discarded_is_stored_separately_and_deleted() {
    let world = World::new().await;
    let job = Job { kind: DISCARDED, ..claimed(&world, 1, Retention::Discard).await };
    let claims = world.everything().await;
    assert!(claims.len() == 1 && claims[0].starts_with(&world.settings.store.state), "{claims:?}");
    assert_eq!(world.results.payload(&job).await.expect("read"), "large");
    world.results.delete_payload(&job.payload).await.expect("deleted");
    assert_eq!(world.everything().await, [""; 0]);
    world.results.delete_payload(&world.job(2, "inline").payload).await.expect("nothing to delete");
}

#[tokio::test]
async fn results_of_the_first_format_are_read() {
    let world = World::new().await;
    let json = r#"{"id":"x","file":"a.jpg","status":"done","recognition":{"label":"Ada","score":0.9},"failure":null,
                   "worker":"i-1","submitted_ms":1,"finished_ms":2}"#;
    let (bucket, key) = (&world.settings.store.state, keys::result_key(JobId(1)));
    world.objects.put(bucket, &key, json.into(), Precondition::Always).await.expect("put");
    let reply = reply(&world, JobId(1)).await.expect("a reply");
    assert_eq!(reply.outcome.expect("done"), r#"{"label":"Ada","score":0.9}"#);
    assert!(world.results.get(JobId(2)).await.expect("read").is_none());
    world.results.check().await.expect("the store responds");
}

#[tokio::test]
async fn a_damaged_result_counts_as_none_and_is_replaced() {
    let world = World::new().await;
    let (bucket, key) = (&world.settings.store.state, keys::result_key(JobId(1)));
    for damaged in ["", "{}", "{\"id\":"] {
        world.objects.put(bucket, &key, damaged.into(), Precondition::Always).await.expect("put");
        assert!(world.results.get(JobId(1)).await.expect("read").is_none(), "{damaged}");
        let output = Output::json(&"Ada", "Ada").expect("JSON");
        world.results.store_output(&world.job(1, "x"), "x".into(), &output, "i-1").await.expect("stored");
        assert_eq!(world.results.get(JobId(1)).await.expect("read").expect("a result").status, Status::Done);
    }
}

#[tokio::test]
async fn a_damaged_result_can_be_deleted() {
    let world = World::new().await;
    let (bucket, key) = (&world.settings.store.state, keys::result_key(JobId(1)));
    world.objects.put(bucket, &key, "{".into(), Precondition::Always).await.expect("put");
    assert_eq!(world.results.delete(JobId(1)).await, Ok(true));
    assert_eq!(besides_tombstones(&world).await, [""; 0]);
}
