//! A face of several in a photo is enrolled by its box, and a face that was named wrongly is not named so again.

use rollcall_testing::http::Client;
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions};
use serde_json::{Value, json};

/// Returns the faces that are recognised in a photo, the largest first.
pub async fn faces(server: &Rollcall, bytes: &[u8]) -> Vec<Value> {
    let response = post(&server.url("/v1/recognitions"), form(&[("a.png", bytes)])).await;
    let body: Value = response.json().await.expect("JSON");
    body["faces"].as_array().expect("a list").clone()
}

/// Returns a form with photos and a box.
pub fn chosen(name: &str, bbox: &str, photos: &[&[u8]]) -> reqwest::multipart::Form {
    let texts = reqwest::multipart::Form::new().text("name", name.to_owned()).text("box", bbox.to_owned());
    photos.iter().fold(texts, |form, bytes| form.part("photos", file("a.png", bytes)))
}

/// Returns the box of a face as a form has it.
pub fn bbox(face: &Value) -> String {
    let numbers: Vec<f64> = serde_json::from_value(face["bbox"].clone()).expect("numbers");
    numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn the_face_in_the_box_is_enrolled_and_no_other() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let people = server.url("/v1/people");
    let both = side_by_side(&[(MACRON, 1.0), (STRANGER, 0.6)]);
    let found = faces(&server, &both).await;
    assert_eq!(found.len(), 2, "{found:?}");
    let smaller = bbox(&found[1]);

    let missed = problem(post(&people, chosen("Rishi", "1,1,9,9", &[&both])).await).await;
    let why = missed["photos"][0]["problem"].as_str().expect("a reason");
    assert!(missed["status"] == 422 && missed["photos"][0]["faces"] == 2, "{missed}");
    assert!(why.starts_with("no face is at 1,1,9,9; its faces are at "), "{why}");
    for (bad, photos) in [("here", &[&both[..]][..]), ("1,2,3", &[&both]), (&smaller, &[&both, &both])] {
        assert_eq!(problem(post(&people, chosen("Rishi", bad, photos)).await).await["status"], 400, "{bad}");
    }
    let nobody: Value = rollcall_testing::http::get(&people).await.expect("a response").json().await.expect("JSON");
    assert_eq!(nobody["total"], 0, "{nobody}");

    let added = post(&people, chosen("Rishi", &smaller, &[&both])).await;
    assert_eq!(added.status(), 201);
    let added: Value = added.json().await.expect("JSON");
    assert_eq!(added["photos"][0].get("warnings"), None, "which face is meant was said: {added}");
    let names = async |bytes: &[u8]| -> Vec<Value> {
        faces(&server, bytes).await.iter().map(|face| face["name"].clone()).collect()
    };
    assert_eq!(names(&both).await, ["unknown", "Rishi"]);
    assert_eq!(names(&photo(STRANGER)).await, ["Rishi"]);
    assert_eq!(names(&photo(MACRON)).await, ["unknown"]);

    // Without a box, the largest face is added, and that is said.
    let form = reqwest::multipart::Form::new().text("name", "Emmanuel").part("photos", file("a.png", &both));
    let added: Value = post(&people, form).await.json().await.expect("JSON");
    assert_eq!(added["photos"][0]["warnings"], serde_json::json!(["several-faces"]), "{added}");
    assert_eq!(names(&photo(MACRON)).await, ["Emmanuel"]);
}

#[tokio::test]
async fn a_rejected_face_is_unknown_until_a_photo_says_otherwise() {
    let server = Rollcall::start(RollcallOptions::default().enroll(KNOWN)).await;
    let url = server.url("/v1/people/Jacinda_Ardern/rejections");
    let both = side_by_side(&[(MACRON, 1.0), (ARDERN, 0.6)]);
    let found = faces(&server, &both).await;
    let names = async |bytes: &[u8]| -> Vec<Value> {
        faces(&server, bytes).await.iter().map(|face| face["name"].clone()).collect()
    };
    assert_eq!(names(&both).await, ["Emmanuel_Macron", "Jacinda_Ardern"]);

    let photo_of = |bytes: &[u8]| reqwest::multipart::Form::new().part("photos", file("a.png", bytes));
    let nobody = post(&server.url("/v1/people/Ada/rejections"), photo_of(&both)).await;
    assert!(problem(nobody).await["detail"].as_str().expect("text").contains("nobody is called"));
    let missed = problem(post(&url, photo_of(&both).text("box", "1,1,9,9")).await).await;
    assert!(
        missed["status"] == 422 && missed["detail"].as_str().expect("text").contains("its faces are at"),
        "{missed}"
    );
    assert_eq!(problem(post(&url, photo_of(&faceless(64, 64))).await).await["status"], 422);
    assert_eq!(problem(post(&url, photo_of(&both).part("photos", file("b.png", &both))).await).await["status"], 400);

    let rejected = post(&url, photo_of(&both).text("box", bbox(&found[1]))).await;
    assert_eq!(rejected.status(), 201);
    let rejected: Value = rejected.json().await.expect("JSON");
    let counted = ["rejected", "photos_removed", "photos_total"].map(|key| rejected[key].clone());
    assert_eq!((counted, rejected["name"].clone()), ([json!(1), json!(0), json!(1)], json!("Jacinda_Ardern")));
    assert_eq!(names(&both).await, ["Emmanuel_Macron", "unknown"]);
    // The photo is more similar to the one that was rejected than to the one that was enrolled.
    assert_eq!(names(&photo(ARDERN)).await, ["unknown"]);
    let enrolled = photo(".assets/photos/known/Jacinda_Ardern/person_b_1.jpg");
    assert_eq!(names(&enrolled).await, ["Jacinda_Ardern"]);

    // What is exported and imported knows it as well, and whoever is removed and added again does not.
    let exported = server.data_dir().join("gallery.jsonl").display().to_string();
    assert!(server.run(&["gallery", "export", &exported]).status.success());
    let removed =
        async || Client::new().delete(server.url("/v1/people/Jacinda_Ardern")).send().await.expect("a response");
    assert_eq!(removed().await.status(), 204);
    assert!(server.run(&["gallery", "import", &exported]).status.success());
    let known = async || names(&enrolled).await == ["Jacinda_Ardern"];
    rollcall_testing::wait_until("the import is known", std::time::Duration::from_secs(60), known).await;
    assert_eq!(names(&photo(ARDERN)).await, ["unknown"]);
    assert_eq!(removed().await.status(), 204);
    assert_eq!(post(&server.url("/v1/people"), photo_of(&enrolled).text("name", "Jacinda_Ardern")).await.status(), 201);
    assert_eq!(names(&photo(ARDERN)).await, ["Jacinda_Ardern"]);
    // A photo that was enrolled by mistake is taken back, and its person with the last one.
    let last: Value = post(&url, photo_of(&enrolled)).await.json().await.expect("JSON");
    assert_eq!((&last["photos_removed"], &last["photos_total"]), (&json!(1), &json!(0)));
    assert_eq!(names(&enrolled).await, ["unknown"]);
}
