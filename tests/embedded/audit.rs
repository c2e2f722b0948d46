//! The audit log says who has changed, deleted or looked at whom, and contains no name.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, time::Duration};

use rollcall_testing::http::{Client, Method, RequestBuilder, multipart::Form};
use rollcall_testing::uploads::{MACRON, STRANGER, file, form, photo, post, problem};
use rollcall_testing::{Rollcall, RollcallOptions, program, wait_until};
use serde_json::{Value, json};

const NAME: &str = "Emmanuel Zebulon";
const FILE: &str = "emmanuel-at-the-entrance.jpg";
const ID: &str = "01M864JVNGTP55MXPP8BHGACKE";
const TIMEOUT: Duration = Duration::from_secs(60);

fn path(server: &Rollcall) -> PathBuf {
    server.data_dir().join("audit.jsonl")
}

fn entries(server: &Rollcall) -> Vec<Value> {
    let text = fs::read_to_string(path(server)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Runs the program with the server's data folder. Returns whether it has succeeded, and its output.
fn rollcall(server: &Rollcall, args: &[&str]) -> (bool, String) {
    let output = Command::new(program()).args(args).env("ROLLCALL__LOCAL__DATA_DIR", server.data_dir()).output();
    let output = output.expect("the program starts");
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).expect("text"))
}

fn create_token(server: &Rollcall, role: &str) -> String {
    let (done, text) = rollcall(server, &["token", "create", "--role", role]);
    assert!(done, "{text}");
    text.lines().find(|line| line.starts_with("rollcall_")).expect("a token").to_owned()
}

/// Returns the requests that change or return what is stored of people, with their actions and statuses.
fn audited_requests(server: &Rollcall, result: &str) -> Vec<(RequestBuilder, String, u16, bool)> {
    let request = |method: &Method, path: &str| Client::new().request(method.clone(), server.url(path));
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    let person = Form::new().text("name", NAME).part("photos", file(FILE, &photo(MACRON)));
    let unknown = format!("/v1/recognitions/{ID}");
    let letter = format!("/v1/dead-letters/{ID}");
    let erase = "/v1/people/Emmanuel%20Zebulon";
    let (reject, another) = (format!("{erase}/rejections"), Form::new().part("photos", file(FILE, &photo(STRANGER))));
    let changes = true;
    vec![
        (request(&post, "/v1/people").multipart(person), "POST /v1/people".into(), 201, changes),
        (request(&post, &reject).multipart(another), "POST /v1/people/{name}/rejections".into(), 201, changes),
        (request(&get, result), "GET /v1/recognitions/{id}".into(), 200, !changes),
        (request(&get, "/v1/people"), "GET /v1/people".into(), 200, !changes),
        (request(&get, "/v1/galleries"), "GET /v1/galleries".into(), 200, !changes),
        (request(&get, "/v1/dead-letters"), "GET /v1/dead-letters".into(), 200, !changes),
        (request(&get, &letter), "GET /v1/dead-letters/{id}".into(), 404, !changes),
        (request(&post, &letter), "POST /v1/dead-letters/{id}".into(), 404, changes),
        (request(&delete, &letter), "DELETE /v1/dead-letters/{id}".into(), 404, changes),
        (request(&delete, &unknown), "DELETE /v1/recognitions/{id}".into(), 204, changes),
        (request(&delete, erase), "DELETE /v1/people/{name}".into(), 204, changes),
        (request(&delete, &format!("{erase}?results=true")), "DELETE /v1/people/{name}".into(), 200, changes),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_an_administrator_writes_a_line_without_a_name_or_a_secret() {
    let mut server = Rollcall::start(RollcallOptions::default()).await;
    let person = Form::new().text("name", NAME).part("photos", file(FILE, &photo(MACRON)));
    assert_eq!(post(&server.url("/v1/people"), person).await.status(), 201);
    let body: Value =
        post(&server.url("/v1/recognitions"), form(&[(FILE, &photo(MACRON))])).await.json().await.expect("JSON");
    assert_eq!(body["label"], NAME);
    let result = format!("/v1/recognitions/{}", body["id"].as_str().expect("an id"));
    let stored = async || rollcall_testing::http::get(server.url(&result)).await.expect("a response").status() == 200;
    wait_until("the result is stored", TIMEOUT, stored).await;
    let token = create_token(&server, "admin");
    let accepted = async || {
        let people = Client::new().get(server.url("/v1/fleet")).send().await.expect("a response");
        people.status() == 401
    };
    wait_until("tokens are needed", TIMEOUT, accepted).await;
    wait_until("the looks so far are written", TIMEOUT, async || {
        entries(&server).iter().any(|entry| entry["action"] == "GET /v1/recognitions/{id}" && entry["outcome"] == 200)
    })
    .await;

    let id = &token["rollcall_".len()..][..8];
    let by = json!({ "token": { "id": id, "role": "admin" } });
    let mut everything = entries(&server);
    let added = everything.iter().find(|entry| entry["outcome"] == 201).expect("the person was added");
    assert_eq!(added["by"], "local", "without a token");
    let person = added["people"].clone();
    for (request, action, status, changes) in audited_requests(&server, &result) {
        let request = request.bearer_auth(&token).header("X-Forwarded-For", "203.0.113.9, 10.0.0.1");
        assert_eq!(request.send().await.expect("a response").status().as_u16(), status, "{action}");
        let seen = everything.len();
        let expected = if changes { 2 } else { 1 };
        wait_until(&action, TIMEOUT, async || entries(&server).len() >= seen + expected).await;
        everything = entries(&server);
        assert_eq!(everything.len(), seen + expected, "{action}");
        let new = &everything[seen..];
        let outcomes: Vec<Value> = new.iter().map(|entry| entry["outcome"].clone()).collect();
        assert_eq!(outcomes, if changes { vec![json!("begun"), json!(status)] } else { vec![json!(status)] });
        for entry in new {
            assert_eq!((&entry["action"], &entry["by"]), (&json!(action), &by));
            assert_eq!(entry["from"], "127.0.0.1", "the claim of a proxy that is not named does not count");
            let at = entry["at"].as_str().expect("a time");
            assert!(at.starts_with("20") && at.ends_with('Z'), "{at}");
        }
        let ended = new.last().expect("an entry");
        match action.as_str() {
            "GET /v1/people" => assert_eq!((&ended["everybody"], &ended["gallery"]), (&json!(true), &json!("default"))),
            "POST /v1/people" | "GET /v1/recognitions/{id}" => assert_eq!(ended["people"], person, "{action}"),
            "DELETE /v1/people/{name}" | "POST /v1/people/{name}/rejections" => {
                assert_eq!(new[0]["people"], person, "known before it begins")
            }
            "DELETE /v1/recognitions/{id}" => assert_eq!(ended["id"], ID),
            _ => {}
        }
    }
    // What is not of people is not audited: uploads, the fleet, metrics.
    let nothing = format!("/v1/recognitions/{ID}"); // a client that asks until its result is there sees nobody
    for path in ["/v1/fleet", "/metrics", "/healthz", &nothing] {
        Client::new().get(server.url(path)).bearer_auth(&token).send().await.expect("a response");
    }
    // Entries are written in order, so when that of a later look is there, those before would be.
    let people = Client::new().get(server.url("/v1/people")).bearer_auth(&token).send().await.expect("a response");
    assert_eq!(people.status(), 200);
    wait_until("the later look is written", TIMEOUT, async || entries(&server).len() > everything.len()).await;
    assert_eq!(entries(&server).len(), everything.len() + 1);
    server.kill9();
    let text = fs::read_to_string(path(&server)).expect("the log");
    let photo_name = FILE.trim_end_matches(".jpg");
    for secret in [NAME, "Emmanuel", "Zebulon", photo_name, &token, &token["rollcall_".len() + 9..]] {
        assert!(!text.contains(secret), "{secret}");
    }
    let mode = fs::metadata(path(&server)).expect("the log").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_audited_is_not_changed_and_uploads_and_looks_go_on() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let person = || Form::new().text("name", NAME).part("photos", file(FILE, &photo(MACRON)));
    assert_eq!(post(&server.url("/v1/people"), person()).await.status(), 201);
    let listed = async || -> usize {
        let people: Value = rollcall_testing::http::get(server.url("/v1/people"))
            .await
            .expect("a response")
            .json()
            .await
            .expect("JSON");
        people["people"].as_array().expect("a list").len()
    };
    assert_eq!(listed().await, 1);
    // A folder in place of the file: it cannot be written.
    let log = path(&server);
    fs::rename(&log, log.with_extension("away")).expect("moved");
    fs::create_dir(&log).expect("a folder");
    let url = server.url("/v1/people/Emmanuel%20Zebulon");
    let refused = problem(Client::new().delete(&url).send().await.expect("a response")).await;
    assert_eq!(refused["status"], 503);
    assert!(refused["detail"].as_str().expect("text").contains("audit log"), "{refused}");
    assert_eq!(problem(post(&server.url("/v1/people"), person()).await).await["status"], 503);
    let (done, text) = rollcall(&server, &["gallery", "remove", NAME]);
    assert!(!done && text.contains("audit log"), "{text}");
    assert_eq!(listed().await, 1, "nothing was changed");
    let upload = post(&server.url("/v1/recognitions"), form(&[(FILE, &photo(MACRON))])).await;
    assert_eq!(upload.status(), 200);

    fs::remove_dir(&log).expect("removed");
    let removed = async || Client::new().delete(&url).send().await.expect("a response").status() == 204;
    wait_until("the log is written again", TIMEOUT, removed).await;
    let list_entry = |entry: &Value| entry["action"] == "GET /v1/people" && entry["outcome"] == 200;
    wait_until("looks are written later", TIMEOUT, async || entries(&server).iter().any(list_entry)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shows_what_concerns_a_person() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    for (name, gallery) in [(NAME, ""), ("Ada", ""), (NAME, "?gallery=staff")] {
        let person = Form::new().text("name", name).part("photos", file(FILE, &photo(MACRON)));
        assert_eq!(post(&server.url(&format!("/v1/people{gallery}")), person).await.status(), 201);
    }
    let show = |args: &[&str]| -> Vec<String> {
        let (done, text) = rollcall(&server, &[&["audit"], args].concat());
        assert!(done, "{text}");
        text.lines().map(str::to_owned).collect()
    };
    wait_until("everything is written", TIMEOUT, async || show(&[]).len() == 6).await;
    let (done, text) = rollcall(&server, &["gallery", "forget", NAME, "--gallery", "staff"]);
    assert!(done, "{text}");
    let of = |args: &[&str]| show(&[&["--person", NAME], args].concat());
    let default = of(&[]);
    assert_eq!(default.len(), 1, "{default:?}");
    assert!(default[0].contains("local from 127.0.0.1: POST /v1/people 201 gallery=default person="), "{default:?}");
    let staff = of(&["--gallery", "staff"]);
    assert_eq!(staff.len(), 3, "{staff:?}");
    for (line, outcome) in staff[1..].iter().zip(["begun", "done"]) {
        assert!(line.contains(&format!(": rollcall gallery forget {outcome} gallery=staff person=")), "{line}");
        assert!(line.contains("Z user "), "{line}");
    }
    assert_eq!(of(&["--since", "1h"]).len(), 1);
    assert_eq!(of(&["--since", "9999-01-01T00:00:00Z"]).len(), 0);
    let json: Vec<Value> = of(&["--json"]).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(json[0]["people"].as_array().map(Vec::len), Some(1));
    assert_eq!(show(&["--person", "Nobody"]).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_expire_after_their_own_retention_unless_they_are_kept_for_ever() {
    for (days, kept) in [("365", false), ("0", true)] {
        let options = RollcallOptions::default().env("ROLLCALL__AUDIT__RETENTION_DAYS", days);
        let mut server = Rollcall::start(options).await;
        let old = server.data_dir().join("audit-2020-01-01.jsonl");
        fs::write(&old, "{}\n").expect("written");
        let person = Form::new().text("name", NAME).part("photos", file(FILE, &photo(MACRON)));
        assert_eq!(post(&server.url("/v1/people"), person).await.status(), 201);
        wait_until("the entries are written", TIMEOUT, async || entries(&server).len() == 2).await;
        server.restart().await;
        if kept {
            assert_eq!(rollcall_testing::http::get(server.url("/v1/people")).await.expect("a response").status(), 200);
            wait_until("the log is in use", TIMEOUT, async || entries(&server).len() == 3).await;
        } else {
            wait_until("the old entries are deleted", TIMEOUT, async || !old.exists()).await;
        }
        assert_eq!(old.exists(), kept);
        assert!(entries(&server).len() >= 2, "new entries stay");
    }
}
