//! `rollcall doctor`: checks a set-up before it runs, and names a remedy for each fault. It deletes the objects that it
//! writes.

#[cfg(feature = "aws")]
mod aws;
mod disk;
mod finding;
mod fleet;
mod stores;

use std::{process::ExitCode, sync::Arc};

use serde_json::json;

use self::{finding::Finding, stores::stores};
use crate::{
    cloud::local::LocalObjects,
    http::check_certificate,
    inference::factory::factory,
    recognition::ModelId,
    settings::{CloudKind, Settings},
};

/// Arguments of `rollcall doctor`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the checks and prints the findings. The exit code is 1 if one of them is a fault.
pub(super) async fn run(args: Args, settings: &Settings) -> anyhow::Result<ExitCode> {
    let (model, finding) = check_models(settings);
    let mut findings = vec![finding];
    match settings.cloud.kind {
        CloudKind::Local => findings.extend(check_local(settings, model.as_ref()).await),
        #[cfg(feature = "aws")]
        CloudKind::Aws => findings.extend(aws::findings(settings, model.as_ref()).await),
        #[cfg(not(feature = "aws"))]
        CloudKind::Aws => return Err(crate::app::queues::aws_not_built_in()),
    }
    if let Some(files) = &settings.http.tls {
        let checked = check_certificate(files).map(|()| "the certificate and its key can be used");
        let remedy = "set http.tls_certificate and http.tls_key to files that belong together";
        findings.push(Finding::new("certificate", checked.map_err(|error| (format!("{error:#}"), remedy.into()))));
    }
    let healthy = !findings.iter().any(Finding::is_fault);
    if args.json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| match &f.result {
                Ok(detail) => json!({ "what": f.what, "ok": true, "detail": detail }),
                Err((detail, remedy)) if f.is_warning => {
                    json!({ "what": f.what, "ok": true, "warning": true, "detail": detail, "remedy": remedy })
                }
                Err((fault, remedy)) => json!({ "what": f.what, "ok": false, "detail": fault, "remedy": remedy }),
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
    } else {
        for finding @ Finding { what, result, .. } in &findings {
            match result {
                Ok(detail) => println!("ok     {what}: {detail}"),
                Err((detail, remedy)) => {
                    let word = if finding.is_fault() { "FAULT" } else { "WARN " };
                    println!("{word}  {what}: {detail}\n       → {remedy}");
                }
            }
        }
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Loads the models as a worker does. Returns the id of the embedder's model as well, if there is one.
fn check_models(settings: &Settings) -> (Option<ModelId>, Finding) {
    let built = factory(&settings.recognition).build();
    let model = built.as_ref().ok().and_then(|recogniser| recogniser.model().cloned());
    let loaded = "ONNX Runtime and the models load";
    let detail = model.as_ref().map_or(loaded.to_owned(), |model| format!("{loaded}; faces are embedded by {model}"));
    let remedy = "run `make setup`, reinstall Rollcall, or set recognition.* to files that exist on every worker";
    let result = built.map(|_| detail).map_err(|e| (format!("{e:#}"), remedy.to_owned()));
    (model, Finding::new("recognition", result))
}

/// Checks the data folder of the embedded cloud.
async fn check_local(settings: &Settings, model: Option<&ModelId>) -> Vec<Finding> {
    let dir = &settings.local.data_dir;
    match LocalObjects::open(dir) {
        Ok(store) => {
            let mut findings = vec![disk::check(dir, settings.local.min_free)];
            findings.extend(stores(settings, Arc::new(store), model).await);
            findings.extend(fleet::of_server(settings).await);
            findings
        }
        Err(error) => {
            let remedy = "make the folder writable, or set local.data_dir to one that is";
            vec![Finding::new("data folder", Err::<&str, _>((format!("{}: {error}", dir.display()), remedy.into())))]
        }
    }
}
