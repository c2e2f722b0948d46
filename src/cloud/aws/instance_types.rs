//! What EC2 states about instance types.

use aws_sdk_ec2::{
    Client,
    types::{Filter, InstanceType, InstanceTypeInfo},
};

use super::{call_sites::CallSite as _, errors::classify};
use crate::cloud::CloudResult;

/// Most types that a call may name (`InstanceTypes` in the API reference of `DescribeInstanceTypes`).
const TYPES_PER_CALL: usize = 100;

/// Describes instance types, in no particular order.
///
/// # Errors
/// There is no such type, or any other error of EC2.
pub(super) async fn describe(client: &Client, names: &[&str]) -> CloudResult<Vec<InstanceTypeInfo>> {
    let mut described = Vec::new();
    for names in names.chunks(TYPES_PER_CALL) {
        let types = names.iter().map(|name| InstanceType::from(*name)).collect();
        let call = client.describe_instance_types().set_instance_types(Some(types));
        let output = call.recorded().send().await.map_err(|e| classify("instance types", e))?;
        described.extend(output.instance_types.unwrap_or_default());
    }
    Ok(described)
}

/// Describes those of the instance types that the region has, in no particular order. At most 200: the limit on the values of a
/// filter.
///
/// # Errors
/// Any error of EC2.
pub(super) async fn existing(client: &Client, names: &[&str]) -> CloudResult<Vec<InstanceTypeInfo>> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let named = Filter::builder().name("instance-type").set_values(Some(names)).build();
    let output = client.describe_instance_types().filters(named).recorded().send().await;
    Ok(output.map_err(|e| classify("instance types", e))?.instance_types.unwrap_or_default())
}
