//! Judges what AWS says of the resources: pure functions from facts to checks.

pub(super) mod network;

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    check::Check,
    expected::{DEAD_LETTER, ENCRYPTION, Queue, Rule, WORKER_GROUP, WORKER_PROFILE},
};
use crate::cloud::aws::deploy::facts::{BucketFacts, InstanceFacts, QueueFacts, StackFacts, TemplateFacts};

/// States of a stack in which its latest change has succeeded, or was undone.
const STABLE: [&str; 4] = ["CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"];

/// Returns the check of something that could not be read.
pub(super) fn unreadable(name: &str, expected: &str, error: &dyn std::fmt::Display) -> Check {
    let remedy = "give these credentials the rights to read it, or run `rollcall aws up` if it was deleted";
    Check::failed(name, expected, format!("{error:#}"), remedy)
}

/// Judges the stack.
pub(super) fn stack(cluster: &str, facts: Option<&StackFacts>) -> Check {
    let (name, expected) = (format!("stack {cluster}"), "complete, with a web node's address");
    let Some(facts) = facts else {
        return Check::failed(name, expected, "it does not exist", "create it with `rollcall aws up`");
    };
    let status = &facts.status;
    match facts.outputs.get("Address") {
        Some(address) if STABLE.contains(&status.as_str()) => Check::ok(name, expected, format!("{status}, {address}")),
        Some(_) => Check::failed(name, expected, status, "wait until it is complete, or run `rollcall aws up` again"),
        None => Check::failed(name, expected, format!("{status}, no address"), "run `rollcall aws up` again"),
    }
}

/// Judges a queue.
pub(super) fn queue(cluster: &str, expected: &Queue, facts: &QueueFacts) -> Check {
    let has = |name: &str| facts.attributes.get(name).map(String::as_str);
    let mut faults = Vec::new();
    for (attribute, wanted) in expected.attributes {
        if has(attribute) != Some(wanted) {
            faults.push(format!("{attribute} is {}, not {wanted}", has(attribute).unwrap_or("unset")));
        }
    }
    let redrive = has("RedrivePolicy").and_then(|policy| serde_json::from_str::<Value>(policy).ok());
    faults.extend(match (expected.max_receives, redrive) {
        (None, None) => None,
        (None, Some(policy)) => Some(format!("messages move to another queue: {policy}")),
        (Some(_), None) => Some("no dead-letter queue: a job that kills workers is repeated for ever".to_owned()),
        (Some(wanted), Some(policy)) => {
            let receives = &policy["maxReceiveCount"];
            let receives = receives.as_u64().or_else(|| receives.as_str()?.parse().ok());
            let target = policy["deadLetterTargetArn"].as_str().unwrap_or_default();
            let right = receives == Some(wanted) && target.ends_with(&format!(":{cluster}{DEAD_LETTER}"));
            (!right).then(|| {
                format!("the dead-letter queue is not {cluster}{DEAD_LETTER} after {wanted} receives: {policy}")
            })
        }
    });
    if has("Policy").is_some_and(is_public) {
        faults.push("its policy lets everybody use it".to_owned());
    }
    let mut wanted: Vec<String> = expected.attributes.iter().map(|(name, value)| format!("{name} {value}")).collect();
    wanted.extend(expected.max_receives.map(|receives| format!("{cluster}{DEAD_LETTER} after {receives} receives")));
    wanted.push("not public".to_owned());
    let remedy = "find out who changed it, and set the attributes again with `aws sqs set-queue-attributes`";
    let name = format!("queue {cluster}{}", expected.suffix);
    Check::of_faults(name, wanted.join(", "), "the same", &faults, remedy)
}

/// Judges a bucket. `parameters` are the stack's.
pub(super) fn bucket(
    bucket: &str,
    rules: &[Rule],
    parameters: &BTreeMap<String, String>,
    facts: &BucketFacts,
) -> Check {
    let mut faults = Vec::new();
    if !facts.open.is_empty() {
        faults.push(format!("its block of public access is incomplete: {} off", facts.open.join(", ")));
    }
    match &facts.encryption {
        Some(algorithm) if ENCRYPTION.contains(&algorithm.as_str()) => {}
        other => {
            faults.push(format!("objects are encrypted by default with {}", other.as_deref().unwrap_or("nothing")))
        }
    }
    let mut expiry = Vec::new();
    for Rule { prefix, days } in rules {
        let wanted = parameters.get(*days).and_then(|days| days.parse().ok());
        let found = facts.expiry.iter().filter(|expiry| expiry.prefix == *prefix).map(|expiry| expiry.days).min();
        let what = if prefix.is_empty() { "objects" } else { prefix };
        let after = |days: Option<i32>| days.map_or("never".to_owned(), |days| format!("after {days} days"));
        expiry.push(format!("{what} deleted {}", after(wanted)));
        if found.is_none() || found != wanted {
            faults.push(format!("{what} are deleted {}, not {} ({days})", after(found), after(wanted)));
        }
    }
    let known = |prefix: &str| rules.iter().any(|rule| rule.prefix == prefix);
    for other in facts.expiry.iter().filter(|expiry| !known(&expiry.prefix)) {
        faults.push(format!("another rule deletes {:?} after {} days", other.prefix, other.days));
    }
    if facts.policy.as_deref().is_some_and(is_public) {
        faults.push("its policy lets everybody use it".to_owned());
    }
    let remedy = "find out who changed it, and set it again with `aws s3api` (put-public-access-block, put-bucket-encryption, \
                  put-bucket-lifecycle-configuration, delete-bucket-policy)";
    let expected = format!("not public, encrypted, {}", expiry.join(", "));
    Check::of_faults(format!("bucket {bucket}"), expected, "the same", &faults, remedy)
}

/// Returns whether a policy allows something to everybody, without a condition.
fn is_public(policy: &str) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else { return false };
    let everybody = |principal: &Value| match principal {
        Value::String(who) => who == "*",
        Value::Array(all) => all.iter().any(|who| who == "*"),
        _ => false,
    };
    let statements = match &policy["Statement"] {
        Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    };
    statements.iter().any(|statement| {
        let principal = &statement["Principal"];
        let to_all = everybody(principal) || everybody(&principal["AWS"]);
        statement["Effect"] == "Allow" && to_all && statement["Condition"].is_null()
    })
}

/// Returns the name of an instance profile that is given by name or ARN.
pub(super) fn profile_name(profile: &str) -> &str {
    profile.rsplit('/').next().unwrap_or(profile)
}

/// Judges the workers' launch template.
pub(super) fn template(stack: &StackFacts, facts: &TemplateFacts) -> Check {
    let mut faults = Vec::new();
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".to_owned());
    if facts.http_tokens.as_deref() != Some("required") {
        faults.push(format!("metadata need no token (IMDSv1): HttpTokens is {}", text(&facts.http_tokens)));
    }
    if facts.image.as_ref() != stack.parameters.get("Image") {
        faults.push(format!("the image is {}, not that of the stack", text(&facts.image)));
    }
    let profile = stack.resources.get(WORKER_PROFILE).map(|profile| profile_name(profile)).unwrap_or_default();
    if facts.profile.as_deref().map(profile_name) != Some(profile) {
        faults.push(format!("the instance profile is {}, not {profile}", text(&facts.profile)));
    }
    if facts.on_shutdown.as_deref() != Some("stop") {
        faults.push(format!("on shutdown: {}, not stop", text(&facts.on_shutdown)));
    }
    // Workers without a public address get the group with their network interface, from the settings of the web node.
    let is_private = stack.parameters.get("PrivateWorkers").is_some_and(|private| private == "yes");
    let groups: Vec<&String> = stack.resources.get(WORKER_GROUP).filter(|_| !is_private).into_iter().collect();
    if facts.groups.iter().collect::<Vec<_>>() != groups {
        let names = |groups: Vec<&String>| groups.into_iter().cloned().collect::<Vec<_>>().join(", ");
        faults.push(format!(
            "the security groups are [{}], not [{}]",
            names(facts.groups.iter().collect()),
            names(groups)
        ));
    }
    let healthy = format!("version {}, {}", facts.version, text(&facts.image));
    let remedy = "find out who changed the launch template of the web nodes, which states the version, and run `rollcall aws up` \
                  with another --image";
    let expected = "the version of the web nodes, with the stack's image and role, and tokens for metadata";
    Check::of_faults("launch template", expected, healthy, &faults, remedy)
}

/// Judges which versions of the launch template and of the image the workers are of.
pub(super) fn versions(template: &TemplateFacts, workers: &[InstanceFacts]) -> Check {
    let outdated = workers.iter().filter(|worker| worker.state != "shutting-down").filter_map(|worker| {
        let version = worker.version.filter(|version| *version != template.version);
        let image = worker.image.as_ref().filter(|_| worker.image != template.image);
        let what = match (version, image) {
            (Some(version), _) => format!("version {version}"),
            (None, Some(image)) => format!("image {image}"),
            (None, None) => return None,
        };
        Some(format!("{} ({}) is of {what}", worker.id, worker.state))
    });
    let faults: Vec<String> = outdated.collect();
    let expected = format!("every worker is of version {}", template.version);
    let healthy = format!("{} workers, none of another", workers.len());
    let remedy = "the controller replaces them one after another; if they stay, look at `rollcall fleet explain`, and \
                  terminate them";
    Check::of_faults("versions", expected, healthy, &faults, remedy)
}

#[cfg(test)]
mod tests;
