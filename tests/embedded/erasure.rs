//! Of a person who was erased, nothing is left in the data folder: neither the name nor a photo, in no file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rollcall_testing::http::{Client, multipart::Form};
use rollcall_testing::uploads::{ARDERN, KNOWN, MACRON, STRANGER, encode, file, form, photo, post, problem};
use rollcall_testing::{Rollcall, RollcallOptions, program, wait_until};
use serde_json::{Value, json};

const NAME: &str = "Emmanuel Zebulon";
const TIMEOUT: Duration = Duration::from_secs(90);

/// Returns the files below a folder whose name or content contains one of `needles`, besides sockets.
fn files_with(folder: &Path, needles: &[&[u8]]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files_with(&path, needles));
        } else {
            let content = fs::read(&path).unwrap_or_default(); // it may be deleted since, or a socket
            let name = path.as_os_str().as_encoded_bytes();
            let has = |needle: &&[u8]| [name, &content].iter().any(|text| contains(text, needle));
            if needles.iter().any(has) {
                found.push(path);
            }
        }
    }
    found
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|part| part == needle)
}

async fn add(server: &Rollcall, name: &str, photo: &[u8]) {
    let form = Form::new().text("name", name.to_owned()).part("photos", file("face.jpg", photo));
    assert_eq!(post(&server.url("/v1/people"), form).await.status(), 201);
}

/// Says that the face in a photo is not that of the person in this path.
async fn reject(server: &Rollcall, person: &str, path: &str) {
    let form = Form::new().part("photos", file("face.jpg", &photo(path)));
    assert_eq!(post(&server.url(&format!("/v1/people/{person}/rejections")), form).await.status(), 201);
}

/// Returns, as files have them, 16 numbers from the middle of each embedding in the gallery that is of a person or of a
/// face that was rejected as somebody's.
fn embeddings(server: &Rollcall, is_wanted: impl Fn(&Value) -> bool) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gallery.jsonl").display().to_string();
    assert!(server.run(&["gallery", "export", &path]).status.success());
    let lines = fs::read_to_string(&path).expect("an export");
    let entries = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let numbers = entries.filter(is_wanted).map(|mut entry| {
        let numbers: Vec<f32> = serde_json::from_value(entry["embedding"].take()).expect("numbers");
        numbers[numbers.len() / 2..][..16].iter().flat_map(|number| number.to_le_bytes()).collect()
    });
    numbers.collect()
}

/// Returns a photo with other bytes, too large for a message.
fn large(path: &str) -> Vec<u8> {
    let image = image::load_from_memory(&photo(path)).expect("an image");
    let image = image.resize(1000, 1000, image::imageops::FilterType::Triangle);
    let png = encode(image, image::ImageFormat::Png);
    assert!(png.len() > 180 << 10);
    png
}

async fn upload(server: &Rollcall, photo: &[u8], prefer: &str) -> String {
    let request = Client::new().post(server.url("/v1/recognitions")).header("Prefer", prefer);
    let response = request.multipart(form(&[("a.jpg", photo)])).send().await.expect("a response");
    let body: Value = response.json().await.expect("JSON");
    body["id"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

async fn status(server: &Rollcall, id: &str) -> Value {
    let response =
        rollcall_testing::http::get(server.url(&format!("/v1/recognitions/{id}"))).await.expect("a response");
    let code = response.status().as_u16();
    let body: Value = response.json().await.expect("JSON");
    if code == 200 { body["label"].clone() } else { json!(code) }
}

async fn until(server: &Rollcall, id: &str, label: Value) {
    wait_until(&format!("{id}: {label}"), TIMEOUT, async || status(server, id).await == label).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_who_was_erased_nothing_is_left_in_any_file() {
    let options = RollcallOptions::default().env("ROLLCALL__GALLERY__KEEP_PHOTOS", "yes");
    let server = Rollcall::start(options).await;
    let enrolled = large(&format!("{KNOWN}/Emmanuel_Macron/person_a_1.jpg"));
    add(&server, NAME, &photo(MACRON)).await;
    add(&server, NAME, &enrolled).await;
    add(&server, "Jacinda", &photo(ARDERN)).await;
    reject(&server, "Emmanuel%20Zebulon", STRANGER).await;
    reject(&server, "Jacinda", MACRON).await;
    let faces = embeddings(&server, |entry| entry["name"] == NAME || entry["rejected"] == true);
    assert_eq!(faces.len(), 4, "two of the person's photos, and two that were rejected");
    let (small, large) = (photo(MACRON), large(MACRON));
    // Many at once, so that the queue's file has more pages than later messages use again.
    let queued = (0..20).map(|_| upload(&server, &small, "respond-async"));
    let mut ids = futures_util::future::join_all(queued).await;
    for (photo, prefer) in [(&small, "wait"), (&large, "wait"), (&large, "respond-async")] {
        ids.push(upload(&server, photo, prefer).await);
    }
    let other = upload(&server, &photo(ARDERN), "respond-async").await;
    for id in &ids {
        until(&server, id, json!(NAME)).await;
    }
    until(&server, &other, json!("Jacinda")).await;
    server.wait_until_queue_is_empty().await;
    // From the middle of the photos, so that a part of a file counts too.
    let photos = [&small, &large, &enrolled].map(|photo| &photo[photo.len() / 2..][..64]);
    let needles: Vec<&[u8]> =
        [NAME.as_bytes()].into_iter().chain(photos).chain(faces.iter().map(Vec::as_slice)).collect();
    assert!(files_with(server.data_dir(), &needles).len() >= 23 * 3, "photos, labels and results");
    let objects = server.data_dir().join("objects");
    for needle in &needles {
        assert!(!files_with(&objects, &[needle]).is_empty(), "each is there before");
    }

    let url = server.url("/v1/people/Emmanuel%20Zebulon?results=true");
    let erased = Client::new().delete(&url).send().await.expect("a response");
    assert_eq!(erased.status(), 200);
    let counts = json!({ "photos": 2, "results": 23, "images": 23, "labels": 23, "dead_letters": 0 });
    assert_eq!(erased.json::<Value>().await.expect("JSON"), json!({ "erased": counts }));
    for id in &ids {
        assert_eq!(status(&server, id).await, 404);
    }
    assert_eq!(files_with(&objects, &needles), Vec::<PathBuf>::new());
    // The queue's file still has photos of jobs that are done, but not for long.
    wait_until("nothing is left in any file", TIMEOUT, async || files_with(server.data_dir(), &needles).is_empty())
        .await;
    assert_eq!(status(&server, &other).await, "Jacinda", "nobody else is erased");

    let again = Client::new().delete(&url).send().await.expect("a response");
    assert_eq!(problem(again).await["status"], 404);
    let unknown = Client::new().delete(server.url("/v1/people/unknown?results=true")).send().await;
    assert_eq!(problem(unknown.expect("a response")).await["status"], 422, "a label is nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_jobs_that_were_queued_do_not_name_who_was_erased() {
    // Workers read the gallery again only because of the erasure.
    let options = RollcallOptions::default().env("ROLLCALL__GALLERY__REFRESH", "1h");
    let server = Rollcall::start(options).await;
    add(&server, NAME, &photo(MACRON)).await;
    let photo = photo(MACRON);
    let first = upload(&server, &photo, "wait").await;
    until(&server, &first, json!(NAME)).await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(upload(&server, &photo, "respond-async").await);
    }
    let url = server.url("/v1/people/Emmanuel%20Zebulon?results=true");
    assert_eq!(Client::new().delete(&url).send().await.expect("a response").status(), 200);
    server.wait_until_queue_is_empty().await;
    let left = async || {
        let mut left = Vec::new();
        for id in &ids {
            left.push(status(&server, id).await);
        }
        left
    };
    wait_until("no result names the person", TIMEOUT, async || {
        left().await.iter().all(|label| *label == 404 || *label == "unknown")
    })
    .await;
    let needles = [NAME.as_bytes()];
    wait_until("no file has the name", TIMEOUT, async || files_with(server.data_dir(), &needles).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_erases_a_person_and_says_what_was_erased() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    add(&server, NAME, &photo(MACRON)).await;
    add(&server, "Rishi", &photo(STRANGER)).await;
    let id = upload(&server, &photo(MACRON), "respond-async").await;
    until(&server, &id, json!(NAME)).await;
    server.wait_until_queue_is_empty().await;
    let forget = |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.args(["gallery", "forget"]).args(arguments).env("ROLLCALL__LOCAL__DATA_DIR", server.data_dir());
        let output = command.output().expect("the program starts");
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).expect("text"))
    };
    let (done, text) = forget(&[NAME, "--gallery", "staff"]);
    assert!(!done && text.contains("nobody is called"), "{text}");
    let (done, text) = forget(&[NAME]);
    assert!(done, "{text}");
    let expected = "photos in the gallery: 1, results: 1, images: 1, labels: 1, dead letters: 0";
    assert!(text.contains(expected), "{text}");
    assert_eq!(status(&server, &id).await, 404);
    let (done, text) = forget(&["Rishi", "--json"]);
    assert!(done, "{text}");
    let counts: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(counts, json!({ "photos": 1, "results": 0, "images": 0, "labels": 0, "dead_letters": 0 }));
    let objects = server.data_dir().join("objects");
    assert_eq!(files_with(&objects, &[NAME.as_bytes(), b"Rishi"]), Vec::<PathBuf>::new());
}
