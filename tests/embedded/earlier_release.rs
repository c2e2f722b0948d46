//! A data folder of the release before this one opens whole: its queue, its results and its gallery.

use std::{process::Command, time::Duration};

use rollcall_testing::http::Client;
use rollcall_testing::uploads::{MACRON, STRANGER, file, form, photo, post};
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::{Value, json};

/// Written by release 0.1.0 before galleries had parts: two people, a result, and three jobs that were queued when the
/// server was killed.
const FOLDER: &str = "tests/embedded/earlier_release.tar.gz";
const DONE: &str = "01M8MPF6WPFXW3TKEFKVWW6DKC";
const QUEUED: [&str; 3] = ["0PMVMT6STM8HN8W48DVRX46ZWK", "5A70SSCMWKKXFPPQQQ1AZVZG1F", "5XWXRT52MD6YSK5DW7KNF958YH"];

async fn get(server: &Rollcall, path: &str) -> Value {
    rollcall_testing::http::get(server.url(path)).await.expect("a response").json().await.expect("JSON")
}

async fn label(server: &Rollcall, path: &str) -> Value {
    let response = post(&server.url("/v1/recognitions"), form(&[("a.jpg", &photo(path))])).await;
    response.json::<Value>().await.expect("JSON")["label"].clone()
}

#[tokio::test]
async fn a_data_folder_of_the_release_before_opens_whole() {
    let mut server = Rollcall::start(RollcallOptions::default()).await;
    server.kill9();
    std::fs::remove_dir_all(server.data_dir()).expect("a folder");
    std::fs::create_dir(server.data_dir()).expect("a folder");
    let status = Command::new("tar").arg("-xzf").arg(FOLDER).arg("-C").arg(server.data_dir()).status();
    assert!(status.expect("tar runs").success());
    server.restart().await;

    assert_eq!(get(&server, &format!("/v1/recognitions/{DONE}")).await["label"], "no face");
    for id in QUEUED {
        let done = async || get(&server, &format!("/v1/recognitions/{id}")).await["label"] == "no face";
        wait_until("the queued job is done", Duration::from_secs(60), done).await;
    }
    let names = async || {
        let listed = get(&server, "/v1/people").await;
        let names = listed["people"].as_array().expect("a list").iter().map(|person| person["name"].clone());
        names.collect::<Value>()
    };
    assert_eq!(names().await, json!(["Emmanuel_Macron", "Jacinda_Ardern"]));
    assert_eq!(label(&server, MACRON).await, "Emmanuel_Macron");

    let rishi = multipart("Rishi Sunak", STRANGER);
    assert_eq!(post(&server.url("/v1/people"), rishi).await.status(), 201);
    assert_eq!(names().await, json!(["Emmanuel_Macron", "Jacinda_Ardern", "Rishi Sunak"]));
    assert_eq!(label(&server, STRANGER).await, "Rishi Sunak");
    let removed = Client::new().delete(server.url("/v1/people/Emmanuel_Macron")).send().await.expect("a response");
    assert_eq!(removed.status(), 204);
    assert_eq!(label(&server, MACRON).await, "unknown");
}

fn multipart(name: &str, path: &str) -> reqwest::multipart::Form {
    reqwest::multipart::Form::new().text("name", name.to_owned()).part("photos", file("face.jpg", &photo(path)))
}
