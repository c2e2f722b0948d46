//! The description of the API is served, and the check of responses against it can fail.

use rollcall_testing::http::{Method, StatusCode, get};
use rollcall_testing::openapi::{Checker, document};
use rollcall_testing::{Rollcall, RollcallOptions};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_served_as_the_program_prints_it_with_a_page_to_try_it() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let served: Value = get(server.url("/v1/openapi.json")).await.expect("a response").json().await.expect("JSON");
    assert_eq!(served, document());
    let page = get(server.url("/api")).await.expect("a response").text().await.expect("text");
    assert!(page.contains("/assets/try.js"), "{page}");
    for asset in ["/assets/try.js", "/assets/page.css"] {
        assert_eq!(get(server.url(asset)).await.expect("a response").status(), StatusCode::OK, "{asset}");
    }
}

/// Checks a response of JSON.
fn check(method: Method, path: &str, status: u16, media: &'static str, body: &Value) -> Result<(), String> {
    let headers = [(reqwest::header::CONTENT_TYPE, media.parse().expect("a value"))].into_iter().collect();
    let status = StatusCode::from_u16(status).expect("a status");
    Checker::new(document()).check(&method, path, status, &headers, Some(body.to_string().as_bytes()))
}

#[test]
fn responses_that_are_not_as_described_are_found() {
    const JSON: &str = "application/json";
    const PROBLEM: &str = "application/problem+json";
    let people = |people: Value| json!({"version": 1, "total": 1, "people": people});
    let good = people(json!([{"name": "Ada", "photos": 2}]));
    let problem = json!({"type": "about:blank", "title": "Not Found", "status": 404, "detail": "nobody"});
    let times = json!({"decode_ms": 1.0, "detect_ms": 1.0, "embed_ms": 1.0});
    let pending = json!({"id": "01M864HTCN43G6NH3QF998X996", "file": "a.jpg", "status": "pending", "submitted_ms": 5});
    let mut done = json!({
        "file": "a.jpg", "status": "done", "label": "x", "faces": [], "classes": [], "width": 1, "height": 1,
        "gallery_version": 1, "model": null, "timings": times, "worker": "i-1",
    });
    let result = "/v1/recognitions/01M864HTCN43G6NH3QF998X996";
    let get = |path: &str, status, media, body: &Value| check(Method::GET, path, status, media, body);
    assert_eq!(get("/v1/people", 200, JSON, &good), Ok(()));
    assert_eq!(get("/v1/people", 404, PROBLEM, &problem), Ok(()));
    assert_eq!(get(result, 200, JSON, &pending), Ok(()));
    assert_eq!(get(result, 200, JSON, &done), Ok(()));
    assert_eq!(get("/v1/nothing", 404, PROBLEM, &problem), Ok(()));
    assert_eq!(check(Method::POST, "/v1/recognitions", 200, JSON, &json!({"recognitions": [done, pending]})), Ok(()));

    for (body, what) in [
        (people(json!([{"name": "Ada"}])), "a member is missing"),
        (people(json!([{"name": 7, "photos": 2}])), "of another type"),
        (people(json!([{"name": "Ada", "photos": 2, "secret": 1}])), "a member that is not described"),
        (json!({"version": 1, "total": 1, "people": [], "nxt": "x"}), "misspelt"),
    ] {
        assert!(get("/v1/people", 200, JSON, &body).is_err(), "{what}");
    }
    assert!(get("/v1/people", 200, "text/plain", &good).is_err(), "of another media type");
    assert!(get("/v1/people", 204, JSON, &good).is_err(), "a status that is not described");
    assert!(get("/v1/people", 404, JSON, &problem).is_err(), "an error of another form");
    assert!(get("/v1/nothing", 200, JSON, &good).is_err(), "no such route");
    assert!(check(Method::DELETE, result, 204, JSON, &good).is_err(), "a body where there is none");
    done.as_object_mut().expect("an object").remove("gallery_version");
    assert!(get(result, 200, JSON, &done).is_err(), "neither pending nor whole");
    let mut unusual = problem.clone();
    unusual["stack"] = json!("trace");
    assert!(get("/v1/people", 404, PROBLEM, &unusual).is_err(), "a member of an error that is not described");
}

/// Returns the text of every file of a folder, by name.
fn sources(folder: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("text"))).collect()
}

#[test]
fn every_request_of_these_tests_is_sent_by_the_client_that_checks() {
    for (file, source) in sources("tests/embedded") {
        // Prometheus and the WebDriver are no Rollcall.
        if ["browser.rs", "prometheus.rs", "openapi.rs"].iter().any(|other| file.ends_with(other)) {
            continue;
        }
        for unchecked in [
            "reqwest::get",
            "reqwest::Client",
            "use reqwest::{Client",
            "use reqwest::Client",
            "RequestBuilder, multipart",
        ] {
            let found = source.lines().find(|line| line.contains(unchecked) && !line.contains("rollcall_testing"));
            assert!(found.is_none(), "{file}: use rollcall_testing::http: {found:?}");
        }
    }
}
