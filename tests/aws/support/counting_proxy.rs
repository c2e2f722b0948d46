//! A proxy that records the calls to SQS, S3 and EC2 that pass through it, and may let IAM decide about them.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming, header, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;

use super::{
    bill::Requests,
    iam::{Call, Iam, Refusal, Service},
};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Body = Either<Full<Bytes>, Incoming>;

struct Shared {
    upstream: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
    calls: Mutex<Vec<(Instant, String)>>,
    /// What the calls so far are billed as, by action.
    billed: Mutex<BTreeMap<String, Requests>>,
    iam: Option<Arc<Iam>>,
}

pub struct CountingProxy {
    pub url: String,
    shared: Arc<Shared>,
}

impl CountingProxy {
    /// Starts a proxy in front of `upstream` (`http://HOST:PORT`), which runs for as long as the runtime.
    pub async fn start(upstream: &str) -> Self {
        Self::start_with(upstream, None).await
    }

    /// Does the same, and passes only what `iam` allows.
    pub async fn guarded(upstream: &str, iam: Arc<Iam>) -> Self {
        Self::start_with(upstream, Some(iam)).await
    }

    async fn start_with(upstream: &str, iam: Option<Arc<Iam>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let client = Client::builder(TokioExecutor::new()).build_http();
        let upstream = upstream.parse().expect("a URL");
        let shared = Arc::new(Shared { upstream, client, calls: Mutex::default(), billed: Mutex::default(), iam });
        tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let shared = shared.clone();
                    let service = service_fn(move |request| pass(request, shared.clone()));
                    // A connection whose other end breaks breaks here too.
                    tokio::spawn(
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service),
                    );
                }
            }
        });
        Self { url, shared }
    }

    /// Returns the number of calls so far by action, or for S3 by action and kind of bucket.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (_, action) in self.calls() {
            *counts.entry(action).or_default() += 1;
        }
        counts
    }

    /// Returns what the calls so far, including those that were forgotten, are billed as.
    pub fn billed(&self) -> Requests {
        self.shared
            .billed
            .lock()
            .expect("no panic")
            .values()
            .fold(Requests::default(), |sum, of_action| sum + *of_action)
    }

    /// Returns what the calls of an action are billed as.
    pub fn billed_for(&self, action: &str) -> Requests {
        self.shared.billed.lock().expect("no panic").get(action).copied().unwrap_or_default()
    }

    /// Forgets the calls so far.
    pub fn clear(&self) {
        self.shared.calls.lock().expect("no panic").clear();
    }

    /// Returns the calls so far, in order.
    pub fn calls(&self) -> Vec<(Instant, String)> {
        self.shared.calls.lock().expect("no panic").clone()
    }
}

async fn pass(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let call = Call::of(&parts, &body);
    if let Some(call) = &call {
        shared.calls.lock().expect("no panic").push((Instant::now(), call.name.clone()));
    }
    if let Some(iam) = &shared.iam
        && let Err(refusal) = iam.admit(&parts.headers, call.as_ref()).await
    {
        return Ok(response(refusal));
    }
    let mut uri = shared.upstream.clone().into_parts();
    uri.path_and_query = parts.uri.path_and_query().cloned();
    let mut forwarded = Request::new(Full::new(body.clone()));
    *forwarded.method_mut() = parts.method.clone();
    *forwarded.uri_mut() = Uri::from_parts(uri)?;
    *forwarded.headers_mut() = parts.headers.clone();
    forwarded.headers_mut().remove(header::TRANSFER_ENCODING); // the whole body is here
    let answer = shared.client.request(forwarded).await?;
    if let Some(iam) = &shared.iam
        && answer.status() == StatusCode::NOT_FOUND
        && let Err(refusal) = iam.admit_missing(&parts.headers, call.as_ref()).await
    {
        return Ok(response(refusal));
    }
    let Some(call) = call else { return Ok(answer.map(Either::Right)) };
    // The size of what is received counts too.
    let (answer, received) = if call.service == Service::Sqs {
        let (parts, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        (Response::from_parts(parts, Either::Left(Full::new(body.clone()))), body)
    } else {
        (answer.map(Either::Right), Bytes::new())
    };
    let billed = Requests::of(&call, &body, &received);
    let mut all = shared.billed.lock().expect("no panic");
    let of_action = all.entry(call.name).or_default();
    *of_action = *of_action + billed;
    drop(all);
    Ok(answer)
}

fn response(refusal: Refusal) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::from(refusal.body)));
    *response.status_mut() = refusal.status;
    let content_type = header::HeaderValue::from_static(refusal.content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
