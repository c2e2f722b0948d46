//! The machine that an image is made of: it installs a package at its first boot, reports, and switches itself off.

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_ec2::types::{
    HttpTokensState, Instance, InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification,
    InstanceStateName, InstanceType, ResourceType, ShutdownBehavior, TagSpecification,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{Account, BAKE_TAG, filter, tag, wait};
use crate::cloud::{
    CloudError, CloudResult,
    aws::{classify, code},
};

const SCRIPT: &str = include_str!("../../../../deploy/builder.sh");
/// Lines of a log that are shown.
const SHOWN: usize = 40;

/// What a builder is made of.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Image to begin with: an id, or `resolve:ssm:` and the name of a parameter.
    pub base: String,
    pub instance_type: String,
    /// Needs a way to the internet. `None`: the default one.
    pub subnet: Option<String>,
}

/// Where a builder finds its package and leaves its report: URLs that are good for some time without credentials.
pub struct Mail {
    pub package: String,
    pub sha256: String,
    pub report: String,
}

/// What the machine runs at its first boot. It goes off by itself after `timeout`.
pub fn user_data(mail: &Mail, timeout: Duration) -> String {
    let minutes = timeout.as_secs().div_ceil(60) + 10;
    let Mail { package, sha256, report } = mail;
    // URLs are percent-encoded: they hold no quotes.
    format!("#!/bin/sh\npackage='{package}'\nsha256={sha256}\nreport='{report}'\nminutes={minutes}\n{SCRIPT}")
}

/// Launches it; `name` marks this bake among others.
pub async fn launch(account: &Account, machine: &Machine, user_data: String, name: &str) -> CloudResult<String> {
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
    let answer = account
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
        .send()
        .await
        .map_err(|e| classify("launch of the builder", e))?;
    let id = answer.instances.unwrap_or_default().into_iter().find_map(|instance| instance.instance_id);
    id.ok_or_else(|| CloudError::Unavailable("launch of the builder: no instance in the answer".into()))
}

/// Waits for a good report and for the machine to be off. `report`: what has been reported, if anything.
pub async fn wait(
    account: &Account,
    id: &str,
    timeout: Duration,
    report: impl AsyncFn() -> CloudResult<Option<String>>,
) -> anyhow::Result<()> {
    let reported = wait::until(timeout, async || {
        let state = state(account, id).await?;
        let text = report().await?; // asked later: it is complete when the machine is off
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
            "no report from the builder {id} within {minutes} minutes: has its subnet a way to the internet? {console}"
        );
    };
    let (first, log) = text.split_once('\n').unwrap_or((&text, ""));
    anyhow::ensure!(first == "exit 0", "the installation on the builder failed ({first}). Its log ends:\n{}", end(log));
    let off =
        wait::until(
            timeout,
            async || Ok((state(account, id).await? == Some(InstanceStateName::Stopped)).then_some(())),
        );
    off.await?.with_context(|| format!("the builder {id} has reported, but does not switch itself off"))
}

/// `None` where EC2 does not know it (yet).
async fn state(account: &Account, id: &str) -> CloudResult<Option<InstanceStateName>> {
    match account.ec2.describe_instances().instance_ids(id).send().await {
        Ok(answer) => {
            let found = answer.reservations.unwrap_or_default().into_iter().find_map(|r| r.instances?.pop());
            Ok(found.and_then(|instance| instance.state?.name))
        }
        Err(error) if code(&error) == "InvalidInstanceID.NotFound" => Ok(None),
        Err(error) => Err(classify(id, error)),
    }
}

/// What the machine has printed, for people; AWS has it minutes late.
async fn console(account: &Account, id: &str) -> String {
    let output = account.ec2.get_console_output().instance_id(id).send().await;
    let text = output.ok().and_then(|answer| BASE64_STANDARD.decode(answer.output?).ok());
    match text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.trim().is_empty()) {
        None => "AWS has no console output of it.".to_owned(),
        Some(text) => format!("Its console output ends:\n{}", end(&text)),
    }
}

fn end(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

/// Builders of this cluster that are not terminated.
pub async fn all(account: &Account) -> CloudResult<Vec<Instance>> {
    let ours = filter(format!("tag:{BAKE_TAG}"), &account.cluster);
    let mut pages = account.ec2.describe_instances().filters(ours).into_paginator().send();
    let mut all = Vec::new();
    while let Some(page) = pages.next().await {
        let reservations = page.map_err(|e| classify("describe", e))?.reservations.unwrap_or_default();
        all.extend(reservations.into_iter().flat_map(|r| r.instances.unwrap_or_default()));
    }
    all.retain(|i| i.state().and_then(|s| s.name()) != Some(&InstanceStateName::Terminated));
    Ok(all)
}

pub async fn terminate(account: &Account, ids: &[String]) -> CloudResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let answer = account.ec2.terminate_instances().set_instance_ids(Some(ids.to_vec())).send().await;
    answer.map(drop).map_err(|e| classify("terminate", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_is_a_script_within_the_limit_of_ec2() {
        // Temporary credentials make URLs of some two kilobytes.
        let long = "x".repeat(3000);
        let mail = Mail { package: long.clone(), sha256: "0".repeat(64), report: long };
        let text = user_data(&mail, Duration::from_secs(90));
        assert!(text.starts_with("#!/bin/sh\npackage='x") && text.contains("\nminutes=12\n"));
        assert!(text.len() < 16 << 10, "{}", text.len());
    }

    #[test]
    fn the_end_of_a_log_is_what_is_shown() {
        let log: String = (0..100).map(|n| format!("line {n}\n")).collect();
        assert!(end(&log).starts_with("line 60\n") && end(&log).ends_with("line 99"));
        assert_eq!(end("short"), "short");
    }
}
