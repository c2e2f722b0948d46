//! The builder: an instance that installs a package at its first boot, reports the outcome, and shuts down. The image
//! is created from it.

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_ec2::types::{
    HttpTokensState, Instance, InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification,
    InstanceStateName, InstanceType, ResourceType, ShutdownBehavior, TagSpecification,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    super::errors::{classify, code},
    account::{Account, filter, tag},
    instances::{self, ALIVE},
    wait,
};
use crate::cloud::aws::call_sites::CallSite as _;
use crate::cloud::{CloudError, CloudResult};

/// Tag on a builder: the cluster's name. It differs from the cluster tag, because a controller regards every instance
/// with that tag as a worker.
const BAKE_TAG: &str = "rollcall:bake";

const SCRIPT: &str = include_str!("../../../../deploy/builder.sh");
/// Number of log lines that an error message shows.
const LOG_LINES: usize = 40;

/// The instance to build on.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Base image: an id, or `resolve:ssm:` followed by the name of a parameter.
    pub(crate) base: String,
    pub(crate) instance_type: String,
    /// Needs a route to the internet. `None` is the default subnet.
    pub(crate) subnet: Option<String>,
}

/// Presigned URLs with which a builder downloads its package and uploads its report.
pub(super) struct Transfer {
    /// URL of the package, for GET.
    pub(super) package: String,
    /// SHA-256 digest of the package in hex.
    pub(super) sha256: String,
    /// URL of the report, for PUT.
    pub(super) report: String,
}

/// Returns the script that the builder runs at its first boot. It shuts down the machine at most ten minutes after
/// `timeout`.
pub(super) fn user_data(transfer: &Transfer, timeout: Duration) -> String {
    let minutes = timeout.as_secs().div_ceil(60) + 10;
    let Transfer { package, sha256, report } = transfer;
    // Presigned URLs are percent-encoded and contain no quotes.
    format!("#!/bin/sh\npackage='{package}'\nsha256={sha256}\nreport='{report}'\nminutes={minutes}\n{SCRIPT}")
}

/// Launches a builder and returns its id. `name` identifies the bake.
pub(super) async fn launch(account: &Account, machine: &Machine, user_data: String, name: &str) -> CloudResult<String> {
    let tags = |kind| {
        TagSpecification::builder()
            .resource_type(kind)
            .tags(tag(BAKE_TAG, &account.cluster))
            .tags(tag("Name", &format!("{}-builder-{name}", account.cluster)))
            .build()
    };
    let network = machine.subnet.as_ref().map(|subnet| {
        let network = InstanceNetworkInterfaceSpecification::builder().device_index(0);
        vec![network.associate_public_ip_address(true).subnet_id(subnet).build()]
    });
    let output = account
        .ec2
        .run_instances()
        .client_token(format!("bake-{name}"))
        .min_count(1)
        .max_count(1)
        .image_id(&machine.base)
        .instance_type(InstanceType::from(machine.instance_type.as_str()))
        .set_network_interfaces(network)
        .user_data(BASE64_STANDARD.encode(user_data))
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Stop)
        .metadata_options(InstanceMetadataOptionsRequest::builder().http_tokens(HttpTokensState::Required).build())
        .tag_specifications(tags(ResourceType::Instance))
        .tag_specifications(tags(ResourceType::Volume))
        .recorded()
        .send()
        .await
        .map_err(|e| classify("launch of the builder", e))?;
    let id = output.instances.unwrap_or_default().into_iter().find_map(|instance| instance.instance_id);
    id.ok_or_else(|| CloudError::Unavailable("launch of the builder: no instance in the response".into()))
}

/// Waits for a report of success and for the builder to stop. `report` returns the report once it exists.
///
/// # Errors
/// The installation failed, or the builder has not reported or stopped within `timeout`.
pub(super) async fn wait(
    account: &Account,
    id: &str,
    timeout: Duration,
    report: impl AsyncFn() -> CloudResult<Option<String>>,
) -> anyhow::Result<()> {
    let reported = wait::until(timeout, async || {
        let state = state(account, id).await?;
        let text = report().await?; // read after the state, because a stopped machine has reported
        match (text, state) {
            (Some(text), _) => Ok(Some(text)),
            (None, None | Some(InstanceStateName::Pending | InstanceStateName::Running)) => Ok(None),
            (None, Some(state)) => anyhow::bail!(
                "the builder {id} is {} and has not reported. {}",
                state.as_str(),
                console(account, id).await
            ),
        }
    });
    let Some(text) = reported.await? else {
        let console = console(account, id).await;
        let minutes = timeout.as_secs() / 60;
        anyhow::bail!(
            "no report from the builder {id} within {minutes} minutes: does its subnet have a route to the internet? \
             {console}"
        );
    };
    let (first, log) = text.split_once('\n').unwrap_or((&text, ""));
    anyhow::ensure!(
        first == "exit 0",
        "the installation on the builder failed ({first}). Its log ends:\n{}",
        tail(log)
    );
    let stopped =
        wait::until(
            timeout,
            async || Ok((state(account, id).await? == Some(InstanceStateName::Stopped)).then_some(())),
        );
    stopped.await?.with_context(|| format!("the builder {id} has reported, but has not shut down"))
}

/// Returns an instance's state; `None` while EC2 does not know it.
pub(super) async fn state(account: &Account, id: &str) -> CloudResult<Option<InstanceStateName>> {
    match account.ec2.describe_instances().instance_ids(id).recorded().send().await {
        Ok(output) => {
            let found = output.reservations.unwrap_or_default().into_iter().find_map(|r| r.instances?.pop());
            Ok(found.and_then(|instance| instance.state?.name))
        }
        Err(error) if code(&error) == "InvalidInstanceID.NotFound" => Ok(None),
        Err(error) => Err(classify(id, error)),
    }
}

/// Describes the end of the instance's console output, for error messages. EC2 provides it with a delay of minutes.
pub(super) async fn console(account: &Account, id: &str) -> String {
    let output = account.ec2.get_console_output().instance_id(id).recorded().send().await;
    describe_console(output.ok().and_then(|output| BASE64_STANDARD.decode(output.output?).ok()))
}

fn describe_console(output: Option<Vec<u8>>) -> String {
    match output.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.trim().is_empty()) {
        None => "AWS has no console output yet.".to_owned(),
        Some(text) => format!("Its console output ends:\n{}", tail(&text)),
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Returns the builders of this cluster that are not terminated.
pub(super) async fn list(account: &Account) -> CloudResult<Vec<Instance>> {
    instances::list(account, filter(format!("tag:{BAKE_TAG}"), &account.cluster), &ALIVE).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_is_a_script_within_ec2s_size_limit() {
        // URLs presigned with temporary credentials are about two kilobytes long.
        let long = "x".repeat(3000);
        let transfer = Transfer { package: long.clone(), sha256: "0".repeat(64), report: long };
        let text = user_data(&transfer, Duration::from_secs(90));
        assert!(text.starts_with("#!/bin/sh\npackage='x") && text.contains("\nminutes=12\n"));
        assert!(text.len() < 16 << 10, "{}", text.len());
    }

    #[test]
    fn an_error_shows_the_last_lines_of_a_log() {
        let log: String = (0..100).map(|n| format!("line {n}\n")).collect();
        assert!(tail(&log).starts_with("line 60\n") && tail(&log).ends_with("line 99"));
        assert_eq!(tail("short"), "short");
    }

    #[test]
    fn a_console_without_output_is_described_as_such() {
        for silent in [None, Some(Vec::new()), Some(b" \n".to_vec())] {
            assert_eq!(describe_console(silent), "AWS has no console output yet.");
        }
        assert_eq!(describe_console(Some(b"no space left".to_vec())), "Its console output ends:\nno space left");
    }
}
