//! Bad inputs: each has its status, and neither the server nor a worker takes much memory.
//!
//! With `ROLLCALL_WRITE_BAD_INPUTS`, the table in `docs/limits.md` is written again: `make bad-inputs`.

use std::{cell::Cell, fmt::Write as _, time::Duration};

use futures_util::future::join_all;
use image::{GrayImage, ImageFormat, RgbImage};
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions, peak_memory, wait_until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

const MIB: usize = 1 << 20;
/// Most memory of the server and of a worker.
const MAX_SERVER: usize = 200 * MIB;
const MAX_WORKER: usize = 400 * MIB;
const TIMEOUT: Duration = Duration::from_secs(60);
const TABLE: &str = "docs/limits.md";

/// Stands for a connection that was closed without a response.
const CLOSED: u16 = 0;
/// Stands for 400 or [`CLOSED`]. If what follows a head is not HTTP, the server closes the connection without reading on,
/// and the client may see that before the response.
const NOT_HTTP: u16 = 1;

/// What is sent, and the status that it gets.
struct Input {
    name: &'static str,
    status: u16,
    request: Vec<u8>,
}

/// Returns a request with this body.
fn request(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST /v1/recognitions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Returns an upload of an image.
fn raw_image(bytes: &[u8]) -> Vec<u8> {
    request("Content-Type: image/jpeg", bytes)
}

const FORM: &str = "Content-Type: multipart/form-data; boundary=x";

fn part(disposition: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
    [head.as_bytes(), content, b"\r\n"].concat()
}

fn photo_part(content: &[u8]) -> Vec<u8> {
    part(r#"name="myfile"; filename="photo.jpg""#, content)
}

fn whole_form(parts: &[u8]) -> Vec<u8> {
    request(FORM, &[parts, b"--x--\r\n"].concat())
}

/// Returns the CRC-32 of PNG (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 })
    })
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind.as_slice(), data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()].concat()
}

/// Returns a PNG with a chunk after its header.
fn with_chunk(png: &[u8], kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    [&png[..33], &chunk(kind, data), &png[33..]].concat()
}

/// Returns a PNG whose header claims another size and interlacing.
fn claiming(png: &[u8], width: u32, height: u32, interlaced: bool) -> Vec<u8> {
    let mut header = png[16..29].to_vec();
    header[..4].copy_from_slice(&width.to_be_bytes());
    header[4..8].copy_from_slice(&height.to_be_bytes());
    header[12] = interlaced.into();
    [&png[..8], &chunk(b"IHDR", &header), &png[33..]].concat()
}

/// Returns 192 MiB of zeros, compressed: the data of a black image.
fn bomb() -> Vec<u8> {
    let black = encode(GrayImage::new(16_384, 12_288).into(), ImageFormat::Png);
    let mut data = Vec::new();
    let mut at = 8;
    while at < black.len() {
        let length = u32::from_be_bytes(black[at..at + 4].try_into().expect("four bytes")) as usize;
        if &black[at + 4..at + 8] == b"IDAT" {
            data.extend_from_slice(&black[at + 8..at + 8 + length]);
        }
        at += 12 + length;
    }
    data
}

/// Returns a PNG with a colour profile of 192 MiB.
fn with_large_profile(png: &[u8], bomb: &[u8]) -> Vec<u8> {
    with_chunk(png, b"iCCP", &[b"x\0\0", bomb].concat())
}

/// Returns a JPEG whose frame header claims another size.
fn sized(jpeg: &[u8], width: u16, height: u16) -> Vec<u8> {
    let mut out = jpeg.to_vec();
    let frame = jpeg.windows(2).position(|w| matches!(w, [0xFF, 0xC0..=0xC2])).expect("a frame header");
    out[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    out[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    out
}

/// Returns a JPEG with its first scan repeated.
fn scans(jpeg: &[u8], count: usize) -> Vec<u8> {
    let start = jpeg.windows(2).position(|w| w == [0xFF, 0xDA]).expect("a scan");
    let length = jpeg[start + 2..].windows(2).position(|w| w[0] == 0xFF && !matches!(w[1], 0 | 0xD0..=0xD7));
    let end = start + 2 + length.expect("a next marker");
    [&jpeg[..start], &jpeg[start..end].repeat(count), &jpeg[end..]].concat()
}

/// Returns a JPEG with a segment after its start.
fn with_exif(jpeg: &[u8], tiff: &[u8]) -> Vec<u8> {
    let data = [b"Exif\0\0", tiff].concat();
    [&jpeg[..2], &[0xFF, 0xE1], &(data.len() as u16 + 2).to_be_bytes(), &data, &jpeg[2..]].concat()
}

/// Returns numbers that cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn corpus(name: &str) -> Vec<u8> {
    std::fs::read(format!("fuzz/corpus/{name}")).expect("the corpus")
}

fn images() -> Vec<Input> {
    let jpeg = photo(MACRON);
    let small = encode(RgbImage::new(16, 16).into(), ImageFormat::Jpeg);
    let png = encode(GrayImage::new(8, 8).into(), ImageFormat::Png);
    let progressive = corpus("jpeg/progressive");
    let bomb = bomb();
    let text = [b"x\0\0".as_slice(), &bomb].concat();
    let international = [b"x\0\x01\0\0\0".as_slice(), &bomb].concat();
    let mut wide_frame = corpus("webp/animated");
    let lossy = wide_frame.windows(3).position(|w| w == [0x9D, 1, 0x2A]).expect("a key frame");
    wide_frame[lossy + 3..lossy + 7].copy_from_slice(&[0xFF, 0x3F, 0xFF, 0x3F]);
    let frames = |count: usize| {
        let animated = corpus("webp/animated");
        let first = animated.windows(4).position(|w| w == b"ANMF").expect("a frame");
        let mut body = animated[8..first].to_vec();
        let length = u32::from_le_bytes(animated[first + 4..first + 8].try_into().expect("four bytes")) as usize;
        let frame = &animated[first..first + 8 + length.next_multiple_of(2)];
        body.extend(frame.repeat(count));
        [b"RIFF".as_slice(), &(body.len() as u32).to_le_bytes(), &body].concat()
    };
    let mut endless_exif = b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0".to_vec();
    endless_exif.extend(8_u32.to_le_bytes()); // the next directory is this one
    let mut twelve_bits = small.clone();
    let frame = small.windows(2).position(|w| w == [0xFF, 0xC0]).expect("a frame header");
    twelve_bits[frame + 1] = 0xC1;
    twelve_bits[frame + 4] = 12;
    let empty_chunks = with_chunk(&png, b"tEXt", b"");
    let empty_chunks = [&png[..33], &empty_chunks[33..45].repeat(1_000_000), &png[33..]].concat();
    let markers = [&small[..2], &[0xFF, 0xD0].repeat(9 * MIB), &small[2..]].concat();
    [
        ("one byte", 415, vec![0xFF]),
        ("the first half of a photo", 422, jpeg[..jpeg.len() / 2].to_vec()),
        ("the first half of a PNG", 422, faceless(320, 240)[..400].to_vec()),
        ("a text called photo.jpg", 415, b"Dear Sir or Madam".to_vec()),
        ("HEIC", 415, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec()),
        ("SVG", 415, b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec()),
        ("PDF", 415, b"%PDF-1.7\n".to_vec()),
        ("a zip archive", 415, b"PK\x03\x04\x14\0\0\0\x08\0".to_vec()),
        ("GIF", 415, b"GIF89a\x01\0\x01\0\0\0\0;".to_vec()),
        ("19 MiB of zeros", 415, vec![0; 19 * MIB]),
        ("19 MiB of noise", 415, noise(19 * MIB)),
        ("a PNG of 60,000 x 60,000 pixels in 70 bytes", 413, claiming(&png, 60_000, 60_000, false)),
        ("a PNG of 2,147,483,647 x 2,147,483,647 pixels", 413, claiming(&png, i32::MAX as u32, i32::MAX as u32, false)),
        ("a PNG of 50,000,000 x 1 pixels", 413, claiming(&png, 50_000_000, 1, false)),
        ("an interlaced PNG of 7,000 x 7,000 pixels without data", 422, claiming(&png, 7_000, 7_000, true)),
        ("a PNG with a colour profile of 192 MiB", 200, with_large_profile(&png, &bomb)),
        ("a PNG with compressed text of 192 MiB (zTXt)", 200, with_chunk(&png, b"zTXt", &text)),
        ("a PNG with compressed text of 192 MiB (iTXt)", 200, with_chunk(&png, b"iTXt", &international)),
        (
            "a PNG with 192 MiB of pixels for 64",
            200,
            [&png[..33], &chunk(b"IDAT", &bomb), &chunk(b"IEND", b"")].concat(),
        ),
        ("a PNG with a million empty texts", 200, empty_chunks),
        ("a JPEG of 65,535 x 65,535 pixels", 413, sized(&small, 65_535, 65_535)),
        ("a JPEG of 7,000 x 7,000 pixels without data", 200, sized(&small, 7_000, 7_000)),
        ("a progressive JPEG of 7,000 x 7,000 pixels without data", 200, sized(&progressive, 7_000, 7_000)),
        ("a progressive JPEG with 5,000 scans", 422, scans(&sized(&progressive, 7_000, 7_000), 5_000)),
        ("a JPEG of nine million markers", 422, markers),
        ("a JPEG with a loop in its EXIF data", 200, with_exif(&small, &endless_exif)),
        ("a JPEG with 12 bits per sample", 415, twelve_bits),
        ("a JPEG in CMYK", 200, corpus("jpeg/cmyk")),
        ("an animated WebP of 20,000 frames", 200, frames(20_000)),
        ("a WebP with a frame of 16,383 x 16,383 pixels in 24 x 16", 422, wide_frame),
    ]
    .map(|(name, status, bytes)| Input { name, status, request: raw_image(&bytes) })
    .into()
}

fn requests() -> Vec<Input> {
    let jpeg = encode(RgbImage::new(16, 16).into(), ImageFormat::Jpeg);
    let named = |name: &str| whole_form(&part(&format!("name=\"myfile\"; filename=\"{name}\""), &jpeg));
    let head = "POST /v1/recognitions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: image/jpeg\r\n";
    let cut = |lie: &str, sent: &[u8]| [head.as_bytes(), lie.as_bytes(), b"\r\n\r\n", sent].concat();
    let header = format!("--x\r\nX-Long: {}\r\n", "a".repeat(MIB));
    let nested = part(r#"name="files""#, b"--y\r\nContent-Disposition: file; filename=\"a.jpg\"\r\n\r\nx\r\n--y--");
    let repeated = format!("{FORM}\r\nContent-Type: image/png");
    [
        ("no body", 400, request("Content-Type: image/jpeg", b"")),
        ("an empty file", 400, whole_form(&photo_part(b""))),
        ("a form of 10,000 parts", 413, whole_form(&part(r#"name="a""#, b"b").repeat(10_000))),
        ("a form of 101 files", 413, whole_form(&photo_part(&jpeg).repeat(101))),
        ("a form without a boundary", 400, request("Content-Type: multipart/form-data", &photo_part(&jpeg))),
        ("a form without an end", 400, request(FORM, &photo_part(&jpeg))),
        ("a form in a form", 400, whole_form(&nested)),
        ("a part with a header of 1 MiB", 413, whole_form(header.as_bytes())),
        ("a field that is not UTF-8", 400, whole_form(&part(r#"name="name""#, b"\xFF\xFE"))),
        ("a file name that is a path", 200, named("../../etc/passwd")),
        ("a file name with a right-to-left override", 200, named("gpj.\u{202E}exe")),
        ("two headers Content-Type", 400, request(&repeated, &photo_part(&jpeg))),
        ("a body in gzip", 415, request("Content-Type: image/jpeg\r\nContent-Encoding: gzip", b"\x1F\x8B\x08\0\0\0")),
        ("a Content-Length of 100 MB", 413, cut("Content-Length: 100000000", b"")),
        ("two headers Content-Length", 400, cut("Content-Length: 5\r\nContent-Length: 6", b"12345")),
        ("a negative Content-Length", 400, cut("Content-Length: -1", b"")),
        ("chunks with a size that is no number", NOT_HTTP, cut("Transfer-Encoding: chunked", b"zz\r\nabc\r\n")),
        ("chunks with a size of 2^64", NOT_HTTP, cut("Transfer-Encoding: chunked", b"10000000000000000\r\nabc\r\n")),
    ]
    .map(|(name, status, request)| Input { name, status, request })
    .into()
}

/// Returns the status of what the server responds, or [`CLOSED`].
async fn send(server: &Rollcall, request: &[u8]) -> u16 {
    let address = server.url("").trim_start_matches("http://").to_owned();
    let (mut response, mut upload) = TcpStream::connect(&address).await.expect("connects").into_split();
    let sending = async { drop(upload.write_all(request).await) }; // the server may respond before it has read everything
    let mut text = Vec::new();
    let reading = tokio::time::timeout(TIMEOUT, response.read_to_end(&mut text));
    let (_, read) = tokio::join!(sending, reading);
    let _ = read.expect("the server ends the connection"); // a reset after the response is no error here
    if text.is_empty() {
        return CLOSED;
    }
    let status = text.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    status.unwrap_or_else(|| panic!("not a response: {:?}", String::from_utf8_lossy(&text)))
}

/// Makes the peak memory of a process what it uses now (proc(5)).
fn reset_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the process is ours");
}

#[tokio::test]
async fn bad_inputs_have_their_status_and_take_little_memory() {
    // One worker, which stays.
    let options = RollcallOptions::default().enroll(KNOWN).env("ROLLCALL__FLEET__MAX_INSTANCES", "1");
    let server = Rollcall::start(options.env("ROLLCALL__WORKER__IDLE_STOP", "1h")).await;
    let good = || async { status_and_text(post(&server.url("/"), form(&[("a.jpg", &photo(ARDERN))])).await).await };
    assert_eq!(good().await, (200, "Jacinda_Ardern".to_owned()));
    let [worker] = server.worker_pids().await[..] else { panic!("one worker") };

    let (mut table, mut wrong) = (String::new(), Vec::new());
    for Input { name, status, request } in images().into_iter().chain(requests()) {
        for pid in [server.pid(), worker] {
            reset_peak(pid);
        }
        let start = Instant::now();
        let found = send(&server, &request).await;
        let milliseconds = start.elapsed().as_millis();
        let (parent, child) = (peak_memory(server.pid()), peak_memory(worker));
        let bytes = request.len();
        let shown = if found == CLOSED { "closed".to_owned() } else { found.to_string() };
        let line = format!("| {name} | {bytes} | {shown} | {milliseconds} | {} | {} |", parent / MIB, child / MIB);
        println!("{line}");
        writeln!(table, "{line}").expect("a string can be written");
        let expected = if status == NOT_HTTP { vec![400, CLOSED] } else { vec![status] };
        if !expected.contains(&found) || parent > MAX_SERVER || child > MAX_WORKER {
            wrong.push(format!("expected {expected:?}: {line}"));
        }
        wait_until("the server responds to others", TIMEOUT, async || {
            rollcall_testing::http::get(server.url("/healthz")).await.is_ok_and(|response| response.status() == 200)
        })
        .await;
    }
    assert_eq!(good().await, (200, "Jacinda_Ardern".to_owned()));
    assert_eq!(server.worker_pids().await, [worker], "the worker that has seen all of them");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if std::env::var_os("ROLLCALL_WRITE_BAD_INPUTS").is_some() {
        let text = std::fs::read_to_string(TABLE).expect(TABLE);
        let head = text.find("|---|").and_then(|at| text[at..].find('\n').map(|end| at + end + 1)).expect("a table");
        std::fs::write(TABLE, format!("{}{table}", &text[..head])).expect("written");
    }
}

#[tokio::test]
async fn sixteen_large_colour_profiles_at_once_take_little_memory_and_others_are_answered() {
    let options = RollcallOptions::default().env("ROLLCALL__FLEET__MAX_INSTANCES", "1");
    let server = Rollcall::start(options.env("ROLLCALL__WORKER__IDLE_STOP", "1h")).await;
    let png = encode(GrayImage::new(8, 8).into(), ImageFormat::Png);
    let request = raw_image(&with_large_profile(&png, &bomb()));
    assert_eq!(send(&server, &request).await, 200, "a worker is there");
    reset_peak(server.pid());
    let (client, answered) = (rollcall_testing::http::Client::plain(), Cell::new(false));
    let uploads = async {
        let statuses = join_all((0..16).map(|_| send(&server, &request))).await;
        answered.set(true);
        statuses
    };
    let others = async {
        while !answered.get() {
            let health = client.get(server.url("/healthz")).timeout(TIMEOUT).send().await;
            assert_eq!(health.expect("a response in time").status(), 200);
        }
    };
    let (statuses, ()) = tokio::join!(uploads, others);
    assert_eq!(statuses, [200; 16]);
    let peak = peak_memory(server.pid());
    println!("peak of the server: {} MiB", peak / MIB);
    assert!(peak < MAX_SERVER, "{} MiB", peak / MIB);
}
