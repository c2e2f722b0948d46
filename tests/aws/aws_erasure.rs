//! Of a person who was erased, nothing is left in the buckets: neither the name nor a photo, in no object.

use std::time::Duration;

use reqwest::{Client, multipart::Form};
use serde_json::{Value, json};

use crate::support::aws_cluster::{Cluster, Node};
use rollcall_testing::uploads::{ARDERN, MACRON, encode, file, form, photo, post};
use rollcall_testing::wait_until;

const TIMEOUT: Duration = Duration::from_secs(120);
const NAME: &str = "Emmanuel Zebulon";
/// More than one page of a listing.
const OTHERS: usize = 1_050;

async fn add(node: &Node, name: &str, path: &str) {
    let form = Form::new().text("name", name.to_owned()).part("photos", file("face.jpg", &photo(path)));
    assert_eq!(post(&node.url("/v1/people"), form).await.status(), 201);
}

async fn upload(node: &Node, photo: &[u8]) -> String {
    let body: Value = post(&node.url("/v1/recognitions"), form(&[("a.jpg", photo)])).await.json().await.expect("JSON");
    body["id"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

/// Returns the objects whose key or content contains one of `needles`, and the number of all objects.
async fn objects_with(cluster: &Cluster, needles: &[&[u8]]) -> (Vec<String>, usize) {
    let s3 = cluster.s3().await;
    let (mut found, mut all) = (Vec::new(), 0);
    for bucket in ["input", "output", "state"].map(|kind| cluster.bucket(kind)) {
        let mut pages = s3.list_objects_v2().bucket(&bucket).into_paginator().send();
        while let Some(page) = pages.next().await {
            for object in page.expect("a page").contents() {
                let key = object.key().expect("a key");
                let body = s3.get_object().bucket(&bucket).key(key).send().await.expect("the object").body;
                let bytes = body.collect().await.expect("its bytes").into_bytes();
                let has = |needle: &&[u8]| {
                    [key.as_bytes(), &bytes].iter().any(|text| text.windows(needle.len()).any(|part| part == *needle))
                };
                if needles.iter().any(has) {
                    found.push(format!("{bucket}/{key}"));
                }
                all += 1;
            }
        }
    }
    (found, all)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_who_was_erased_nothing_is_left_in_any_object() {
    let cluster = Cluster::start(&[("ROLLCALL__FLEET__MAX_INSTANCES", "1")]).await;
    let s3 = cluster.s3().await;
    let node = cluster.node("serve").await;
    add(&node, NAME, MACRON).await;
    add(&node, "Jacinda", ARDERN).await;
    let small = photo(MACRON);
    let large = encode(image::load_from_memory(&small).expect("an image"), image::ImageFormat::Png);
    assert!(large.len() > 180 << 10, "too large for a message");
    let ids = [upload(&node, &small).await, upload(&node, &large).await];
    let other = upload(&node, &photo(ARDERN)).await;
    let found = async |id: &str| {
        reqwest::get(node.url(&format!("/v1/recognitions/{id}"))).await.expect("a response").status().as_u16()
    };
    for id in ids.iter().chain([&other]) {
        wait_until("the result is stored", TIMEOUT, async || found(id).await == 200).await;
    }
    // Results of others, whose ids come first, so that those of the person are on the second page of the listing.
    let puts = (0..OTHERS).map(|n| {
        let id = format!("{n:026}");
        let body = json!({ "id": id, "file": "a.jpg", "status": "done", "submitted_ms": 0,
            "recognition": { "faces": [{ "name": "Somebody" }], "gallery_version": 1 } });
        let key = format!("recognitions/{id}.json");
        s3.put_object().bucket(cluster.bucket("state")).key(key).body(body.to_string().into_bytes().into()).send()
    });
    for put in futures_util::future::join_all(puts).await {
        put.expect("put");
    }
    let needles = [NAME.as_bytes(), &small[small.len() / 2..][..64], &large[large.len() / 2..][..64]];
    let (before, _) = objects_with(&cluster, &needles).await;
    assert!(before.len() >= 2 * 3, "photos, labels and results: {before:?}");

    let url = node.url("/v1/people/Emmanuel%20Zebulon?results=true");
    let erased = Client::new().delete(&url).send().await.expect("a response");
    assert_eq!(erased.status(), 200);
    let counts = json!({ "photos": 1, "results": 2, "images": 2, "labels": 2, "dead_letters": 0 });
    assert_eq!(erased.json::<Value>().await.expect("JSON"), json!({ "erased": counts }));
    let (left, all) = objects_with(&cluster, &needles).await;
    assert_eq!(left, Vec::<String>::new());
    assert!(all > OTHERS, "nobody else is erased: {all}");
    assert_eq!((found(&ids[0]).await, found(&ids[1]).await, found(&other).await), (404, 404, 200));

    let forget = cluster.command(&["gallery", "forget", "Jacinda"]).output().expect("the program starts");
    let text = String::from_utf8_lossy(&forget.stdout).into_owned();
    assert!(text.contains("results: 1, images: 1, labels: 1"), "{text}");
    let (left, _) = objects_with(&cluster, &[b"Jacinda"]).await;
    assert_eq!(left, Vec::<String>::new());
    node.end();

    // The audit log is in the bucket, without names.
    let audit = |person: &str| {
        let output = cluster.command(&["audit", "--person", person]).output().expect("the program starts");
        String::from_utf8(output.stdout).expect("text")
    };
    let log = audit(NAME);
    for part in
        ["POST /v1/people 201", "GET /v1/recognitions/{id} 200", "DELETE /v1/people/{name} begun", "{name} 200 gallery"]
    {
        assert!(log.contains(part), "{part} in {log}");
    }
    assert!(audit("Jacinda").contains(": rollcall gallery forget done"), "{}", audit("Jacinda"));
    assert_eq!(audit("Nobody"), "");
    let (found, _) = objects_with(&cluster, &[NAME.as_bytes(), b"Jacinda"]).await;
    assert_eq!(found, Vec::<String>::new());
}
