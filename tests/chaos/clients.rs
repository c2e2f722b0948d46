//! The clients: those that upload, delete, enrol and erase, those that break off or do not belong here, and one that
//! counts instances.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha12Rng};
use reqwest::{
    Client, Method, Response,
    multipart::{Form, Part},
};
use rollcall_testing::uploads::{MACRON, STRANGER, photo};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    ledger::{Deletion, Ledger, Promise, Upload},
    world::{Access, MARKER, PERSON},
};

/// Number of clients that upload at the same time.
const UPLOADERS: usize = 6;
/// Longest wait for a response.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a slow sender says nothing: longer than a server has patience with less than the least rate.
const SILENCE: Duration = Duration::from_secs(9);

/// What all clients share.
struct Shared {
    access: Access,
    ledger: Mutex<Ledger>,
    client: Client,
    ended: AtomicBool,
    face: Vec<u8>,
    stranger: Vec<u8>,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no panic")
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Clients at work.
pub struct Clients {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Clients {
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger()
    }

    /// Lets the clients begin nothing new.
    pub fn stop(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }

    /// Waits until the clients have finished, and returns what they were promised.
    pub async fn end(self) -> Ledger {
        self.stop();
        self.tasks.join_all().await;
        std::mem::take(&mut self.shared.ledger())
    }
}

/// Starts all clients.
pub fn start(access: Access, seed: u64) -> Clients {
    let client = Client::builder().timeout(TIMEOUT).build().expect("a client");
    let (face, stranger) = (photo(MACRON), photo(STRANGER));
    let shared =
        Arc::new(Shared { access, ledger: Mutex::default(), client, ended: AtomicBool::new(false), face, stranger });
    let mut tasks = JoinSet::new();
    for n in 0..UPLOADERS {
        tasks.spawn(upload_all(shared.clone(), ChaCha12Rng::seed_from_u64(seed ^ n as u64)));
    }
    let rng = |n: u64| ChaCha12Rng::seed_from_u64(seed ^ (1000 + n));
    tasks.spawn(delete_some(shared.clone(), rng(1)));
    tasks.spawn(enrol_and_erase(shared.clone(), rng(2)));
    tasks.spawn(break_off(shared.clone(), rng(3)));
    tasks.spawn(intrude(shared.clone(), rng(4)));
    tasks.spawn(count_instances(shared.clone()));
    Clients { shared, tasks }
}

async fn pause(rng: &mut ChaCha12Rng, longest_ms: u64) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..longest_ms))).await;
}

/// Returns 20 digits that nothing else has.
fn number(rng: &mut ChaCha12Rng) -> String {
    format!("{:020}", rng.random::<u64>())
}

// ---------------------------------------------------------------- uploads

async fn upload_all(shared: Arc<Shared>, mut rng: ChaCha12Rng) {
    while !shared.ended() {
        let marker = format!("{MARKER}{}", number(&mut rng));
        let face = rng.random_ratio(1, 12);
        let (mut bytes, label) = if face {
            (shared.face.clone(), "Emmanuel_Macron")
        } else {
            (rollcall_testing::uploads::faceless(rng.random_range(32..200), 48), "no face")
        };
        bytes.extend_from_slice(marker.as_bytes());
        let upload = {
            let mut ledger = shared.ledger();
            ledger.uploads.push(Upload { marker: marker.clone(), label, ..Upload::default() });
            ledger.uploads.len() - 1
        };
        let asynchronous = rng.random_ratio(1, 2);
        let key = rng.random_ratio(1, 3).then(|| number(&mut rng));
        loop {
            let mut request = shared
                .client
                .post(shared.access.url(rng.random_range(0..64), "/v1/recognitions"))
                .bearer_auth(&shared.access.upload);
            if asynchronous {
                request = request.header("Prefer", "respond-async");
            }
            if let Some(key) = &key {
                request = request.header("Idempotency-Key", key);
            }
            let part = Part::bytes(bytes.clone()).file_name(format!("{marker}.png"));
            let response = request.multipart(Form::new().part("myfile", part)).send().await;
            let certain = note(&shared, upload, response).await;
            // A client with a key repeats until it knows; others give up.
            if certain || key.is_none() {
                break;
            }
            shared.ledger().count("repetitions with a key");
            pause(&mut rng, 500).await;
        }
        shared.ledger().uploads[upload].over = true;
        pause(&mut rng, 300).await;
    }
}

/// Writes down what a response to an upload promises. Returns whether a client with a key is done.
async fn note(shared: &Shared, upload: usize, response: reqwest::Result<Response>) -> bool {
    let Ok(response) = response else {
        shared.ledger().count("uploads without a response");
        return false;
    };
    let status = response.status().as_u16();
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let location = text("location").and_then(|path| path.rsplit('/').next().map(str::to_owned));
    let Ok(body) = response.json::<Value>().await else {
        shared.ledger().count("uploads with half a response");
        return false;
    };
    let mut ledger = shared.ledger();
    match status {
        200 => {
            ledger.promise(upload, body["id"].as_str().unwrap_or_default(), Promise::Answered);
            ledger.check(upload, &body);
        }
        202 => ledger.promise(upload, body["id"].as_str().unwrap_or_default(), Promise::Accepted),
        503 | 504 if location.is_some() => {
            ledger.count("results promised with 503 or 504");
            ledger.promise(upload, &location.unwrap_or_default(), Promise::Accepted);
        }
        408 | 429 | 503 | 504 => {
            ledger.count("uploads refused");
            return false;
        }
        other => ledger.violation(format!("an upload has status {other}: {body}")),
    }
    true
}

// ---------------------------------------------------------------- deletions

async fn delete_some(shared: Arc<Shared>, mut rng: ChaCha12Rng) {
    while !shared.ended() {
        pause(&mut rng, 600).await;
        let Some((n, id)) = choose(&shared, &mut rng) else { continue };
        let mut asked = false;
        loop {
            let url = shared.access.url(rng.random_range(0..64), &format!("/v1/recognitions/{id}"));
            let response = shared.client.delete(url).bearer_auth(&shared.access.admin).send().await;
            let status = response.map_or(0, |response| response.status().as_u16());
            asked |= note_deletion(&mut shared.ledger(), n, status, asked);
            if matches!(status, 1..500) {
                break;
            }
            pause(&mut rng, 300).await;
        }
    }
}

/// Writes down what a response to the deletion of an upload means; 0 is no response. `asked` is whether it was requested
/// before. Returns whether it may have been carried out without a response.
fn note_deletion(ledger: &mut Ledger, upload: usize, status: u16, asked: bool) -> bool {
    let deletion = match status {
        204 => Deletion::Confirmed,
        404 if asked => Deletion::Confirmed,
        409 => return false, // pending: it can be deleted later
        408 => return false, // a starved client was too slow: nothing was done
        0 | 500.. => Deletion::Unknown,
        other => {
            let id = ledger.uploads[upload].id.clone();
            ledger.violation(format!("DELETE of {id:?} has status {other}, though it was not deleted"));
            return false;
        }
    };
    ledger.uploads[upload].deletion = deletion;
    deletion == Deletion::Unknown
}

/// Returns an upload that can be deleted, often one of the latest.
fn choose(shared: &Shared, rng: &mut ChaCha12Rng) -> Option<(usize, String)> {
    let ledger = shared.ledger();
    let len = ledger.uploads.len();
    let n = if rng.random() {
        rng.random_range(len.saturating_sub(20)..len.max(1))
    } else {
        rng.random_range(0..len.max(1))
    };
    let upload = ledger.uploads.get(n).filter(|upload| upload.over && upload.deletion == Deletion::NotAsked)?;
    Some((n, upload.id.clone()?))
}

// ---------------------------------------------------------------- people

async fn enrol_and_erase(shared: Arc<Shared>, mut rng: ChaCha12Rng) {
    while !shared.ended() {
        pause(&mut rng, 6_000).await;
        let name = format!("{PERSON}{}", number(&mut rng));
        let form = Form::new().text("name", name.clone());
        let form = form.part("photos", Part::bytes(shared.stranger.clone()).file_name("photo.jpg"));
        let url = shared.access.url(rng.random_range(0..64), "/v1/people?gallery=chaos");
        let response = shared.client.post(url).bearer_auth(&shared.access.admin).multipart(form).send().await;
        let added = response.ok().filter(|response| response.status() == 201).map(|_| true);
        shared.ledger().people.insert(name.clone(), (added, Some(false)));
        if added.is_none() || rng.random_ratio(1, 3) {
            continue;
        }
        let path = format!("/v1/people/{name}?gallery=chaos&results=true");
        loop {
            let request = shared.client.delete(shared.access.url(rng.random_range(0..64), &path));
            let response = request.bearer_auth(&shared.access.admin).send().await;
            let status = response.map_or(0, |response| response.status().as_u16());
            let erased = match status {
                200 | 204 | 404 => Some(true),
                0 | 500.. => None,
                other => {
                    shared.ledger().violation(format!("erasing a person has status {other}"));
                    None
                }
            };
            shared.ledger().people.insert(name.clone(), (added, erased));
            if erased.is_some() || shared.ended() {
                break;
            }
            pause(&mut rng, 500).await;
        }
    }
}

// ---------------------------------------------------------------- those who do not belong here

/// Sends parts of requests, slowly or not, and closes the connection. Some send nothing more, until the server has had enough.
async fn break_off(shared: Arc<Shared>, mut rng: ChaCha12Rng) {
    while !shared.ended() {
        pause(&mut rng, 1_000).await;
        let url = shared.access.url(rng.random_range(0..64), "");
        let Ok(mut stream) = TcpStream::connect(url.trim_start_matches("http://")).await else { continue };
        let head = format!(
            "POST /v1/recognitions HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: image/png\r\n\
             Content-Length: 100000\r\n\r\n",
            url.trim_start_matches("http://"),
            shared.access.upload
        );
        let sent = rng.random_range(1..head.len() + 200);
        let bytes: Vec<u8> = head.bytes().chain(std::iter::repeat(b'x')).take(sent).collect();
        for chunk in bytes.chunks(rng.random_range(1..200)) {
            if stream.write_all(chunk).await.is_err() {
                break;
            }
            pause(&mut rng, 20).await;
        }
        if rng.random_ratio(1, 15) && wait_for_refusal(&mut stream).await {
            shared.ledger().count("slow senders refused");
        }
        shared.ledger().count("requests broken off");
    }
}

/// Sends nothing for a while. Returns whether the server answers that this takes too long.
async fn wait_for_refusal(stream: &mut TcpStream) -> bool {
    let mut response = [0; 64];
    let read = tokio::time::timeout(SILENCE, stream.read(&mut response)).await;
    matches!(read, Ok(Ok(_))) && response.starts_with(b"HTTP/1.1 408")
}

/// Tries every route with a token that is missing, revoked or of another role, and with the right one by another host's name or
/// from another origin.
async fn intrude(shared: Arc<Shared>, mut rng: ChaCha12Rng) {
    const ID: &str = "/v1/recognitions/01M864JVNGTP55MXPP8BHGACKE";
    const LETTER: &str = "/v1/dead-letters/01M864JVNGTP55MXPP8BHGACKE";
    while !shared.ended() {
        pause(&mut rng, 400).await;
        let (method, path) = match rng.random_range(0..10) {
            0 => (Method::POST, "/v1/recognitions"),
            1 => (Method::GET, ID),
            2 => (Method::DELETE, ID),
            3 => (Method::GET, "/v1/people"),
            4 => (Method::POST, "/v1/people"),
            5 => (Method::DELETE, "/v1/people/Emmanuel_Macron?results=true"),
            6 => (Method::GET, "/v1/dead-letters"),
            7 => (Method::POST, LETTER),
            8 => (Method::GET, "/metrics"),
            _ => (Method::GET, "/v1/fleet"),
        };
        let url = shared.access.url(rng.random_range(0..64), path);
        let request = shared.client.request(method.clone(), url);
        let reads = method == Method::GET && !path.starts_with("/v1/dead-letters");
        let request = match rng.random_range(0..7) {
            0 => request,
            3 => request.bearer_auth(&shared.access.admin).header("Host", "evil.example"),
            4 if method != Method::GET => {
                request.bearer_auth(&shared.access.admin).header("Origin", "http://evil.example")
            }
            5 if !reads => request.bearer_auth(&shared.access.read),
            1 => request.bearer_auth(&shared.access.revoked),
            2 => request.bearer_auth("rollcall_0000000000000000_0000000000000000000000000000000000000000000"),
            _ if path == "/v1/recognitions" || path == ID && method == Method::GET => request,
            _ => request.bearer_auth(&shared.access.upload),
        };
        let Ok(response) = request.send().await else { continue };
        let status = response.status().as_u16();
        let mut ledger = shared.ledger();
        ledger.count("intrusions");
        if !matches!(status, 401 | 403 | 408 | 421 | 429 | 503) {
            ledger.violation(format!("somebody was let in: {method} {path} has status {status}"));
        }
    }
}

/// Compares the number of instances with the cap.
async fn count_instances(shared: Arc<Shared>) {
    while !shared.ended() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let request = shared.client.get(shared.access.url(0, "/v1/fleet")).bearer_auth(&shared.access.admin);
        let Ok(response) = request.send().await else { continue };
        let Ok(fleet) = response.json::<Value>().await else { continue };
        let instances = fleet["instances"].as_array().into_iter().flatten();
        let living = instances.filter(|i| !matches!(i["state"].as_str(), Some("shutting-down" | "terminated"))).count();
        let mut ledger = shared.ledger();
        ledger.count("counts of instances");
        if living > shared.access.cap {
            ledger.violation(format!("{living} instances, with a cap of {}", shared.access.cap));
        }
    }
}
