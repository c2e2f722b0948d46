//! The HTTP API: every endpoint of `docs/api.md`, against a complete Rollcall process.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt as _, future::join_all};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall_testing::http::{Client, Response, multipart::Form};
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);

async fn start() -> Rollcall {
    Rollcall::start(RollcallOptions::default().enroll(KNOWN)).await
}

async fn json(response: Response) -> Value {
    response.json().await.expect("JSON")
}

async fn recognise(server: &Rollcall, name: &str, bytes: &[u8]) -> Value {
    let response = post(&server.url("/v1/recognitions"), form(&[(name, bytes)])).await;
    assert_eq!(response.status(), 200);
    json(response).await
}

async fn submit_async(server: &Rollcall, name: &str, bytes: &[u8]) -> Response {
    let request = Client::new().post(server.url("/v1/recognitions")).header("Prefer", "respond-async");
    request.multipart(form(&[(name, bytes)])).send().await.expect("a response")
}

async fn get_recognition(server: &Rollcall, id: &str) -> Value {
    json(rollcall_testing::http::get(server.url(&format!("/v1/recognitions/{id}"))).await.expect("a response")).await
}

fn id_of(body: &Value) -> String {
    body["id"].as_str().expect("an id").to_owned()
}

fn signal_all(pids: &[u32], signal: Signal) {
    for &pid in pids {
        kill(Pid::from_raw(pid as i32), signal).expect("a worker of ours");
    }
}

#[tokio::test]
async fn the_response_to_a_photo_is_only_its_label() {
    let server = start().await;
    for (path, label) in [(MACRON, "Emmanuel_Macron"), (ARDERN, "Jacinda_Ardern"), (STRANGER, "unknown")] {
        let response = post(&server.url("/"), form(&[("photo.jpg", &photo(path))])).await;
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
        assert_eq!(status_and_text(response).await, (200, label.to_owned()), "{path}");
    }
    let faceless = post(&server.url("/"), form(&[("sky.png", &faceless(320, 240))])).await;
    assert_eq!(status_and_text(faceless).await, (200, "no face".to_owned()));
}

#[tokio::test]
async fn a_file_is_found_in_any_of_the_fields() {
    let server = start().await;
    let bytes = photo(ARDERN);
    let unnamed = || reqwest::multipart::Part::bytes(bytes.clone());
    let typed = || file("a.jpg", &bytes).mime_str("image/jpeg").expect("a type");
    for (what, form) in [
        ("inputFile", Form::new().part("inputFile", file("a.jpg", &bytes))),
        ("another field with a file name", Form::new().text("note", "x").part("picture", file("a.jpg", &bytes))),
        ("a Content-Type", Form::new().part("myfile", typed())),
        ("myfile without a file name", Form::new().part("myfile", unnamed())),
    ] {
        let response = status_and_text(post(&server.url("/"), form).await).await;
        assert_eq!(response, (200, "Jacinda_Ardern".to_owned()), "{what}");
    }
    for content_type in ["image/jpeg", "application/octet-stream"] {
        let raw = Client::new()
            .post(server.url("/v1/recognitions"))
            .header("Content-Type", content_type)
            .header("Content-Disposition", "attachment; filename=\"C:\\\\photos\\\\me.jpg\"")
            .body(bytes.clone());
        let body = json(raw.send().await.expect("a response")).await;
        assert_eq!((&body["file"], &body["label"]), (&"me.jpg".into(), &"Jacinda_Ardern".into()), "{content_type}");
    }
}

#[tokio::test]
async fn results_of_several_files_keep_their_order_including_failures() {
    let options = RollcallOptions::default().enroll(KNOWN).env("ROLLCALL__HTTP__REPLY", "stem-label");
    let server = Rollcall::start(options).await;
    let (macron, ardern) = (photo(MACRON), photo(ARDERN));
    let files: [(&str, &[u8]); 3] = [("b.1.jpg", &ardern), ("text.jpg", b"not an image"), ("a.jpg", &macron)];

    let (status, text) = status_and_text(post(&server.url("/"), form(&files)).await).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((status, lines.len()), (200, 3), "{text}");
    assert_eq!((lines[0], lines[2]), ("b.1:Jacinda_Ardern", "a:Emmanuel_Macron"));
    assert!(lines[1].starts_with("text:error: "), "{text}");

    let body = json(post(&server.url("/v1/recognitions"), form(&files)).await).await;
    let all = body["recognitions"].as_array().expect("several");
    let labels: Vec<_> = all.iter().map(|r| r["label"].as_str()).collect();
    assert_eq!(labels, [Some("Jacinda_Ardern"), None, Some("Emmanuel_Macron")]);
    assert_eq!((&all[1]["status"], &all[1]["problem"]["status"]), (&"failed".into(), &415.into()));

    let all_bad: [(&str, &[u8]); 2] = [("x.jpg", b"text"), ("y.jpg", b"")];
    assert_eq!(status_and_text(post(&server.url("/"), form(&all_bad)).await).await.0, 415, "the first one's status");
}

#[tokio::test]
async fn the_rollcall_id_header_lists_the_job_ids_in_order() {
    let server = start().await;
    let (one, two) = (photo(MACRON), photo(ARDERN));
    for path in ["/", "/v1/recognitions"] {
        let response = post(&server.url(path), form(&[("one.jpg", &one), ("two.jpg", &two)])).await;
        assert_eq!(response.status(), 200);
        let ids = response.headers()["rollcall-id"].to_str().expect("ASCII").to_owned();
        let ids: Vec<&str> = ids.split(',').collect();
        assert_eq!(ids.len(), 2, "{path}: {ids:?}");
        for (id, file) in ids.iter().zip(["one.jpg", "two.jpg"]) {
            wait_until("the result is stored", TIMEOUT, async || {
                get_recognition(&server, id).await["status"] == "done"
            })
            .await;
            assert_eq!(get_recognition(&server, id).await["file"], file, "{path}");
        }
    }
}

#[tokio::test]
async fn a_recognition_has_all_faces_with_their_boxes_and_the_timings() {
    let server = start().await;
    let body = recognise(&server, "photo.jpg", &photo(MACRON)).await;
    assert_eq!((&body["status"], &body["file"]), (&"done".into(), &"photo.jpg".into()));
    let (width, height) = image::image_dimensions(MACRON).expect("an image");
    assert_eq!((&body["width"], &body["height"]), (&width.into(), &height.into()));
    assert!(body["model"].as_str().expect("a model").starts_with("sface-2021dec"));
    let face = &body["faces"][0];
    assert_eq!(face["name"], "Emmanuel_Macron");
    assert!(face["similarity"].as_f64().expect("a number") >= 0.45);
    let bbox: Vec<f64> = face["bbox"].as_array().expect("a box").iter().filter_map(Value::as_f64).collect();
    assert!(bbox[0] + bbox[2] <= width.into() && bbox[1] + bbox[3] <= height.into(), "{bbox:?}");
    assert_eq!(face["landmarks"].as_array().expect("landmarks").len(), 5);
    assert_eq!(face.get("embedding"), None, "embeddings are never returned");
    for stage in ["decode_ms", "detect_ms", "embed_ms", "worker_ms"] {
        assert!(body["timings"][stage].as_f64().expect(stage) > 0.0, "{stage}");
    }
    assert!(body["worker"].as_str().expect("a worker").starts_with("i-"));

    wait_until("the result is stored", TIMEOUT, async || {
        get_recognition(&server, &id_of(&body)).await["status"] == "done"
    })
    .await;
    let found = get_recognition(&server, &id_of(&body)).await;
    assert_eq!((&found["label"], &found["faces"]), (&body["label"], &body["faces"]));
    assert_eq!(found["model"], body["model"]);
}

#[tokio::test]
async fn the_result_of_an_accepted_job_is_found_by_its_id_after_a_crash() {
    let mut server = start().await;
    let response = submit_async(&server, "photo.jpg", &photo(MACRON)).await;
    assert_eq!(response.status(), 202);
    assert_eq!(response.headers()["preference-applied"], "respond-async");
    let location = response.headers()["location"].to_str().expect("a path").to_owned();
    let body = json(response).await;
    assert_eq!(location, format!("/v1/recognitions/{}", id_of(&body)));
    assert_eq!(body["status"], "pending");

    server.kill9();
    server.restart().await;
    let url = server.url(&location);
    let get = async || rollcall_testing::http::get(&url).await.expect("a response");
    assert_eq!(get().await.status(), 200, "it is found at once");
    wait_until("the job is done", TIMEOUT, async || json(get().await).await["status"] == "done").await;
    assert_eq!(json(get().await).await["label"], "Emmanuel_Macron");

    let delete = async || Client::new().delete(&url).send().await.expect("a response").status().as_u16();
    assert_eq!(delete().await, 204);
    assert_eq!(problem(get().await).await["status"], 404);
    assert_eq!(delete().await, 404);
}

#[tokio::test]
async fn a_retry_with_the_same_key_is_the_same_job() {
    let server = start().await;
    let send = async |key: &str, names: &[&str]| {
        let bytes = photo(ARDERN);
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, bytes.as_slice())).collect();
        let request = Client::new().post(server.url("/v1/recognitions")).header("Idempotency-Key", key);
        request.multipart(form(&files)).send().await.expect("a response")
    };
    let first = json(send("order-7", &["a.jpg"]).await).await;
    wait_until("the first result is stored", TIMEOUT, async || {
        get_recognition(&server, &id_of(&first)).await["status"] == "done"
    })
    .await;
    let again = tokio::time::timeout(Duration::from_secs(20), send("order-7", &["a.jpg"])).await;
    let again = json(again.expect("from the store, not at the deadline")).await;
    let other = json(send("order-8", &["a.jpg"]).await).await;
    assert_eq!(first["label"], "Jacinda_Ardern");
    assert_eq!((&again["id"], &again["label"]), (&first["id"], &first["label"]));
    assert_ne!(other["id"], first["id"]);
    let plain = async || {
        let request = Client::new().post(server.url("/")).header("Idempotency-Key", "order-10");
        let response = request.multipart(form(&[("a.jpg", &photo(ARDERN))])).send().await.expect("a response");
        response.headers()["rollcall-id"].to_str().expect("an id").to_owned()
    };
    let first = plain().await;
    wait_until("the result of the plain upload is stored", TIMEOUT, async || {
        get_recognition(&server, &first).await["status"] == "done"
    })
    .await;
    assert_eq!(plain().await, first);
    assert_eq!(problem(send("two words", &["a.jpg"]).await).await["status"], 400);
    assert_eq!(problem(send("order-9", &["a.jpg", "b.jpg"]).await).await["status"], 400);
}

#[tokio::test]
async fn uploads_with_the_same_name_or_bytes_never_get_each_others_results() {
    let server = start().await;
    let people = [(MACRON, "Emmanuel_Macron"), (ARDERN, "Jacinda_Ardern"), (STRANGER, "unknown")];
    let photos: Vec<_> = people.iter().map(|(path, label)| (photo(path), *label)).collect();
    let all = (0..24).map(|i| {
        let (bytes, label) = &photos[i % photos.len()];
        let server = &server;
        async move { (recognise(server, "same.jpg", bytes).await, *label) }
    });
    let bodies = join_all(all).await;
    for (body, label) in &bodies {
        assert_eq!(body["label"], *label);
    }
    let ids: BTreeSet<String> = bodies.iter().map(|(body, _)| id_of(body)).collect();
    assert_eq!(ids.len(), 24, "each upload is a job of its own");
}

#[tokio::test]
async fn a_late_result_is_found_at_its_location_and_an_overload_is_503() {
    let options = RollcallOptions::default()
        .enroll(KNOWN)
        .env("ROLLCALL__HTTP__DEADLINE", "2s")
        .env("ROLLCALL__HTTP__MAX_WAITING", "1")
        .env("ROLLCALL__FLEET__MAX_INSTANCES", "1")
        .env("ROLLCALL__WORKER__IDLE_STOP", "10m");
    let server = Rollcall::start(options).await;
    let bytes = photo(ARDERN);
    // The first may take longer than the deadline: its worker has to start.
    wait_until("a worker replies in time", TIMEOUT, async || {
        post(&server.url("/"), form(&[("warm.jpg", &bytes)])).await.status() == 200
    })
    .await;
    let workers = server.worker_pids().await;
    assert_eq!(workers.len(), 1);
    signal_all(&workers, Signal::SIGSTOP);

    // Only one upload may wait: the first of two uploads waits until the deadline, and the other is refused.
    let url = server.url("/v1/recognitions");
    let both = join_all((0..2).map(|_| post(&url, form(&[("photo.jpg", &bytes)])))).await;
    let (mut refused, mut late): (Vec<_>, Vec<_>) = both.into_iter().partition(|response| response.status() == 503);
    assert_eq!((refused.len(), late.len()), (1, 1));
    let (refused, late) = (refused.remove(0), late.remove(0));
    assert!(refused.headers()["retry-after"].to_str().expect("seconds").parse::<u64>().expect("seconds") >= 1);
    assert_eq!(problem(refused).await["status"], 503);

    assert_eq!(late.status(), 504);
    let location = late.headers()["location"].to_str().expect("a path").to_owned();
    assert_eq!(location, format!("/v1/recognitions/{}", id_of(&problem(late).await)));

    signal_all(&workers, Signal::SIGCONT);
    let get = async || json(rollcall_testing::http::get(server.url(&location)).await.expect("a response")).await;
    wait_until("the late result is there", TIMEOUT, async || get().await["status"] == "done").await;
    assert_eq!(get().await["label"], "Jacinda_Ardern");
}

#[tokio::test]
async fn people_are_added_with_photos_and_removed_by_name() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let list = async || json(rollcall_testing::http::get(server.url("/v1/people")).await.expect("a response")).await;
    assert_eq!(list().await["people"], serde_json::json!([]));

    let nobody = Form::new().text("name", "Zoë Sky").part("photos", file("sky.png", &faceless(320, 240)));
    let refused = problem(post(&server.url("/v1/people"), nobody).await).await;
    assert_eq!((&refused["status"], &refused["photos"][0]["added"]), (&422.into(), &false.into()));
    let nameless = form(&[("a.jpg", &photo(STRANGER))]);
    assert_eq!(problem(post(&server.url("/v1/people"), nameless).await).await["status"], 400);

    let mixed = Form::new()
        .text("name", "Zoë Sky")
        .part("photos", file("face.jpg", &photo(STRANGER)))
        .part("photos", file("sky.png", &faceless(320, 240)));
    let response = post(&server.url("/v1/people"), mixed).await;
    assert_eq!(response.status(), 201);
    let added = json(response).await;
    assert_eq!((&added["added"], &added["photos_total"]), (&1.into(), &1.into()));
    assert_eq!((&added["photos"][0]["added"], &added["photos"][1]["added"]), (&true.into(), &false.into()));
    let members: BTreeSet<&str> =
        added["photos"][0].as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(["added", "faces", "file"]), "no embedding, box or landmarks");
    assert_eq!(list().await["people"], serde_json::json!([{"name": "Zoë Sky", "photos": 1}]), "and no embedding");
    assert_eq!(recognise(&server, "a.jpg", &photo(STRANGER)).await["label"], "Zoë Sky");

    let remove = async || {
        let url = server.url("/v1/people/Zo%C3%AB%20Sky");
        Client::new().delete(url).send().await.expect("a response").status().as_u16()
    };
    assert_eq!(remove().await, 204);
    assert_eq!(recognise(&server, "a.jpg", &photo(STRANGER)).await["label"], "unknown");
    assert_eq!(remove().await, 404);
}

#[tokio::test]
async fn the_fleet_is_served_as_a_view_and_as_an_event_stream() {
    let server = start().await;
    let response = rollcall_testing::http::get(server.url("/v1/events")).await.expect("a response");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    recognise(&server, "a.jpg", &photo(MACRON)).await;
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    let running = async {
        while !text.contains("\"state\":\"running\"") {
            text.push_str(&String::from_utf8_lossy(&stream.next().await.expect("more").expect("bytes")));
        }
    };
    tokio::time::timeout(TIMEOUT, running).await.expect("the stream reports a running instance");
    assert!(text.starts_with("event: fleet\ndata: {"), "the current view is sent first");
    let fleet = server.fleet().await;
    assert_eq!(fleet["counts"]["running"].as_u64(), Some(server.worker_pids().await.len() as u64));
    assert!(fleet["events"].as_array().expect("events").iter().any(|line| line["kind"] == "launch"));

    for (path, start) in [("/healthz", "ok"), ("/readyz", "ready")] {
        let (status, text) =
            status_and_text(rollcall_testing::http::get(server.url(path)).await.expect("a response")).await;
        assert!(status == 200 && text.starts_with(start), "{path}: {status} {text}");
    }
    let (_, metrics) =
        status_and_text(rollcall_testing::http::get(server.url("/metrics")).await.expect("a response")).await;
    let counted = r#"rollcall_http_requests_total{route="/v1/recognitions",method="POST",status="200"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert!(metrics.contains("rollcall_http_request_duration_seconds_bucket{"), "{metrics}");
}

#[tokio::test]
async fn errors_are_problem_details_on_the_api_and_a_line_elsewhere() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let get = async |path: &str| rollcall_testing::http::get(server.url(path)).await.expect("a response");
    for (path, status) in [
        ("/v1/nothing", 404),
        ("/v1/recognitions", 405),
        ("/v1/recognitions/not-an-id", 400),
        ("/v1/recognitions/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404),
    ] {
        assert_eq!(problem(get(path).await).await["status"], status, "{path}");
    }
    assert_eq!(get("/v1/recognitions").await.headers()["allow"], "POST");
    let (status, line) = status_and_text(get("/nothing").await).await;
    assert_eq!((status, line.lines().count()), (404, 1));

    let page = get("/").await;
    let header = |name: &str| page.headers()[name].to_str().expect("text").to_owned();
    assert!(header("content-security-policy").starts_with("default-src 'self'"));
    assert_eq!((header("x-content-type-options"), header("x-frame-options")), ("nosniff".into(), "DENY".into()));
    assert_eq!(get("/v1/fleet").await.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn requests_from_other_origins_are_rejected() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let send = async |name: &str, value: &str| {
        let request = Client::new().delete(server.url("/v1/people/Nobody")).header(name, value);
        request.send().await.expect("a response").status().as_u16()
    };
    let own = server.url("");
    assert_eq!(send("Origin", "http://evil.example").await, 403);
    assert_eq!(send("Origin", "null").await, 403);
    assert_eq!(send("Origin", &own).await, 404, "the server's own origin is allowed");
    assert_eq!(send("Host", "evil.example").await, 421);
    assert_eq!(send("Host", "localhost:1").await, 404);
}
