//! What AWS publishes of its actions: which resources and condition keys they take.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use super::policy::{Right, Statement};

static PUBLISHED: LazyLock<Published> = LazyLock::new(|| {
    let path = rollcall_testing::emulators::assets().join("iam/actions.json");
    let text =
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}: run `make setup-test`", path.display()));
    serde_json::from_str(&text).expect("JSON")
});
/// Keys that every request has: those of IAM itself.
const GLOBAL: [&str; 1] = ["aws:userid"];

#[derive(Deserialize)]
struct Published {
    /// By `service:Action`, then by kind of resource. The kind "" has what does not depend on the resource.
    actions: BTreeMap<String, BTreeMap<String, Kind>>,
    /// All condition keys of each service.
    conditions: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Kind {
    required: bool,
    condition_keys: Vec<String>,
}

/// EC2's user guide states this resource of a launch of spot instances, which the published data lacks.
const UNPUBLISHED: [(&str, &str); 1] = [("ec2:RunInstances", "spot-instances-request")];

/// Returns the kinds of resources that every call of an action needs.
pub fn required_kinds(action: &str) -> Vec<&'static str> {
    let kinds = PUBLISHED.actions[action].iter().filter(|(_, kind)| kind.required);
    kinds.map(|(name, _)| name.as_str()).collect()
}

/// Returns the right as IAM evaluates it: without what the action does not tell of such a resource.
pub fn published(right: Right) -> Right {
    let kind = kind(&right.resource);
    let service = service(&right.action);
    let action = PUBLISHED.actions.get(&right.action).unwrap_or_else(|| panic!("there is no action {}", right.action));
    let extra = UNPUBLISHED.contains(&(&right.action, kind));
    assert!(extra || action.contains_key(kind), "{} takes no resource {}", right.action, right.resource);
    let of_kind = action.get(kind).into_iter().chain(action.get("")).flat_map(|kind| &kind.condition_keys);
    // A key whose name says where a call comes from concerns every action of the service.
    let of_service = PUBLISHED.conditions[service].iter().filter(|key| key.contains(":Source"));
    let keys: Vec<&String> = of_kind.chain(of_service).collect();
    let known = |key: &str| GLOBAL.contains(&key) || keys.iter().any(|published| is_key(published, key));
    let context = right.context.into_iter().filter(|(key, _)| known(key)).collect();
    Right { context, ..right }
}

/// Checks that the actions of a statement exist, and take such resources and condition keys.
pub fn check(statement: &Statement) {
    for action in &statement.actions {
        let kinds = PUBLISHED.actions.get(action).unwrap_or_else(|| panic!("{}: no action {action}", statement.sid));
        let taken: Vec<&str> = statement.resources.iter().map(|resource| kind(resource)).collect();
        let fits = |taken: &&str| kinds.contains_key(*taken) || UNPUBLISHED.contains(&(action, *taken));
        assert!(taken.iter().any(fits), "{}: {action} takes none of {:?}", statement.sid, statement.resources);
        for condition in &statement.conditions {
            let of_action = kinds.values().flat_map(|kind| &kind.condition_keys);
            let keys = of_action.chain(&PUBLISHED.conditions[service(action)]);
            let known = keys.into_iter().any(|published| is_key(published, &condition.key));
            assert!(known || GLOBAL.contains(&condition.key.as_str()), "{}: {}", statement.sid, condition.key);
        }
    }
}

/// Returns whether a key is one that is published, such as `aws:RequestTag/${TagKey}`.
fn is_key(published: &str, key: &str) -> bool {
    match published.split_once("${") {
        Some((start, _)) => key.strip_prefix(start).is_some_and(|name| !name.is_empty()),
        None => published == key,
    }
}

fn service(action: &str) -> &str {
    action.split_once(':').expect("service:Action").0
}

/// Returns the kind of resource that an ARN is of, by its service's form; "" for `*`.
pub fn kind(arn: &str) -> &str {
    let mut parts = arn.splitn(6, ':').skip(2);
    let (Some(service), Some(resource)) = (parts.next(), parts.nth(2)) else { return "" };
    match service {
        "sqs" => "queue",
        "logs" if resource.contains(":log-stream:") => "log-stream",
        "logs" => "log-group",
        "s3" if resource.contains('/') => "object",
        "s3" => "bucket",
        _ => resource.split_once('/').map_or(resource, |(kind, _)| kind),
    }
}
