//! `rollcall doctor`: checks a set-up before it runs, and says what to do about each fault. Changes nothing that stays.

#[cfg(feature = "aws")]
mod aws;

use std::{process::ExitCode, sync::Arc};

use bytes::Bytes;
use serde_json::json;

use crate::{
    cloud::{CloudError, ObjectStore, Precondition, local::LocalObjects},
    inference::{factory::factory, gallery_store::GalleryStore},
    settings::{CloudKind, Settings},
};

#[derive(clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
struct Finding {
    what: String,
    /// What is well, or what is wrong and what to do about it.
    result: Result<String, (String, String)>,
}

impl Finding {
    fn new(what: impl Into<String>, result: Result<impl Into<String>, (String, String)>) -> Self {
        Self { what: what.into(), result: result.map(Into::into) }
    }
}

/// Prints what was found; fails where something is wrong.
pub async fn run(args: Args, settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut findings = vec![models(settings)];
    match settings.cloud.kind {
        CloudKind::Local => findings.extend(local(settings).await),
        #[cfg(feature = "aws")]
        CloudKind::Aws => findings.extend(aws::findings(settings).await),
        #[cfg(not(feature = "aws"))]
        CloudKind::Aws => return Err(super::without_aws()),
    }
    let well = findings.iter().all(|f| f.result.is_ok());
    if args.json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| match &f.result {
                Ok(detail) => json!({ "what": f.what, "ok": true, "detail": detail }),
                Err((fault, remedy)) => json!({ "what": f.what, "ok": false, "detail": fault, "remedy": remedy }),
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
    } else {
        for Finding { what, result } in &findings {
            match result {
                Ok(detail) => println!("ok     {what}: {detail}"),
                Err((fault, remedy)) => println!("FAULT  {what}: {fault}\n       → {remedy}"),
            }
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The models are loaded, as a worker does.
fn models(settings: &Settings) -> Finding {
    let built = factory(&settings.recognition).build();
    let remedy = "run `make setup`, or set recognition.* to files that exist on every worker";
    let result = built.map(|_| "ONNX Runtime and the models load").map_err(|e| (format!("{e:#}"), remedy.to_owned()));
    Finding::new("recognition", result)
}

async fn local(settings: &Settings) -> Vec<Finding> {
    let dir = &settings.local.data_dir;
    match LocalObjects::open(dir) {
        Ok(store) => stores(settings, Arc::new(store)).await,
        Err(error) => {
            let remedy = "make the folder writable, or set local.data_dir to one that is";
            vec![Finding::new("data folder", Err::<&str, _>((format!("{}: {error}", dir.display()), remedy.into())))]
        }
    }
}

/// Each bucket is written, read and listed; the gallery is read.
async fn stores(settings: &Settings, store: Arc<dyn ObjectStore>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, bucket) in [
        ("store.input", &settings.store.input),
        ("store.output", &settings.store.output),
        ("store.state", &settings.store.state),
    ] {
        let result = try_bucket(&*store, bucket).await.map(|()| "can be written, read and listed");
        findings.push(Finding::new(
            format!("bucket {bucket}"),
            result.map_err(|e| remedy(e, &format!("make the bucket, or set {key}"))),
        ));
    }
    let gallery = GalleryStore::new(store, settings.store.state.clone(), settings.gallery.clone()).load().await;
    let gallery = gallery.map(|gallery| match gallery.people.len() {
        0 => "nobody is enrolled yet: every face will be unknown (rollcall enroll DIR)".to_owned(),
        n => format!("{n} people"),
    });
    let remedy = "see the bucket above; a damaged gallery is replaced by `rollcall gallery import`";
    findings.push(Finding::new("gallery", gallery.map_err(|e| (e.to_string(), remedy.to_owned()))));
    findings
}

async fn try_bucket(store: &dyn ObjectStore, bucket: &str) -> Result<(), CloudError> {
    let key = format!("doctor-{}", ulid::Ulid::generate());
    store.put(bucket, &key, Bytes::from_static(b"rollcall doctor"), Precondition::Absent).await?;
    let used = async {
        store.get(bucket, &key).await?;
        store.list(bucket, &key).await
    };
    let used = used.await;
    store.delete(bucket, &key).await?;
    used.map(drop)
}

/// An error with what to do about it; `missing`: where the thing is not there.
fn remedy(error: CloudError, missing: &str) -> (String, String) {
    let text = error.to_string();
    let skewed = ["TimeTooSkewed", "RequestExpired"].iter().any(|code| text.contains(code));
    let remedy = match &error {
        CloudError::Denied(_) if skewed => "set this machine's clock: run a time service such as chrony",
        CloudError::Denied(_) => {
            "give this role the rights that deploy/cloudformation.yaml gives it, or use other credentials"
        }
        CloudError::NotFound(_) => missing,
        CloudError::Invalid(_) => "put right what the message names",
        CloudError::Quota(_) => "ask AWS for a higher limit, or lower fleet.max_instances",
        CloudError::NoCapacity(_) => "name more types in aws.instance_types or more subnets in aws.subnets",
        CloudError::Unavailable(_) => "check the network, aws.region and AWS_ENDPOINT_URL_*",
        CloudError::Throttled | CloudError::Conflict(_) => "try again in a minute",
    };
    (text, remedy.to_owned())
}
