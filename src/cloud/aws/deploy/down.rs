//! `rollcall aws down`: ends the cluster's machines, deletes its stack, and says what is left.

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_ec2::types::InstanceStateName;

use super::{Account, builder, filter, leftovers, leftovers::Leftovers, stack::Stack, wait};
use crate::cloud::{
    CloudResult,
    aws::{CLUSTER_TAG, classify, code},
};

/// What else is to go.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Photos, labels, results, and the gallery.
    pub delete_data: bool,
    /// Images and their snapshots.
    pub delete_images: bool,
    pub timeout: Duration,
}

/// Takes the cluster down. What is gone already is fine, so that it may be said again.
pub async fn down(account: &Account, options: Options) -> anyhow::Result<Leftovers> {
    let stack = Stack::new(account);
    // The web node first: its controller would launch new workers for those that are terminated.
    if let Some(web) = web_node(account, &stack).await? {
        eprintln!("terminating the web node {web}");
        end(account, vec![web], options.timeout).await?;
    }
    let workers = workers(account).await?;
    if !workers.is_empty() {
        eprintln!("terminating {} workers", workers.len());
    }
    let mut todo = workers;
    while !todo.is_empty() {
        end(account, todo, options.timeout).await?;
        todo = self::workers(account).await?; // a launch may have been on its way
    }
    let builders: Vec<String> = builder::all(account).await?.into_iter().filter_map(|i| i.instance_id).collect();
    if !builders.is_empty() {
        eprintln!("terminating builders that a bake has left: {}", builders.join(", "));
        builder::terminate(account, &builders).await?;
    }
    if stack.describe().await?.is_some() {
        eprintln!("deleting the stack {}", stack.name);
        stack.delete(options.timeout).await?;
    }
    delete_reply_queues(account).await?;
    if options.delete_data {
        for bucket in account.buckets() {
            leftovers::delete_bucket(account, &bucket).await.context("data is left")?;
        }
    }
    if options.delete_images {
        for image in leftovers::images(account).await? {
            leftovers::delete_image(account, &image.id).await.context("an image is left")?;
        }
    }
    Leftovers::of(account).await
}

/// The stack's own machine.
async fn web_node(account: &Account, stack: &Stack<'_>) -> anyhow::Result<Option<String>> {
    if stack.describe().await?.is_none() {
        return Ok(None);
    }
    let answer = account.cloudformation.describe_stack_resources().stack_name(&stack.name).send().await;
    let resources = answer.map_err(|e| classify(&stack.name, e))?.stack_resources.unwrap_or_default();
    let mut machines = resources.into_iter().filter(|r| r.resource_type() == Some("AWS::EC2::Instance"));
    Ok(machines.find_map(|r| r.physical_resource_id))
}

/// Machines with the cluster's tag that cost something or will.
async fn workers(account: &Account) -> CloudResult<Vec<String>> {
    let ours = filter(format!("tag:{CLUSTER_TAG}"), &account.cluster);
    let mut pages = account.ec2.describe_instances().filters(ours).into_paginator().send();
    let mut ids = Vec::new();
    while let Some(page) = pages.next().await {
        let reservations = page.map_err(|e| classify("describe", e))?.reservations.unwrap_or_default();
        let found = reservations.into_iter().flat_map(|r| r.instances.unwrap_or_default());
        let alive = found.filter(|i| i.state().and_then(|s| s.name()) != Some(&InstanceStateName::Terminated));
        ids.extend(alive.filter_map(|i| i.instance_id));
    }
    Ok(ids)
}

/// Terminates machines and waits until they are: security groups cannot be deleted before.
async fn end(account: &Account, ids: Vec<String>, timeout: Duration) -> anyhow::Result<()> {
    let all = ids.join(", ");
    let gone = "InvalidInstanceID.NotFound"; // terminated long ago
    match account.ec2.terminate_instances().set_instance_ids(Some(ids.clone())).send().await {
        Err(error) if code(&error) != gone => return Err(classify("terminate", error).into()),
        _ => {}
    }
    let ended = wait::until(timeout, async || {
        match account.ec2.describe_instances().set_instance_ids(Some(ids.clone())).send().await {
            Err(error) if code(&error) == gone => Ok(Some(())),
            Err(error) => Err(classify("describe", error).into()),
            Ok(answer) => {
                let mut states =
                    answer.reservations().iter().flat_map(|r| r.instances()).filter_map(|i| i.state()?.name());
                Ok(states.all(|state| *state == InstanceStateName::Terminated).then_some(()))
            }
        }
    });
    ended.await?.with_context(|| format!("not terminated in time: {all}"))
}

/// Reply queues of web nodes beside the first, which are no part of the stack.
async fn delete_reply_queues(account: &Account) -> anyhow::Result<()> {
    let prefix = format!("{}-speaker-", account.cluster);
    let answer = account.sqs.list_queues().queue_name_prefix(&prefix).send().await;
    for url in answer.map_err(|e| classify("queues", e))?.queue_urls.unwrap_or_default() {
        match account.sqs.delete_queue().queue_url(&url).send().await {
            Err(error) if !code(&error).ends_with("NonExistentQueue") && !code(&error).ends_with("DoesNotExist") => {
                return Err(classify(&url, error).into());
            }
            _ => eprintln!("deleted the reply queue {url}"),
        }
    }
    Ok(())
}
