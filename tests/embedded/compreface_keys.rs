//! The API of CompreFace is open only to keys, each for its gallery and by its role, within limits, and audited.

use std::{fs, time::Duration};

use reqwest::Method;
use rollcall_testing::http::RequestBuilder;
use rollcall_testing::uploads::{MACRON, photo};
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::{Value, json};

use crate::{
    compreface::{FACES, ID, RECOGNIZE, SUBJECTS, add, delete, get, post, refused, request, send, upload},
    compreface_clients::key,
};

/// Every route with a method, and whether the roles `upload` and `read` may use it. That of an administrator may use all.
fn routes() -> Vec<(Method, String, [bool; 2])> {
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let (uploads, reads, changes) = ([true, false], [false, true], [false, false]);
    [
        (&get, "/api/v1/recognition/subjects", reads),
        (&get, "/api/v1/recognition/subjects/", reads),
        (&post, "/api/v1/recognition/subjects", changes),
        (&delete, "/api/v1/recognition/subjects", changes),
        (&put, "/api/v1/recognition/subjects/Ada", changes),
        (&delete, "/api/v1/recognition/subjects/Ada", changes),
        (&get, "/api/v1/recognition/faces", reads),
        (&post, "/api/v1/recognition/faces", changes),
        (&delete, "/api/v1/recognition/faces", changes),
        (&post, "/api/v1/recognition/faces/delete", changes),
        (&delete, &format!("/api/v1/recognition/faces/{ID}"), changes),
        (&get, &format!("/api/v1/recognition/faces/{ID}/img"), reads),
        (&post, &format!("/api/v1/recognition/faces/{ID}/verify"), uploads),
        (&post, "/api/v1/recognition/recognize", uploads),
        (&post, "/api/v1/recognition/embeddings/recognize", uploads),
        (&post, &format!("/api/v1/recognition/embeddings/faces/{ID}/verify"), uploads),
        (&post, "/api/v1/detection/detect", uploads),
        (&post, "/api/v1/verification/verify", uploads),
        (&post, "/api/v1/verification/embeddings/verify", uploads),
        (&get, &format!("/api/v1/static/KEY/images/{ID}"), reads),
        (&post, "/api/v1/nothing", changes),
    ]
    .map(|(method, path, roles)| (method.clone(), path.to_owned(), roles))
    .to_vec()
}

#[test]
fn the_table_has_every_route_of_compreface_with_every_method() {
    let known = routes();
    let is_at = |route: &str, path: &str| {
        let (route, path): (Vec<_>, Vec<_>) = (route.split('/').collect(), path.split('/').collect());
        route.len() == path.len() && route.iter().zip(path).all(|(part, given)| part.starts_with('{') || *part == given)
    };
    for (route, methods) in rollcall::COMPREFACE_ROUTES {
        for method in methods.split(", ") {
            let listed = known.iter().any(|(m, path, _)| m.as_str() == method && is_at(route, path));
            assert!(listed, "{method} {route} is not in the table of this test");
        }
    }
}

/// Revokes the newest key, and waits until the server has noticed that.
async fn revoke(server: &Rollcall, key: &str) {
    let listed = server.run(&["token", "list"]);
    let listed = String::from_utf8(listed.stdout).expect("text");
    let id = listed.lines().last().and_then(|line| line.split(' ').next()).expect("an id");
    assert!(server.run(&["token", "revoke", id]).status.success());
    wait_until("the key is refused", Duration::from_secs(30), async || get(server, key, SUBJECTS).await.0 == 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_compreface_needs_a_key_with_its_role() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let admin = key(&server, "admin", "staff").await;
    let [uploader, reader] = [key(&server, "upload", "staff").await, key(&server, "read", "staff").await];
    let forged = format!("{}AAAAAAAA", &admin[..admin.len() - 8]);
    let revoked = key(&server, "admin", "staff").await;
    revoke(&server, &revoked).await;
    for (method, path, [upload, read]) in routes() {
        let with = |key: Option<&str>| {
            let path = path.replace("KEY", key.unwrap_or_default());
            let request = server.client().request(method.clone(), server.url(&path)).json(&json!({}));
            key.iter().fold(request, |request, key| request.header("x-api-key", *key))
        };
        let what = format!("{method} {path}");
        let in_path = path.contains("KEY");
        if !in_path {
            refused(20, 400)(&what, send(with(None)).await);
            refused(20, 400)(&what, send(with(None).bearer_auth(&admin)).await);
            let cookie = format!("rollcall-token={admin}");
            refused(20, 400)(&what, send(with(None).header("Cookie", cookie)).await);
        }
        refused(26, 400)(&what, send(with(Some("00000000-0000-0000-0000-000000000002"))).await);
        refused(10, 404)(&what, send(with(Some(&forged))).await);
        refused(10, 404)(&what, send(with(Some(&revoked))).await);
        let status = async |request: RequestBuilder| request.send().await.expect("a response").status().as_u16();
        assert_eq!(status(with(Some(&admin)).header("Host", "evil.example")).await, 421, "{what}");
        if method != Method::GET {
            assert_eq!(status(with(Some(&admin)).header("Origin", "http://evil.example")).await, 403, "{what}");
        }
        for (key, allowed) in [(&uploader, upload), (&reader, read), (&admin, true)] {
            let (status, body) = send(with(Some(key))).await;
            let denied = (status, &body["code"]) == (403, &json!(1));
            assert_eq!(denied, !allowed, "{what}: {status} {body}");
            assert!(!body.to_string().contains(key.as_str()), "no response has a key");
        }
    }
    // A key that is bound to a gallery opens nothing else.
    for path in ["/v1/people?gallery=staff", "/v1/people", "/v1/backup", "/v1/fleet", "/metrics"] {
        let response = server.client().get(server.url(path)).bearer_auth(&admin).send().await.expect("a response");
        assert_eq!(response.status(), 403, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_knows_only_the_people_of_its_gallery() {
    let server = Rollcall::start(RollcallOptions::default().env("ROLLCALL__GALLERY__KEEP_PHOTOS", "yes")).await;
    let (staff, guests) = (key(&server, "admin", "staff").await, key(&server, "admin", "guests").await);
    let id = add(&server, &staff, "Emmanuel", MACRON).await;
    let seen =
        async |key: &str| upload(&server, key, RECOGNIZE, &photo(MACRON)).await.1["result"][0]["subjects"].clone();
    assert_eq!(seen(&staff).await[0]["subject"], "Emmanuel");
    assert_eq!(seen(&guests).await, json!([]));
    assert_eq!(get(&server, &guests, SUBJECTS).await.1, json!({ "subjects": [] }));
    assert_eq!(get(&server, &guests, FACES).await.1["total_elements"], 0);
    for path in [format!("{FACES}/{id}"), format!("{SUBJECTS}/Emmanuel")] {
        let code = if path.contains(&id) { 44 } else { 42 };
        refused(code, 404)(&path, delete(&server, &guests, &path).await);
    }
    refused(44, 404)("img", get(&server, &guests, &format!("{FACES}/{id}/img")).await);
    refused(44, 404)("verify", upload(&server, &guests, &format!("{FACES}/{id}/verify"), &photo(MACRON)).await);
    let several = post(&server, &guests, &format!("{FACES}/delete"), json!([id])).await;
    assert_eq!(several, (200, json!([])), "ids of others are ignored");
    for path in [SUBJECTS, FACES] {
        assert_eq!(delete(&server, &guests, path).await.1, json!({ "deleted": 0 }));
    }
    assert_eq!(seen(&staff).await[0]["subject"], "Emmanuel", "nothing has changed");
    let image = request(&server, &staff, Method::GET, &format!("{FACES}/{id}/img")).send().await.expect("a response");
    assert_eq!(image.bytes().await.expect("a body"), photo(MACRON));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_looks_through_the_api_of_compreface_are_audited_without_a_name() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let key = key(&server, "admin", "staff").await;
    post(&server, &key, SUBJECTS, json!({ "subject": "Emmanuel Zebulon" })).await;
    let id = add(&server, &key, "Emmanuel Zebulon", MACRON).await;
    get(&server, &key, FACES).await;
    delete(&server, &key, &format!("{FACES}/{id}")).await;
    delete(&server, &key, "/recognition/subjects/Emmanuel%20Zebulon").await;
    let audit = || {
        let log = server.run(&["audit", "--json", "--person", "Emmanuel Zebulon", "--gallery", "staff"]);
        String::from_utf8(log.stdout).expect("text")
    };
    let ended = |text: &str| text.contains("DELETE /api/v1/recognition/subjects/{subject}\",\"outcome\":200");
    wait_until("the end is written", Duration::from_secs(30), async || ended(&audit())).await;
    let text = audit();
    let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |action: &str| -> Vec<Value> {
        let entries = entries.iter().filter(|entry| entry["action"] == action);
        entries.map(|entry| json!([entry["gallery"], entry["outcome"]])).collect()
    };
    for (action, outcomes) in [
        ("POST /api/v1/recognition/faces", json!([["staff", "begun"], ["staff", 201]])),
        ("DELETE /api/v1/recognition/faces/{id}", json!([["staff", "begun"], ["staff", 200]])),
        ("POST /api/v1/recognition/subjects", json!([["staff", 201]])),
        ("DELETE /api/v1/recognition/subjects/{subject}", json!([["staff", "begun"], ["staff", 200]])),
        ("GET /api/v1/recognition/faces", json!([["staff", 200]])),
    ] {
        assert_eq!(json!(of(action)), outcomes, "{action}: {text}");
    }
    let file = fs::read_to_string(server.data_dir().join("audit.jsonl")).expect("the log");
    for secret in ["Emmanuel", "Zebulon", &key] {
        assert!(!file.contains(secret), "{secret}");
    }
    assert_eq!(file.matches("begun").count(), 6, "a token, each change, and whose example is removed: {file}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_apply_to_keys_and_say_when_to_try_again() {
    let server = Rollcall::start(RollcallOptions::default().env("ROLLCALL__HTTP__REQUESTS_PER_MINUTE", "3")).await;
    for _ in 0..3 {
        assert_eq!(get(&server, "any", SUBJECTS).await.0, 200);
    }
    let response = request(&server, "any", Method::GET, SUBJECTS).send().await.expect("a response");
    assert!(response.headers().contains_key("retry-after"));
    let (status, body) = (response.status().as_u16(), response.json::<Value>().await.expect("JSON"));
    refused(0, 429)("the fourth", (status, body));
}
