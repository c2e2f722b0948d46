//! Lists and terminates instances, however many there are.

use aws_sdk_ec2::types::{Filter, Instance};

use super::{
    super::{
        ec2::{Change, PAGE, change_each},
        errors::classify,
    },
    account::Account,
};
use crate::cloud::{CloudError, CloudResult, InstanceId, aws::call_sites::CallSite as _};

/// The states of instances that are not terminated.
pub(super) const ALIVE: [&str; 5] = ["pending", "running", "shutting-down", "stopping", "stopped"];

/// Returns the instances that match the filter and are in one of these states.
pub(super) async fn list(account: &Account, which: Filter, states: &[&str]) -> CloudResult<Vec<Instance>> {
    let states = states.iter().map(|state| (*state).to_owned()).collect();
    let states = Filter::builder().name("instance-state-name").set_values(Some(states)).build();
    let call = account.ec2.describe_instances().filters(which).filters(states).max_results(PAGE);
    let mut pages = call.into_paginator().recorded().send();
    let mut all = Vec::new();
    while let Some(page) = pages.next().await {
        let reservations = page.map_err(|e| classify("describe", e))?.reservations.unwrap_or_default();
        all.extend(reservations.into_iter().flat_map(|r| r.instances.unwrap_or_default()));
    }
    Ok(all)
}

/// Terminates instances. Those that do not exist any more count as terminated.
///
/// # Errors
/// The first error, after all others were terminated as far as EC2 permits.
pub(super) async fn terminate(account: &Account, ids: &[String]) -> CloudResult<()> {
    let ids: Vec<InstanceId> = ids.iter().cloned().map(InstanceId).collect();
    let results = change_each(&account.ec2, Change::Terminate, &ids).await;
    results.into_iter().find(|result| !matches!(result, Ok(()) | Err(CloudError::NotFound(_)))).unwrap_or(Ok(()))
}
