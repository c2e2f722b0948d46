//! The page in a real browser: photos in, names on cards, the fleet beside them, people added and removed.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{
    names_by_click::{name_the_second_face_by_keyboard, take_back_a_name_by_click},
    poison_jobs,
    tls::Certificates,
};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions, free_port, wait_until};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(90);

pub struct Browser {
    driver: Child,
    pub client: Client,
    /// The address of the driver.
    url: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub async fn start(width: u32, height: u32) -> Self {
        Self::start_with(width, height, &[]).await
    }

    /// Starts a browser with more arguments.
    async fn start_with(width: u32, height: u32, arguments: &[String]) -> Self {
        let (chromium, chromedriver) = (program("chromium"), program("chromedriver"));
        let port = free_port();
        let driver = Command::new(chromedriver)
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let url = format!("http://127.0.0.1:{port}");
        wait_until("chromedriver responds", TIMEOUT, async || {
            reqwest::get(format!("{url}/status")).await.is_ok_and(|response| response.status() == 200)
        })
        .await;
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut options = json!({
            "binary": chromium,
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage",
                format!("--user-data-dir={}", profile.path().display()),
                format!("--window-size={width},{height}"),
            ],
        });
        options["args"].as_array_mut().expect("arguments").extend(arguments.iter().map(|argument| json!(argument)));
        let secure = ("acceptInsecureCerts".to_owned(), json!(false));
        let logs = ("goog:loggingPrefs".to_owned(), json!({ "browser": "ALL" }));
        let capabilities = [("goog:chromeOptions".to_owned(), options), secure, logs].into_iter().collect();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(&url).await.expect("a browser session");
        Self { driver, client, url, _profile: profile }
    }

    /// Sends a command that is Chromium's own, and returns its value.
    pub async fn command(&self, command: &str, body: Value) -> Value {
        let session = self.client.session_id().await.expect("a session").expect("an id");
        let url = format!("{}/session/{session}/{command}", self.url);
        let response = reqwest::Client::new().post(url).json(&body).send().await.expect("the driver responds");
        assert!(response.status().is_success(), "{command}: {}", response.text().await.expect("text"));
        response.json::<Value>().await.expect("JSON")["value"].take()
    }

    pub async fn texts(&self, css: &str) -> Vec<String> {
        let script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent.trim())";
        let texts = self.client.execute(script, vec![json!(css)]).await.expect("the script runs");
        serde_json::from_value(texts).expect("texts")
    }

    pub async fn js(&self, script: &str) -> Value {
        self.client.execute(script, vec![]).await.expect("the script runs")
    }

    /// Chooses files in a file input, as the dialog would.
    pub(super) async fn choose(&self, css: &str, paths: &[&str]) {
        let absolute = |path: &&str| std::fs::canonicalize(path).expect(path).display().to_string();
        let paths = paths.iter().map(absolute).collect::<Vec<_>>().join("\n");
        let input = self.client.find(Locator::Css(css)).await.expect(css);
        input.send_keys(&paths).await.expect("files are chosen");
    }

    pub async fn click(&self, css: &str) {
        self.client.find(Locator::Css(css)).await.expect(css).click().await.expect(css);
    }

    /// Saves a screenshot for people to look at, as `target/tmp/NAME.png`.
    pub async fn picture(&self, name: &str) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let png = self.client.screenshot().await.expect("a picture");
        std::fs::write(folder.join(format!("{name}.png")), png).expect("writable");
    }

    pub(super) async fn wait_for_labels(&self, mut expected: Vec<&str>) {
        expected.sort();
        wait_until(&format!("the labels of the cards are {expected:?}"), TIMEOUT, async || {
            let mut labels = self.texts(".card .label").await;
            labels.sort();
            labels == expected
        })
        .await;
    }

    pub async fn end(self) {
        let _ = self.client.clone().close().await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists());
    found.unwrap_or_else(|| panic!("{name} is not there: run `make setup-test`"))
}

#[tokio::test]
async fn the_page_shows_names_boxes_and_the_fleet() {
    let server = Rollcall::start(RollcallOptions::default().enroll(KNOWN)).await;
    let browser = Browser::start(1280, 1000).await;
    browser.client.goto(&server.url("/")).await.expect("the page opens");
    wait_until("the fleet is followed live", TIMEOUT, async || browser.texts("#fleet-link").await == ["live"]).await;
    assert_eq!(browser.texts("#instances .instance").await.len(), 0, "nothing runs before the first photo");
    wait_until("people are listed", TIMEOUT, async || {
        browser.texts("#people-list .name").await == ["Emmanuel_Macron", "Jacinda_Ardern"]
    })
    .await;

    browser.choose("#file", &[MACRON, ARDERN, STRANGER]).await;
    browser.wait_for_labels(vec!["Emmanuel_Macron", "Jacinda_Ardern", "unknown"]).await;
    wait_until("a running worker is shown", TIMEOUT, async || {
        browser.texts("#instances .instance[data-state=running]").await.iter().any(|text| text.contains("pid"))
    })
    .await;
    assert!(browser.texts("#events li").await.iter().any(|line| line.contains("launch")));

    // The photo is on the canvas, and a box in the colour of known people is on the photo.
    let drawn = "const card = [...document.querySelectorAll('.card')].find((c) => c.textContent.includes('Macron'));
                 const canvas = card.querySelector('canvas');
                 const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
                 let green = 0;
                 for (let i = 0; i < data.length; i += 4) {
                   if (data[i] === 0x22 && data[i + 1] === 0xc5 && data[i + 2] === 0x5e) green += 1;
                 }
                 return { green, width: canvas.width, label: canvas.getAttribute('aria-label') };";
    let drawn = browser.js(drawn).await;
    assert!(drawn["green"].as_u64().expect("a count") > 500, "{drawn}");
    assert!(drawn["label"].as_str().expect("a label").contains("person_a_2.jpg: Emmanuel_Macron 0."), "{drawn}");

    // The left, right and lower edge of the box are where the face is.
    let response = post(&server.url("/v1/recognitions"), form(&[("a.jpg", &photo(MACRON))])).await;
    let body: Value = response.json().await.expect("JSON");
    let probes = format!(
        "const [[x, y, w, h], width] = [{}, {}];
         const card = [...document.querySelectorAll('.card')].find((c) => c.textContent.includes('Macron'));
         const canvas = card.querySelector('canvas'), scale = canvas.width / width;
         const green = ([x, y]) => {{
           const at = canvas.getContext('2d').getImageData(Math.round(x * scale) - 2, Math.round(y * scale) - 2, 5, 5).data;
           return [...Array(25).keys()].some((i) => at[4*i] === 0x22 && at[4*i + 1] === 0xc5 && at[4*i + 2] === 0x5e);
         }};
         return [[x, y + h/2], [x + w, y + h/2], [x + w/2, y + h], [x + w/2, y + h/2]].map(green);",
        body["faces"][0]["bbox"], body["width"]
    );
    assert_eq!(browser.js(&probes).await, json!([true, true, true, false]));
    browser.picture("page").await;
    browser.end().await;
}

#[tokio::test]
async fn the_page_signs_in_with_a_token_and_out_again() {
    let server = Rollcall::start(RollcallOptions::default().enroll(KNOWN)).await;
    let mut create = Command::new(rollcall_testing::program());
    create.args(["token", "create", "--role", "admin"]).env("ROLLCALL__LOCAL__DATA_DIR", server.data_dir());
    let token = String::from_utf8(create.output().expect("the program starts").stdout).expect("text");
    let browser = Browser::start(1280, 1000).await;
    wait_until("the server needs a token", TIMEOUT, async || {
        let people = reqwest::get(server.url("/v1/people")).await.expect("a response");
        people.status() == 401
    })
    .await;
    browser.client.goto(&server.url("/")).await.expect("the page opens");
    let shown = async |id: &str| browser.js(&format!("return !document.getElementById('{id}').hidden")).await == true;
    wait_until("the page asks for a token", TIMEOUT, async || shown("sign-in").await).await;
    assert!(browser.texts("#people-list .name").await.is_empty());
    let input = browser.client.find(Locator::Css("#token")).await.expect("an input");
    input.send_keys("nonsense").await.expect("typed");
    browser.click("#sign-in button").await;
    wait_until("it is refused", TIMEOUT, async || browser.texts("#sign-in-status").await[0].contains("not valid"))
        .await;
    browser.picture("sign-in").await;

    input.clear().await.expect("cleared");
    input.send_keys(token.trim()).await.expect("typed");
    browser.click("#sign-in button").await;
    let names = async || browser.texts("#people-list .name").await.len() == 2;
    wait_until("people are listed", TIMEOUT, names).await;
    assert_eq!(browser.texts("#role").await, ["admin"]);
    browser.choose("#file", &[MACRON]).await;
    browser.wait_for_labels(vec!["Emmanuel_Macron"]).await;
    take_back_a_name_by_click(&browser).await;
    assert!(!browser.js("return document.cookie").await.to_string().contains("rollcall"), "scripts cannot read it");
    browser.picture("signed-in").await;
    browser.click("#sign-out").await;
    wait_until("the page asks for a token again", TIMEOUT, async || shown("sign-in").await).await;
    browser.end().await;
}

#[tokio::test]
async fn the_page_lists_dead_letters_sends_them_again_and_purges_them() {
    let server = poison_jobs::start().await;
    let mut ids = vec![];
    for photo in [MACRON, ARDERN] {
        ids.push(poison_jobs::kill_the_worker_that_receives(&server, &rollcall_testing::uploads::photo(photo)).await);
        poison_jobs::wait_for_status(&server, &ids[ids.len() - 1], "failed").await;
        server.wait_until_queue_is_empty().await;
    }
    let browser = Browser::start(1280, 1000).await;
    browser.client.goto(&server.url("/")).await.expect("the page opens");
    let listed = async |count: usize| browser.texts("#dead-letters-list li").await.len() == count;
    wait_until("both are listed", TIMEOUT, async || listed(2).await).await;
    let reasons = browser.texts("#dead-letters-list .quiet").await;
    assert!(reasons.iter().all(|reason| reason.contains("given up after one attempt")), "{reasons:?}");
    browser.picture("dead-letters").await;
    browser.click("#dead-letters-list li:first-child button").await;
    wait_until("one is sent again", TIMEOUT, async || listed(1).await).await;
    assert_eq!(browser.texts("#dead-letters-status").await, ["poison.jpg was sent again."]);
    poison_jobs::wait_for_status(&server, &ids[0], "done").await;
    browser.click("#dead-letters-list li button + button").await;
    browser.client.accept_alert().await.expect("a question");
    wait_until("the other is purged", TIMEOUT, async || listed(0).await).await;
    let purged = reqwest::get(server.url(&format!("/v1/recognitions/{}", ids[1]))).await.expect("a response");
    assert_eq!(purged.status(), 404);
    browser.end().await;
}

#[tokio::test]
async fn the_page_shows_that_the_fleet_is_degraded() {
    // Workers fail while this file, a link to the model, is missing.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let link = folder.path().join("detector.onnx");
    let options = RollcallOptions::default()
        .env("ROLLCALL__RECOGNITION__DETECTOR", link.to_str().expect("UTF-8"))
        .env("ROLLCALL__FLEET__POLICY", "one-per-job")
        .env("ROLLCALL__FLEET__MAX_INSTANCES", "5");
    let server = Rollcall::start(options).await;
    let photos: Vec<_> = (0..5).map(|n| (format!("{n}.png"), faceless(64 + n, 64))).collect();
    let photos: Vec<_> = photos.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let upload = reqwest::Client::new().post(server.url("/v1/recognitions")).header("Prefer", "respond-async");
    let accepted = upload.multipart(form(&photos)).send().await.expect("a response");
    assert_eq!(accepted.status(), 202);
    let browser = Browser::start(1280, 1000).await;
    browser.client.goto(&server.url("/")).await.expect("the page opens");
    let shown = async || browser.texts("#degraded:not([hidden])").await;
    wait_until("it is shown", TIMEOUT, async || shown().await.len() == 1).await;
    let text = shown().await.concat();
    assert!(text.contains("boots in a row failed, the last because app-tier-instance-"), "{text}");
    browser.picture("degraded").await;

    let model = std::fs::canonicalize(".assets/models/face_detection_yunet_2023mar.onnx").expect("the model");
    std::os::unix::fs::symlink(model, &link).expect("a link");
    wait_until("a worker is ready", TIMEOUT, async || shown().await.is_empty()).await;
    server.wait_until_queue_is_empty().await;
    browser.end().await;
}

#[tokio::test]
async fn the_page_works_over_https() {
    let certificates = Certificates::make();
    let server = Rollcall::start(certificates.options().enroll(KNOWN)).await;
    let pin = format!("--ignore-certificate-errors-spki-list={}", certificates.pin);
    let browser = Browser::start_with(1280, 1000, &[pin]).await;
    browser.client.goto(&server.url("/")).await.expect("the page opens");
    assert_eq!(browser.js("return [location.protocol, isSecureContext]").await, json!(["https:", true]));
    browser.choose("#file", &[MACRON]).await;
    browser.wait_for_labels(vec!["Emmanuel_Macron"]).await;
    let token = String::from_utf8(server.run(&["token", "create", "--role", "admin"]).stdout).expect("text");
    wait_until("the server needs a token", TIMEOUT, async || {
        let people = server.client().get(server.url("/v1/people")).send().await.expect("a response");
        people.status() == 401
    })
    .await;
    browser.client.refresh().await.expect("the page opens");
    wait_until("the page asks for a token", TIMEOUT, async || {
        browser.js("return !document.getElementById('sign-in').hidden").await == true
    })
    .await;
    let input = browser.client.find(Locator::Css("#token")).await.expect("an input");
    input.send_keys(token.trim()).await.expect("typed");
    browser.click("#sign-in button").await;
    wait_until("people are listed", TIMEOUT, async || browser.texts("#people-list .name").await.len() == 2).await;
    let cookies = browser.client.get_all_cookies().await.expect("cookies");
    let session = cookies.iter().find(|cookie| cookie.name() == "rollcall-token").expect("the session");
    assert_eq!((session.secure(), session.http_only()), (Some(true), Some(true)));
    browser.end().await;
    // Without the pin, a browser that does not know the authority shows no page.
    let stranger = Browser::start(800, 600).await;
    let _ = stranger.client.goto(&server.url("/")).await; // an error, or a page of the browser
    assert_eq!(stranger.js("return document.getElementById('file')").await, Value::Null);
    stranger.end().await;
}

#[tokio::test]
async fn the_page_explains_an_empty_gallery_and_adds_and_removes_people() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let browser = Browser::start(1280, 1000).await;
    browser.client.goto(&server.url("/")).await.expect("the page opens");
    wait_until("the empty gallery is explained", TIMEOUT, async || {
        browser.js("return !document.getElementById('no-people').hidden").await == true
    })
    .await;
    browser.choose("#file", &[STRANGER]).await;
    browser.wait_for_labels(vec!["unknown"]).await;

    // A name is displayed as text, whatever it contains.
    let name = "<b>Zoë";
    let field = browser.client.find(Locator::Css("#person-name")).await.expect("a field");
    field.send_keys(name).await.expect("types");
    browser.choose("#person-photos", &[STRANGER]).await;
    browser.click("#add-person button").await;
    wait_until("the person is listed", TIMEOUT, async || browser.texts("#people-list .name").await == [name]).await;
    assert_eq!(browser.js("return document.getElementById('no-people').hidden").await, true);

    browser.choose("#file", &[STRANGER]).await;
    browser.wait_for_labels(vec!["unknown", name]).await;

    browser.click("#people-list .remove").await;
    browser.client.accept_alert().await.expect("the page asks for confirmation");
    wait_until("the person is gone", TIMEOUT, async || browser.texts("#people-list .name").await.is_empty()).await;
    browser.choose("#file", &[STRANGER]).await;
    browser.wait_for_labels(vec!["unknown", "unknown", name]).await;
    name_the_second_face_by_keyboard(&browser, &server).await;
    browser.end().await;
}

#[tokio::test]
async fn the_page_fits_a_phone_and_shows_readable_errors_and_what_was_learned() {
    let server =
        Rollcall::start(RollcallOptions::default().env("ROLLCALL__FLEET__POLICY", "adaptive").enroll(KNOWN)).await;
    let browser = Browser::start(500, 900).await;
    browser.client.goto(&server.url("/")).await.expect("the page opens");
    let text = server.data_dir().join("letter.jpg");
    std::fs::write(&text, "Dear Sir or Madam").expect("writable");
    browser.choose("#file", &[MACRON, &text.display().to_string()]).await;
    wait_until("the photo has a label and the text file an error message", TIMEOUT, async || {
        let errors = browser.texts(".card .label.error").await;
        errors.len() == 1
            && errors[0].contains("JPEG, PNG or WebP")
            && browser.texts(".card .label.known").await == ["Emmanuel_Macron"]
    })
    .await;
    wait_until("the page shows what was learned, and what follows", TIMEOUT, async || {
        let rows = browser.texts("#learned:not([hidden]) tr").await;
        let has = |name: &str, value: &str| rows.iter().any(|row| row.starts_with(name) && row.contains(value));
        has("learned from", "1 arrivals") && has("wanted now", "for 0 jobs") && has("stay now without a job", "")
    })
    .await;
    // Without DevTools, no Chromium window is narrower than 500 px, so the page itself is made narrower.
    browser.js("document.documentElement.style.width = '360px'; document.body.style.width = '360px';").await;
    let overflow =
        "return [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > 361)
                    .map((e) => e.tagName + '#' + e.id)";
    assert_eq!(browser.js(overflow).await, json!([]), "nothing is wider than a phone");
    let unlabelled = "return [...document.querySelectorAll('input')].filter((e) => e.labels.length === 0).length";
    assert_eq!(browser.js(unlabelled).await, 0, "each field has a label");
    browser.picture("page-phone").await;
    browser.end().await;
}
