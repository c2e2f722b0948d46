//! The routes on a real queue and store. No worker runs, so jobs stay pending unless a test finishes them.

use std::io::Cursor;

use actix_web::{
    body::{MessageBody, to_bytes},
    dev::ServiceResponse,
    test::{TestRequest, call_service, init_service},
};
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;

use super::*;
use crate::{
    access::{TokenStore, Tokens},
    actors::{actor_ref::ActorRef, guardian::Guardian, queue_poller::QueuePoller, reply_router::ReplyRouter},
    client::{JobClient, Options},
    cloud::{
        Depth, Queue,
        headroom::{Headroom, Reading},
    },
    erasure::Erasures,
    fleet::{
        Counts,
        view::{DegradedView, FleetView},
    },
    fleet_history::FleetHistory,
    inference::gallery::GalleryStores,
    job::{Job, JobId, Output},
    pseudonyms::Pseudonyms,
    results::ResultStore,
    settings::Settings,
    testing::World,
    wire,
};

/// Returns the state of a node with these settings, queue and results.
fn state(world: &World, settings: Settings, requests: Arc<dyn Queue>, results: ResultStore) -> web::Data<State> {
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    state_with(world, settings, requests, results, metrics, Headroom::unlimited())
}

fn state_with(
    world: &World,
    settings: Settings,
    requests: Arc<dyn Queue>,
    results: ResultStore,
    metrics: PrometheusHandle,
    headroom: Headroom,
) -> web::Data<State> {
    let mut guardian = Guardian::builder();
    let router = guardian.actor_ref::<ReplyRouter>("router");
    let done = ActorRef::<QueuePoller>::new("nobody").sender();
    guardian.supervise(&router, move |notice| ReplyRouter::new(done.clone(), None, notice));
    guardian.start().expect("every actor was added");
    let ports =
        crate::actors::web_request::Ports { requests, results, register: router.sender(), forget: router.sender() };
    let options = Options {
        max_waiting: settings.http.max_waiting,
        max_memory: settings.http.max_upload_memory,
        deadline: Duration::from_secs(2), // far longer than it takes to send a job, also on a slow disk
        inline_limit: settings.queue.inline_limit,
        reply_to: settings.queue.speaker.clone(),
    };
    let galleries = GalleryStores::new(world.objects.clone(), &settings);
    let erasures = Erasures::new(world.objects.clone(), &settings);
    let tokens = TokenStore::new(world.objects.clone(), settings.store.state.clone());
    let lines = crate::audit::in_objects(world.objects.clone(), &settings.store.state);
    let audit = AuditLog::start(lines, Pseudonyms::random(), None);
    let counts = Counts { pending: 6, running: 7, stopping: 8, stopped: 9, shutting_down: 10, terminated: 11 };
    let depth = Depth { visible: 3, in_flight: 4, delayed: 5 };
    let degraded = Some(DegradedView { failed_boots: 14, ..DegradedView::default() });
    let view = FleetView { demand: 12, target: 13, depth, counts, degraded, ..FleetView::default() };
    let (_, fleet) = watch::channel(Arc::new(view));
    let (_, end_streams) = watch::channel(false);
    web::Data::new(State {
        backups: None,
        access: AccessControl::new(Tokens::none(tokens), &settings.http),
        web: WebTier::new(
            settings,
            JobClient::new(options, ports, None, headroom, FleetHistory::default()),
            galleries,
            erasures,
            fleet,
        ),
        audit,
        metrics,
        gallery_sizes: Default::default(),
        end_streams,
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        health_checks: HealthChecks::default(),
    })
}

fn node(world: &World) -> web::Data<State> {
    state(world, world.settings.clone(), world.requests.clone(), world.results.clone())
}

/// Creates a server that handles requests in this process. It is a macro, because the type of the server cannot be
/// named.
macro_rules! server {
    ($state:expr) => {
        init_service(
            App::new()
                .app_data($state)
                .wrap(middleware::from_fn(access_guard::check))
                .wrap(middleware::from_fn(origin_guard::check))
                .wrap(middleware::from_fn(metrics::observe))
                .configure(configure),
        )
        .await
    };
}

mod audit;
mod headroom;
mod metric_names;
mod outages;

async fn text(response: ServiceResponse<impl MessageBody>) -> String {
    let body = to_bytes(response.into_body()).await.ok().expect("a body");
    String::from_utf8(body.into()).expect("UTF-8")
}

async fn json(response: ServiceResponse<impl MessageBody>) -> Value {
    serde_json::from_str(&text(response).await).expect("JSON")
}

fn header<'a, B>(response: &'a ServiceResponse<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().expect("ASCII"))
}

fn image() -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    image::GrayImage::new(8, 8).write_to(&mut png, image::ImageFormat::Png).expect("encoded");
    png.into_inner()
}

/// A part of a form: its Content-Disposition after `form-data; `, and its content.
type Part<'a> = (&'a str, &'a [u8]);

fn upload(path: &str, parts: &[Part]) -> TestRequest {
    let mut body = Vec::new();
    for (disposition, content) in parts {
        body.extend(format!("--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n").bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--x--\r\n");
    TestRequest::post()
        .uri(path)
        .insert_header(("Content-Type", "multipart/form-data; boundary=x"))
        .insert_header(("Content-Length", body.len()))
        .set_payload(body)
}

const A: &str = r#"name="myfile"; filename="a.png""#;
const B: &str = r#"name="myfile"; filename="b.png""#;

#[actix::test]
async fn only_requests_that_change_state_are_bound_to_their_origin() {
    let world = World::new().await;
    let server = server!(node(&world));
    let send = async |request: TestRequest, origin: &'static str| {
        let request = request.insert_header(("Host", "localhost:8080")).insert_header(("Origin", origin));
        call_service(&server, request.to_request()).await.status().as_u16()
    };
    let post = |path| upload(path, &[(A, b"not an image")]);
    for path in ["/", "/v1/recognitions", "/v1/people"] {
        assert_eq!(send(post(path), "http://evil.example").await, 403, "{path}");
        assert_ne!(send(post(path), "http://localhost:8080").await, 403, "{path}");
    }
    let delete = || TestRequest::delete().uri("/v1/recognitions/01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert_eq!(send(delete(), "http://evil.example").await, 403);
    assert_eq!(send(delete(), "http://localhost:8080").await, 204);
    assert_eq!(send(TestRequest::get().uri("/v1/fleet"), "http://evil.example").await, 200);
    assert_eq!(world.requests.depth().await.expect("a depth").total(), 0, "nothing was queued");
}

#[actix::test]
async fn other_host_names_are_refused_on_loopback_only() {
    let world = World::new().await;
    for (listen, status) in [("127.0.0.1:8080", 421), ("0.0.0.0:8080", 200)] {
        let mut settings = world.settings.clone();
        settings.http.listen = listen.parse().expect("an address");
        let server = server!(state(&world, settings, world.requests.clone(), world.results.clone()));
        let request = TestRequest::get().uri("/healthz").insert_header(("Host", "evil.example"));
        assert_eq!(call_service(&server, request.to_request()).await.status(), status, "{listen}");
    }
}

#[actix::test]
async fn without_tokens_a_server_that_others_can_reach_is_closed() {
    let world = World::new().await;
    for (listen, hosts) in [("0.0.0.0:8080", vec![]), ("127.0.0.1:8080", vec!["faces.example".to_owned()])] {
        let mut settings = world.settings.clone();
        (settings.http.listen, settings.http.hosts) = (listen.parse().expect("an address"), hosts);
        let server = server!(state(&world, settings, world.requests.clone(), world.results.clone()));
        let send = async |request: TestRequest| {
            let request = request.insert_header(("Host", "faces.example")).to_request();
            call_service(&server, request).await.status().as_u16()
        };
        for path in ["/v1/people", "/v1/fleet", "/metrics", "/v1/recognitions/x", "/v1/nothing"] {
            assert_eq!(send(TestRequest::get().uri(path)).await, 401, "{listen} {path}");
        }
        assert_eq!(send(upload("/v1/recognitions", &[(A, &image())])).await, 401, "{listen}");
        assert_eq!(send(TestRequest::get().uri("/healthz")).await, 200, "{listen}");
    }
}

#[actix::test]
async fn other_hosts_than_those_in_the_list_are_refused() {
    let world = World::new().await;
    let mut settings = world.settings.clone();
    settings.http.listen = "0.0.0.0:8080".parse().expect("an address");
    settings.http.hosts = vec!["faces.example".into()];
    let server = server!(state(&world, settings, world.requests.clone(), world.results.clone()));
    for (path, host, status) in [("/", "faces.example", 200), ("/", "evil.example", 421), ("/healthz", "10.0.0.7", 200)]
    {
        let request = TestRequest::get().uri(path).insert_header(("Host", host)).to_request();
        assert_eq!(call_service(&server, request).await.status(), status, "{path} {host}");
    }
}

#[actix::test]
async fn jobs_are_accepted_asynchronously_and_their_ids_listed_in_order() {
    let world = World::new().await;
    let server = server!(node(&world));
    let send = async |parts: &[Part]| {
        let request = upload("/v1/recognitions", parts).insert_header(("Prefer", "wait=5, respond-async"));
        call_service(&server, request.to_request()).await
    };
    let accepted = send(&[(A, &image()), (r#"name="myfile"; filename="text.png""#, b"text"), (B, &image())]).await;
    assert_eq!((accepted.status().as_u16(), header(&accepted, "preference-applied")), (202, Some("respond-async")));
    assert_eq!(header(&accepted, "location"), None, "there are several results");
    let ids = header(&accepted, "rollcall-id").expect("ids").to_owned();
    let body = json(accepted).await;
    let (a, text, b) = (&body["recognitions"][0], &body["recognitions"][1], &body["recognitions"][2]);
    let id = |of: &Value| of["id"].as_str().expect("an id").to_owned();
    assert_eq!(ids, format!("{},{}", id(a), id(b)));
    assert_eq!((&a["file"], &a["status"], &b["file"]), (&"a.png".into(), &"pending".into(), &"b.png".into()));
    assert_eq!((&text["status"], &text["problem"]["status"]), (&"failed".into(), &415.into()));
    assert_eq!(world.requests.depth().await.expect("a depth").total(), 2);

    let one = send(&[(A, &image())]).await;
    let (location, ids) = (header(&one, "location").map(str::to_owned), header(&one, "rollcall-id").map(str::to_owned));
    let id = id(&json(one).await);
    assert_eq!((location, ids), (Some(format!("/v1/recognitions/{id}")), Some(id)));
}

/// Finishes the next job as a worker does, with a label.
async fn finish(world: &World, label: &str) -> JobId {
    let delivery = world.receive().await;
    let job: Job = wire::from_bytes(&delivery.body).expect("a job");
    let recognition = serde_json::json!({
        "label": label, "faces": [], "classes": [], "width": 8, "height": 8, "gallery_version": 3,
        "timings": {"decode_ms": 1.0, "detect_ms": 2.0, "embed_ms": 3.0},
    });
    let output = Output::json(&recognition, label.to_owned()).expect("JSON");
    world.results.store_output(&job, Bytes::new(), &output, "i-1").await.expect("stored");
    job.id
}

#[actix::test]
async fn a_retry_with_the_same_key_finds_the_job_and_then_its_result() {
    let world = World::new().await;
    let server = server!(node(&world));
    let send = async |prefer: &'static str| {
        let request = upload("/v1/recognitions", &[(A, &image())]).insert_header(("Idempotency-Key", "order-7"));
        json(call_service(&server, request.insert_header(("Prefer", prefer)).to_request()).await).await
    };
    let (first, again) = (send("respond-async").await, send("respond-async").await);
    assert_eq!((&again["id"], &again["status"]), (&first["id"], &"pending".into()));
    assert_eq!(world.requests.depth().await.expect("a depth").total(), 1, "one job");
    let id = finish(&world, "Ada").await;
    assert_eq!(first["id"], id.to_string());
    for prefer in ["respond-async", "wait=60"] {
        let found = tokio::time::timeout(Duration::from_secs(20), send(prefer)).await;
        let found = found.expect("from the store, not at the deadline");
        assert_eq!((&found["id"], &found["label"]), (&first["id"], &"Ada".into()), "{prefer}");
    }
}

#[actix::test]
async fn a_stored_result_has_the_times_of_its_job() {
    let world = World::new().await;
    let server = server!(node(&world));
    let request = upload("/v1/recognitions", &[(A, &image())]).insert_header(("Prefer", "respond-async"));
    let accepted = call_service(&server, request.to_request()).await;
    let path = header(&accepted, "location").expect("a location").to_owned();
    let get = async || json(call_service(&server, TestRequest::get().uri(&path).to_request()).await).await;
    let pending = get().await;
    assert_eq!((&pending["status"], pending.get("finished_ms")), (&"pending".into(), None));
    assert!(pending["submitted_ms"].is_u64());
    finish(&world, "Ada").await;
    let done = get().await;
    assert_eq!((&done["status"], &done["worker"]), (&"done".into(), &"i-1".into()));
    assert!(done["finished_ms"].as_u64() >= done["submitted_ms"].as_u64() && done["submitted_ms"].is_u64(), "{done}");
    assert_eq!((&done["timings"]["detect_ms"], done["timings"].get("worker_ms")), (&2.0.into(), None));
}

#[actix::test]
async fn forms_are_read_within_their_limits() {
    let world = World::new().await;
    let mut settings = world.settings.clone();
    (settings.http.max_files, settings.http.max_upload) = (2, 64 << 10);
    let server = server!(state(&world, settings, world.requests.clone(), world.results.clone()));
    let image = image();
    let file: Part = (A, &image);
    // What a browser sends if no file was chosen.
    let none: Part = (r#"name="myfile"; filename="""#, b"");
    let note: Part = (r#"name="note""#, b"hello");
    let long = vec![b'x'; (4 << 10) + 1];
    let big = vec![0xFF; 64 << 10];
    for (what, parts, status) in [
        ("no file was chosen", vec![none], 400),
        ("one of two files was chosen", vec![none, file], 202),
        ("a file without a name", vec![(r#"name="myfile"; filename="""#, &image)], 202),
        ("an empty file", vec![(A, b"")], 400),
        ("32 text fields", [vec![note; 32], vec![file]].concat(), 202),
        ("33 text fields", [vec![note; 33], vec![file]].concat(), 413),
        ("a long text field", vec![(r#"name="note""#, &long), file], 413),
        ("a text field that is not UTF-8", vec![(r#"name="note""#, b"\xFF"), file], 400),
        ("two files", vec![file; 2], 202),
        ("three files", vec![file; 3], 413),
        ("an upload beyond the limit", vec![(A, &big)], 413),
    ] {
        let request = upload("/v1/recognitions", &parts).insert_header(("Prefer", "respond-async"));
        let response = call_service(&server, request.to_request()).await;
        assert_eq!(response.status(), status, "{what}");
        if what == "one of two files was chosen" {
            assert_eq!(json(response).await["file"], "a.png", "an empty slot is no file");
        }
    }
}

#[actix::test]
async fn an_unsupported_method_is_405_with_the_supported_ones() {
    let world = World::new().await;
    let server = server!(node(&world));
    for (path, allow) in [
        ("/", "GET, HEAD, POST"),
        ("/assets/page.css", "GET"),
        ("/v1/recognitions", "POST"),
        ("/v1/recognitions/x", "GET, DELETE"),
        ("/v1/people", "GET, POST"),
        ("/v1/people/Ada", "DELETE"),
        ("/v1/fleet", "GET"),
        ("/fleet", "GET, HEAD"),
        ("/v1/fleet/decisions", "GET"),
        ("/v1/fleet/history?range=15m", "GET"),
        ("/v1/events", "GET"),
        ("/healthz", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
        ("/metrics", "GET"),
    ] {
        let refused = call_service(&server, TestRequest::patch().uri(path).to_request()).await;
        assert_eq!((refused.status().as_u16(), header(&refused, "allow")), (405, Some(allow)), "{path}");
        for method in allow.split(", ").filter(|method| *method != "POST") {
            let request = TestRequest::with_uri(path).method(method.parse().expect("a method"));
            assert_ne!(call_service(&server, request.to_request()).await.status(), 405, "{method} {path}");
        }
    }
}

#[actix::test]
async fn assets_are_sent_again_only_when_they_have_changed() {
    let world = World::new().await;
    let server = server!(node(&world));
    let get = async |path: &str, seen: &str| {
        let request = TestRequest::get().uri(path).insert_header(("If-None-Match", seen.to_owned()));
        call_service(&server, request.to_request()).await
    };
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/fleet", "text/html; charset=utf-8"),
        ("/assets/page.css", "text/css; charset=utf-8"),
        ("/assets/page.js", "text/javascript; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml"),
    ] {
        let first = get(path, "\"other\"").await;
        assert_eq!((first.status().as_u16(), header(&first, "content-type")), (200, Some(kind)), "{path}");
        assert_eq!(header(&first, "cache-control"), Some("no-cache"), "{path}");
        let tag = header(&first, "etag").expect("an entity tag").to_owned();
        let again = get(path, &tag).await;
        assert_eq!((again.status().as_u16(), header(&again, "etag")), (304, Some(tag.as_str())), "{path}");
        assert_eq!(text(again).await, "", "{path}");
    }
    assert_eq!(get("/assets/nothing.css", "\"x\"").await.status(), 404);
}

#[actix::test]
async fn a_truncated_form_is_refused_and_the_error_says_what_is_missing() {
    let world = World::new().await;
    let server = server!(node(&world));
    let cut = "--x\r\nContent-Disposition: form-data; name=\"myfile\"; filename=\"a.png\"\r\n\r\nabc";
    let request = TestRequest::post().uri("/").insert_header(("Content-Type", "multipart/form-data; boundary=x"));
    let refused = call_service(&server, request.set_payload(cut).to_request()).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(text(refused).await, "the form ends before its closing boundary; send it again\n");
}

#[actix::test]
async fn a_refused_upload_that_was_read_to_its_end_keeps_the_connection() {
    let world = World::new().await;
    let server = server!(node(&world));
    let request = TestRequest::post().uri("/").insert_header(("Content-Type", "text/html")).set_payload("abc");
    let refused = call_service(&server, request.to_request()).await;
    assert_eq!(refused.status(), 415);
    assert!(refused.response().head().keep_alive());
}
