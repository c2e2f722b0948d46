//! The cluster's log group, which outlives the stack as its buckets do.

use super::{
    super::{
        errors::{classify, code},
        logs::{Query, Reader, group},
    },
    account::Account,
};
use crate::cloud::{CloudResult, aws::call_sites::CallSite as _};

impl Account {
    /// Returns a reader of the cluster's logs.
    pub(crate) fn log_reader(&self, query: Query) -> Reader {
        Reader::new(self.logs.clone(), &self.cluster, query)
    }
}

/// Returns the size of what is stored in the log group, in bytes; `None` if it does not exist. CloudWatch counts with a delay.
pub(super) async fn stored(account: &Account) -> CloudResult<Option<u64>> {
    let name = group(&account.cluster);
    let output = account.logs.describe_log_groups().log_group_name_prefix(&name).recorded().send().await;
    let groups = output.map_err(|e| classify(&name, e))?.log_groups.unwrap_or_default();
    let found = groups.into_iter().find(|group| group.log_group_name() == Some(name.as_str()));
    Ok(found.map(|group| group.stored_bytes().unwrap_or(0).max(0) as u64))
}

/// Sets for how many days log events are kept.
pub(super) async fn retain(account: &Account, days: u16) -> CloudResult<()> {
    let name = group(&account.cluster);
    let call = account.logs.put_retention_policy().log_group_name(&name).retention_in_days(days.into());
    call.recorded().send().await.map(drop).map_err(|e| classify(&name, e))
}

/// Deletes the log group with all log events. `Ok` if it does not exist.
pub(super) async fn delete(account: &Account) -> CloudResult<()> {
    let name = group(&account.cluster);
    match account.logs.delete_log_group().log_group_name(&name).recorded().send().await {
        Err(error) if code(&error) != "ResourceNotFoundException" => Err(classify(&name, error)),
        _ => Ok(()),
    }
}
