//! Galleries with different names: whoever is added to one is known only there, and people are listed in pages.

use rollcall_testing::http::{Client, multipart::Form};
use rollcall_testing::uploads::{MACRON, STRANGER, file, form, photo, post, problem};
use rollcall_testing::{Rollcall, RollcallOptions};
use serde_json::{Value, json};

async fn get(server: &Rollcall, path: &str) -> Value {
    rollcall_testing::http::get(server.url(path)).await.expect("a response").json().await.expect("JSON")
}

async fn add(server: &Rollcall, gallery: &str, name: &str, path: &str) {
    let form = Form::new().text("name", name.to_owned()).part("photos", file("face.jpg", &photo(path)));
    assert_eq!(post(&server.url(&format!("/v1/people{gallery}")), form).await.status(), 201);
}

async fn label(server: &Rollcall, gallery: &str, path: &str) -> Value {
    let url = server.url(&format!("/v1/recognitions{gallery}"));
    let body: Value = post(&url, form(&[("a.jpg", &photo(path))])).await.json().await.expect("JSON");
    assert_eq!(body["gallery"], if gallery.is_empty() { Value::Null } else { json!("staff") });
    body["label"].clone()
}

#[tokio::test]
async fn people_are_known_only_in_the_gallery_to_which_they_were_added() {
    let mut server = Rollcall::start(RollcallOptions::default()).await;
    let unknown = post(&server.url("/v1/recognitions?gallery=staff"), form(&[("a.jpg", &photo(MACRON))])).await;
    let why = problem(unknown).await;
    assert_eq!(why["status"], 404);
    assert!(why["detail"].as_str().expect("text").contains("/v1/people?gallery=staff"), "{why}");

    add(&server, "?gallery=staff", "Emmanuel", MACRON).await;
    add(&server, "", "Rishi", STRANGER).await;
    assert_eq!(get(&server, "/v1/galleries").await, json!({ "galleries": ["default", "staff"] }));
    let expected = [("?gallery=staff", MACRON, "Emmanuel"), ("", MACRON, "unknown"), ("", STRANGER, "Rishi")];
    for (gallery, photo, name) in expected.into_iter().chain([("?gallery=staff", STRANGER, "unknown")]) {
        assert_eq!(label(&server, gallery, photo).await, name);
    }
    server.kill9();
    server.restart().await;
    assert_eq!(label(&server, "?gallery=staff", MACRON).await, "Emmanuel");
    assert_eq!(get(&server, "/v1/people?gallery=staff").await["people"], json!([{ "name": "Emmanuel", "photos": 1 }]));

    let removed = Client::new().delete(server.url("/v1/people/Rishi?gallery=staff")).send().await.expect("a response");
    assert_eq!(removed.status(), 404, "not in that gallery");
    let removed = Client::new().delete(server.url("/v1/people/Emmanuel?gallery=staff")).send().await;
    assert_eq!(removed.expect("a response").status(), 204);
    assert_eq!(label(&server, "?gallery=staff", MACRON).await, "unknown");

    for (path, part) in
        [("/v1/people?gallery=a%2Fb", "a/b"), ("/v1/people?limit=0", "limit"), ("/v1/people?limit=x", "invalid digit")]
    {
        let refused = problem(rollcall_testing::http::get(server.url(path)).await.expect("a response")).await;
        assert_eq!(refused["status"], 400, "{path}");
        assert!(refused["detail"].as_str().expect("text").contains(part), "{refused}");
    }
}

#[tokio::test]
async fn a_retry_with_the_same_key_in_another_gallery_is_another_job() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    add(&server, "?gallery=staff", "Emmanuel", MACRON).await;
    let send = async |path: &str| -> Value {
        let request = Client::new().post(server.url(path)).header("Idempotency-Key", "k");
        let response = request.multipart(form(&[("a.jpg", &photo(MACRON))])).send().await.expect("a response");
        response.json().await.expect("JSON")
    };
    let (first, other) = (send("/v1/recognitions").await, send("/v1/recognitions?gallery=staff").await);
    assert_eq!((&first["label"], &other["label"]), (&json!("unknown"), &json!("Emmanuel")));
    assert_eq!(send("/v1/recognitions?gallery=staff").await["id"], other["id"]);
}

#[tokio::test]
async fn people_are_listed_in_pages() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    for name in ["Cleo", "Ada", "Bob & Co"] {
        add(&server, "", name, STRANGER).await;
    }
    let first = get(&server, "/v1/people?limit=2").await;
    assert_eq!((&first["total"], &first["people"][1]["name"]), (&json!(3), &json!("Bob & Co")));
    let url = reqwest::Url::parse_with_params(
        &server.url("/v1/people?limit=2"),
        [("after", first["next"].as_str().expect("a name"))],
    );
    let last: Value =
        rollcall_testing::http::get(url.expect("a URL")).await.expect("a response").json().await.expect("JSON");
    assert_eq!((&last["people"][0]["name"], &last["next"]), (&json!("Cleo"), &Value::Null));
    assert_eq!(get(&server, "/v1/people").await["people"].as_array().expect("a list").len(), 3);
}
