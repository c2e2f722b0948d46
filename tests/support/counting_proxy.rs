//! A TCP proxy that counts the calls of SQS that pass through it, by action.

#![allow(dead_code)] // each test file uses a part

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Every call of SQS's JSON protocol has this header; bodies hold nothing like it.
const MARK: &[u8] = b"x-amz-target: AmazonSQS.";

type Counts = Arc<Mutex<BTreeMap<String, usize>>>;

pub struct CountingProxy {
    pub url: String,
    counts: Counts,
}

impl CountingProxy {
    /// Passes on to `upstream` (`http://HOST:PORT`) for as long as the runtime lives.
    pub async fn start(upstream: &str) -> Self {
        let upstream = upstream.strip_prefix("http://").expect("an http URL").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let counts = Counts::default();
        tokio::spawn({
            let counts = counts.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(pass(client, upstream.clone(), counts.clone()));
                }
            }
        });
        Self { url, counts }
    }

    /// Calls so far, by action.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.counts.lock().expect("no panic").clone()
    }
}

async fn pass(client: TcpStream, upstream: String, counts: Counts) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let (mut buffer, mut seen) = (vec![0; 64 << 10], Vec::new());
    while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
        seen.extend_from_slice(&buffer[..n]);
        count(&mut seen, &counts);
        if to_server.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

/// Counts the marks in `seen` whose line has ended, and keeps what may be the beginning of the next.
fn count(seen: &mut Vec<u8>, counts: &Counts) {
    let mut from = 0;
    while let Some(at) = seen[from..].windows(MARK.len()).position(|w| w.eq_ignore_ascii_case(MARK)) {
        let action = from + at + MARK.len();
        let Some(end) = seen[action..].iter().position(|b| *b == b'\r') else {
            from += at;
            seen.drain(..from);
            return;
        };
        let name = String::from_utf8_lossy(&seen[action..action + end]).into_owned();
        *counts.lock().expect("no panic").entry(name).or_default() += 1;
        from = action + end;
    }
    let keep = seen.len().saturating_sub(MARK.len()).max(from);
    seen.drain(..keep);
}
