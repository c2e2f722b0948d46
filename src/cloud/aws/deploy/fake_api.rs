//! An account whose EC2 and CloudFormation a test answers for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_sdk_ec2::config::{Credentials, SharedCredentialsProvider};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::account::Account;

/// The parameters of a call by their names. `Action` is the call's.
pub(super) type Call = BTreeMap<String, String>;

/// The elements within the response of a call, or the code of an error.
pub(super) type Answer = Result<String, &'static str>;

/// Returns the values of a list in a call, such as `InstanceId.1`, `InstanceId.2`.
pub(super) fn values(call: &Call, list: &str) -> Vec<String> {
    (1..).map_while(|n| call.get(&format!("{list}.{n}")).cloned()).collect()
}

/// Starts an API that answers as `answer` does, and returns an account that calls it.
pub(super) async fn account(answer: impl FnMut(&Call) -> Answer + Send + 'static) -> Account {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "test")))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(format!("http://{}", listener.local_addr().unwrap()))
        .build();
    let answer = Arc::new(Mutex::new(answer));
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let answer = answer.clone();
            let handler = service_fn(move |request| respond(request, answer.clone()));
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(connection), handler));
        }
    });
    Account {
        cluster: "x".to_owned(),
        id: "000000000000".to_owned(),
        region: "us-east-1".to_owned(),
        cloudformation: aws_sdk_cloudformation::Client::new(&config),
        ec2: aws_sdk_ec2::Client::new(&config),
        logs: aws_sdk_cloudwatchlogs::Client::new(&config),
        s3: aws_sdk_s3::Client::new(&config),
        sqs: aws_sdk_sqs::Client::new(&config),
    }
}

async fn respond<F: FnMut(&Call) -> Answer>(
    request: Request<Incoming>,
    answer: Arc<Mutex<F>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let call: Call = form_urlencoded::parse(&body).map(|(name, value)| (name.into(), value.into())).collect();
    let action = &call["Action"];
    let answer = (answer.lock().unwrap())(&call);
    let (status, text) = match answer {
        // EC2 has no element within the response, CloudFormation has one.
        Ok(text) if call["Version"] == "2010-05-15" => {
            (200, format!("<{action}Response><{action}Result>{text}</{action}Result></{action}Response>"))
        }
        Ok(text) => (200, format!("<{action}Response>{text}</{action}Response>")),
        Err(code) => (400, format!("<Response><Errors><Error><Code>{code}</Code></Error></Errors></Response>")),
    };
    Ok(Response::builder().status(status).body(Full::from(text)).unwrap())
}
