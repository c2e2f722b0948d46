//! Uploads, the check of the stored results and whole runs, against a server that follows a script.

use std::{collections::VecDeque, sync::Mutex};

use bytes::Bytes;
use clap::Parser;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{cloud::Precondition, job::JobId, results::keys, settings::Settings};

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Scripted {
    /// Responds with a status, header lines and a body.
    Response(u16, &'static str, &'static str),
    /// Closes the connection.
    Close,
    /// Never responds.
    Silence,
}

use Scripted::{Close, Response, Silence};

/// A server that does the next step of a script with each request, and repeats the last one.
struct Server {
    url: String,
    /// Head and body of each request.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(script: &[Scripted]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, mut script) = (requests.clone(), VecDeque::from(script.to_vec()));
        tokio::spawn(async move {
            let mut silent = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let request = read_request(&mut stream).await;
                seen.lock().expect("no panic").push(request);
                let step = if script.len() > 1 { script.pop_front() } else { script.front().copied() };
                match step.expect("a script of at least one step") {
                    Response(status, headers, body) => {
                        let length = body.len();
                        let head = format!(
                            "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
                        );
                        stream.write_all((head + body).as_bytes()).await.expect("sent");
                    }
                    Close => drop(stream),
                    Silence => silent.push(stream),
                }
            }
        });
        Self { url, requests }
    }

    fn client(&self, retry: bool) -> Client {
        Client::new(&self.url, None, "myfile", Duration::from_secs(5), retry).expect("a client")
    }

    /// Returns the Idempotency-Keys of the requests.
    fn keys(&self) -> Vec<String> {
        let requests = self.requests.lock().expect("no panic");
        let key = |request: &String| {
            let line = request.lines().find(|line| line.to_ascii_lowercase().starts_with("idempotency-key: "));
            line.expect("a key").split_once(": ").expect("a header").1.to_owned()
        };
        requests.iter().map(key).collect()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.expect("readable");
        request.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase();
        let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
        if count == 0 || body.len() >= length.map_or(0, |n| n.parse().expect("a number")) {
            return text;
        }
    }
}

const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const ADA: Scripted = Response(200, "Rollcall-Id: 01ARZ3NDEKTSV4RRFFQ69G5FAV\r\n", "x:Ada\n");

fn id() -> JobId {
    ID.parse().expect("an id")
}

#[tokio::test]
async fn an_upload_is_retried_with_the_same_key_while_the_server_is_busy() {
    let server =
        Server::start(&[Response(503, "Retry-After: 0\r\n", ""), Response(429, "Retry-After: 0\r\n", ""), ADA]).await;
    let upload = server.client(false).upload("x.jpg", Bytes::from_static(b"photo")).await;
    let response = upload.outcome.expect("a response");
    assert_eq!((response.label.as_str(), response.id), ("Ada", Some(id())));
    assert_eq!(upload.retries, Retries { busy: 2, connection: 0 });
    let keys = server.keys();
    assert!(keys.len() == 3 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    let requests = server.requests.lock().expect("no panic").clone();
    assert!(
        requests[0].contains(r#"name="myfile"; filename="x.jpg""#) && requests[0].contains("photo"),
        "{requests:?}"
    );
}

#[tokio::test]
async fn each_upload_has_a_key_of_its_own() {
    let server = Server::start(&[ADA]).await;
    let client = server.client(true);
    for _ in 0..2 {
        client.upload("x.jpg", Bytes::from_static(b"photo")).await.outcome.expect("a response");
    }
    let keys = server.keys();
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn other_errors_are_not_retried() {
    for (step, kind) in [
        (Response(503, "", "no time is named\n"), "http 503"),
        (Response(429, "", ""), "http 429"),
        (Response(415, "", "no image\n"), "http 415"),
    ] {
        let server = Server::start(&[step, ADA]).await;
        let upload = server.client(true).upload("x.jpg", Bytes::new()).await;
        let failed = upload.outcome.expect_err("an error");
        let Response(_, _, body) = step else { unreachable!("all of them are responses") };
        assert_eq!((failed.kind.as_str(), failed.message.as_str()), (kind, body.trim()));
        assert_eq!(upload.retries, Retries::default());
    }
}

#[tokio::test]
async fn a_broken_connection_is_retried_if_requested() {
    let server = Server::start(&[Close, ADA]).await;
    let upload = server.client(true).upload("x.jpg", Bytes::new()).await;
    assert_eq!(upload.outcome.expect("a response").label, "Ada");
    assert_eq!(upload.retries, Retries { busy: 0, connection: 1 });
    let keys = server.keys();
    assert_eq!(keys[0], keys[1]);

    let server = Server::start(&[Close, ADA]).await;
    let upload = server.client(false).upload("x.jpg", Bytes::new()).await;
    assert_eq!(upload.outcome.expect_err("a broken connection").kind, "connection");
}

#[tokio::test]
async fn an_upload_ends_at_its_time_limit() {
    let server = Server::start(&[Silence]).await;
    let client = Client { timeout: Duration::from_millis(50), ..server.client(true) };
    let failed = client.upload("x.jpg", Bytes::new()).await.outcome.expect_err("late");
    assert_eq!((failed.kind.as_str(), failed.message.as_str()), ("timeout", "no response within 50ms"));
}

#[test]
fn only_http_addresses_are_accepted() {
    for url in ["ftp://127.0.0.1/", "127.0.0.1:8080", ""] {
        assert!(Client::new(url, None, "myfile", Duration::from_secs(1), true).is_err(), "{url}");
    }
}

/// A store in a temporary folder, and the photo that was uploaded.
struct Stored {
    probe: StoreProbe,
    completed: Completed,
    _folder: tempfile::TempDir,
}

async fn stored(settings: &Settings, input: Option<&'static str>, output: Option<&'static str>) -> Stored {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.jpg");
    let objects = Arc::new(LocalObjects::open(folder.path()).expect("a store"));
    std::fs::write(&path, "photo").expect("written");
    let buckets = settings.store.clone();
    for (bucket, key, content) in [
        (&buckets.input, keys::input_key(&buckets, id(), "x.jpg"), input),
        (&buckets.output, keys::output_key(&buckets, id(), "x.jpg"), output),
    ] {
        if let Some(content) = content {
            objects.put(bucket, &key, content.into(), Precondition::Always).await.expect("written");
        }
    }
    let completed = Completed { id: id(), path, label: "Ada".into() };
    Stored { probe: StoreProbe { objects, buckets }, completed, _folder: folder }
}

const DONE: Scripted = Response(200, "", r#"{"file": "x.jpg", "status": "done", "label": "Ada", "faces": []}"#);

#[tokio::test]
async fn a_stored_job_is_complete() {
    let settings = crate::testing::settings();
    let pending = Response(200, "", r#"{"file": "x.jpg", "status": "pending"}"#);
    // A result may be stored after its response, and a server may restart.
    let server = Server::start(&[Response(404, "", ""), pending, Close, DONE]).await;
    let Stored { probe, completed, _folder } = stored(&settings, Some("photo"), Some("Ada")).await;
    let check = verify::check(&server.client(true), Some(&probe), vec![completed.clone()]).await;
    assert_eq!((check.jobs, check.results, check.inputs, check.outputs), (1, 1, Some(1), Some(1)), "{check:?}");
    assert!(check.is_complete() && check.problems.is_empty());

    let check = verify::check(&server.client(true), None, vec![completed]).await;
    assert_eq!((check.results, check.inputs, check.outputs), (1, None, None));
    assert!(check.is_complete(), "what was not checked is not missing");
}

#[tokio::test]
async fn missing_or_different_stored_data_is_reported_as_a_problem() {
    let settings = crate::testing::settings();
    for (input, output, problem) in [
        (None, Some("Ada"), "is missing"),
        (Some("another photo"), Some("Ada"), "is not the photo that was uploaded"),
        (Some("photo"), None, "is missing"),
        (Some("photo"), Some("Bob"), "is not the label in the response"),
    ] {
        let server = Server::start(&[DONE]).await;
        let Stored { probe, completed, _folder } = stored(&settings, input, output).await;
        let check = verify::check(&server.client(true), Some(&probe), vec![completed]).await;
        assert_eq!(check.results, 1);
        assert!(!check.is_complete(), "{input:?} {output:?}");
        assert!(check.problems.len() == 1 && check.problems[0].contains(problem), "{:?}", check.problems);
    }
    for (body, problem) in [
        (r#"{"file": "x.jpg", "status": "done", "label": "Bob"}"#, "the response was Ada, but Bob is stored"),
        (r#"{"file": "x.jpg", "status": "failed"}"#, "the response was Ada, but a failure is stored"),
    ] {
        let server = Server::start(&[Response(200, "", body)]).await;
        let Stored { completed, _folder, .. } = stored(&settings, None, None).await;
        let check = verify::check(&server.client(true), None, vec![completed]).await;
        assert_eq!((check.results, check.is_complete()), (0, false));
        assert!(check.problems[0].contains(problem), "{:?}", check.problems);
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_never_stored_is_a_problem() {
    let server = Server::start(&[Response(404, "", "")]).await;
    let completed = Completed { id: id(), path: "x.jpg".into(), label: "Ada".into() };
    let check = verify::check(&server.client(true), None, vec![completed]).await;
    assert!(!check.is_complete() && check.problems.len() == 1, "{:?}", check.problems);
}

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    args: Args,
}

async fn run_load(server: &Server, photos: &[&str], more: &[&str]) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for photo in photos {
        let path = folder.path().join(photo);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, "photo").expect("written");
    }
    let mut settings = crate::testing::settings();
    settings.local.data_dir = folder.path().join("nowhere");
    let folder = folder.path().to_str().expect("UTF-8");
    let line = [&["load", "--url", &server.url, "--dir", folder, "--no-progress"], more].concat();
    let args = CommandLine::try_parse_from(line).expect("valid").args;
    measure(&args, &settings).await.expect("a report").0
}

#[tokio::test]
async fn a_run_uploads_every_photo_and_compares_its_label() {
    let server = Server::start(&[Response(200, "", "Ada\n")]).await;
    let report = run_load(&server, &["Ada/1.jpg", "Ada/2.jpg", "Bob/3.jpg"], &["--expect-folder"]).await;
    let labels = report.answers.as_ref().expect("compared");
    assert_eq!((report.completed, report.requests, report.photos), (3, 3, 3));
    assert_eq!((labels.correct, labels.wrong), (2, 1));
    assert!(!report.is_good());
    assert_eq!(report.store, None, "the server returns no ids of jobs");

    let report = run_load(&server, &["Ada/1.jpg", "Ada/2.jpg"], &["--requests", "5", "--expect-folder"]).await;
    assert_eq!((report.completed, report.requests, report.photos), (5, 5, 2));
    assert!(report.is_good(), "{}", report.text());
}

#[tokio::test]
async fn a_run_whose_results_are_not_stored_counts_as_failed() {
    let other = Response(
        200,
        "Rollcall-Id: 01ARZ3NDEKTSV4RRFFQ69G5FAV\r\n",
        r#"{"file": "x", "status": "done", "label": "B"}"#,
    );
    let server = Server::start(&[other]).await;
    let report = run_load(&server, &["1.jpg"], &[]).await;
    assert_eq!(report.store.as_ref().map(|store| (store.jobs, store.results)), Some((1, 0)));
    assert!(!report.is_good());
    let unchecked = run_load(&server, &["1.jpg"], &["--no-verify"]).await;
    assert!(unchecked.store.is_none() && unchecked.is_good());
}
