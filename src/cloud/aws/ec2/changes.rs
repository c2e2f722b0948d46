//! Starts and terminates any number of instances, with as few calls as EC2 permits.

use aws_sdk_ec2::Client;

use super::{super::errors::classify, division::Division};
use crate::cloud::{CloudResult, InstanceId, aws::call_sites::CallSite as _};

/// What is done to instances.
#[derive(Clone, Copy)]
pub(in crate::cloud::aws) enum Change {
    Start,
    Terminate,
}

/// Changes instances with as few calls as possible: see [`Division`]. Returns the result of each.
pub(in crate::cloud::aws) async fn change_each(
    client: &Client,
    change: Change,
    ids: &[InstanceId],
) -> Vec<CloudResult<()>> {
    let mut division = Division::new(ids.len());
    while let Some(range) = division.next() {
        let result = call(client, change, &ids[range.clone()]).await;
        division.answered(range, result);
    }
    division.results
}

async fn call(client: &Client, change: Change, ids: &[InstanceId]) -> CloudResult<()> {
    let ids = Some(ids.iter().map(|id| id.0.clone()).collect());
    match change {
        Change::Start => {
            let output = client.start_instances().set_instance_ids(ids).recorded().send().await;
            output.map(drop).map_err(|e| classify("start", e))
        }
        Change::Terminate => {
            let output = client.terminate_instances().set_instance_ids(ids).recorded().send().await;
            output.map(drop).map_err(|e| classify("terminate", e))
        }
    }
}
