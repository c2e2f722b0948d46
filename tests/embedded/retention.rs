//! Faces are not kept for ever: results expire with their images and labels.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rollcall_testing::uploads::{KNOWN, MACRON, form, photo, post};
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::Value;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[expect(clippy::disallowed_methods, reason = "makes files older than they are")]
fn age(folder: &Path, days: u32) {
    for path in files(folder) {
        let file = fs::File::options().write(true).open(path).expect("a file");
        file.set_modified(SystemTime::now() - DAY * days).expect("set");
    }
}

#[tokio::test]
async fn results_expire_with_their_images_and_labels_unless_they_are_kept_for_ever() {
    for (days, kept) in [("30", false), ("40", true), ("0", true)] {
        let options = RollcallOptions::default().enroll(KNOWN).env("ROLLCALL__STORE__RETENTION_DAYS", days);
        let mut server = Rollcall::start(options).await;
        let upload = async |server: &Rollcall| -> Value {
            let url = server.url("/v1/recognitions");
            post(&url, form(&[("a.jpg", &photo(MACRON))])).await.json().await.expect("JSON")
        };
        let old = upload(&server).await["id"].as_str().expect("an id").to_owned();
        server.wait_until_queue_is_empty().await;
        let objects = server.data_dir().join("objects");
        let bytes = photo(MACRON);
        let photos = || files(&objects).iter().filter(|path| fs::read(path).is_ok_and(|b| b == bytes)).count();
        wait_until("the photo is stored", Duration::from_secs(30), async || photos() == 1).await;
        server.kill9();
        age(&objects, 35);
        // A server that has been in use: without a recent result, its clock would first have to prove itself.
        let recent = objects.join("rollcall-state/recognitions").join(format!("{}.json", ulid::Ulid::generate()));
        fs::write(recent, "").expect("written");
        server.restart().await;
        let young = upload(&server).await["id"].as_str().expect("an id").to_owned();
        let status = async |id: &str| {
            let response = rollcall_testing::http::get(server.url(&format!("/v1/recognitions/{id}"))).await;
            response.expect("a response").status().as_u16()
        };
        wait_until("the young photo is stored", Duration::from_secs(30), async || status(&young).await == 200).await;
        let expected = if kept { (200, 2) } else { (404, 1) };
        let as_expected = async || (status(&old).await, photos()) == expected;
        wait_until(&format!("{days} days: {expected:?}"), Duration::from_secs(30), as_expected).await;
        assert_eq!(upload(&server).await["label"], "Emmanuel_Macron", "people do not expire");
    }
}
