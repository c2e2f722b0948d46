//! The cluster's CloudFormation stack: its state, and waiting for changes.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use aws_sdk_cloudformation::{
    Client,
    error::{DisplayErrorContext, ProvideErrorMetadata as _, SdkError},
    types::{Capability, Parameter, Stack as StackDescription, StackStatus},
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
    /// The latest change failed or was rolled back; the state as CloudFormation names it.
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
        let outcome = wait::until(timeout, async || {
            let Some(stack) = self.describe().await? else { return Ok(Some(Outcome::Deleted)) };
            Ok(stack.stack_status().and_then(|status| outcome(status.as_str())))
        });
        outcome.await?.with_context(|| {
            format!(
                "the stack {} is still changing; CloudFormation continues on its own: run the command again later",
                self.name
            )
        })
    }

    /// Deletes the stack and waits until it is deleted.
    ///
    /// # Errors
    /// The deletion failed or took too long.
    pub(super) async fn delete(&self, timeout: Duration) -> anyhow::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "compared with the times of the stack's events")]
        let started_at = SystemTime::now();
        let deleted = self.client.delete_stack().stack_name(&self.name).recorded().send().await;
        deleted.map_err(|e| classify(&format!("stack {}", self.name), e))?;
        match self.wait(timeout).await? {
            Outcome::Deleted => Ok(()),
            Outcome::Complete | Outcome::Failed(_) => {
                let why = self.failures(started_at).await;
                anyhow::bail!("the stack {} cannot be deleted:\n{why}\nRemove the causes and try again", self.name)
            }
        }
    }

    /// Updates the stack to no web node, which also deletes what only they need. Does nothing in a state that permits no
    /// update: the web nodes are then deleted with the stack.
    ///
    /// # Errors
    /// The update failed or took too long.
    pub(super) async fn remove_web_nodes(&self, timeout: Duration) -> anyhow::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "compared with the times of the stack's events")]
        let started_at = SystemTime::now();
        match self.wait(timeout).await? {
            Outcome::Complete => {}
            Outcome::Failed(state) if state == "UPDATE_ROLLBACK_COMPLETE" => {}
            Outcome::Failed(_) | Outcome::Deleted => return Ok(()),
        }
        let Some(stack) = self.describe().await? else { return Ok(()) };
        let keys = stack.parameters().iter().filter_map(Parameter::parameter_key);
        let parameters = keys.map(|key| match Parameter::builder().parameter_key(key) {
            none if key == "WebNodes" => none.parameter_value("0").build(),
            kept => kept.use_previous_value(true).build(),
        });
        let call = self.client.update_stack().stack_name(&self.name).use_previous_template(true);
        let call = call.set_parameters(Some(parameters.collect())).capabilities(Capability::CapabilityIam);
        call.recorded().send().await.map_err(|e| classify(&format!("stack {}", self.name), e))?;
        match self.wait(timeout).await? {
            Outcome::Complete | Outcome::Deleted => Ok(()),
            Outcome::Failed(state) => anyhow::bail!(
                "the web nodes of the stack {} were not removed ({state}):\n{}",
                self.name,
                self.failures(started_at).await
            ),
        }
    }

    /// Returns the failures since a point in time, one per line, in order.
    pub(super) async fn failures(&self, since: SystemTime) -> String {
        let output = self.client.describe_stack_events().stack_name(&self.name).recorded().send().await;
        let events = match output {
            Ok(output) => output.stack_events.unwrap_or_default(),
            Err(error) => return format!("  the stack's events cannot be read: {}", DisplayErrorContext(error)),
        };
        // The clocks of this machine and of AWS differ by some seconds.
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64 - 30;
        let lines = events.iter().rev().filter_map(|event| {
            let failed = event.resource_status().is_some_and(|status| status.as_str().ends_with("_FAILED"));
            let why = event.resource_status_reason().unwrap_or("no reason given");
            let earlier = event.timestamp().is_some_and(|time| time.secs() < since);
            // Cancelled because another resource failed; not the cause.
            let cancelled = why.contains("cancelled");
            let name = event.logical_resource_id().unwrap_or("?");
            (failed && !earlier && !cancelled).then(|| format!("  {name}: {why}"))
        });
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() { "  CloudFormation reports no failure".to_owned() } else { lines.join("\n") }
    }
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
        _ if status.ends_with("_IN_PROGRESS") => None,
        _ => Some(Outcome::Failed(status.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_an_outcome_once_the_stack_is_stable() {
        let failed = |state: &str| Some(Outcome::Failed(state.to_owned()));
        assert_eq!(outcome("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"), None);
        assert_eq!(outcome("UPDATE_ROLLBACK_COMPLETE"), failed("UPDATE_ROLLBACK_COMPLETE"));
        assert_eq!(outcome("ROLLBACK_COMPLETE"), failed("ROLLBACK_COMPLETE"));
        assert_eq!(outcome("DELETE_FAILED"), failed("DELETE_FAILED"));
        assert_eq!(outcome("UPDATE_COMPLETE"), Some(Outcome::Complete));
        assert_eq!(outcome("DELETE_COMPLETE"), Some(Outcome::Deleted));
    }
}
