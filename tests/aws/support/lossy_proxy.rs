//! A TCP proxy that can lose a response: the call is applied, and then its connection breaks.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

pub struct LossyProxy {
    pub url: String,
    lose: Arc<AtomicBool>,
}

impl LossyProxy {
    /// Starts a proxy in front of the server at that URL.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let upstream = upstream.trim_start_matches("http://").to_owned();
        let lose = Arc::new(AtomicBool::new(false));
        tokio::spawn({
            let lose = lose.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let server = TcpStream::connect(&upstream).await.expect("the upstream is there");
                    tokio::spawn(forward(client, server, lose.clone()));
                }
            }
        });
        Self { url, lose }
    }

    /// Loses the next response.
    pub fn lose_next(&self) {
        self.lose.store(true, Ordering::SeqCst);
    }

    /// Returns whether the response that was to be lost has been lost.
    pub fn has_lost(&self) -> bool {
        !self.lose.load(Ordering::SeqCst)
    }
}

async fn forward(client: TcpStream, server: TcpStream, lose: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let responses = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match from_server.read(&mut buffer).await {
                // Otherwise the connection is dropped, and with it the response.
                Ok(n) if n > 0 && !lose.swap(false, Ordering::SeqCst) => {
                    if to_client.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    };
    tokio::select! {
        _ = requests => {}
        () = responses => {}
    }
}
