//! The API of CompreFace knows a subject by its name in any case, and a photo as the example of one subject.

use reqwest::Method;
use rollcall_testing::uploads::{ARDERN, MACRON, photo};
use rollcall_testing::{Rollcall, RollcallOptions};
use serde_json::json;

use crate::compreface::{FACES, RECOGNIZE, SUBJECTS, add, delete, get, post, refused, request, send, upload};
use crate::compreface_clients::key;

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_is_meant_by_its_name_in_any_case() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let rename = async |from: &str, to: &str| {
        let path = format!("{SUBJECTS}/{from}");
        send(request(&server, "any", Method::PUT, &path).json(&json!({ "subject": to }))).await
    };
    let subjects = async || get(&server, "any", SUBJECTS).await.1["subjects"].clone();
    let first = add(&server, "any", "Ada", MACRON).await;
    let (status, second) = upload(&server, "any", &format!("{FACES}?subject=aDA"), &photo(ARDERN)).await;
    assert_eq!((status, &second["subject"]), (201, &json!("Ada")));
    assert_eq!(subjects().await, json!(["Ada"]));
    assert_eq!(get(&server, "any", &format!("{FACES}?subject=ADA")).await.1["total_elements"], 2);
    refused(43, 400)("exists", post(&server, "any", SUBJECTS, json!({ "subject": "ADA" })).await);

    assert_eq!(rename("ada", "ADA").await, (200, json!({ "updated": true })), "spelled in another way");
    assert_eq!(subjects().await, json!(["ADA"]));
    assert_eq!(rename("Ada", "ADA").await, (200, json!({ "updated": false })));
    assert_eq!(post(&server, "any", SUBJECTS, json!({ "subject": "Bob" })).await.0, 201);
    assert_eq!(rename("ada", "BOB").await, (200, json!({ "updated": true })), "merged");
    assert_eq!(subjects().await, json!(["Bob"]));

    // The subject outlives its last example that is deleted by its id.
    let second = second["image_id"].as_str().expect("an id").to_owned();
    assert_eq!(delete(&server, "any", &format!("{FACES}/{first}")).await.0, 200);
    assert_eq!(post(&server, "any", &format!("{FACES}/delete"), json!([second])).await.0, 200);
    assert_eq!(subjects().await, json!(["Bob"]));
    assert_eq!(get(&server, "any", FACES).await.1["total_elements"], 0);

    add(&server, "any", "Bob", MACRON).await;
    assert_eq!(delete(&server, "any", &format!("{FACES}?subject=bOB")).await, (200, json!({ "deleted": 1 })));
    add(&server, "any", "Bob", MACRON).await;
    assert_eq!(delete(&server, "any", &format!("{SUBJECTS}/BOB")).await, (200, json!({ "subject": "Bob" })));
    assert_eq!(subjects().await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_is_an_example_of_one_subject_only() {
    let server = Rollcall::start(RollcallOptions::default().env("ROLLCALL__GALLERY__KEEP_PHOTOS", "yes")).await;
    let by_mistake = add(&server, "any", "Bob", MACRON).await;
    let refusal = upload(&server, "any", &format!("{FACES}?subject=Ada"), &photo(MACRON)).await;
    assert!(refusal.1["message"].as_str().is_some_and(|why| why.contains("Bob")), "{refusal:?}");
    refused(26, 400)("of Bob", refusal);
    assert_eq!(get(&server, "any", SUBJECTS).await.1, json!({ "subjects": ["Bob"] }));
    assert_eq!(add(&server, "any", "Bob", MACRON).await, by_mistake, "the same example again");

    assert_eq!(delete(&server, "any", &format!("{FACES}/{by_mistake}")).await.0, 200);
    let id = add(&server, "any", "Ada", MACRON).await;
    assert_eq!(delete(&server, "any", &format!("{SUBJECTS}/Bob")).await.0, 200);
    let image = request(&server, "any", Method::GET, &format!("{FACES}/{id}/img")).send().await.expect("a response");
    assert_eq!(image.bytes().await.expect("a body"), photo(MACRON));
    let (_, body) = upload(&server, "any", RECOGNIZE, &photo(MACRON)).await;
    assert_eq!(body["result"][0]["subjects"][0]["subject"], "Ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gallery_that_is_named_by_a_key_is_read_after_a_restart() {
    let mut server = Rollcall::start(RollcallOptions::default()).await;
    let key = key(&server, "admin", "staff").await;
    add(&server, &key, "Ada", MACRON).await;
    server.restart().await;
    let (_, body) = upload(&server, &key, RECOGNIZE, &photo(MACRON)).await;
    assert_eq!(body["result"][0]["subjects"][0]["subject"], "Ada", "{body}");
}
