//! A client that sends too much is told when to come back, and takes nothing from others.

use std::time::Duration;

use rollcall_testing::http::{Body, Client, Response};
use rollcall_testing::uploads::{MACRON, form, photo, problem};
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns a server behind a proxy on this machine, whose clients are told apart by what the proxy adds.
async fn behind_a_proxy(limits: &[(&str, &str)]) -> Rollcall {
    let options = RollcallOptions::default()
        .env("ROLLCALL__HTTP__PROXIES", "127.0.0.1")
        .env("ROLLCALL__HTTP__ANONYMOUS", "upload");
    Rollcall::start(limits.iter().fold(options, |options, (key, value)| options.env(key, value))).await
}

/// Returns a client that is there at once, because it does not read the system's certificates: what a client may send grows with
/// the time.
fn client() -> Client {
    Client::plain()
}

async fn get(server: &Rollcall, path: &str, from: &str) -> Response {
    client().get(server.url(path)).header("X-Forwarded-For", from).send().await.expect("a response")
}

fn token(server: &Rollcall, role: &str) -> String {
    let output = server.run(&["token", "create", "--role", role]);
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn retry_after(response: &Response) -> u64 {
    response.headers()["retry-after"].to_str().expect("text").parse().expect("seconds")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_may_send_so_many_requests() {
    let server = behind_a_proxy(&[("ROLLCALL__HTTP__REQUESTS_PER_MINUTE", "6")]).await;
    for n in 0..6 {
        assert_eq!(get(&server, "/v1/session", "192.0.2.1").await.status(), 200, "request {n}");
    }
    let refused = get(&server, "/v1/session", "192.0.2.1").await;
    assert_eq!(refused.status(), 429);
    assert!((5..=10).contains(&retry_after(&refused)), "{}", retry_after(&refused));
    assert!(problem(refused).await["detail"].as_str().expect("text").contains("http.requests_per_minute"));
    // What a client claims itself is before what the proxy adds.
    assert_eq!(get(&server, "/v1/session", "203.0.113.77, 192.0.2.1").await.status(), 429);
    assert_eq!(get(&server, "/v1/session", "192.0.2.2").await.status(), 200, "another client");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(&server, path, "192.0.2.1").await.status(), 200, "{path}");
    }
    // Guesses of tokens count as well.
    let guess = async || {
        let request = client().get(server.url("/v1/people")).header("X-Forwarded-For", "192.0.2.3");
        request.bearer_auth("rollcall_guess").send().await.expect("a response").status().as_u16()
    };
    for _ in 0..6 {
        assert_eq!(guess().await, 401);
    }
    assert_eq!(guess().await, 429);
    // Each token is a client, from wherever it comes.
    let (first, second) = (token(&server, "read"), token(&server, "read"));
    let people = async |token: &str, from: &str| {
        let request = client().get(server.url("/v1/people")).header("X-Forwarded-For", from);
        request.bearer_auth(token).send().await.expect("a response").status().as_u16()
    };
    wait_until("the token is accepted", TIMEOUT, async || people(&first, "192.0.2.9").await == 200).await;
    let mut status = 200;
    for n in 0..6 {
        status = people(&first, &format!("192.0.2.{}", 100 + n)).await;
    }
    assert_eq!(status, 429);
    assert_eq!(people(&second, "192.0.2.105").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_may_upload_so_many_bytes() {
    let limits = [("ROLLCALL__HTTP__MAX_UPLOAD", "1MiB"), ("ROLLCALL__HTTP__UPLOAD_PER_MINUTE", "1MiB")];
    let server = behind_a_proxy(&limits).await;
    let jpeg = photo(MACRON);
    let upload = async |from: &str, body: Option<Vec<u8>>| {
        let request = client().post(server.url("/v1/recognitions")).header("X-Forwarded-For", from);
        let request = match body {
            Some(bytes) => request.header("Content-Type", "image/jpeg").body(bytes),
            None => request.multipart(form(&[("a.jpg", &jpeg)])),
        };
        request.send().await.expect("a response")
    };
    assert_eq!(upload("192.0.2.1", None).await.status(), 200);
    let large = upload("192.0.2.1", Some(vec![0; 600 << 10])).await;
    assert_ne!(large.status(), 429, "it fits");
    let refused = upload("192.0.2.1", Some(vec![0; 600 << 10])).await;
    assert_eq!(refused.status(), 429);
    assert!((10..=40).contains(&retry_after(&refused)), "{}", retry_after(&refused));
    assert!(problem(refused).await["detail"].as_str().expect("text").contains("http.upload_per_minute"));
    assert_eq!(upload("192.0.2.2", None).await.status(), 200, "another client");
    // Without a length, what has arrived is counted.
    let chunked = async || {
        let chunks = (0..7).map(|_| Ok::<_, std::io::Error>(vec![0; 100 << 10]));
        let request = client().post(server.url("/v1/recognitions")).header("X-Forwarded-For", "192.0.2.3");
        let body = Body::wrap_stream(futures_util::stream::iter(chunks));
        request.header("Content-Type", "image/jpeg").body(body).send().await.expect("a response").status().as_u16()
    };
    assert_ne!(chunked().await, 429);
    assert_eq!(chunked().await, 429);
    // Each token is a client, also from one address. What is sent is nearly all that fits, so that a second one does not fit
    // for most of a minute.
    let tokens = [token(&server, "upload"), token(&server, "upload")];
    let post = |path: &str| client().post(server.url(path)).header("X-Forwarded-For", "192.0.2.4");
    for token in &tokens {
        let signed_in =
            async || post("/v1/session").bearer_auth(token).send().await.expect("a response").status() == 200;
        wait_until("the token is accepted", TIMEOUT, signed_in).await;
    }
    let send = async |token: &str| {
        let request = post("/v1/recognitions").bearer_auth(token).header("Content-Type", "image/jpeg");
        request.body(vec![0; 1000 << 10]).send().await.expect("a response").status().as_u16()
    };
    for token in &tokens {
        assert_eq!((send(token).await, send(token).await), (415, 429), "no image, and then too much");
    }
    let without = upload("192.0.2.4", Some(vec![0; 1000 << 10])).await;
    assert_eq!(without.status(), 415, "who has no token is another client");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_proxies_that_are_named_state_the_address_of_a_client() {
    let limit = RollcallOptions::default().env("ROLLCALL__HTTP__REQUESTS_PER_MINUTE", "5");
    let others = limit.env("ROLLCALL__HTTP__PROXIES", "192.0.2.0/24").env("ROLLCALL__HTTP__ANONYMOUS", "upload");
    let server = Rollcall::start(others).await;
    for n in 0..5 {
        assert_eq!(get(&server, "/v1/session", &format!("198.51.100.{n}")).await.status(), 200);
    }
    assert_eq!(get(&server, "/v1/session", "198.51.100.9").await.status(), 429, "they are all one client");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_is_for_https_only_if_the_client_uses_it() {
    for (proxies, secure) in [("127.0.0.1", true), ("192.0.2.1", false)] {
        let options = RollcallOptions::default().env("ROLLCALL__HTTP__PROXIES", proxies);
        let server = Rollcall::start(options.env("ROLLCALL__HTTP__ANONYMOUS", "upload")).await;
        let token = token(&server, "read");
        let sign_in = async || {
            let request = client().post(server.url("/v1/session")).header("X-Forwarded-Proto", "https");
            request.bearer_auth(&token).send().await.expect("a response")
        };
        wait_until("the token is accepted", TIMEOUT, async || sign_in().await.status() == 200).await;
        let cookie = sign_in().await.headers()["set-cookie"].to_str().expect("text").to_owned();
        assert_eq!(cookie.contains("Secure"), secure, "{cookie}");
    }
}
