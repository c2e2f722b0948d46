//! The API of CompreFace: errors, pages, photos that are kept, and what clients should not send.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rollcall_testing::http::{Method, RequestBuilder, multipart::Form};
use rollcall_testing::uploads::{ARDERN, MACRON, STRANGER, encode, faceless, file, photo};
use rollcall_testing::{Rollcall, RollcallOptions};
use serde_json::{Value, json};

/// Another photo of the person in [`MACRON`].
const OTHER: &str = ".assets/photos/known/Emmanuel_Macron/person_a_1.jpg";
pub const SUBJECTS: &str = "/recognition/subjects";
pub const FACES: &str = "/recognition/faces";
pub const RECOGNIZE: &str = "/recognition/recognize";
pub const ID: &str = "6b135f5b-a365-8522-b1f1-4c9ac2dd0728";

/// Returns a request with a key; without access control, any text is one.
pub fn request(server: &Rollcall, key: &str, method: Method, path: &str) -> RequestBuilder {
    server.client().request(method, server.url(&format!("/api/v1{path}"))).header("x-api-key", key)
}

/// Sends a request, and returns the status and the JSON of the response.
pub async fn send(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("a response");
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json", "{status}");
    (status, response.json().await.expect("JSON"))
}

pub async fn get(server: &Rollcall, key: &str, path: &str) -> (u16, Value) {
    send(request(server, key, Method::GET, path)).await
}

pub async fn delete(server: &Rollcall, key: &str, path: &str) -> (u16, Value) {
    send(request(server, key, Method::DELETE, path)).await
}

pub async fn post(server: &Rollcall, key: &str, path: &str, body: Value) -> (u16, Value) {
    send(request(server, key, Method::POST, path).json(&body)).await
}

/// Posts a photo as the field `file` of a form.
pub async fn upload(server: &Rollcall, key: &str, path: &str, photo: &[u8]) -> (u16, Value) {
    send(request(server, key, Method::POST, path).multipart(Form::new().part("file", file("a.jpg", photo)))).await
}

/// Adds an example, and returns its id.
pub async fn add(server: &Rollcall, key: &str, subject: &str, path: &str) -> String {
    let url = reqwest::Url::parse_with_params("http://x/recognition/faces", [("subject", subject)]).expect("a URL");
    let path_and_query = format!("{}?{}", url.path(), url.query().expect("a query"));
    let (status, body) = upload(server, key, &path_and_query, &photo(path)).await;
    assert_eq!((status, &body["subject"]), (201, &json!(subject)), "{body}");
    body["image_id"].as_str().expect("an id").to_owned()
}

pub fn refused(code: u16, status: u16) -> impl Fn(&str, (u16, Value)) {
    move |what, (actual, body)| {
        assert_eq!((actual, &body["code"]), (status, &json!(code)), "{what}: {body}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{what}: {body}");
        assert_eq!(body.as_object().map(|body| body.len()), Some(2), "{what}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_status_and_the_code_of_compreface() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let (macron, nobody) = (photo(MACRON), faceless(200, 200));
    let two = {
        let (a, b) = (image::load_from_memory(&macron).expect("an image"), image::load_from_memory(&photo(ARDERN)));
        let b = b.expect("an image").resize_exact(a.width(), a.height(), image::imageops::FilterType::Triangle);
        let mut both = image::RgbImage::new(2 * a.width(), a.height());
        image::imageops::replace(&mut both, &a.to_rgb8(), 0, 0);
        image::imageops::replace(&mut both, &b.to_rgb8(), i64::from(a.width()), 0);
        encode(both.into(), image::ImageFormat::Jpeg)
    };
    let ada = "/recognition/faces?subject=Ada";
    for (code, status, path, photo) in [
        (28, 400, RECOGNIZE, &nobody),
        (28, 400, "/detection/detect", &nobody),
        (28, 400, ada, &nobody),
        (28, 400, "/detection/detect?det_prob_threshold=1.0", &macron),
        (31, 400, ada, &two),
        (33, 400, FACES, &macron),
        (26, 400, "/recognition/faces?subject=%20", &macron),
        (26, 400, "/recognition/faces?subject=..", &macron),
        (26, 400, "/recognition/faces?subject=unknown", &macron),
        (26, 400, "/recognition/recognize?limit=-1", &macron),
        (26, 400, "/recognition/recognize?prediction_count=0", &macron),
        (0, 400, "/recognition/recognize?limit=many", &macron),
        (36, 400, "/recognition/recognize?detect_faces=false", &macron),
        (21, 400, RECOGNIZE, &b"GIF89a\x01\x00\x01\x00".to_vec()),
        (21, 400, RECOGNIZE, &macron[..macron.len() / 2].to_vec()),
        (21, 400, RECOGNIZE, &Vec::new()),
        (36, 400, "/recognition/faces/not-an-id/verify", &macron),
        (44, 404, &format!("/recognition/faces/{ID}/verify"), &macron),
        (34, 400, "/verification/verify", &macron),
        (0, 404, "/recognition/nothing", &macron),
    ] {
        refused(code, status)(path, upload(&server, "any", path, photo).await);
    }
    for (code, status, path, body) in [
        (5, 400, RECOGNIZE, json!({})),
        (21, 400, RECOGNIZE, json!({ "file": "no base64!" })),
        (0, 400, RECOGNIZE, json!([1])),
        (26, 400, SUBJECTS, json!({ "subject": "" })),
        (26, 400, SUBJECTS, json!({})),
        (26, 400, SUBJECTS, json!({ "subject": "a/b" })),
        (0, 400, SUBJECTS, json!({ "subject": 7 })),
        (5, 400, "/verification/verify", json!({ "source_image": STANDARD.encode(&macron) })),
        (0, 400, "/recognition/faces/delete", json!({})),
        (0, 400, "/recognition/embeddings/recognize", json!({ "embeddings": [["x"]] })),
        (36, 400, "/recognition/faces/delete", json!(["x"])),
        (5, 400, "/recognition/embeddings/recognize", json!({ "embeddings": [] })),
        (5, 400, "/verification/embeddings/verify", json!({ "targets": [[1.0]] })),
    ] {
        refused(code, status)(path, post(&server, "any", path, body).await);
    }
    refused(42, 404)("delete", delete(&server, "any", "/recognition/subjects/Ada").await);
    let rename = request(&server, "any", Method::PUT, "/recognition/subjects/Ada").json(&json!({ "subject": "Eve" }));
    refused(42, 404)("rename", send(rename).await);
    refused(44, 404)("delete", delete(&server, "any", &format!("{FACES}/{ID}")).await);
    refused(0, 404)("method", send(request(&server, "any", Method::PATCH, FACES)).await);
    let text = request(&server, "any", Method::POST, RECOGNIZE).header("Content-Type", "text/plain").body("x");
    refused(0, 415)("content type", send(text).await);
    assert_eq!(get(&server, "any", SUBJECTS).await.1, json!({ "subjects": [] }), "nothing was added");
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_are_listed_in_pages_and_move_with_their_subject() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let mut ids = Vec::new();
    for (subject, path) in
        [("Ada", STRANGER), ("Bob", MACRON), ("Bob", ARDERN), ("Zo\u{eb} \u{65e5}\u{672c} & Co", OTHER)]
    {
        ids.push(add(&server, "any", subject, path).await);
    }
    assert_eq!(add(&server, "any", "Bob", MACRON).await, ids[1], "the same photo is the same example");
    let page = async |query: &str| {
        let (_, page) = get(&server, "any", &format!("{FACES}?{query}")).await;
        let faces = page["faces"].as_array().expect("a list").iter();
        let faces: Vec<Value> = faces.map(|face| face["subject"].clone()).collect();
        let numbers = ["page_number", "page_size", "total_pages", "total_elements"].map(|name| page[name].clone());
        (json!(faces), json!(numbers))
    };
    assert_eq!(page("page=0&size=3").await, (json!(["Ada", "Bob", "Bob"]), json!([0, 3, 2, 4])));
    assert_eq!(page("page=1&size=3").await, (json!(["Zo\u{eb} \u{65e5}\u{672c} & Co"]), json!([1, 3, 2, 4])));
    assert_eq!(page("page=9").await, (json!([]), json!([9, 20, 1, 4])));
    assert_eq!(page("page=18446744073709551615&size=2000").await.0, json!([]));
    assert_eq!(page("subject=Bob&size=1&page=1").await, (json!(["Bob"]), json!([1, 1, 2, 2])));

    // Merged with another subject.
    let put = request(&server, "any", Method::PUT, "/recognition/subjects/Bob").json(&json!({ "subject": "Ada" }));
    assert_eq!(send(put).await, (200, json!({ "updated": true })));
    assert_eq!(page("").await.0, json!(["Ada", "Ada", "Ada", "Zo\u{eb} \u{65e5}\u{672c} & Co"]));
    let (_, body) = upload(&server, "any", &format!("{FACES}/{}/verify", ids[2]), &photo(ARDERN)).await;
    assert_eq!((&body["result"][0]["subject"], &body["result"][0]["similarity"]), (&json!("Ada"), &json!(1.0)));
    let (_, body) = upload(&server, "any", "/recognition/recognize?prediction_count=5", &photo(MACRON)).await;
    let subjects = body["result"][0]["subjects"].as_array().expect("subjects").clone();
    assert_eq!(subjects.len(), 2, "each subject once: {subjects:?}");
    let (_, deleted) = post(&server, "any", &format!("{FACES}/delete"), json!([ids[0], ID, ids[2]])).await;
    assert_eq!(deleted.as_array().map(Vec::len), Some(2), "{deleted}");
    assert_eq!(delete(&server, "any", &format!("{FACES}?subject=Ada")).await.1, json!({ "deleted": 1 }));
    let left = json!({ "subjects": ["Zo\u{eb} \u{65e5}\u{672c} & Co"] });
    assert_eq!(get(&server, "any", &format!("{SUBJECTS}/")).await.1, left, "who has no example left is gone");
}

/// Returns the files below a folder that contain `needle`.
fn files_with(folder: &Path, needle: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if fs::read(&path).unwrap_or_default().windows(needle.len()).any(|part| part == needle) {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_are_kept_only_if_a_setting_says_so_and_are_deleted_with_their_example() {
    let mut server = Rollcall::start(RollcallOptions::default().env("ROLLCALL__GALLERY__KEEP_PHOTOS", "yes")).await;
    let (macron, ardern) = (photo(MACRON), photo(ARDERN));
    let objects = server.data_dir().join("objects");
    let kept = |photo: &[u8]| files_with(&objects, &photo[photo.len() / 2..][..64]).len();
    let image = async |server: &Rollcall, id: &str| {
        let by_header = request(server, "any", Method::GET, &format!("{FACES}/{id}/img")).send().await;
        let in_path = server.client().get(server.url(&format!("/api/v1/static/any/images/{id}"))).send().await;
        let (by_header, in_path) = (by_header.expect("a response"), in_path.expect("a response"));
        assert_eq!(by_header.headers()["content-type"], in_path.headers()["content-type"]);
        let status = by_header.status().as_u16();
        let (body, same) = (by_header.bytes().await.expect("a body"), in_path.bytes().await.expect("a body"));
        assert_eq!(body, same);
        (status, body)
    };
    let id = add(&server, "any", "Ada", MACRON).await;
    assert_eq!(image(&server, &id).await, (200, macron.clone().into()));
    assert_eq!(kept(&macron), 1);
    let form = Form::new().text("name", "Jacinda").part("photos", file("a.jpg", &ardern));
    let added = server.client().post(server.url("/v1/people")).multipart(form).send().await.expect("a response");
    assert_eq!((added.status().as_u16(), kept(&ardern)), (201, 1), "also by our own API");

    // Each way to delete an example deletes its photo, whatever the setting says by then.
    for how in 0..7 {
        let id = add(&server, "any", "Ada", MACRON).await;
        if how > 0 {
            assert_eq!(kept(&macron), 1, "{how}");
        }
        if how == 3 {
            server.set_env("ROLLCALL__GALLERY__KEEP_PHOTOS", None);
            server.restart().await;
            assert_eq!(image(&server, &id).await.0, 200, "what was kept can be downloaded");
        } else if how == 4 {
            server.set_env("ROLLCALL__GALLERY__KEEP_PHOTOS", Some("yes"));
            server.restart().await;
            add(&server, "any", "Ada", MACRON).await;
        }
        let path = match how {
            0 => format!("/api/v1{FACES}/{id}"),
            1 => format!("/api/v1{FACES}?subject=Ada"),
            2 | 3 => format!("/api/v1{SUBJECTS}/Ada"),
            4 => "/v1/people/Ada".to_owned(),
            5 => "/v1/people/Ada?results=true".to_owned(),
            _ => format!("/api/v1{SUBJECTS}"),
        };
        let gone =
            server.client().delete(server.url(&path)).header("x-api-key", "any").send().await.expect("a response");
        let status = gone.status();
        assert!(status.is_success(), "{path}: {status}: {}", gone.text().await.expect("a body"));
        assert_eq!(kept(&macron), 0, "{path}");
        assert_eq!(image(&server, &id).await.0, 404, "{path}");
        if how < 6 && how != 3 {
            assert_eq!(kept(&ardern), 1, "that of another person stays: {path}");
        }
        if how == 3 {
            server.set_env("ROLLCALL__GALLERY__KEEP_PHOTOS", Some("yes"));
            server.restart().await;
        }
    }
    assert_eq!(kept(&ardern), 0, "everybody was deleted");

    server.set_env("ROLLCALL__GALLERY__KEEP_PHOTOS", None);
    server.restart().await;
    let id = add(&server, "any", "Ada", MACRON).await;
    refused(11, 404)("not kept", get(&server, "any", &format!("{FACES}/{id}/img")).await);
    assert_eq!(kept(&macron), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_are_compared_and_those_of_other_models_are_refused() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let id = add(&server, "any", "Emmanuel", MACRON).await;
    let (_, found) = upload(&server, "any", "/detection/detect?face_plugins=calculator", &photo(MACRON)).await;
    let own = found["result"][0]["embedding"].clone();
    let (_, found) = upload(&server, "any", "/detection/detect?face_plugins=calculator", &photo(STRANGER)).await;
    let other = found["result"][0]["embedding"].clone();
    let both = json!({ "embeddings": [own, other] });

    let (status, body) =
        post(&server, "any", "/recognition/embeddings/recognize?prediction_count=3", both.clone()).await;
    assert_eq!((status, &body["result"][0]["embedding"]), (200, &own));
    let similarity = |of: &Value| of["similarity"].as_f64().expect("a number");
    let first = |at: usize| &body["result"][at]["similarities"][0];
    assert_eq!((&first(0)["subject"], similarity(first(0))), (&json!("Emmanuel"), 1.0));
    assert!(similarity(first(1)) < 0.5, "{body}");

    let verify = format!("/recognition/embeddings/faces/{id}/verify");
    let targets = json!({ "source": own, "targets": [own, other] });
    for (path, body) in [(verify.as_str(), both), ("/verification/embeddings/verify", targets)] {
        let (status, body) = post(&server, "any", path, body).await;
        assert_eq!((status, similarity(&body["result"][0])), (200, 1.0), "{path}: {body}");
        assert!(similarity(&body["result"][1]) < 0.5, "{path}: {body}");
    }
    let facenet = vec![0.044_f32; 512];
    for (path, body) in [
        ("/recognition/embeddings/recognize", json!({ "embeddings": [facenet] })),
        (verify.as_str(), json!({ "embeddings": [own, facenet] })),
        ("/verification/embeddings/verify", json!({ "source": facenet, "targets": [facenet] })),
    ] {
        let response = post(&server, "any", path, body).await;
        assert!(response.1["message"].as_str().is_some_and(|why| why.contains("512") && why.contains("CompreFace")));
        refused(36, 400)(path, response);
    }
    let many = json!({ "embeddings": vec![vec![0; 0]; 2 << 20] });
    refused(0, 413)("many", post(&server, "any", "/recognition/embeddings/recognize", many).await);
    let eleven = json!({ "embeddings": vec![&own; 11] });
    let at_most = |count: usize| format!("/recognition/embeddings/recognize?prediction_count={count}");
    refused(26, 400)("candidates", post(&server, "any", &at_most(100), eleven.clone()).await);
    assert_eq!(post(&server, "any", &at_most(90), eleven).await.0, 200);
    for zero in [vec![0.0; 128], vec![]] {
        refused(36, 400)("zero", post(&server, "any", &verify, json!({ "embeddings": [zero] })).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_should_not_send_is_refused_and_changes_nothing() {
    let server = Rollcall::start(RollcallOptions::default().env("ROLLCALL__HTTP__MAX_UPLOAD", "1MiB")).await;
    let huge = json!({ "file": "A".repeat(2 << 20) });
    refused(0, 413)("huge base64", post(&server, "any", RECOGNIZE, huge).await);
    let large = json!({ "file": STANDARD.encode(vec![0xFF; 700 << 10]) });
    refused(21, 400)("base64 of no image", post(&server, "any", RECOGNIZE, large).await);
    let long = json!({ "subject": "x", "more": vec![0; 50_000] });
    refused(0, 413)("a subject in much JSON", post(&server, "any", SUBJECTS, long).await);
    let deep = format!("{{\"file\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = request(&server, "any", Method::POST, RECOGNIZE).header("Content-Type", "application/json").body(deep);
    refused(0, 400)("deep JSON", send(deep).await);
    let cut = request(&server, "any", Method::POST, RECOGNIZE).header("Content-Type", "multipart/form-data").body("x");
    refused(0, 400)("a form without a boundary", send(cut).await);

    let names =
        ["../../etc/passwd", "a/b", "..", ".", "a\u{0}b", "a\nb", "\u{202e}x", "no face", " a", &"x".repeat(101)];
    for name in names {
        refused(26, 400)(name, post(&server, "any", SUBJECTS, json!({ "subject": name })).await);
    }
    for path in ["/recognition/subjects/..%2F..%2Fetc", "/recognition/subjects/%2e%2e", "/recognition/subjects/%00"] {
        let (status, body) = delete(&server, "any", path).await;
        assert_eq!(status, 404, "{path}: {body}");
    }
    for path in ["/static/any/images/..%2F..%2Faccess%2Ftokens.json", "/recognition/faces/..%2Fx/img"] {
        refused(36, 400)(path, get(&server, "any", path).await);
    }
    assert_eq!(get(&server, "any", SUBJECTS).await.1, json!({ "subjects": [] }));
    let subject = json!({ "subject": "Zo\u{eb} \u{65e5}\u{672c} \u{1f642}" });
    assert_eq!(post(&server, "any", SUBJECTS, subject.clone()).await, (201, subject));
    let url =
        reqwest::Url::parse("http://x").expect("a URL").join("/Zo\u{eb} \u{65e5}\u{672c} \u{1f642}").expect("a path");
    assert_eq!(delete(&server, "any", &format!("{SUBJECTS}{}", url.path())).await.0, 200);
}
