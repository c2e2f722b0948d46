//! Checks on AWS: credentials, queues, buckets, and whether a worker could be launched.

use std::sync::Arc;

use super::{
    finding::{Finding, remedy},
    fleet,
    stores::stores,
};
use crate::{
    app::{
        aws::written_view,
        queues::{specs, status_spec},
    },
    cloud::aws::AwsCloud,
    recognition::ModelId,
    settings::Settings,
};

/// Runs the checks. `model` is the id of the embedder's model, if it loaded. If the configuration or the credentials
/// cannot be used, that is the only finding.
pub(super) async fn findings(settings: &Settings, model: Option<&ModelId>) -> Vec<Finding> {
    let cloud = match AwsCloud::connect(settings, false).await {
        Ok(cloud) => cloud,
        Err(error) => {
            let remedy = "set what the message names: aws.* in the configuration, or AWS_REGION";
            return vec![Finding::new("AWS", Err::<&str, _>((format!("{error:#}"), remedy.to_owned())))];
        }
    };
    if let Err(error) = cloud.credentials().await {
        let remedy = "set AWS_PROFILE, log in, or give the instance a role (deploy/cloudformation.yaml)";
        return vec![Finding::new("credentials", Err::<&str, _>((format!("{error:#}"), remedy.to_owned())))];
    }
    let mut findings = vec![Finding::new("credentials", Ok("found"))];
    for spec in specs(settings).into_iter().chain([status_spec(settings)]) {
        let result = cloud.queues.inspect(&spec).await.map(|()| "exists with the required attributes");
        let remedy_if_missing =
            "start `rollcall serve` once, which creates it, or check queue.*, aws.region and the account";
        findings.push(Finding::new(format!("queue {}", spec.name), result.map_err(|e| remedy(e, remedy_if_missing))));
    }
    findings.extend(stores(settings, Arc::clone(&cloud.objects) as _, model).await);
    findings.extend(written_view(&*cloud.objects, &settings.store.state).await.map(|view| fleet::finding(&view)));
    let launch = cloud.compute.dry_run().await.map(|()| "a worker could be launched");
    let remedy_if_missing = "check aws.image, aws.launch_template, aws.subnets and aws.security_groups";
    let launch = launch.map_err(|e| match remedy(e, remedy_if_missing) {
        (text, _) if text.contains("NotFound") || text.contains("Malformed") => (text, remedy_if_missing.to_owned()),
        unchanged => unchanged,
    });
    findings.push(Finding::new("launch", launch));
    findings
}
