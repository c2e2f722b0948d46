//! The body of an upload: a fuzz target, and the web tier for this one and that of CompreFace's API.

use std::{cell::LazyCell, sync::Arc};

use actix_web::{FromRequest as _, dev, error::PayloadError, http::header, test::TestRequest, web};
use bytes::Bytes;
use futures_util::stream;
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
};

use super::{
    error::{ErrorFormat, Problem},
    names::safe_file_name,
    upload::{Received, receive},
    web_tier::WebTier,
};
use crate::{
    actors::{actor_ref::ActorRef, reply_router::ReplyRouter, web_request::Ports},
    client::{JobClient, Options},
    cloud::{
        QueueSpec, Queues as _,
        headroom::Headroom,
        local::{Broker, LocalObjects},
    },
    erasure::Erasures,
    fleet::view::FleetView,
    fleet_history::FleetHistory,
    inference::gallery::GalleryStores,
    results::ResultStore,
    settings::{Layers, Machine, Settings},
};

/// Memory for one upload, in bytes.
pub(crate) const MEMORY: usize = 2 << 20;
/// Largest upload, in bytes, so that an input can be larger.
pub(super) const MAX_UPLOAD: usize = 8 << 10;
/// Memory for uploads, in bytes.
const MAX_MEMORY: usize = 64 << 10;
/// Most files in an upload, so that an input can have more.
const MAX_FILES: usize = 5;
/// The statuses of an upload that is refused.
const REFUSED: [u16; 4] = [400, 413, 415, 503];

struct Node {
    runtime: Runtime,
    web: WebTier,
    _folder: tempfile::TempDir,
}

thread_local! {
    static NODE: LazyCell<Node> = LazyCell::new(node);
}

/// Creates a web tier with a queue and a store in a temporary folder.
fn node() -> Node {
    let layers = Layers::load(None, Default::default()).expect("the defaults");
    let mut settings = Settings::from_layers(&layers, Machine::with_cores(1)).expect("the defaults are valid");
    settings.http.max_upload = MAX_UPLOAD;
    settings.http.max_upload_memory = MAX_MEMORY;
    settings.http.max_files = MAX_FILES;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let objects = Arc::new(LocalObjects::open(folder.path()).expect("a store"));
    let broker = Broker::open(folder.path()).expect("a journal");
    let spec = QueueSpec {
        name: settings.queue.listener.clone(),
        fifo: true,
        visibility: settings.queue.visibility,
        max_receives: settings.queue.max_receives,
        dead_letter: None,
        durable: true,
    };
    let requests = runtime.block_on(broker.create(spec)).expect("a queue");
    let results = ResultStore::new(objects.clone(), settings.store.clone());
    let router = ActorRef::<ReplyRouter>::new("router");
    let ports = Ports { requests, results, register: router.sender(), forget: router.sender() };
    let options = Options {
        max_waiting: settings.http.max_waiting,
        max_memory: MAX_MEMORY,
        deadline: settings.http.deadline,
        inline_limit: settings.queue.inline_limit,
        reply_to: settings.queue.speaker.clone(),
    };
    let galleries = GalleryStores::new(objects.clone(), &settings);
    let erasures = Erasures::new(objects, &settings);
    let fleet = watch::channel(Arc::new(FleetView::default())).1;
    let client = JobClient::new(options, ports, None, Headroom::unlimited(), FleetHistory::default());
    let web = WebTier::new(settings, client, galleries, erasures, fleet);
    Node { runtime, web, _folder: folder }
}

/// Receives an upload. The first byte says how the body is divided; then come two lines with the values of Content-Type
/// and Content-Disposition, and the body.
pub(crate) fn upload(input: &[u8]) {
    let Some((division, rest)) = input.split_first() else { return };
    let mut lines = rest.splitn(3, |byte| *byte == b'\n');
    let [content_type, disposition, body] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    with_web_tier(async |web| {
        let (req, payload) = request(content_type, disposition, body, *division).await;
        match receive(&req, payload, web).await {
            Ok(received) => check(&received).await,
            Err(problem) => refused(&problem),
        }
    });
}

/// Runs `check` with a web tier, and checks that it keeps nothing of it.
pub(super) fn with_web_tier(check: impl AsyncFnOnce(&WebTier)) {
    NODE.with(|node| {
        node.runtime.block_on(check(&node.web));
        assert_eq!(node.web.waiting(), 0, "every place is free again");
        let Ok(mut admission) = node.web.admit() else { panic!("no place is free") };
        assert!(node.web.reserve(&mut admission, MAX_MEMORY).is_ok(), "all memory is free again");
    });
}

/// Makes a request. `division` is the length of the pieces in which the body arrives, in bytes; 0 stands for all at once.
pub(super) async fn request(
    content_type: &[u8],
    disposition: &[u8],
    body: &[u8],
    division: u8,
) -> (actix_web::HttpRequest, web::Payload) {
    let mut request = TestRequest::post().uri("/v1/recognitions");
    for (name, value) in [(header::CONTENT_TYPE, content_type), (header::CONTENT_DISPOSITION, disposition)] {
        if let Ok(value) = header::HeaderValue::from_bytes(value) {
            request = request.insert_header((name, value));
        }
    }
    let size = if division == 0 { body.len().max(1) } else { usize::from(division) };
    let chunks: Vec<_> = body.chunks(size).map(|chunk| Ok::<_, PayloadError>(Bytes::copy_from_slice(chunk))).collect();
    let mut payload: dev::Payload = dev::Payload::Stream { payload: Box::pin(stream::iter(chunks)) };
    let req = request.to_http_request();
    let payload = web::Payload::from_request(&req, &mut payload).await.expect("it never fails");
    (req, payload)
}

async fn check(received: &Received) {
    assert!(!received.files.is_empty() && received.files.len() <= MAX_FILES);
    let bytes: usize = received.files.iter().map(|file| file.bytes.len()).sum();
    let texts: usize = received.texts.iter().map(|(_, text)| text.len()).sum();
    assert!(bytes + texts <= MAX_UPLOAD);
    for file in &received.files {
        assert_eq!(safe_file_name(&file.name), file.name, "a safe name");
        let segment = !file.name.contains(['/', '\\']) && !file.name.contains(char::is_control);
        assert!(segment && !file.name.starts_with('.') && !file.name.is_empty(), "{:?}", file.name);
        if let Err(problem) = file.check(1 << 20).await {
            assert!([400, 413, 415, 422].contains(&problem.status.as_u16()), "{problem}");
        }
    }
}

/// Checks that a problem is one of a body, which it explains in one line.
pub(super) fn refused(problem: &Problem) {
    assert!(REFUSED.contains(&problem.status.as_u16()), "{problem}");
    assert!(!problem.detail.is_empty() && problem.line().lines().count() == 1, "{problem}");
    for format in [ErrorFormat::Line, ErrorFormat::Problem, ErrorFormat::CompreFace] {
        assert_eq!(problem.respond(format).status(), problem.status);
    }
}

/// Returns forms, photos and mistakes.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    const FORM: &str = "\0multipart/form-data; boundary=x\n\n";
    let part = |disposition: &str, content: &str| {
        format!("--x\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: image/png\r\n\r\n{content}\r\n")
    };
    let photo = part(r#"name="myfile"; filename="a.png""#, "photo");
    let extended = part("name=\"f\"; filename*=UTF-8''%E2%82%AC.jpg", "photo");
    let text = part(r#"name="name""#, "Ada");
    let empty = part(r#"name="myfile"; filename="""#, "");
    let seeds = [
        ("form", format!("{FORM}{photo}--x--\r\n")),
        ("form-in-pieces", format!("\x07{}{photo}{text}--x--\r\n", &FORM[1..])),
        ("form-of-several", format!("{FORM}{photo}{extended}{text}{empty}{photo}--x--\r\n")),
        ("form-too-many", format!("{FORM}{}--x--\r\n", photo.repeat(MAX_FILES + 1))),
        ("form-cut", format!("{FORM}{photo}--x")),
        ("form-quoted", format!("\0multipart/form-data; boundary=\"a b\"\n\n--a b\r\n{}", &photo[5..])),
        ("form-without-boundary", format!("\0multipart/form-data\n\n{photo}")),
        ("raw", "\x05image/jpeg\nattachment; filename=\"../a.jpg\"\nphoto".into()),
        ("raw-empty", "\0application/octet-stream\n\n".into()),
        ("text", "\0text/plain\n\nphoto".into()),
    ];
    seeds.map(|(name, text): (&str, String)| (name, text.into_bytes())).into()
}
