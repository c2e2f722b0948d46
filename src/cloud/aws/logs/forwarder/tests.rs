//! A forwarder with a service that refuses, and with one that accepts.

use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region, retry::RetryConfig};
use aws_sdk_cloudwatchlogs::config::Credentials;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rollcall_testing::wait_until;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, sync::oneshot};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(60);

/// What the service does with a batch.
#[derive(Clone, Copy, Default, PartialEq)]
enum Answer {
    #[default]
    Unavailable,
    Invalid,
    /// It refuses this many calls in this way, and accepts the next one.
    Passing(usize, u16, &'static str),
    Accepted,
}

/// CloudWatch Logs with one stream, which does not exist at first.
#[derive(Default)]
struct Service {
    answer: Answer,
    exists: bool,
    refused: usize,
    messages: Vec<String>,
}

impl Service {
    fn answer(&mut self, action: &str, body: &Value) -> Result<Value, (u16, &'static str)> {
        match (action, self.answer) {
            (_, Answer::Unavailable) => Err((503, "ServiceUnavailableException")),
            (_, Answer::Passing(n @ 1.., status, kind)) => {
                self.answer = Answer::Passing(n - 1, status, kind);
                Err((status, kind))
            }
            ("CreateLogStream", _) if self.exists => Err((400, "ResourceAlreadyExistsException")),
            ("CreateLogStream", _) => {
                self.exists = true;
                Ok(json!({}))
            }
            _ if !self.exists => Err((400, "ResourceNotFoundException")),
            (_, Answer::Invalid) => Err((400, "InvalidParameterException")),
            (_, Answer::Passing(0, ..) | Answer::Accepted) => {
                let events = body["logEvents"].as_array().unwrap().iter();
                self.messages.extend(events.map(|event| event["message"].as_str().unwrap().to_owned()));
                Ok(json!({}))
            }
        }
    }
}

async fn respond(
    request: Request<Incoming>,
    service: Arc<Mutex<Service>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap();
    let action = parts.headers["x-amz-target"].to_str().unwrap().rsplit('.').next().unwrap();
    let mut service = service.lock().unwrap();
    let (status, body) = match service.answer(action, &body) {
        Ok(body) => (200, body),
        Err((status, kind)) => {
            service.refused += 1;
            (status, json!({"__type": kind}))
        }
    };
    let response = Response::builder().status(status).header("Content-Type", "application/x-amz-json-1.1");
    Ok(response.body(Full::from(body.to_string())).unwrap())
}

/// Starts a service, and returns it with a forwarder to it, whose position is in a folder.
async fn start(answer: Answer) -> (Arc<Mutex<Service>>, Forwarder, TempDir) {
    let service = Arc::new(Mutex::new(Service { answer, ..Service::default() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = aws_sdk_cloudwatchlogs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(format!("http://{}", listener.local_addr().unwrap()));
    let shared = service.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let shared = shared.clone();
            let handler = service_fn(move |request| respond(request, shared.clone()));
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(connection), handler));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let client = Client::from_conf(config.build());
    let forwarder = Forwarder::new(client, "/rollcall/x".into(), "i-1", folder.path().join("cursor"));
    (service, forwarder, folder)
}

fn line(n: usize, padding: usize) -> String {
    let entry = json!({"__CURSOR": format!("i={n}"), "__REALTIME_TIMESTAMP": format!("{}000", 1_700_000_000_000 + n),
        "_SYSTEMD_UNIT": "rollcall-worker.service", "MESSAGE": format!("{n} {}", "x".repeat(padding))});
    format!("{entry}\n")
}

/// Returns the numbers of the lines that have arrived.
fn arrived(service: &Mutex<Service>) -> Vec<usize> {
    let number = |message: &String| {
        let message: Value = serde_json::from_str(message).unwrap();
        message["message"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap()
    };
    service.lock().unwrap().messages.iter().map(number).collect()
}

#[tokio::test]
async fn what_cannot_be_sent_waits_in_the_journal_and_is_sent_once() {
    const LINES: usize = 4000;
    let (service, forwarder, _folder) = start(Answer::Unavailable).await;
    let (mut journal, reading) = tokio::io::duplex(64 << 10);
    let (end, ended) = oneshot::channel::<()>();
    let (written, all) = (Mutex::new(0), Mutex::new(false));
    let write = async {
        for n in 0..LINES {
            let line = line(n, 1000);
            journal.write_all(line.as_bytes()).await.unwrap();
            *written.lock().unwrap() += line.len();
        }
        *all.lock().unwrap() = true;
        std::future::pending::<()>().await;
    };
    let steps = async {
        wait_until("it is refused again and again", TIMEOUT, async || service.lock().unwrap().refused > 2).await;
        let read = *written.lock().unwrap();
        assert!(read < 3 << 19, "{read} bytes were read, of which none can be sent");
        service.lock().unwrap().answer = Answer::Accepted;
        wait_until("the backlog is sent", TIMEOUT, async || arrived(&service).len() > LINES / 2).await;
        wait_until("all is read", TIMEOUT, async || *all.lock().unwrap()).await;
        end.send(()).unwrap();
        std::future::pending::<()>().await;
    };
    let ended = async { ended.await.unwrap() };
    tokio::select! {
        result = forwarder.run(reading, ended) => result.unwrap(),
        () = write => unreachable!(),
        () = steps => unreachable!(),
    }
    assert_eq!(arrived(&service), (0..LINES).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(forwarder.cursor().unwrap().as_deref(), Some("i=3999"));
}

/// Errors that pass: the load, a clock that is set, a limit that is raised, rights that come with an update of the stack.
#[tokio::test]
async fn what_is_refused_for_a_reason_that_passes_is_sent_later_and_once() {
    let errors = [
        (500, "InternalFailure"),
        (503, "ServiceUnavailableException"),
        (400, "ThrottlingException"),
        (400, "LimitExceededException"),
        (400, "InvalidSignatureException"),
        (400, "UnrecognizedClientException"),
        (400, "ExpiredTokenException"),
        (400, "AccessDeniedException"),
        (400, "OperationAbortedException"),
        (400, "ResourceNotFoundException"),
    ];
    let sent = errors.map(async |(status, kind)| {
        let (service, forwarder, _folder) = start(Answer::Passing(2, status, kind)).await;
        let journal = line(0, 0) + &line(1, 0);
        let ended = forwarder.run(journal.as_bytes(), std::future::pending()).await;
        assert!(ended.unwrap_err().to_string().contains("the journal ended"), "{kind}");
        assert_eq!(arrived(&service), [0, 1], "{kind}");
        assert_eq!(forwarder.cursor().unwrap().as_deref(), Some("i=1"), "{kind}");
    });
    futures_util::future::join_all(sent).await;
}

#[tokio::test]
async fn what_is_invalid_is_dropped_and_the_rest_is_sent() {
    let (service, forwarder, _folder) = start(Answer::Invalid).await;
    assert_eq!(forwarder.cursor().unwrap(), None);
    for (n, answer) in [Answer::Invalid, Answer::Accepted].into_iter().enumerate() {
        service.lock().unwrap().answer = answer;
        let journal = line(n, 0) + "not an entry\n";
        let ended = forwarder.run(journal.as_bytes(), std::future::pending()).await;
        assert!(ended.unwrap_err().to_string().contains("the journal ended"));
        assert_eq!(forwarder.cursor().unwrap(), Some(format!("i={n}")));
    }
    assert_eq!(arrived(&service), [1]);
}
