//! The key with which an account encrypts disks by default.

use super::{super::errors::classify, account::Account};
use crate::cloud::{CloudResult, aws::call_sites::CallSite as _};

/// EBS's own key, which every principal of the account may use through EC2.
const OF_EBS: &str = "alias/aws/ebs";

/// Returns the ARN of the customer's key with which the account encrypts disks by default, which who launches instances must be
/// allowed to use; empty if there is none.
///
/// # Errors
/// EC2 cannot be called.
pub(super) async fn disk_key(account: &Account) -> CloudResult<String> {
    let encryption = account.ec2.get_ebs_encryption_by_default().recorded().send().await;
    let encryption = encryption.map_err(|e| classify("EBS encryption by default", e))?;
    if encryption.ebs_encryption_by_default() != Some(true) {
        return Ok(String::new());
    }
    let key = account.ec2.get_ebs_default_kms_key_id().recorded().send().await;
    let key = key.map_err(|e| classify("the default key of EBS", e))?.kms_key_id.unwrap_or_default();
    // Rights are granted on keys, not on aliases.
    if !key.contains(":key/") && !key.ends_with(OF_EBS) {
        eprintln!(
            "disks are encrypted with {key} by default, whose key policy must let the web nodes' role use it through EC2: docs/aws.md"
        );
    }
    Ok(if key.contains(":key/") { key } else { String::new() })
}
