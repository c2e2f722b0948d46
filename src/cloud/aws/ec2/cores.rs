//! How many cores an instance of the fleet has: what a worker with "auto" threads will use there.

use aws_sdk_ec2::Client;

use super::super::{call_sites::CallSite as _, errors::classify, instance_types};
use crate::{cloud::CloudResult, settings::Launching};

/// Returns the number of virtual CPUs of the smallest instance type that a launch may use; `None` if nothing names a type.
///
/// # Errors
/// Any error of EC2.
pub(super) async fn cores(client: &Client, launch: &Launching) -> CloudResult<Option<usize>> {
    let types = match (&launch.instance_types[..], &launch.launch_template) {
        ([], Some(template)) => type_of_template(client, template, launch).await?.into_iter().collect(),
        (types, _) => types.to_vec(),
    };
    if types.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = types.iter().map(String::as_str).collect();
    let described = instance_types::describe(client, &names).await?;
    let cores = described.iter().filter_map(|kind| kind.v_cpu_info()?.default_v_cpus());
    Ok(cores.filter_map(|cores| usize::try_from(cores).ok()).min())
}

/// Returns the instance type of the launch template's version that is launched, if it has one.
async fn type_of_template(client: &Client, template: &str, launch: &Launching) -> CloudResult<Option<String>> {
    let call = client.describe_launch_template_versions().versions(launch.version_text());
    let call = if template.starts_with("lt-") {
        call.launch_template_id(template)
    } else {
        call.launch_template_name(template)
    };
    let versions = call.recorded().send().await.map_err(|e| classify("launch template", e))?;
    let data = versions.launch_template_versions().first().and_then(|version| version.launch_template_data());
    Ok(data.and_then(|data| data.instance_type()).map(|kind| kind.as_str().to_owned()))
}
