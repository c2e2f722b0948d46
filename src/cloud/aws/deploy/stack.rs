//! The cluster's CloudFormation stack: its state, and waiting for changes.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use aws_sdk_cloudformation::{
    Client,
    error::{DisplayErrorContext, ProvideErrorMetadata as _, SdkError},
    types::{Capability, Parameter, Stack as StackDescription, StackEvent, StackStatus},
};

use super::{super::errors::classify, account::Account, wait};
use crate::cloud::CloudResult;
use crate::cloud::aws::call_sites::CallSite as _;

/// The stack of a cluster, which has the cluster's name.
pub(super) struct Stack<'a> {
    client: &'a Client,
    pub(super) name: String,
}

/// A state in which a stack stays until it is changed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The latest change succeeded.
    Complete,
    /// The stack does not exist.
    Deleted,
    /// The latest change failed, was rolled back, or never began; the state as CloudFormation names it.
    Failed(String),
}

impl Outcome {
    /// Returns whether CloudFormation updates a stack in this state. One that was rolled back is as it was before the update.
    pub(super) fn permits_updates(&self) -> bool {
        match self {
            Self::Complete => true,
            Self::Deleted => false,
            Self::Failed(state) => ["UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"].contains(&state.as_str()),
        }
    }
}

/// How the deletion of a stack has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deletion {
    Done,
    /// Some resources could not be deleted: the reasons, one per line.
    Failed(String),
}

impl<'a> Stack<'a> {
    /// Returns a handle to the cluster's stack, whether or not it exists.
    pub(super) fn new(account: &'a Account) -> Self {
        Self { client: &account.cloudformation, name: account.cluster.clone() }
    }

    /// Describes the stack; `None` if it does not exist.
    pub(super) async fn describe(&self) -> CloudResult<Option<StackDescription>> {
        match self.client.describe_stacks().stack_name(&self.name).recorded().send().await {
            Ok(output) => {
                let stack = output.stacks.unwrap_or_default().pop();
                Ok(stack.filter(|stack| stack.stack_status() != Some(&StackStatus::DeleteComplete)))
            }
            Err(SdkError::ServiceError(e)) if e.err().message().is_some_and(|m| m.contains("does not exist")) => {
                Ok(None)
            }
            Err(error) => Err(classify(&format!("stack {}", self.name), error)),
        }
    }

    /// Waits until the stack is no longer changing.
    ///
    /// # Errors
    /// It is still changing after `timeout`, or cannot be described.
    pub(super) async fn wait(&self, timeout: Duration) -> anyhow::Result<Outcome> {
        let mut seen = String::new();
        let outcome = wait::until(timeout, async || {
            let Some(stack) = self.describe().await? else { return Ok(Some(Outcome::Deleted)) };
            seen = stack.stack_status().map_or_else(String::new, |status| status.as_str().to_owned());
            Ok(outcome(&seen))
        });
        outcome.await?.with_context(|| {
            let cancel = format!(", or end the update with `aws cloudformation cancel-update-stack --stack-name {}`", self.name);
            format!(
                "the stack {} is still changing ({seen}); CloudFormation continues on its own: run the command again later{}",
                self.name,
                if seen == "UPDATE_IN_PROGRESS" { cancel.as_str() } else { "" }
            )
        })
    }

    /// Deletes the stack and waits until it is deleted, or cannot be.
    ///
    /// # Errors
    /// The deletion was refused or took too long.
    pub(super) async fn delete(&self, timeout: Duration) -> anyhow::Result<Deletion> {
        #[expect(clippy::disallowed_methods, reason = "compared with the times of the stack's events")]
        let started_at = SystemTime::now();
        let deleted = self.client.delete_stack().stack_name(&self.name).recorded().send().await;
        deleted.map_err(|e| classify(&format!("stack {}", self.name), e))?;
        match self.wait(timeout).await? {
            Outcome::Deleted => Ok(Deletion::Done),
            Outcome::Complete | Outcome::Failed(_) => Ok(Deletion::Failed(self.failures(started_at).await)),
        }
    }

    /// Returns the error about a stack that cannot be deleted.
    pub(super) fn undeletable(&self, why: &str) -> anyhow::Error {
        anyhow::anyhow!(
            "the stack {name} cannot be deleted:\n{why}\nRemove the causes and run the command again. To leave these resources \
             behind, which may cost money: `aws cloudformation delete-stack --stack-name {name} --deletion-mode \
             FORCE_DELETE_STACK`",
            name = self.name
        )
    }

    /// Updates the stack to no web node, which also deletes what only they need. Returns why the update has failed; `None` if it
    /// has succeeded.
    ///
    /// # Errors
    /// The update was refused or took too long.
    pub(super) async fn remove_web_nodes(&self, timeout: Duration) -> anyhow::Result<Option<String>> {
        #[expect(clippy::disallowed_methods, reason = "compared with the times of the stack's events")]
        let started_at = SystemTime::now();
        let Some(stack) = self.describe().await? else { return Ok(None) };
        let keys = stack.parameters().iter().filter_map(Parameter::parameter_key);
        let parameters = keys.map(|key| match Parameter::builder().parameter_key(key) {
            none if key == "WebNodes" => none.parameter_value("0").build(),
            kept => kept.use_previous_value(true).build(),
        });
        let call = self.client.update_stack().stack_name(&self.name).use_previous_template(true);
        let call = call.set_parameters(Some(parameters.collect())).capabilities(Capability::CapabilityIam);
        match call.recorded().send().await {
            Err(SdkError::ServiceError(e)) if e.err().message().is_some_and(|m| m.contains("No updates")) => {
                return Ok(None);
            }
            sent => sent.map_err(|e| classify(&format!("stack {}", self.name), e))?,
        };
        Ok(match self.wait(timeout).await? {
            Outcome::Complete | Outcome::Deleted => None,
            Outcome::Failed(state) => Some(format!("{state}:\n{}", self.failures(started_at).await)),
        })
    }

    /// Returns the failures since a point in time, one per line, in order. A rollback has more events than a page of them.
    pub(super) async fn failures(&self, since: SystemTime) -> String {
        // The clocks of this machine and of AWS differ by some seconds.
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64 - 30;
        let call = self.client.describe_stack_events().stack_name(&self.name);
        let mut pages = call.into_paginator().recorded().send();
        let (mut lines, mut is_earlier) = (Vec::new(), false);
        while !is_earlier && let Some(page) = pages.next().await {
            let events = match page {
                Ok(page) => page.stack_events.unwrap_or_default(),
                Err(error) => return format!("  the stack's events cannot be read: {}", DisplayErrorContext(error)),
            };
            is_earlier = events.iter().any(|event| event.timestamp().is_some_and(|time| time.secs() < since));
            lines.extend(events.iter().filter_map(|event| failure(event, since)));
        }
        lines.reverse(); // the latest events come first
        if lines.is_empty() { "  CloudFormation reports no failure".to_owned() } else { lines.join("\n") }
    }
}

/// Returns the line about an event, if it is a failure at or after `since`, in seconds since the Unix epoch.
fn failure(event: &StackEvent, since: i64) -> Option<String> {
    let failed = event.resource_status().is_some_and(|status| status.as_str().ends_with("_FAILED"));
    let why = event.resource_status_reason().unwrap_or("no reason given");
    let earlier = event.timestamp().is_some_and(|time| time.secs() < since);
    // Cancelled because another resource failed; not the cause.
    let cancelled = why.contains("cancelled");
    let name = event.logical_resource_id().unwrap_or("?");
    (failed && !earlier && !cancelled).then(|| format!("  {name}: {why}"))
}

/// Returns the value of a parameter of the stack.
pub(super) fn parameter<'a>(stack: &'a StackDescription, key: &str) -> Option<&'a str> {
    stack.parameters().iter().find(|p| p.parameter_key() == Some(key)).and_then(|p| p.parameter_value())
}

/// Interprets a stack's status; `None` while it is changing.
fn outcome(status: &str) -> Option<Outcome> {
    match status {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" => Some(Outcome::Complete),
        "DELETE_COMPLETE" => Some(Outcome::Deleted),
        // A stack that only a change set has named: nothing goes on.
        "REVIEW_IN_PROGRESS" => Some(Outcome::Failed(status.to_owned())),
        _ if status.ends_with("_IN_PROGRESS") => None,
        _ => Some(Outcome::Failed(status.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fake_api::{self, Call},
        *,
    };

    /// Describes events, the latest first. The cause of the failure, and before it an earlier one, are on the last pages.
    fn events(call: &Call) -> String {
        let event = |time: &str, name: &str, status: &str, why: &str| {
            format!(
                "<member><StackId>s</StackId><EventId>e</EventId><StackName>x</StackName><Timestamp>{time}</Timestamp>\
                 <LogicalResourceId>{name}</LogicalResourceId><ResourceStatus>{status}</ResourceStatus>\
                 <ResourceStatusReason>{why}</ResourceStatusReason></member>"
            )
        };
        let page = call.get("NextToken").map_or("1", String::as_str);
        let now = "2026-01-01T01:00:00Z";
        let (events, next) = match page {
            "1" => (event(now, "Web", "DELETE_COMPLETE", ""), Some("2")),
            "2" => (event(now, "Targets", "CREATE_FAILED", "Resource creation cancelled"), Some("3")),
            "3" => {
                let both = [("WebGroup", "then this"), ("Web", "first this")];
                (both.map(|(name, why)| event(now, name, "CREATE_FAILED", why)).concat(), Some("4"))
            }
            "4" => (event("2026-01-01T00:00:00Z", "Web", "CREATE_FAILED", "an hour ago"), Some("5")),
            page => panic!("page {page} is too old"),
        };
        let next = next.map_or_else(String::new, |next| format!("<NextToken>{next}</NextToken>"));
        format!("<StackEvents>{events}</StackEvents>{next}")
    }

    #[tokio::test]
    async fn the_cause_of_a_failure_is_found_before_all_events_of_its_rollback() {
        let account = fake_api::account(|call| Ok(events(call))).await;
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_229_200); // 2026-01-01T01:00:00Z
        assert_eq!(Stack::new(&account).failures(since).await, "  Web: first this\n  WebGroup: then this");
    }

    #[test]
    fn a_status_has_an_outcome_once_the_stack_is_stable() {
        let failed = |state: &str| Some(Outcome::Failed(state.to_owned()));
        assert_eq!(outcome("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"), None);
        assert_eq!(outcome("UPDATE_ROLLBACK_COMPLETE"), failed("UPDATE_ROLLBACK_COMPLETE"));
        assert_eq!(outcome("ROLLBACK_COMPLETE"), failed("ROLLBACK_COMPLETE"));
        assert_eq!(outcome("DELETE_FAILED"), failed("DELETE_FAILED"));
        assert_eq!(outcome("REVIEW_IN_PROGRESS"), failed("REVIEW_IN_PROGRESS"));
        assert_eq!(outcome("UPDATE_COMPLETE"), Some(Outcome::Complete));
        assert_eq!(outcome("DELETE_COMPLETE"), Some(Outcome::Deleted));
    }

    #[test]
    fn a_stack_is_updated_only_from_the_states_that_permit_it() {
        let permits = |state: &str| outcome(state).expect("stable").permits_updates();
        for state in ["CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"] {
            assert!(permits(state), "{state}");
        }
        for state in [
            "CREATE_FAILED",
            "ROLLBACK_COMPLETE",
            "ROLLBACK_FAILED",
            "UPDATE_FAILED",
            "UPDATE_ROLLBACK_FAILED",
            "DELETE_FAILED",
            "REVIEW_IN_PROGRESS",
            "DELETE_COMPLETE",
        ] {
            assert!(!permits(state), "{state}");
        }
    }
}
