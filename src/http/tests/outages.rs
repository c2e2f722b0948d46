//! While the queue or the store cannot be reached, responses say so, say when to try again, and do not name the cause.

use async_trait::async_trait;

use super::*;
use crate::cloud::{CloudError, CloudResult, Delivery, Depth, Message, Queue, Receipt, local::LocalObjects};

/// A queue that cannot be reached.
struct Unreachable;

fn unreachable<T>() -> CloudResult<T> {
    Err(CloudError::Unavailable("no route to 10.0.0.1".into()))
}

#[async_trait]
impl Queue for Unreachable {
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        batch.iter().map(|_| unreachable()).collect()
    }
    async fn receive(&self, _: usize, _: Duration) -> CloudResult<Vec<Delivery>> {
        unreachable()
    }
    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        batch.iter().map(|_| unreachable()).collect()
    }
    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        batch.iter().map(|_| unreachable()).collect()
    }
    async fn depth(&self) -> CloudResult<Depth> {
        unreachable()
    }
}

/// A queue that takes messages and cannot make them durable.
struct Volatile(Arc<dyn Queue>);

#[async_trait]
impl Queue for Volatile {
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        self.0.send(batch).await
    }
    async fn flush(&self) -> CloudResult<()> {
        unreachable()
    }
    async fn receive(&self, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>> {
        self.0.receive(max, wait).await
    }
    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        self.0.delete(batch).await
    }
    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        self.0.extend(batch).await
    }
    async fn depth(&self) -> CloudResult<Depth> {
        self.0.depth().await
    }
}

/// Returns a store that can be neither read nor written, and its folder.
fn lost_store(world: &World) -> (ResultStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lost = LocalObjects::open(folder.path()).expect("a store");
    // A link to itself cannot be followed: reading the store is an error.
    let objects = folder.path().join("objects");
    std::fs::remove_dir_all(&objects).expect("removed");
    std::os::unix::fs::symlink(&objects, &objects).expect("a link to itself");
    (ResultStore::new(Arc::new(lost), world.settings.store.clone()), folder)
}

#[actix::test]
async fn a_node_is_ready_while_queue_and_store_can_be_reached() {
    let world = World::new().await;
    let settings = || world.settings.clone();
    let (lost, folder) = lost_store(&world);
    let folder = folder.path().to_str().expect("UTF-8");
    for (what, state, status) in [
        ("both", node(&world), 200),
        ("no queue", state(&world, settings(), Arc::new(Unreachable), world.results.clone()), 503),
        ("no store", state(&world, settings(), world.requests.clone(), lost), 503),
    ] {
        let server = server!(state);
        let ready = call_service(&server, TestRequest::get().uri("/readyz").to_request()).await;
        assert_eq!(ready.status(), status, "{what}");
        assert_eq!(header(&ready, "retry-after").is_some(), status == 503, "{what}");
        let said = text(ready).await;
        assert!(said.starts_with(if status == 200 { "ready" } else { "not ready: " }), "{what}: {said}");
        assert!(!said.contains("10.0.0.1") && !said.contains(folder), "{what}: {said}");
        let alive = call_service(&server, TestRequest::get().uri("/healthz").to_request()).await;
        assert_eq!(alive.status(), 200, "{what}");
        assert_eq!(text(alive).await, "ok\n", "{what}");
    }
}

/// The node of these tests has a degraded fleet.
#[actix::test]
async fn a_node_with_a_degraded_fleet_is_ready_and_says_so_without_the_reason() {
    let server = server!(node(&World::new().await));
    let ready = call_service(&server, TestRequest::get().uri("/readyz").to_request()).await;
    assert_eq!(ready.status(), 200, "uploads are accepted");
    assert_eq!(text(ready).await, "ready; degraded: 14 boots in a row failed\n");
}

#[test]
fn a_degraded_view_says_what_has_happened_without_the_reason() {
    let reason = "the role arn:aws:iam::1:role/x may not launch".to_owned();
    let boots = DegradedView { failed_boots: 14, reason, ..DegradedView::default() };
    let refused = DegradedView { failed_boots: 0, refused: 7, ..boots.clone() };
    assert_eq!(boots.summary(), "14 boots in a row failed");
    assert_eq!(refused.summary(), "7 requests for instances in a row were refused");
    assert_eq!(refused.to_string(), format!("{}, the last because {}", refused.summary(), refused.reason));
}

#[actix::test]
async fn an_upload_without_a_queue_is_503_and_does_not_name_the_cause() {
    let world = World::new().await;
    let server = server!(state(&world, world.settings.clone(), Arc::new(Unreachable), world.results.clone()));
    for prefer in ["", "respond-async"] {
        let request = upload("/v1/recognitions", &[(A, &image())]).insert_header(("Prefer", prefer));
        let refused = call_service(&server, request.to_request()).await;
        assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (503, Some("2")), "{prefer}");
        let detail = json(refused).await["detail"].as_str().expect("a detail").to_owned();
        assert!(!detail.contains("10.0.0.1"), "{detail}");
    }
}

#[actix::test]
async fn a_job_that_was_not_queued_is_not_pending_and_is_queued_by_a_retry() {
    let world = World::new().await;
    let send = || {
        let request = upload("/v1/recognitions", &[(A, &image())]).insert_header(("Idempotency-Key", "order-7"));
        request.insert_header(("Prefer", "respond-async")).to_request()
    };
    let away = server!(state(&world, world.settings.clone(), Arc::new(Unreachable), world.results.clone()));
    assert_eq!(call_service(&away, send()).await.status(), 503);
    assert_eq!(world.keys(&world.settings.store.state).await, Vec::<String>::new(), "nothing would finish it");
    let back = server!(node(&world));
    assert_eq!(call_service(&back, send()).await.status(), 202);
    assert_eq!(world.requests.depth().await.expect("a depth").total(), 1, "a promise that nobody would keep");
}

#[actix::test]
async fn no_result_is_promised_at_the_deadline_if_the_job_is_not_durable() {
    let world = World::new().await;
    let volatile = Arc::new(Volatile(world.requests.clone()));
    let server = server!(state(&world, world.settings.clone(), volatile, world.results.clone()));
    tokio::task::yield_now().await; // the router starts
    let refused = call_service(&server, upload("/", &[(A, &image())]).to_request()).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(world.keys(&world.settings.store.state).await, Vec::<String>::new());
}

#[actix::test]
async fn results_without_a_store_are_503_and_do_not_name_the_cause() {
    let world = World::new().await;
    let (lost, folder) = lost_store(&world);
    let server = server!(state(&world, world.settings.clone(), world.requests.clone(), lost));
    let path = format!("/v1/recognitions/{}", JobId(7));
    let later = upload("/v1/recognitions", &[(A, &image())]).insert_header(("Prefer", "respond-async"));
    for request in [TestRequest::get().uri(&path), TestRequest::delete().uri(&path), later] {
        let refused = call_service(&server, request.to_request()).await;
        assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (503, Some("2")));
        let said = text(refused).await;
        assert!(!said.contains(folder.path().to_str().expect("UTF-8")), "{said}");
    }
}

#[actix::test]
async fn people_are_not_added_without_a_queue() {
    let world = World::new().await;
    let server = server!(state(&world, world.settings.clone(), Arc::new(Unreachable), world.results.clone()));
    let parts: [Part; 3] = [
        (r#"name="name""#, b"Ada"),
        (r#"name="photos"; filename="text.jpg""#, b"text"),
        (r#"name="photos"; filename="a.png""#, &image()),
    ];
    let refused = call_service(&server, upload("/v1/people", &parts).to_request()).await;
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (503, Some("2")));
    let photos = json(refused).await["photos"].clone();
    assert_eq!((&photos[0]["file"], &photos[0]["added"]), (&"text.jpg".into(), &false.into()));
    assert!(photos[0]["problem"].as_str().expect("a problem").contains("not an image"), "{photos}");
    assert!(photos[1]["problem"].as_str().expect("a problem").contains("unavailable"), "{photos}");
    assert!(!photos.to_string().contains("10.0.0.1"), "{photos}");

    // Without the photo that could not be queued, the photos themselves are the reason.
    let refused = call_service(&server, upload("/v1/people", &parts[..2]).to_request()).await;
    assert_eq!(refused.status(), 422);
    let list = call_service(&server, TestRequest::get().uri("/v1/people").to_request()).await;
    assert_eq!(json(list).await, serde_json::json!({"version": 0, "total": 0, "people": []}));
}
