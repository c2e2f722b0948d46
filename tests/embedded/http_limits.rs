//! Whatever is uploaded, the response is clear, memory stays bounded, and the next good upload works.

use std::{process::Stdio, time::Duration};

use futures_util::{future::join_all, stream};
use image::{DynamicImage, GrayImage, ImageFormat};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rollcall_testing::http::{Body, Client, multipart::Form};
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions, free_port, peak_memory, program, wait_until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    process::Command,
    task::JoinSet,
};

const TIMEOUT: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;
/// How much the parent's peak memory may grow beyond that of one good upload: far less than the tests send.
const GROWTH: usize = 160 * MIB;

async fn start() -> Rollcall {
    let options = RollcallOptions::default().enroll(KNOWN).env("ROLLCALL__HTTP__UPLOAD_TIMEOUT", "2s");
    Rollcall::start(options).await
}

async fn assert_still_works(server: &Rollcall) {
    let response = status_and_text(post(&server.url("/"), form(&[("photo.jpg", &photo(ARDERN))])).await).await;
    assert_eq!(response, (200, "Jacinda_Ardern".to_owned()));
}

/// Returns a PNG whose header claims `side` × `side` pixels.
fn png_claiming(side: u32) -> Vec<u8> {
    let mut png = encode(GrayImage::new(8, 8).into(), ImageFormat::Png);
    // Signature 8, length 4, "IHDR" 4, then width and height. The CRC is that of the 17 bytes from the type on.
    png[16..20].copy_from_slice(&side.to_be_bytes());
    png[20..24].copy_from_slice(&side.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    png
}

/// Returns the CRC-32 of PNG (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 })
    })
}

/// Returns a multipart body of `size` bytes without a Content-Length.
fn endless(size: usize) -> Body {
    let head = "--x\r\nContent-Disposition: form-data; name=\"myfile\"; filename=\"big.jpg\"\r\n\r\n";
    let chunk = bytes::Bytes::from(vec![7; 64 << 10]);
    let chunks = (0..size / chunk.len()).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
    let body = std::iter::once(Ok(bytes::Bytes::from_static(head.as_bytes()))).chain(chunks);
    Body::wrap_stream(stream::iter(body))
}

/// Sends bytes as they are, and returns everything that comes back.
async fn raw(server: &Rollcall, bytes: &[u8]) -> String {
    let address = server.url("").trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("connects");
    stream.write_all(bytes).await.expect("sends");
    let mut response = String::new();
    let read = tokio::time::timeout(TIMEOUT, stream.read_to_string(&mut response)).await;
    read.expect("the server ends the connection").expect("a response, not a reset");
    response
}

/// Sends bytes as they are, and one more every 100 ms for as long as the server reads them. Returns what comes back
/// first.
async fn trickle(server: &Rollcall, bytes: &[u8]) -> String {
    let address = server.url("").trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("connects");
    stream.write_all(bytes).await.expect("sends");
    let mut buffer = vec![0; 1024];
    for _ in 0..200 {
        match tokio::time::timeout(Duration::from_millis(100), stream.read(&mut buffer)).await {
            Ok(read) => return String::from_utf8_lossy(&buffer[..read.expect("a response")]).into_owned(),
            Err(_) => stream.write_all(b"x").await.expect("sends"),
        }
    }
    String::new()
}

#[tokio::test]
async fn oversized_uploads_are_refused_with_the_limit_and_memory_is_bounded() {
    // Large uploads may take a while.
    let server = Rollcall::start(RollcallOptions::default().enroll(KNOWN)).await;
    assert_still_works(&server).await;
    let before = peak_memory(server.pid());

    let big = vec![7; 64 * MIB];
    let (status, line) = status_and_text(post(&server.url("/"), form(&[("big.jpg", &big)])).await).await;
    assert_eq!(status, 413);
    assert!(line.contains("20.0 MiB"), "the limit is stated: {line}");
    assert_eq!(problem(post(&server.url("/v1/recognitions"), form(&[("big.jpg", &big)])).await).await["status"], 413);
    drop(big);

    let chunked = (0..4).map(|_| async {
        let request = Client::new().post(server.url("/")).header("Content-Type", "multipart/form-data; boundary=x");
        request.body(endless(64 * MIB)).send().await.expect("a response, not a reset").status().as_u16()
    });
    assert_eq!(join_all(chunked).await, [413; 4], "counted while it streams");

    let many: Vec<String> = (0..101).map(|i| format!("{i}.jpg")).collect();
    let files: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
    let (status, line) = status_and_text(post(&server.url("/"), form(&files)).await).await;
    assert!(status == 413 && line.contains("100 files"), "{status} {line}");

    assert_still_works(&server).await;
    let grown = peak_memory(server.pid()) - before;
    assert!(grown < GROWTH, "the peak grew by {} MiB", grown / MIB);
}

#[tokio::test]
async fn unusable_images_are_refused_with_a_status_per_cause() {
    let server = start().await;
    assert_still_works(&server).await;
    let before = peak_memory(server.pid());
    let whole = photo(MACRON);
    let huge = encode(DynamicImage::new_luma8(10_000, 10_000), ImageFormat::Png);
    let png = faceless(320, 240);
    let cases: [(&str, &[u8], u16); 8] = [
        ("a truncated PNG, which only decoding shows", &png[..png.len() / 2], 422),
        ("a text called .jpg", b"Dear Sir or Madam", 415),
        ("a truncated JPEG", &whole[..whole.len() / 2], 422),
        ("a JPEG of three bytes", &whole[..3], 422),
        ("10,000 x 10,000 pixels", &huge, 413),
        ("a bomb: 40 bytes that claim 3.6 gigapixels", &png_claiming(60_000), 413),
        ("an SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
        ("an empty file", b"", 400),
    ];
    for (what, bytes, status) in cases {
        let body = problem(post(&server.url("/v1/recognitions"), form(&[("photo.jpg", bytes)])).await).await;
        assert_eq!(body["status"], status, "{what}: {body}");
        let (plain, line) = status_and_text(post(&server.url("/"), form(&[("photo.jpg", bytes)])).await).await;
        assert!(plain == status && line.lines().count() == 1, "{what}: {plain} {line}");
    }
    assert_still_works(&server).await;
    let grown = peak_memory(server.pid()) - before;
    assert!(grown < GROWTH, "the peak grew by {} MiB", grown / MIB);
}

#[tokio::test]
async fn the_error_for_a_request_without_a_file_says_how_to_send_one() {
    let server = start().await;
    let empty = Client::new().post(server.url("/")).send().await.expect("a response");
    let missing = post(&server.url("/"), Form::new().text("comment", "hello")).await;
    let not_a_form = Client::new().post(server.url("/")).body("photo").header("Content-Type", "text/plain");
    let not_a_form = not_a_form.send().await.expect("a response");
    for (what, response, expected) in
        [("an empty body", empty, 400), ("a missing field", missing, 400), ("not a form", not_a_form, 415)]
    {
        let (status, line) = status_and_text(response).await;
        assert!(status == expected && line.contains("myfile"), "{what}: {status} {line}");
    }
    let cut = raw(
        &server,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=x\r\n\
          Content-Length: 5\r\n\r\n--x\r\n",
    );
    assert!(cut.await.starts_with("HTTP/1.1 400"));
    assert_still_works(&server).await;
}

#[tokio::test]
async fn a_file_name_cannot_leave_its_folder() {
    let server = start().await;
    for (name, safe) in [("../../../escape.jpg", "escape.jpg"), ("..\\..\\win.jpg", "win.jpg"), ("..", "upload")] {
        let response = post(&server.url("/v1/recognitions"), form(&[(name, &photo(ARDERN))])).await;
        let body: serde_json::Value = response.json().await.expect("JSON");
        assert_eq!((&body["file"], &body["label"]), (&safe.into(), &"Jacinda_Ardern".into()), "{name}");
    }
    let outside = server.data_dir().parent().expect("a parent").join("escape.jpg");
    assert!(!outside.exists());
}

#[tokio::test]
async fn a_too_large_content_length_is_refused_before_the_body_is_sent() {
    let server = start().await;
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 100000000\r\n\r\n";
    let response = raw(&server, head.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 413"), "{response}");
}

#[tokio::test]
async fn slow_uploads_time_out() {
    let server = start().await;
    let slow_body = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n\
                     Content-Length: 100000\r\n\r\n--x\r\n";
    let response = raw(&server, slow_body.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 408"), "{response}");
    assert!(response.contains("did not arrive within 2 s"), "{response}");
    let response = trickle(&server, slow_body.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 408"), "an occasional byte is no progress: {response}");
    let response = raw(&server, b"POST / HTTP/1.1\r\nHost: loc").await;
    assert!(response.starts_with("HTTP/1.1 408"), "a slow head: {response}");
    assert_still_works(&server).await;
}

/// Returns whether a response has all of its body.
fn is_whole(response: &str) -> bool {
    let length = response.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    response.split_once("\r\n\r\n").is_some_and(|(_, body)| length == Some(body.len()))
}

#[tokio::test]
async fn slow_clients_do_not_take_the_places_of_others() {
    // As many as may wait, each of which sends two bytes and no more. All must come before the first has to give up its
    // place, also on a machine with other work, so they are few.
    const SENDERS: usize = 40;
    let options = RollcallOptions::default().env("ROLLCALL__HTTP__MAX_WAITING", &SENDERS.to_string());
    let server = Rollcall::start(options.enroll(KNOWN)).await;
    let address = server.url("").trim_start_matches("http://").parse().expect("an address");
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\nab";
    let mut responses = JoinSet::new();
    for _ in 0..SENDERS {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.2:0".parse().expect("an address")).expect("all of 127.0.0.0/8 is this machine");
        let mut sender = socket.connect(address).await.expect("connects");
        sender.write_all(head.as_bytes()).await.expect("sends");
        responses.spawn(async move {
            let mut response = String::new();
            // Not until the end of the connection, which the server leaves open for a while in case that more arrives.
            while !is_whole(&response) {
                let mut part = [0; 1024];
                let n = sender.read(&mut part).await.expect("a response");
                assert_ne!(n, 0, "{response}");
                response.push_str(std::str::from_utf8(&part[..n]).expect("text"));
            }
            response
        });
    }
    // Which of them come too late is the server's threads' choice, so the first to be refused may be any.
    let is_refused = |response: &str| {
        response.starts_with("HTTP/1.1 503")
            && response.contains("retry-after")
            && response.contains("from this address")
    };
    let is_slow =
        |response: &str| response.starts_with("HTTP/1.1 408") && response.contains("less than 1.0 KiB per second");
    let mut timed_out = 0;
    let mut first = responses.join_next().await.expect("many").expect("a response");
    while is_slow(&first) {
        timed_out += 1; // on a machine with much other work, some give up before the last has come
        first = responses.join_next().await.expect("one that is refused").expect("a response");
    }
    assert!(is_refused(&first), "{first}");
    assert_still_works(&server).await;

    for response in responses.join_all().await {
        let is_slow = is_slow(&response);
        assert!(is_slow || is_refused(&response), "{response}");
        timed_out += usize::from(is_slow);
    }
    // A quarter of those that may wait may be of one address.
    assert!(timed_out >= SENDERS / 4, "{timed_out} of {SENDERS}");
}

#[tokio::test]
async fn the_server_raises_its_own_limit_of_open_files() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let port = free_port();
    let server = Command::new("sh")
        .args(["-c", "ulimit -S -n 256 && exec \"$0\" up"])
        .arg(program())
        .env("ROLLCALL__LOCAL__DATA_DIR", data.path())
        .env("ROLLCALL__HTTP__LISTEN", format!("127.0.0.1:{port}"))
        .env("ROLLCALL__LOG__LEVEL", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("sh starts");
    let url = format!("http://127.0.0.1:{port}/readyz");
    wait_until("it is ready", TIMEOUT, async || {
        rollcall_testing::http::get(&url).await.is_ok_and(|response| response.status() == 200)
    })
    .await;
    let pid = server.id().expect("it runs");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process lives");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("proc(5)");
    let [soft, hard, _] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
    assert_ne!(hard, "256", "nothing can be raised here");
    assert_eq!(soft, hard);
}

#[tokio::test]
async fn a_thousand_idle_connections_do_not_block_new_ones() {
    let server = start().await;
    // That of this process, which holds the other ends.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("may be raised to the hard limit");
    assert_still_works(&server).await;
    let before = peak_memory(server.pid());
    let address = server.url("").trim_start_matches("http://").to_owned();
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(TcpStream::connect(&address).await.expect("connects"));
    }
    assert_still_works(&server).await;
    let grown = peak_memory(server.pid()) - before;
    assert!(grown < GROWTH, "the peak grew by {} MiB", grown / MIB);
    let open = async || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("ours").count();
    wait_until("idle connections are let go", TIMEOUT, async || open().await < 500).await;
    drop(idle);
}
