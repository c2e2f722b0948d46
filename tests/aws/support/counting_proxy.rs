//! A TCP proxy that records the calls to SQS, S3 and EC2 that pass through it.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Every call of SQS's JSON protocol has this header; bodies contain nothing like it.
const SQS: &str = "x-amz-target: AmazonSQS.";
/// Every body of EC2's query protocol begins with this.
const EC2: &[u8] = b"Action=";
/// How much is kept of an unfinished line: lines of a request's head are shorter.
const LINE: usize = 16 << 10;

type Calls = Arc<Mutex<Vec<(Instant, String)>>>;

pub struct CountingProxy {
    pub url: String,
    calls: Calls,
}

impl CountingProxy {
    /// Starts a proxy in front of `upstream` (`http://HOST:PORT`), which runs for as long as the runtime.
    pub async fn start(upstream: &str) -> Self {
        let upstream = upstream.strip_prefix("http://").expect("an http URL").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let calls = Calls::default();
        tokio::spawn({
            let calls = calls.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(pass(client, upstream.clone(), calls.clone()));
                }
            }
        });
        Self { url, calls }
    }

    /// Returns the number of calls so far by action, or for S3 by action and bucket.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (_, action) in self.calls() {
            *counts.entry(action).or_default() += 1;
        }
        counts
    }

    /// Forgets the calls so far.
    pub fn clear(&self) {
        self.calls.lock().expect("no panic").clear();
    }

    /// Returns the calls so far, in order.
    pub fn calls(&self) -> Vec<(Instant, String)> {
        self.calls.lock().expect("no panic").clone()
    }
}

async fn pass(client: TcpStream, upstream: String, calls: Calls) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let (mut buffer, mut seen) = (vec![0; 64 << 10], Vec::new());
    while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
        seen.extend_from_slice(&buffer[..n]);
        note(&mut seen, &calls);
        if to_server.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

/// Records the calls in the complete lines, and keeps the rest.
fn note(seen: &mut Vec<u8>, calls: &Calls) {
    let add = |action: String| calls.lock().expect("no panic").push((Instant::now(), action));
    while let Some(end) = seen.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = seen.drain(..=end).collect();
        if let Some(action) = sqs_or_s3(&String::from_utf8_lossy(&line)) {
            add(action);
        }
    }
    if let Some(rest) = seen.strip_prefix(EC2)
        && let Some(end) = rest.iter().position(|byte| *byte == b'&')
    {
        add(String::from_utf8_lossy(&rest[..end]).into_owned());
        seen.clear();
    }
    seen.drain(..seen.len().saturating_sub(LINE));
}

fn sqs_or_s3(line: &str) -> Option<String> {
    if line.get(..SQS.len()).is_some_and(|start| start.eq_ignore_ascii_case(SQS)) {
        return Some(line[SQS.len()..].trim().to_owned());
    }
    // A request's first line may follow the body before it without a break.
    let (_, target) = line.trim_end().strip_suffix(" HTTP/1.1")?.rsplit_once(" /")?;
    let (path, query) = target.split_once('?')?;
    let bucket = path.split('/').next()?;
    let action = query.split('&').find_map(|part| part.strip_prefix("x-id="));
    let action = action.or_else(|| query.contains("list-type=2").then_some("ListObjectsV2"))?;
    Some(format!("{action} {bucket}"))
}
