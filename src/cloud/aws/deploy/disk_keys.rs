//! The keys that encrypt the disks of workers.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::Filter;

use super::{super::errors::classify, account::Account};
use crate::cloud::{CloudResult, aws::call_sites::CallSite as _};

/// Returns the ARNs of the customer's keys that encrypt the disks of workers, which who launches and starts instances must be allowed
/// to use. A disk has the key of the image's snapshot, or the account's default key if the snapshot is not encrypted ("Use
/// encryption with EBS-backed AMIs", EC2 user guide). `granted` are those of the stack: stopped workers may have their disks.
///
/// # Errors
/// EC2 cannot be called.
pub(super) async fn disk_keys(
    account: &Account,
    image: Option<&str>,
    granted: Option<&str>,
) -> CloudResult<BTreeSet<String>> {
    let mut keys: BTreeSet<String> = granted.unwrap_or_default().split(',').map(str::to_owned).collect();
    keys.extend(default_key(account).await?);
    if let Some(image) = image {
        keys.extend(keys_of_image(account, image).await?);
    }
    // Rights are granted on keys, not on aliases: EBS's own key is one, which every principal of the account may use through EC2.
    keys.retain(|key| key.contains(":key/"));
    Ok(keys)
}

/// Returns the key with which the account encrypts disks by default, if it does.
async fn default_key(account: &Account) -> CloudResult<Option<String>> {
    let encryption = account.ec2.get_ebs_encryption_by_default().recorded().send().await;
    let encryption = encryption.map_err(|e| classify("EBS encryption by default", e))?;
    if encryption.ebs_encryption_by_default() != Some(true) {
        return Ok(None);
    }
    let key = account.ec2.get_ebs_default_kms_key_id().recorded().send().await;
    Ok(key.map_err(|e| classify("the default key of EBS", e))?.kms_key_id)
}

/// Returns the keys of an image's snapshots. Those of somebody else's image cannot be seen.
async fn keys_of_image(account: &Account, image: &str) -> CloudResult<Vec<String>> {
    let output = account.ec2.describe_images().image_ids(image).recorded().send().await;
    let images = output.map_err(|e| classify(image, e))?.images.unwrap_or_default();
    let disks = images.iter().flat_map(|image| image.block_device_mappings()).filter_map(|disk| disk.ebs());
    let snapshots: Vec<String> = disks.filter_map(|disk| disk.snapshot_id().map(str::to_owned)).collect();
    if snapshots.is_empty() {
        return Ok(Vec::new());
    }
    // By a filter, which finds nothing where an id would be refused.
    let filter = Filter::builder().name("snapshot-id").set_values(Some(snapshots)).build();
    let output = account.ec2.describe_snapshots().filters(filter).recorded().send().await;
    let snapshots = output.map_err(|e| classify("snapshots", e))?.snapshots.unwrap_or_default();
    Ok(snapshots.into_iter().filter_map(|snapshot| snapshot.kms_key_id).collect())
}
