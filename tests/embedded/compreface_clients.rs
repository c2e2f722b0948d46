//! The clients of CompreFace run the examples of their documentation, unchanged, against Rollcall.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use rollcall_testing::uploads::{ARDERN, MACRON};
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::{Value, json};

const KNOWN_MACRON: &str = ".assets/photos/known/Emmanuel_Macron/person_a_1.jpg";

/// Creates a key for a gallery, and waits until the server knows it.
pub async fn key(server: &Rollcall, role: &str, gallery: &str) -> String {
    let output = server.run(&["token", "create", "--role", role, "--gallery", gallery]);
    assert!(output.status.success(), "a token is created");
    let key = String::from_utf8(output.stdout).expect("text").trim().to_owned();
    let status = async |key: &str| {
        let subjects = server.client().get(server.url("/api/v1/recognition/subjects")).header("x-api-key", key);
        subjects.send().await.expect("a response").status().as_u16()
    };
    // Until the server has noticed that there is a key, it takes any text for one.
    let known = async || status("any").await == 400 && [200, 403].contains(&status(&key).await);
    wait_until("the key is known", Duration::from_secs(30), known).await;
    key
}

/// Runs a client, and returns the responses to its examples by their names.
fn run(client: &mut Command) -> BTreeMap<String, Value> {
    let output = client.output().expect("the client starts: run `make setup-test`");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let lines = text.lines().map(|line| line.trim_start_matches("RESPONSE "));
    let responses = lines.filter(|line| line.starts_with('[')).map(|line| serde_json::from_str(line).expect("JSON"));
    responses.collect::<Vec<(String, Value)>>().into_iter().collect()
}

/// Returns the domain and the port of a server as the clients take them.
fn address(server: &Rollcall) -> (String, String) {
    let url = server.url("");
    let (domain, port) = url.rsplit_once(':').expect("a port");
    (domain.to_owned(), port.to_owned())
}

/// Checks a face with all that the examples ask for and that has a counterpart.
fn check_face(face: &Value) {
    let of_box = &face["box"];
    assert!(of_box["probability"].as_f64().is_some_and(|p| (0.8..=1.0).contains(&p)), "{face}");
    for [min, max] in [["x_min", "x_max"], ["y_min", "y_max"]] {
        assert!(of_box[min].as_u64() < of_box[max].as_u64(), "{face}");
    }
    assert_eq!(face["landmarks"].as_array().map(Vec::len), Some(5), "{face}");
}

fn check_everything(response: &Value) {
    let face = &response["result"][0];
    check_face(face);
    assert_eq!(face["embedding"].as_array().map(Vec::len), Some(128));
    assert!(face["execution_time"]["detector"].is_number() && face["execution_time"]["calculator"].is_number());
    assert!(response["plugins_versions"]["calculator"].as_str().is_some_and(|model| model.starts_with("sface")));
    assert_eq!(face.get("age"), None, "there is no such plugin");
}

fn at_least(least: f64) -> impl Fn(&Value) -> bool {
    move |similarity| similarity.as_f64().is_some_and(|s| (least..=1.0).contains(&s))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_runs_its_documented_examples() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let key = key(&server, "admin", "compreface").await;
    let (domain, port) = address(&server);
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let mut client = Command::new(python);
    client.arg("tests/embedded/compreface/examples.py").env("PYTHONPATH", ".assets/python/compreface");
    let responses = run(client.args([&domain, &port, &key, KNOWN_MACRON, MACRON]));
    let response = |name: &str| responses.get(name).unwrap_or_else(|| panic!("{name}: {responses:?}"));

    let subject = json!("Jonathan Petit");
    let added = response("add");
    let id = added["image_id"].as_str().expect("an id");
    assert_eq!((id.len(), &added["subject"]), (36, &subject));
    let face = &response("recognize")["result"][0];
    assert_eq!(face["subjects"][0], json!({ "subject": subject, "similarity": 1.0 }));
    assert_eq!(face.as_object().map(|face| face.len()), Some(2), "only what was asked for: {face}");
    check_everything(response("recognize with options"));
    check_everything(response("recognize with defaults"));
    let other = &response("recognize bytes")["result"][0]["subjects"][0];
    assert!(at_least(0.9)(&other["similarity"]), "another photo of the same person: {other}");
    let page = json!({ "faces": [added], "page_number": 0, "page_size": 20, "total_pages": 1, "total_elements": 1 });
    assert_eq!(response("list"), &page);
    check_everything(response("verify"));
    assert_eq!(response("verify")["result"][0]["similarity"], 1.0);
    assert_eq!(response("delete"), added);
    assert_eq!(response("delete all examples"), &json!({ "deleted": 1 }));

    assert_eq!(response("add subject"), &json!({ "subject": "Maria" }));
    assert_eq!(response("add subject again"), &json!({ "message": "Subject already exists", "code": 43 }));
    assert_eq!(response("list subjects"), &json!({ "subjects": ["Maria"] }));
    assert_eq!(response("update subject"), &json!({ "updated": true }));
    assert_eq!(response("list updated"), &json!({ "subjects": ["Marta"] }));
    assert_eq!(response("delete subject"), &json!({ "subject": "Marta" }));
    assert_eq!(response("delete all subjects"), &json!({ "deleted": 2 }));

    check_everything(response("detect"));
    let verified = &response("verify two")["result"][0];
    check_face(&verified["source_image_face"]);
    check_face(&verified["face_matches"][0]);
    assert!(at_least(0.9)(&verified["face_matches"][0]["similarity"]), "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_client_runs_its_documented_examples() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let key = key(&server, "admin", "compreface").await;
    let (domain, port) = address(&server);
    let assets = Path::new(".assets/compreface-js").canonicalize().expect("the client: run `make setup-test`");
    let sdk = assets.join("node_modules/@exadel/compreface-js-sdk/index.js");
    let images = [KNOWN_MACRON, ARDERN].map(|path| format!("./{path}"));
    let mut client = Command::new(assets.join("node"));
    client.arg("tests/embedded/compreface/examples.mjs").arg(sdk).args([&domain, &port, &key]).args(images);
    let responses = run(&mut client);
    let response = |name: &str| responses.get(name).unwrap_or_else(|| panic!("{name}: {responses:?}"));

    let added = response("add");
    assert_eq!(added["subject"], "Tom", "the option after it is not a part of the name");
    let recognised = response("recognize");
    check_everything(recognised);
    assert_eq!(recognised["result"][0]["subjects"][0], json!({ "subject": "Tom", "similarity": 1 }));
    assert_eq!(response("list")["faces"], json!([added]));
    check_everything(response("verify"));
    assert_eq!(response("recognize base64")["result"][0]["subjects"][0]["subject"], "Tom");
    assert_eq!(response("delete"), added);
    assert_eq!(response("delete multiple"), &json!([added]));
    for name in ["delete all of subject", "delete all", "delete all subjects"] {
        assert_eq!(response(name), &json!({ "deleted": 1 }), "{name}");
    }
    assert_eq!(response("add subject"), &json!({ "subject": "John" }));
    assert_eq!(response("list subjects"), &json!({ "subjects": ["John"] }));
    assert_eq!(response("rename subject"), &json!({ "updated": true }));
    assert_eq!(response("delete subject"), &json!({ "subject": "Jane" }));
    let nobody = json!([404, { "message": "Subject Nobody not found", "code": 42 }]);
    assert_eq!(response("delete nobody"), &nobody);
    check_face(&response("detect")["result"][0]);
    let verified = &response("verify two")["result"][0]["face_matches"][0];
    check_face(verified);
    assert!(verified["similarity"].as_f64().is_some_and(|s| s < 0.5), "another person: {verified}");
}
