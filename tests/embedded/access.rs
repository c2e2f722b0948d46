//! Nobody is let in without the role that a route needs, by whatever name or page they come.

use std::{fs, process::Command};

use rollcall_testing::http::{Client, Method, RequestBuilder};
use rollcall_testing::uploads::{MACRON, file, form, photo, problem};
use rollcall_testing::{Rollcall, RollcallOptions, program};
use serde_json::{Value, json};

/// Runs the program with the server's data folder, and returns its standard output.
fn rollcall(server: &Rollcall, args: &[&str]) -> String {
    let output = Command::new(program()).args(args).env("ROLLCALL__LOCAL__DATA_DIR", server.data_dir()).output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn create(server: &Rollcall, role: &str) -> String {
    rollcall(server, &["token", "create", "--role", role, "--label", "test"])
}

const ID: &str = "01M864JVNGTP55MXPP8BHGACKE";

/// Every route with a method, and the status of a request without a token and with the roles `upload`, `read` and `admin`.
fn routes() -> Vec<(Method, String, [u16; 4])> {
    let (get, head, post, delete) = (Method::GET, Method::HEAD, Method::POST, Method::DELETE);
    let result = format!("/v1/recognitions/{ID}");
    let letter = format!("/v1/dead-letters/{ID}");
    [
        (get.clone(), "/", [200, 200, 200, 200]),
        (head.clone(), "/", [200, 200, 200, 200]),
        (get.clone(), "/api", [200, 200, 200, 200]),
        (get.clone(), "/v1/openapi.json", [200, 200, 200, 200]),
        (get.clone(), "/fleet", [200, 200, 200, 200]),
        (head.clone(), "/fleet", [200, 200, 200, 200]),
        (get.clone(), "/assets/page.js", [200, 200, 200, 200]),
        (get.clone(), "/healthz", [200, 200, 200, 200]),
        (head.clone(), "/healthz", [200, 200, 200, 200]),
        (get.clone(), "/readyz", [200, 200, 200, 200]),
        (head, "/readyz", [200, 200, 200, 200]),
        (get.clone(), "/v1/session", [200, 200, 200, 200]),
        (post.clone(), "/v1/session", [401, 200, 200, 200]),
        (delete.clone(), "/v1/session", [204, 204, 204, 204]),
        (post.clone(), "/", [401, 200, 403, 200]),
        (post.clone(), "/v1/recognitions", [401, 200, 403, 200]),
        (get.clone(), &result, [401, 404, 404, 404]),
        (delete.clone(), &result, [401, 403, 403, 204]),
        (get.clone(), "/v1/people", [401, 403, 200, 200]),
        (post.clone(), "/v1/people", [401, 403, 403, 400]),
        (delete.clone(), "/v1/people/Ada", [401, 403, 403, 404]),
        (post.clone(), "/v1/people/Ada/rejections", [401, 403, 403, 404]),
        (get.clone(), "/v1/galleries", [401, 403, 200, 200]),
        (get.clone(), "/v1/dead-letters", [401, 403, 403, 200]),
        (get.clone(), &letter, [401, 403, 403, 404]),
        (post.clone(), &letter, [401, 403, 403, 404]),
        (delete.clone(), &letter, [401, 403, 403, 404]),
        (get.clone(), "/v1/backup", [401, 403, 403, 200]),
        (get.clone(), "/v1/fleet", [401, 403, 200, 200]),
        (get.clone(), "/v1/fleet/decisions", [401, 403, 200, 200]),
        (get.clone(), "/v1/fleet/history?range=15m", [401, 403, 200, 200]),
        (get.clone(), "/v1/events", [401, 403, 200, 200]),
        (get.clone(), "/metrics", [401, 403, 200, 200]),
        (get, "/v1/nothing", [401, 403, 403, 404]),
        (Method::PUT, "/v1/people", [401, 403, 403, 405]),
    ]
    .map(|(method, path, statuses)| (method, path.to_owned(), statuses))
    .to_vec()
}

/// Returns a request to a route; with a photo where one is uploaded.
fn request(server: &Rollcall, method: &Method, path: &str) -> RequestBuilder {
    let request = Client::new().request(method.clone(), server.url(path));
    match (method, path) {
        (&Method::POST, "/" | "/v1/recognitions") => request.multipart(form(&[("a.jpg", &photo(MACRON))])),
        (&Method::POST, "/v1/people" | "/v1/people/Ada/rejections") => {
            request.multipart(reqwest::multipart::Form::new().part("photos", file("a.jpg", &photo(MACRON))))
        }
        _ => request,
    }
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.expect("a response").status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_needs_its_role() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    assert_eq!(status(request(&server, &Method::GET, "/v1/people")).await, 200, "on loopback without tokens");
    let tokens = ["upload", "read", "admin"].map(|role| create(&server, role));
    let revoked = create(&server, "admin");
    let people = async |token: &str| status(request(&server, &Method::GET, "/v1/people").bearer_auth(token)).await;
    let until = std::time::Duration::from_secs(30);
    rollcall_testing::wait_until("the token is accepted", until, async || people(&revoked).await == 200).await;
    let listed = rollcall(&server, &["token", "list"]);
    let id = listed.lines().last().and_then(|line| line.split(' ').next()).expect("an id");
    rollcall(&server, &["token", "revoke", id]);
    rollcall_testing::wait_until("the token is refused", until, async || people(&revoked).await == 401).await;

    for (method, path, statuses) in routes() {
        let [without, with_role @ ..] = statuses;
        for (token, expected) in tokens.iter().zip(with_role) {
            let status = status(request(&server, &method, &path).bearer_auth(token)).await;
            assert_eq!(status, expected, "{method} {path} with {}", &token[..17]);
            let cookie = format!("rollcall-token={token}");
            let by_cookie = request(&server, &method, &path).header("Cookie", cookie).send().await.expect("a response");
            let deleted = path.contains(ID) && method == Method::DELETE && expected == 204;
            let again = if deleted { 404 } else { expected };
            assert_eq!(by_cookie.status().as_u16(), again, "{method} {path} by cookie");
        }
        let forged = format!("{}AAAAAAAA", &tokens[2][..tokens[2].len() - 8]);
        for wrong in [None, Some(revoked.as_str()), Some(&forged), Some("x")] {
            let request = request(&server, &method, &path);
            let request = wrong.iter().fold(request, |request, token| request.bearer_auth(token));
            let response = request.send().await.expect("a response");
            assert_eq!(response.status().as_u16(), without, "{method} {path} with {wrong:?}");
            if without == 401 {
                assert_eq!(response.headers()["www-authenticate"], "Bearer");
            }
        }
        let evil = request(&server, &method, &path).bearer_auth(&tokens[2]).header("Origin", "http://evil.example");
        let response = evil.send().await.expect("a response");
        if [Method::GET, Method::HEAD].contains(&method) {
            let allowed = response.headers().keys().any(|name| name.as_str().starts_with("access-control-"));
            assert!(!allowed, "{method} {path}: no browser lets a page of another origin read it");
        } else {
            assert_eq!(response.status().as_u16(), 403, "{method} {path} from another origin");
        }
        let evil = request(&server, &method, &path).bearer_auth(&tokens[2]).header("Host", "evil.example");
        assert_eq!(status(evil).await, 421, "{method} {path} by another host");
    }
}

#[test]
fn the_table_has_every_route_with_every_method() {
    let known = routes();
    let is_at = |route: &str, path: &str| {
        let (route, path) = (route.split('/'), path.split('?').next().unwrap_or(path).split('/'));
        let same = |(part, given): (&str, &str)| if part.starts_with('{') { !given.is_empty() } else { part == given };
        route.clone().count() == path.clone().count() && route.zip(path).all(same)
    };
    for (route, methods) in rollcall::ROUTES {
        for method in methods.split(", ") {
            let listed = known.iter().any(|(m, path, _)| m.as_str() == method && is_at(route, path));
            assert!(listed, "{method} {route} is not in the table of this test");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_a_cookie_that_scripts_and_other_sites_cannot_use() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let token = create(&server, "read");
    let session = async |request: RequestBuilder| -> Value {
        request.send().await.expect("a response").json().await.expect("JSON")
    };
    let get = || Client::new().get(server.url("/v1/session"));
    let on = async || session(get()).await == json!({ "access_control": true, "role": null, "anonymous": null });
    rollcall_testing::wait_until("there is access control", std::time::Duration::from_secs(30), on).await;
    let signed_in = Client::new().post(server.url("/v1/session")).bearer_auth(&token).send().await.expect("a response");
    let cookie = signed_in.headers()["set-cookie"].to_str().expect("text").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{part} in {cookie}");
    }
    let value = cookie.split(';').next().expect("a value").to_owned();
    assert_eq!(session(get().header("Cookie", value)).await["role"], "read");
    let wrong = Client::new().post(server.url("/v1/session")).bearer_auth("nonsense").send().await.expect("a response");
    assert_eq!(problem(wrong).await["status"], 401);
    let out = Client::new().delete(server.url("/v1/session")).send().await.expect("a response");
    assert!(out.headers()["set-cookie"].to_str().expect("text").contains("Max-Age=0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_in_no_file() {
    let mut server = Rollcall::start(RollcallOptions::default()).await;
    let token = create(&server, "admin");
    let secret = &token[17..];
    let allowed = async || status(request(&server, &Method::GET, "/v1/people").bearer_auth(&token)).await == 200;
    rollcall_testing::wait_until("the token is accepted", std::time::Duration::from_secs(30), allowed).await;
    status(request(&server, &Method::POST, "/v1/recognitions").bearer_auth(&token)).await;
    let folder = server.data_dir().to_owned();
    server.kill9();
    let mut folders = vec![folder];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                files += 1;
                let content = fs::read(&path).expect("a file");
                assert!(!content.windows(secret.len()).any(|part| part == secret.as_bytes()), "{}", path.display());
            }
        }
    }
    assert!(files > 3, "{files} files");
}

#[test]
fn an_address_that_others_can_reach_is_not_served_without_tokens() {
    let data = tempfile::tempdir().expect("a folder");
    let up = |variables: &[(&str, &str)]| {
        let mut command = Command::new("timeout");
        command.args(["3", &program(), "up"]).env("ROLLCALL__LOCAL__DATA_DIR", data.path());
        command.env("ROLLCALL__HTTP__LISTEN", "0.0.0.0:0").envs(variables.iter().copied());
        let output = command.output().expect("the program starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = up(&[]);
    assert_eq!(code, Some(1), "{error}");
    for part in ["rollcall token create", "http.anonymous", "127.0.0.1"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    // The second one may be behind a proxy of this machine.
    for address in ["0.0.0.0:0", "127.0.0.1:0"] {
        let (code, log) = up(&[("ROLLCALL__HTTP__ANONYMOUS", "upload"), ("ROLLCALL__HTTP__LISTEN", address)]);
        assert_eq!(code, Some(124), "it runs until it is stopped: {log}");
        assert!(log.contains("everyone who can reach this address may upload"), "{log}");
    }
    let mut create = Command::new(program());
    create.args(["token", "create", "--role", "read"]).env("ROLLCALL__LOCAL__DATA_DIR", data.path());
    assert!(create.output().expect("the program starts").status.success());
    assert_eq!(up(&[]).0, Some(124));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_on_this_machine_makes_no_request_local() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let people = || request(&server, &Method::GET, "/v1/people");
    assert_eq!(status(people()).await, 200);
    for header in ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"] {
        assert_eq!(status(people().header(header, "x")).await, 401, "{header}");
    }
    let mut known = RollcallOptions::default().env("ROLLCALL__HTTP__HOSTS", "faces.example");
    known = known.env("ROLLCALL__HTTP__ANONYMOUS", "upload");
    let server = Rollcall::start(known).await;
    for (host, expected) in [("faces.example", 401), ("localhost", 401), ("evil.example", 421)] {
        let people = request(&server, &Method::GET, "/v1/people").header("Host", host);
        assert_eq!(status(people).await, expected, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_uploads_are_a_setting_and_allow_nothing_else() {
    let server = Rollcall::start(RollcallOptions::default().env("ROLLCALL__HTTP__ANONYMOUS", "upload")).await;
    create(&server, "admin");
    let on = async || status(request(&server, &Method::GET, "/v1/people")).await == 401;
    rollcall_testing::wait_until("there is access control", std::time::Duration::from_secs(30), on).await;
    for (method, path, statuses) in routes() {
        let [without, uploader, ..] = statuses;
        let expected = if uploader == 403 || path == "/v1/session" { without } else { uploader };
        assert_eq!(status(request(&server, &method, &path)).await, expected, "{method} {path}");
        // A cookie that was left behind takes nothing away.
        let stale = request(&server, &method, &path).header("Cookie", "rollcall-token=stale");
        assert_eq!(status(stale).await, expected, "{method} {path} with a stale cookie");
    }
    let session =
        rollcall_testing::http::get(server.url("/v1/session")).await.expect("a response").json::<Value>().await;
    let expected = json!({ "access_control": true, "role": null, "anonymous": "upload" });
    assert_eq!(session.expect("JSON"), expected);
}
