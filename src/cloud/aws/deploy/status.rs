//! `rollcall aws status`: what AWS tells about a cluster.

use aws_sdk_ec2::types::{Filter, Instance};
use aws_sdk_sqs::types::QueueAttributeName;
use serde::Serialize;
use serde_json::Value;

use super::{
    super::{errors::classify, logs::samples, tags::CLUSTER_TAG},
    account::{Account, filter},
    facts::{TEMPLATE_TAG, WEB_TEMPLATE},
    instances::{self, ALIVE},
};
use crate::cloud::{CloudError, CloudResult, aws::call_sites::CallSite as _};

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 3600 * 1000;
/// What the names of the stack's queues have after the cluster's.
const QUEUES: [&str; 4] = ["-listener.fifo", "-speaker", "-dead.fifo", "-status"];

/// A cluster.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    /// The stack's state; `None` if there is no stack.
    pub(crate) stack: Option<String>,
    /// URL for uploads, which ends with a slash.
    pub(crate) address: Option<String>,
    /// Web nodes and then workers, without those that are terminated.
    pub(crate) machines: Vec<Machine>,
    /// The queues of the stack.
    pub(crate) queues: Vec<Depth>,
    /// What the controller says; `None` if it has logged nothing today.
    pub(crate) fleet: Option<Fleet>,
}

/// An instance.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) id: String,
    /// `web` or `worker`.
    pub(crate) role: &'static str,
    pub(crate) state: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) zone: String,
    pub(crate) image: String,
    /// Version of its launch template, if it has one.
    pub(crate) version: Option<String>,
}

/// How many messages a queue has, as SQS estimates them.
#[derive(Debug, Serialize)]
pub(crate) struct Depth {
    pub(crate) queue: String,
    pub(crate) visible: u64,
    pub(crate) in_flight: u64,
    pub(crate) delayed: u64,
}

/// The latest metrics of the controller, and the sum of what today's had.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Fleet {
    /// When they were written, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    pub(crate) degraded: bool,
    /// `None` if they could not be counted.
    pub(crate) dead_letters: Option<u64>,
    /// Cost of the workers in US dollars per hour, and since midnight UTC.
    pub(crate) dollars_per_hour: f64,
    pub(crate) dollars_today: f64,
}

/// Describes the cluster at a time, in milliseconds since the Unix epoch.
///
/// # Errors
/// A call to AWS failed.
pub(crate) async fn status(account: &Account, now_ms: i64) -> anyhow::Result<Status> {
    let stack = account.stack_facts().await?.unwrap_or_default();
    let mut machines = match stack.resources.get(WEB_TEMPLATE) {
        Some(template) => self::machines(account, filter(format!("tag:{TEMPLATE_TAG}"), template), "web").await?,
        None => Vec::new(),
    };
    let workers = filter(format!("tag:{CLUSTER_TAG}"), &account.cluster);
    machines.extend(self::machines(account, workers, "worker").await?);
    let today = samples(&account.logs, &account.cluster, now_ms - now_ms.rem_euclid(DAY_MS)).await?;
    Ok(Status {
        address: stack.outputs.get("Address").cloned(),
        stack: Some(stack.status).filter(|status| !status.is_empty()),
        machines,
        queues: queues(account).await?,
        fleet: fleet(&today),
    })
}

async fn machines(account: &Account, which: Filter, role: &'static str) -> CloudResult<Vec<Machine>> {
    let found = instances::list(account, which, &ALIVE).await?;
    Ok(found.iter().filter_map(|instance| machine(instance, role)).collect())
}

fn machine(instance: &Instance, role: &'static str) -> Option<Machine> {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let version = instance.tags().iter().find(|tag| tag.key() == Some("aws:ec2launchtemplate:version"));
    Some(Machine {
        id: instance.instance_id()?.to_owned(),
        role,
        state: instance.state()?.name()?.as_str().to_owned(),
        kind: text(instance.instance_type().map(|kind| kind.as_str())),
        zone: text(instance.placement().and_then(|placement| placement.availability_zone())),
        image: text(instance.image_id()),
        version: version.and_then(|tag| tag.value()).map(str::to_owned),
    })
}

async fn queues(account: &Account) -> CloudResult<Vec<Depth>> {
    let mut depths = Vec::new();
    for name in QUEUES.map(|name| format!("{}{name}", account.cluster)) {
        let url =
            match account.sqs.get_queue_url().queue_name(&name).recorded().send().await.map_err(|e| classify(&name, e))
            {
                Err(CloudError::NotFound(_)) => continue,
                found => found?.queue_url.unwrap_or_default(),
            };
        let call = account.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
        let attributes = call.recorded().send().await.map_err(|e| classify(&name, e))?.attributes.unwrap_or_default();
        let number = |name| attributes.get(&name).and_then(|number| number.parse().ok()).unwrap_or(0);
        depths.push(Depth {
            visible: number(QueueAttributeName::ApproximateNumberOfMessages),
            in_flight: number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
            delayed: number(QueueAttributeName::ApproximateNumberOfMessagesDelayed),
            queue: name,
        });
    }
    Ok(depths)
}

/// Summarises the metrics of a day, which are in the order of their times. Not every line has the state of the fleet.
fn fleet(samples: &[serde_json::Map<String, Value>]) -> Option<Fleet> {
    let number = |sample: &serde_json::Map<String, Value>, key: &str| sample.get(key).and_then(Value::as_f64);
    let last = samples.iter().rfind(|sample| sample.contains_key("rollcall_fleet_degraded"))?;
    Some(Fleet {
        at_ms: last["_aws"]["Timestamp"].as_u64().unwrap_or(0),
        degraded: number(last, "rollcall_fleet_degraded").is_some_and(|n| n > 0.0),
        dead_letters: number(last, "rollcall_dead_letters_stored").map(|n| n as u64),
        dollars_per_hour: number(last, "rollcall_worker_cost_dollars_per_hour").unwrap_or(0.0),
        dollars_today: samples.iter().filter_map(|s| number(s, "rollcall_worker_cost_dollars_total")).sum(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_latest_metrics_count_and_costs_add_up() {
        let sample = |at: u64, degraded: u8, dollars: f64| {
            let sample = json!({
                "_aws": {"Timestamp": at}, "rollcall_fleet_degraded": degraded, "rollcall_dead_letters_stored": at,
                "rollcall_worker_cost_dollars_total": dollars, "rollcall_worker_cost_dollars_per_hour": 60.0 * dollars,
            });
            sample.as_object().unwrap().clone()
        };
        let given_up = json!({"_aws": {"Timestamp": 3}, "rollcall_dead_letters_total": 1}).as_object().unwrap().clone();
        let found = fleet(&[sample(1, 1, 0.5), sample(2, 0, 0.25), given_up]).unwrap();
        let (dead_letters, dollars_per_hour, dollars_today) = (Some(2), 15.0, 0.75);
        assert_eq!(found, Fleet { at_ms: 2, degraded: false, dead_letters, dollars_per_hour, dollars_today });
        assert!(fleet(&[sample(1, 0, 0.5), sample(2, 1, 0.5)]).unwrap().degraded);
        assert_eq!(fleet(&[]), None);
    }
}
