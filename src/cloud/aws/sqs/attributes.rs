//! Attributes of SQS queues, compared with what a [`QueueSpec`](crate::cloud::QueueSpec) requires.

use std::collections::HashMap;

use aws_sdk_sqs::types::QueueAttributeName;

use crate::cloud::CloudError;

/// A queue's attributes by name.
pub(super) type Attributes = HashMap<QueueAttributeName, String>;

/// An attribute whose value is not the required one.
#[derive(Debug)]
pub(super) struct Mismatch {
    pub(super) name: QueueAttributeName,
    pub(super) wanted: String,
    present: Option<String>,
}

/// Returns the attributes of `wanted` that are missing from `present` or have a different value there.
pub(super) fn mismatches(wanted: &Attributes, present: &Attributes) -> Vec<Mismatch> {
    let differ = wanted.iter().filter(|(name, value)| !same(name, present.get(name), value));
    let mismatch = |(name, value): (&QueueAttributeName, &String)| Mismatch {
        name: name.clone(),
        wanted: value.clone(),
        present: present.get(name).cloned(),
    };
    differ.map(mismatch).collect()
}

/// Returns whether SQS can set the attribute on an existing queue.
pub(super) fn can_be_set(mismatch: &Mismatch) -> bool {
    mismatch.name != QueueAttributeName::FifoQueue
}

/// Returns the error for a queue with these mismatches.
pub(super) fn refusal(queue: &str, mismatches: &[Mismatch]) -> CloudError {
    if !mismatches.iter().all(can_be_set) {
        return CloudError::Invalid(format!(
            "queue {queue} is a standard queue and has to be FIFO: delete it, or configure another"
        ));
    }
    let line = |m: &Mismatch| format!("{} is {}, not {}", m.name, m.present.as_deref().unwrap_or("unset"), m.wanted);
    let mut lines: Vec<String> = mismatches.iter().map(line).collect();
    lines.sort();
    CloudError::Invalid(format!(
        "queue {queue} exists with different settings ({}): change the queue or the configuration, or start with --fix",
        lines.join("; ")
    ))
}

/// Returns the redrive policy that moves a message to the queue `arn` after `max_receives` receives.
pub(super) fn redrive_policy(arn: &str, max_receives: u32) -> String {
    serde_json::json!({ "deadLetterTargetArn": arn, "maxReceiveCount": max_receives.to_string() }).to_string()
}

/// Returns whether a present attribute has the wanted value. Redrive policies are compared as JSON.
fn same(name: &QueueAttributeName, present: Option<&String>, wanted: &str) -> bool {
    let Some(present) = present else { return false };
    if *name != QueueAttributeName::RedrivePolicy {
        return present == wanted;
    }
    let parts = |text: &str| {
        let policy: serde_json::Value = serde_json::from_str(text).ok()?;
        let receives = &policy["maxReceiveCount"];
        let receives = receives.as_u64().or_else(|| receives.as_str()?.parse().ok())?;
        Some((policy["deadLetterTargetArn"].as_str()?.to_owned(), receives))
    };
    parts(present).is_some_and(|present| Some(present) == parts(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redrive_policies_are_compared_by_meaning() {
        let (name, wanted) = (QueueAttributeName::RedrivePolicy, redrive_policy("arn:aws:sqs:x:1:dead", 5));
        let number = r#"{"maxReceiveCount": 5, "deadLetterTargetArn": "arn:aws:sqs:x:1:dead"}"#.to_owned();
        assert!(same(&name, Some(&number), &wanted));
        assert!(!same(&name, Some(&number.replace('5', "6")), &wanted));
        assert!(!same(&name, Some(&number.replace("dead", "other")), &wanted));
        assert!(!same(&name, None, &wanted));
    }

    #[test]
    fn only_attributes_that_are_required_and_differ_are_mismatches() {
        use QueueAttributeName::{DelaySeconds, FifoQueue, VisibilityTimeout};
        let wanted = Attributes::from([(VisibilityTimeout, "30".to_owned()), (FifoQueue, "true".to_owned())]);
        let present = |visibility: &str| {
            Attributes::from([
                (VisibilityTimeout, visibility.to_owned()),
                (FifoQueue, "true".to_owned()),
                (DelaySeconds, "9".to_owned()),
            ])
        };
        assert!(mismatches(&wanted, &present("30")).is_empty());
        let found = mismatches(&wanted, &present("60"));
        assert!(found.iter().all(can_be_set));
        let CloudError::Invalid(text) = refusal("jobs", &found) else { panic!("{found:?}") };
        assert!(text.contains("VisibilityTimeout is 60, not 30") && text.contains("--fix"), "{text}");
        let standard = mismatches(&wanted, &Attributes::from([(VisibilityTimeout, "30".to_owned())]));
        assert!(!standard.iter().all(can_be_set));
        let CloudError::Invalid(text) = refusal("jobs", &standard) else { panic!("{standard:?}") };
        assert!(text.contains("has to be FIFO"), "{text}");
    }
}
