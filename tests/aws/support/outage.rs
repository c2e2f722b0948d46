//! A TCP proxy that can break all connections and refuse further ones: a service that cannot be reached.

use std::sync::{Arc, OnceLock};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A service behind a proxy.
pub struct Outage {
    pub url: String,
    upstream: Arc<OnceLock<String>>,
    is_out: watch::Sender<bool>,
}

impl Outage {
    /// Starts the proxy. It refuses connections until [`Outage::of`] names the service.
    pub async fn prepare() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let (upstream, (is_out, out)) = (Arc::new(OnceLock::<String>::new()), watch::channel(false));
        tokio::spawn({
            let upstream = upstream.clone();
            async move {
                while let Ok((mut client, _)) = listener.accept().await {
                    let Some(upstream) = upstream.get().filter(|_| !*out.borrow()).cloned() else { continue };
                    let mut out = out.clone();
                    tokio::spawn(async move {
                        let Ok(mut server) = TcpStream::connect(&upstream).await else { return };
                        tokio::select! {
                            _ = copy_bidirectional(&mut client, &mut server) => {}
                            _ = out.wait_for(|out| *out) => {}
                        }
                    });
                }
            }
        });
        Self { url, upstream, is_out }
    }

    /// Passes connections to the server at that URL from now on.
    pub fn of(&self, upstream: &str) {
        self.upstream.set(upstream.trim_start_matches("http://").to_owned()).expect("it is set once");
    }

    /// Begins or ends the outage.
    pub fn set(&self, is_out: bool) {
        self.is_out.send_replace(is_out);
    }
}
