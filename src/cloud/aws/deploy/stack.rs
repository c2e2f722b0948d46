//! The cluster's CloudFormation stack: its state, and waiting for a change of it.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use aws_sdk_cloudformation::{
    Client,
    error::{DisplayErrorContext, ProvideErrorMetadata as _, SdkError},
    types::{Stack as Described, StackStatus},
};

use super::{Account, wait};
use crate::cloud::{CloudResult, aws::classify};

/// A stack by its name.
pub struct Stack<'a> {
    client: &'a Client,
    pub name: String,
}

/// How a change has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// As it was meant.
    Complete,
    /// The stack is gone.
    Gone,
    /// Rolled back or failed, in that state.
    Failed(String),
}

impl<'a> Stack<'a> {
    pub fn new(account: &'a Account) -> Self {
        Self { client: &account.cloudformation, name: account.cluster.clone() }
    }

    /// `None` where there is none.
    pub async fn describe(&self) -> CloudResult<Option<Described>> {
        match self.client.describe_stacks().stack_name(&self.name).send().await {
            Ok(answer) => {
                let stack = answer.stacks.unwrap_or_default().pop();
                Ok(stack.filter(|stack| stack.stack_status() != Some(&StackStatus::DeleteComplete)))
            }
            Err(SdkError::ServiceError(e)) if e.err().message().is_some_and(|m| m.contains("does not exist")) => {
                Ok(None)
            }
            Err(error) => Err(classify(&format!("stack {}", self.name), error)),
        }
    }

    /// Waits until the stack is not changing any more.
    pub async fn settle(&self, timeout: Duration) -> anyhow::Result<End> {
        let settled = wait::until(timeout, async || {
            let Some(stack) = self.describe().await? else { return Ok(Some(End::Gone)) };
            Ok(stack.stack_status().and_then(|status| end_of(status.as_str())))
        });
        settled.await?.with_context(|| {
            format!("the stack {} is still changing: wait, and say the same again; it goes on by itself", self.name)
        })
    }

    /// Asks for its deletion, and waits until it is gone.
    pub async fn delete(&self, timeout: Duration) -> anyhow::Result<()> {
        let began = SystemTime::now();
        let deleted = self.client.delete_stack().stack_name(&self.name).send().await;
        deleted.map_err(|e| classify(&format!("stack {}", self.name), e))?;
        match self.settle(timeout).await? {
            End::Gone => Ok(()),
            End::Complete | End::Failed(_) => {
                let why = self.failures(began).await;
                anyhow::bail!("the stack {} cannot be deleted:\n{why}\nRemove what is named, and try again", self.name)
            }
        }
    }

    /// What failed since then, a line each, the first first.
    pub async fn failures(&self, since: SystemTime) -> String {
        let answer = self.client.describe_stack_events().stack_name(&self.name).send().await;
        let events = match answer {
            Ok(answer) => answer.stack_events.unwrap_or_default(),
            Err(error) => return format!("its events cannot be read: {}", DisplayErrorContext(error)),
        };
        // Clocks differ by some seconds.
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64 - 30;
        let lines = events.iter().rev().filter_map(|event| {
            let failed = event.resource_status().is_some_and(|status| status.as_str().ends_with("_FAILED"));
            let why = event.resource_status_reason().unwrap_or("no reason is said");
            let late = event.timestamp().is_some_and(|time| time.secs() < since);
            // Those that had only to stop because of another.
            let followed = why.contains("cancelled");
            let name = event.logical_resource_id().unwrap_or("?");
            (failed && !late && !followed).then(|| format!("  {name}: {why}"))
        });
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() { "  CloudFormation names no failure".to_owned() } else { lines.join("\n") }
    }
}

/// What a state means to whoever waits; `None` while it changes.
fn end_of(status: &str) -> Option<End> {
    match status {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" => Some(End::Complete),
        "DELETE_COMPLETE" => Some(End::Gone),
        _ if status.ends_with("_IN_PROGRESS") => None,
        _ => Some(End::Failed(status.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_to_their_end() {
        let failed = |state: &str| Some(End::Failed(state.to_owned()));
        assert_eq!(end_of("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"), None);
        assert_eq!(end_of("UPDATE_ROLLBACK_COMPLETE"), failed("UPDATE_ROLLBACK_COMPLETE"));
        assert_eq!(end_of("ROLLBACK_COMPLETE"), failed("ROLLBACK_COMPLETE"));
        assert_eq!(end_of("DELETE_FAILED"), failed("DELETE_FAILED"));
        assert_eq!(end_of("UPDATE_COMPLETE"), Some(End::Complete));
        assert_eq!(end_of("DELETE_COMPLETE"), Some(End::Gone));
    }
}
