//! A token that was used is in no log, no error and no list of processes, and no worker has it.

use std::{fs, path::Path};

use rollcall_testing::http::{Client, multipart::Form};
use rollcall_testing::uploads::{MACRON, file, form, photo};
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};

const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
/// Of an example that nobody has added.
const IMAGE: &str = "6b135f5b-a365-8522-b1f1-4c9ac2dd0728";

/// Returns whether a file of any process that tells how it was started contains `secret`.
fn in_a_process(secret: &str, file: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("a list of processes").filter_map(|entry| entry.ok());
    let pids = processes.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()));
    pids.filter(|pid| contains(Path::new(&format!("/proc/{pid}/{file}")), secret)).collect()
}

fn contains(path: &Path, secret: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| memchr::memmem::find(&bytes, secret.as_bytes()).is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_in_no_log_no_error_and_no_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let options = RollcallOptions::default().log(&log).env("ROLLCALL__LOG__LEVEL", "trace");
    let mut server = Rollcall::start(options).await;
    let create = |gallery: &[&str]| {
        let created = server.run(&[&["token", "create", "--role", "admin"], gallery].concat());
        String::from_utf8(created.stdout).expect("text").trim().to_owned()
    };
    let (token, key) = (create(&[]), create(&["--gallery", "staff"]));
    let secrets = [&token[17..], &key[17..]];
    // As a user has it who starts a server and asks it.
    server.set_env("ROLLCALL_TOKEN", Some(&token));
    server.restart().await;

    let client = Client::new();
    let accepted = async || {
        let request = client.get(server.url("/v1/people")).bearer_auth(&token);
        request.send().await.expect("a response").status() == 200
    };
    wait_until("the token is accepted", TIMEOUT, accepted).await;
    let photo = photo(MACRON);
    let upload = || client.post(server.url("/v1/recognitions")).multipart(form(&[("a.jpg", &photo)]));
    let recognize = || {
        let form = Form::new().part("file", file("a.jpg", &photo));
        client.post(server.url("/api/v1/recognition/recognize")).multipart(form)
    };
    let subjects = || client.get(server.url("/api/v1/recognition/subjects"));
    let image = |key: &str| client.get(server.url(&format!("/api/v1/static/{key}/images/{IMAGE}")));
    let mut said = String::new();
    for (request, status) in [
        (subjects().header("x-api-key", &token), 200),
        (subjects().header("x-api-key", &key), 200),
        (recognize().header("x-api-key", &token), 200),
        (recognize().header("x-api-key", &key), 200),
        (image(&token), 404),
        (image(&key), 404),
        (image(&format!("{token}x")), 400),
        (image(&format!("{key}x")), 400),
        (image(&key).header("Host", "evil.example"), 421),
        (client.get(server.url(&format!("/api/v1/static/{key}/nothing"))), 404),
        (client.post(server.url(&format!("/api/v1/static/{key}/images/{IMAGE}"))), 404),
        (subjects().header("x-api-key", format!("{key}x")), 400),
        (subjects().bearer_auth(&key), 400),
        (client.get(server.url("/v1/people")).bearer_auth(&key), 403),
        (upload().bearer_auth(&token), 200),
        (upload().header("Cookie", format!("rollcall-token={token}")), 200),
        // Where no token belongs, and is refused.
        (client.get(server.url(&format!("/v1/people?token={token}"))), 401),
        (client.get(server.url("/v1/recognitions/x")).bearer_auth(&token), 400),
        (client.get(server.url("/v1/people")).bearer_auth(format!("{token}x")), 401),
        (client.get(server.url("/v1/people")).header("Authorization", format!("Basic {token}")), 401),
        (client.get(server.url("/v1/people")).header("Cookie", format!("rollcall-token={token}x")), 401),
        (client.get(server.url("/metrics")).bearer_auth(&token), 200),
        (client.get(server.url("/v1/fleet")).bearer_auth(&token), 200),
    ] {
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), status, "{}", response.url().path());
        said += &response.text().await.expect("text");
    }
    let workers = {
        let fleet = client.get(server.url("/v1/fleet")).bearer_auth(&token).send().await.expect("a response");
        let fleet: serde_json::Value = fleet.json().await.expect("JSON");
        fleet["instances"].as_array().expect("instances").iter().filter_map(|i| i["pid"].as_u64()).collect::<Vec<_>>()
    };
    assert!(!workers.is_empty());
    for command in
        [&["fleet", "status"][..], &["dead", "list"], &["token", "list"], &["audit"], &["config", "show"], &["doctor"]]
    {
        let output = server.run(command);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        said += &(String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr));
    }
    assert!(fs::metadata(&log).expect("a log").len() > 10_000, "there is a log");
    for secret in secrets {
        assert!(!said.contains(secret), "{said}");
        assert!(!contains(&log, secret), "the log");
        assert!(in_a_process(secret, "cmdline").is_empty());
    }
    let with_variable = secrets.map(|secret| in_a_process(secret, "environ"));
    assert_eq!(with_variable, [vec![server.pid()], vec![]], "the user gave one to this process, and it to no other");
}
