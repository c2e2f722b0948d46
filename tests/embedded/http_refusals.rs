//! Requests that the server refuses for reasons other than the upload itself, and what its responses reveal.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use rollcall_testing::http::{Client, Method, StatusCode, multipart::Form};
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts a server whose workers never start: accepted jobs stay pending.
async fn without_workers() -> Rollcall {
    Rollcall::start(RollcallOptions::default().env("ROLLCALL__RECOGNITION__DETECTOR", "nowhere.onnx")).await
}

#[tokio::test]
async fn delete_of_a_pending_job_is_409() {
    let server = without_workers().await;
    let request = Client::new().post(server.url("/v1/recognitions")).header("Prefer", "respond-async");
    let accepted = request.multipart(form(&[("a.png", &faceless(64, 64))])).send().await.expect("a response");
    assert_eq!(accepted.status(), StatusCode::ACCEPTED);
    let url = server.url(accepted.headers()["location"].to_str().expect("ASCII"));
    let refused = Client::new().delete(&url).send().await.expect("a response");
    assert_eq!(problem(refused).await["status"], 409);
    let body: serde_json::Value =
        rollcall_testing::http::get(&url).await.expect("a response").json().await.expect("JSON");
    assert_eq!(body["status"], "pending");
}

#[tokio::test]
async fn enrolling_a_person_with_a_classifier_is_409() {
    let options = RollcallOptions::default()
        .env("ROLLCALL__RECOGNITION__KIND", "classifier")
        .env("ROLLCALL__RECOGNITION__CLASSIFIER", "tests/models/colour_classifier.onnx")
        .env("ROLLCALL__RECOGNITION__LABELS", "tests/models/colour_labels.txt");
    let server = Rollcall::start(options).await;
    let person = Form::new().text("name", "Ada").part("photos", file("ada.png", &faceless(64, 64)));
    let refused = post(&server.url("/v1/people"), person).await;
    assert_eq!(problem(refused).await["status"], 409);
}

#[tokio::test]
async fn the_257th_event_stream_gets_503() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let url = server.url("/v1/events");
    let client = Client::new();
    let mut streams = Vec::new();
    for number in 1..=256 {
        let stream = client.get(&url).send().await.expect("a response");
        assert_eq!(stream.status(), StatusCode::OK, "stream {number}");
        streams.push(stream);
    }
    let refused = client.get(&url).send().await.expect("a response");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(problem(refused).await["status"], 503);
    assert_eq!(
        rollcall_testing::http::get(server.url("/v1/fleet")).await.expect("a response").status(),
        StatusCode::OK
    );

    drop(streams.pop());
    wait_until("a stream that ends makes room for another", TIMEOUT, async || {
        client.get(&url).send().await.is_ok_and(|response| response.status() == StatusCode::OK)
    })
    .await;
}

#[tokio::test]
async fn readyz_is_503_when_the_store_is_unavailable() {
    let server = Rollcall::start(RollcallOptions::default().enroll(KNOWN)).await;
    let ready = async || rollcall_testing::http::get(server.url("/readyz")).await.expect("a response");
    assert_eq!(ready().await.status(), StatusCode::OK);
    // A symlink to itself cannot be resolved (ELOOP), so every read of the store fails.
    let state = server.data_dir().join("objects").join("rollcall-state");
    assert!(state.join("gallery").is_dir(), "{} is where the gallery is kept", state.display());
    fs::rename(&state, state.with_file_name("away")).expect("moved");
    std::os::unix::fs::symlink(&state, &state).expect("a symlink to itself");
    wait_until("it is not ready", TIMEOUT, async || ready().await.status() == StatusCode::SERVICE_UNAVAILABLE).await;
    let refused = ready().await;
    assert!(refused.headers().contains_key("retry-after"));
    assert!(refused.text().await.expect("text").starts_with("not ready: "));
    assert_eq!(rollcall_testing::http::get(server.url("/healthz")).await.expect("a response").status(), StatusCode::OK);
    fs::remove_file(&state).expect("removed");
    fs::rename(state.with_file_name("away"), &state).expect("moved back");
    wait_until("it recovers without a restart", TIMEOUT, async || ready().await.status() == StatusCode::OK).await;
}

/// Sends one request of each kind, and returns each response's status and full text (path, headers and body).
async fn all_responses(server: &Rollcall, result: &str) -> Vec<(u16, String)> {
    let client = Client::new();
    let requests = [
        (Method::GET, result),
        (Method::DELETE, result),
        (Method::GET, "/v1/recognitions/no-id"),
        (Method::GET, "/v1/people"),
        (Method::DELETE, "/v1/people/Ada"),
        (Method::GET, "/v1/fleet"),
        (Method::GET, "/v1/fleet/decisions"),
        (Method::GET, "/v1/fleet/history?range=15m"),
        (Method::GET, "/v1/nothing"),
        (Method::PUT, "/v1/people"),
        (Method::GET, "/readyz"),
        (Method::GET, "/metrics"),
    ]
    .map(|(method, path)| client.request(method, server.url(path)));
    let image = faceless(64, 64);
    let uploads: [(&str, &[u8]); 4] =
        [("/v1/recognitions", &image), ("/v1/recognitions", b"text"), ("/", b"text"), ("/", b"")];
    let uploads = uploads
        .map(|(path, bytes)| client.post(server.url(path)).multipart(form(&[("a.png", bytes)])))
        .map(|upload| upload.header("Prefer", "respond-async"));
    let mut responses = Vec::new();
    for request in requests.into_iter().chain(uploads) {
        let response = request.send().await.expect("a response");
        let head = format!("{} {:?}", response.url().path(), response.headers());
        responses.push((response.status().as_u16(), format!("{head} {}", response.text().await.expect("text"))));
    }
    let mut events = client.get(server.url("/v1/events")).send().await.expect("a response");
    let mut event = Vec::new();
    while !event.ends_with(b"\n\n") {
        event.extend(events.chunk().await.expect("no error").expect("an event"));
    }
    responses.push((events.status().as_u16(), String::from_utf8(event).expect("UTF-8")));
    responses
}

/// Holds whether or not the store can be read, and also for what the fleet reports about workers that fail to start.
#[tokio::test]
async fn no_response_or_event_reveals_the_data_folder() {
    let server = without_workers().await;
    let request = Client::new().post(server.url("/v1/recognitions")).header("Prefer", "respond-async");
    let accepted = request.multipart(form(&[("a.png", &faceless(64, 64))])).send().await.expect("a response");
    let result = accepted.headers()["location"].to_str().expect("ASCII");
    wait_until("a worker has exited", TIMEOUT, async || server.fleet().await.to_string().contains("exited with")).await;
    let sound = all_responses(&server, result).await;

    let state = server.data_dir().join("objects").join("rollcall-state");
    fs::rename(&state, state.with_file_name("away")).expect("moved");
    std::os::unix::fs::symlink(&state, &state).expect("a symlink to itself, which cannot be followed");
    let ready = async || rollcall_testing::http::get(server.url("/readyz")).await.expect("a response").status();
    wait_until("it is not ready", TIMEOUT, async || ready().await == StatusCode::SERVICE_UNAVAILABLE).await;
    let broken = all_responses(&server, result).await;

    let failed = |responses: &[(u16, String)]| responses.iter().filter(|(status, _)| *status == 503).count();
    assert_eq!((failed(&sound), failed(&broken)), (0, 6), "what needs the store fails: {broken:#?}");
    let folder = server.data_dir().file_name().and_then(|name| name.to_str()).expect("UTF-8");
    for (status, text) in sound.into_iter().chain(broken) {
        assert!(!text.contains(folder), "{status} {text}");
    }
}

#[tokio::test]
async fn a_gallery_of_another_model_is_refused_until_it_is_replaced() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let import = |model: &str, options: &[&str]| {
        let file = folder.path().join("people.jsonl");
        let line = serde_json::json!({ "name": "Ada", "embedding": vec![0.5; 128], "model": model });
        fs::write(&file, line.to_string()).expect("written");
        let mut command = Command::new(rollcall_testing::program());
        command.env("ROLLCALL__LOCAL__DATA_DIR", server.data_dir()).args(["gallery", "import"]).arg(file).args(options);
        let output = command.output().expect("the program starts");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let assert_both_are_named = |text: &str, of: &str, given: &str| {
        let gallery = format!("the gallery contains embeddings of the model {of},");
        assert!(text.contains(&gallery) && text.contains(given) && text.contains("import --replace"), "{text}");
    };
    assert!(import("another-model", &[]).0, "an empty gallery accepts any model");

    let photo = photo(MACRON);
    let (status, line) = status_and_text(post(&server.url("/"), form(&[("a.jpg", &photo)])).await).await;
    assert_eq!(status, 500);
    assert_both_are_named(&line, "another-model", "sface-2021dec");
    let person = form(&[("a.jpg", &photo)]).text("name", "Emmanuel_Macron");
    let refused = problem(post(&server.url("/v1/people"), person).await).await;
    assert_eq!(refused["status"], 422);
    assert_both_are_named(refused["detail"].as_str().expect("a detail"), "another-model", "sface-2021dec");

    let (imported, why) = import("sface-2021dec", &[]);
    assert!(!imported, "{why}");
    assert_both_are_named(&why, "another-model", "those of sface-2021dec:");
    assert!(import("sface-2021dec", &["--replace"]).0);
    let person = form(&[("a.jpg", &photo)]).text("name", "Emmanuel_Macron");
    assert_eq!(post(&server.url("/v1/people"), person).await.status(), StatusCode::CREATED);
    assert_eq!(
        status_and_text(post(&server.url("/"), form(&[("a.jpg", &photo)])).await).await.1.trim(),
        "Emmanuel_Macron"
    );
}

/// Begins an upload, and withholds its last byte.
fn begin_upload(server: &Rollcall, bytes: usize) -> TcpStream {
    let address = server.url("").trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).expect("connected");
    stream.set_read_timeout(Some(TIMEOUT)).expect("set");
    let head =
        format!("POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: image/jpeg\r\nContent-Length: {bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&vec![0xFF; bytes - 1]).expect("sent");
    stream
}

#[tokio::test]
async fn max_upload_memory_is_enforced() {
    let options = RollcallOptions::default()
        .env("ROLLCALL__HTTP__MAX_UPLOAD", "1MiB")
        .env("ROLLCALL__HTTP__MAX_UPLOAD_MEMORY", "1MiB");
    let server = Rollcall::start(options).await;
    let another = async || {
        let request = Client::new().post(server.url("/")).header("Content-Type", "image/jpeg");
        request.body(vec![0xFF; 400_000]).send().await.expect("a response")
    };
    // A nearly maximal upload fits unless a probe, or a connection that was given up, holds memory while it arrives;
    // then it is started again.
    wait_until("an upload is held, another is refused, and the first is read completely", TIMEOUT, async || {
        let mut held = begin_upload(&server, 1_000_000);
        let refused = another().await;
        if refused.status() != 503 || !refused.headers().contains_key("retry-after") {
            return false;
        }
        let mut response = [0; 12];
        let read = held.write_all(&[0xFF]).and_then(|()| held.read_exact(&mut response));
        read.is_ok() && &response == b"HTTP/1.1 415" // it is not an image
    })
    .await;
    wait_until("the memory is free again", TIMEOUT, async || another().await.status() == 415).await;
}
