//! What is selected is deleted everywhere, and nothing else is.

use super::*;
use crate::{
    cloud::{ObjectStore as _, Precondition},
    job::{Failure, FailureKind, Output},
    testing::World,
};

/// Selects by text.
struct Containing(&'static str);

impl Selection for Containing {
    fn output(&self, output: &str) -> bool {
        output.contains(self.0)
    }

    fn summary(&self, summary: &str) -> bool {
        summary == self.0
    }
}

async fn store(world: &World, id: u128, name: &str) {
    let output = Output::json(&name, name).expect("JSON");
    world.results.store_output(&world.job(id, "photo"), "photo".into(), &output, "i-1").await.expect("stored");
}

/// Returns the ids of the jobs that have objects, except tombstones.
async fn left(world: &World) -> Vec<u128> {
    let mut left = Vec::new();
    for id in 1..=9 {
        let has_result = world.results.get(JobId(id)).await.expect("read").is_some();
        let id_text = JobId(id).to_string();
        let objects = world.everything().await.into_iter().filter(|path| path.contains(&id_text)).count();
        if has_result || objects > 1 {
            left.push(id);
        }
    }
    left
}

#[tokio::test]
async fn results_that_are_selected_are_deleted_with_image_label_and_dead_letters() {
    let world = World::new().await;
    store(&world, 1, "Ada").await;
    store(&world, 2, "Bob").await;
    world.results.store_pending(JobId(3), "a.txt".into()).await.expect("stored");
    // Given up, and done all the same by a worker that was slow: its dead letter is purged when it is next listed.
    let failure = Failure::new(FailureKind::Internal, "given up");
    world.results.bury(&world.job(4, "photo"), "message".into(), &failure).await.expect("buried");
    store(&world, 4, "Ada").await;
    // Its workers died between the label and the result.
    world.results.bury(&world.job(5, "photo"), "message".into(), &failure).await.expect("buried");
    let key = keys::output_key(&world.settings.store, JobId(5), "a.txt");
    world.objects.put(&world.settings.store.output, &key, "Ada".into(), Precondition::Always).await.expect("put");
    world.results.bury(&world.job(6, "photo"), "message".into(), &failure).await.expect("buried");

    let erased = world.results.erase(0, &mut HashSet::new(), &Containing("Ada")).await.expect("erased");
    assert_eq!(erased, Erased { results: 3, images: 3, labels: 3, dead_letters: 2 });
    assert_eq!(left(&world).await, [2, 3, 6]);
    assert_eq!(
        world.results.erase(0, &mut HashSet::new(), &Containing("Ada")).await,
        Ok(Erased::default()),
        "nothing is left"
    );
    store(&world, 1, "Ada").await;
    assert_eq!(left(&world).await, [2, 3, 6], "what was erased does not come back");
}

#[tokio::test]
async fn only_results_that_were_stored_since_are_read() {
    let world = World::new().await;
    store(&world, 1, "Ada").await;
    let key = keys::result_key(JobId(1));
    let listed = world.objects.list(&world.settings.store.state, &key).await.expect("listed");
    assert_eq!(
        world.results.erase(listed[0].modified_ms + 1, &mut HashSet::new(), &Containing("Ada")).await,
        Ok(Erased::default())
    );
    assert_eq!(
        world
            .results
            .erase(listed[0].modified_ms, &mut HashSet::new(), &Containing("Ada"))
            .await
            .expect("erased")
            .results,
        1
    );
}

#[tokio::test]
async fn a_deletion_that_was_interrupted_is_completed() {
    let world = World::new().await;
    store(&world, 1, "Ada").await;
    // As a process leaves it that is killed after the tombstone.
    let (_, when) = world.results.stored_with_condition(JobId(1)).await.expect("read");
    world.results.put_tombstone(JobId(1), "a.txt".into(), when).await.expect("put");
    assert_eq!(world.everything().await.len(), 3);
    world.results.erase(0, &mut HashSet::new(), &Containing("Ada")).await.expect("erased");
    assert_eq!(world.everything().await.len(), 1, "the tombstone");
}
