//! Leftovers: what remains of a cluster once its stack is deleted, namely buckets, logs, and images with their snapshots.

use aws_sdk_ec2::types::Image as Ec2Image;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::{
    super::{
        errors::{classify, code},
        logs::group,
        tags::CLUSTER_TAG,
    },
    account::{Account, filter},
    log_group,
};
use crate::cloud::aws::call_sites::CallSite as _;
use crate::cloud::{CloudError, CloudResult};

/// Price of a snapshot in US dollars per GB-month, from AWS's price list for us-east-1.
const SNAPSHOT_GB_MONTH: f64 = 0.05;
/// Price of S3 storage in US dollars per GB-month, from the same list.
const S3_GB_MONTH: f64 = 0.023;
/// HTTP status of a call for a bucket of another region.
const MOVED: u16 = 301;
/// Price of stored logs in US dollars per GB-month, from the same list.
const LOGS_GB_MONTH: f64 = 0.03;
const GB: f64 = (1u64 << 30) as f64;
/// Maximum number of objects that are counted in a bucket: listing takes one API call per thousand.
const MAX_COUNTED: usize = 100_000;

/// An image of the cluster's machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) id: String,
    name: String,
    /// Creation time as EC2 formats it: text that sorts by time.
    created: String,
    /// State as EC2 names it.
    pub(super) state: String,
    snapshots: Vec<String>,
    /// Size of its disks. A snapshot is billed for the used part, which is at most this.
    gb: i32,
}

impl Image {
    fn new(image: Ec2Image) -> Option<Self> {
        let disks: Vec<_> = image.block_device_mappings().iter().filter_map(|disk| disk.ebs()).collect();
        Some(Self {
            snapshots: disks.iter().filter_map(|disk| disk.snapshot_id().map(str::to_owned)).collect(),
            gb: disks.iter().filter_map(|disk| disk.volume_size()).sum(),
            id: image.image_id.clone()?,
            name: image.name.clone().unwrap_or_default(),
            created: image.creation_date.clone().unwrap_or_default(),
            state: image.state.as_ref().map_or_else(String::new, |state| state.as_str().to_owned()),
        })
    }
}

/// A bucket of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bucket {
    name: String,
    objects: usize,
    bytes: u64,
    /// Whether there are more objects than were counted.
    more: bool,
}

/// The images, buckets and logs of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    images: Vec<Image>,
    buckets: Vec<Bucket>,
    /// The log group, and the bytes in it.
    logs: Option<(String, u64)>,
}

impl Leftovers {
    /// Finds the images, buckets and logs of the cluster.
    pub(super) async fn of(account: &Account) -> anyhow::Result<Self> {
        let mut buckets = Vec::new();
        for name in account.buckets() {
            buckets.extend(bucket(account, &name).await?);
        }
        let logs = log_group::stored(account).await?.map(|bytes| (group(&account.cluster), bytes));
        Ok(Self { images: images(account).await?, buckets, logs })
    }

    /// Returns one line per image, bucket and log group, with its price per month.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for image in &self.images {
            let (snapshots, cost) = (image.snapshots.join(", "), f64::from(image.gb) * SNAPSHOT_GB_MONTH);
            lines.push(format!(
                "image {} ({}) with snapshot {snapshots}, {} GB: at most ${cost:.2} a month",
                image.id, image.name, image.gb
            ));
        }
        for bucket in &self.buckets {
            let cost = bucket.bytes as f64 / GB * S3_GB_MONTH;
            let (more, size) = (if bucket.more { "more than " } else { "" }, bytesize::ByteSize(bucket.bytes));
            lines.push(format!(
                "bucket {} with {more}{}, {}: {more}${cost:.4} a month",
                bucket.name,
                counted(bucket.objects, "object"),
                size.display().iec()
            ));
        }
        if let Some((name, bytes)) = &self.logs {
            let (cost, size) = (*bytes as f64 / GB * LOGS_GB_MONTH, bytesize::ByteSize(*bytes));
            lines.push(format!("log group {name}, {}: ${cost:.4} a month", size.display().iec()));
        }
        lines
    }
}

/// Returns a number of things with their noun, in the plural unless there is one.
pub(super) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Returns the images of the cluster, the oldest first.
pub(super) async fn images(account: &Account) -> CloudResult<Vec<Image>> {
    let ours = filter(format!("tag:{CLUSTER_TAG}"), &account.cluster);
    let output = account.ec2.describe_images().owners("self").filters(ours).recorded().send().await;
    let images = output.map_err(|e| classify("images", e))?.images.unwrap_or_default();
    let mut images: Vec<Image> = images.into_iter().filter_map(Image::new).collect();
    images.sort_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name)));
    Ok(images)
}

/// Deregisters an image and deletes its snapshots. `Ok` if it does not exist.
pub(super) async fn delete_image(account: &Account, id: &str) -> CloudResult<()> {
    let output = match account.ec2.describe_images().image_ids(id).recorded().send().await {
        Err(error) if code(&error).starts_with("InvalidAMIID.") => return Ok(()),
        output => output.map_err(|e| classify(id, e))?,
    };
    let Some(image) = output.images.unwrap_or_default().pop().and_then(Image::new) else { return Ok(()) };
    let gone = account.ec2.deregister_image().image_id(id).recorded().send().await;
    gone.map_err(|e| classify(id, e))?;
    for snapshot in image.snapshots {
        match account.ec2.delete_snapshot().snapshot_id(&snapshot).recorded().send().await {
            Err(error) if code(&error) != "InvalidSnapshot.NotFound" => return Err(classify(&snapshot, error)),
            _ => {}
        }
    }
    Ok(())
}

/// Returns whether the bucket exists in this region.
///
/// # Errors
/// The bucket cannot be accessed, or belongs to another account: anybody may have taken the name, and would get the photos.
pub(super) async fn exists(account: &Account, name: &str) -> CloudResult<bool> {
    let call = account.s3.head_bucket().bucket(name).expected_bucket_owner(&account.id);
    match call.recorded().send().await {
        Ok(_) => Ok(true),
        Err(error) if error.raw_response().is_some_and(|r| r.status().as_u16() == MOVED) => Ok(false),
        Err(error) => match classify(name, error) {
            CloudError::NotFound(_) => Ok(false),
            CloudError::Denied(why) => Err(CloudError::Denied(format!(
                "{why}: the bucket {name} belongs to another account, or is not accessible"
            ))),
            error => Err(error),
        },
    }
}

/// Counts the objects of a bucket; `None` if it does not exist.
async fn bucket(account: &Account, name: &str) -> CloudResult<Option<Bucket>> {
    if !exists(account, name).await? {
        return Ok(None);
    }
    let mut found = Bucket { name: name.to_owned(), objects: 0, bytes: 0, more: false };
    let mut pages = account.s3.list_objects_v2().bucket(name).into_paginator().recorded().send();
    while let Some(page) = pages.next().await {
        for object in page.map_err(|e| classify(name, e))?.contents.unwrap_or_default() {
            found.objects += 1;
            found.bytes += object.size.unwrap_or(0).max(0) as u64;
        }
        if found.objects >= MAX_COUNTED {
            found.more = true;
            break;
        }
    }
    Ok(Some(found))
}

/// Deletes a bucket with every version of every object. `Ok` if it does not exist.
pub(super) async fn delete_bucket(account: &Account, name: &str) -> CloudResult<()> {
    if !exists(account, name).await? {
        return Ok(());
    }
    // Always reads the first page, because its objects are deleted before the next listing.
    loop {
        let page =
            account.s3.list_object_versions().bucket(name).recorded().send().await.map_err(|e| classify(name, e))?;
        let versions = page.versions().iter().map(|v| (v.key(), v.version_id()));
        let markers = page.delete_markers().iter().map(|m| (m.key(), m.version_id()));
        let objects = versions.chain(markers).filter_map(|(key, version)| {
            ObjectIdentifier::builder().key(key?).set_version_id(version.map(str::to_owned)).build().ok()
        });
        let objects: Vec<_> = objects.collect();
        if objects.is_empty() {
            break;
        }
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build();
        let delete = delete.map_err(|e| CloudError::Invalid(e.to_string()))?;
        let output = account.s3.delete_objects().bucket(name).delete(delete).recorded().send().await;
        let output = output.map_err(|e| classify(name, e))?;
        if let Some(error) = output.errors().first() {
            let (key, why) = (error.key().unwrap_or_default(), error.message().unwrap_or_default());
            return Err(CloudError::Denied(format!("{name}/{key} cannot be deleted: {why}")));
        }
    }
    match account.s3.delete_bucket().bucket(name).recorded().send().await {
        Err(error) if code(&error) != "NoSuchBucket" => Err(classify(name, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_listed_with_their_prices() {
        let image = Image {
            id: "ami-1".into(),
            name: "rollcall-x".into(),
            created: String::new(),
            state: "available".into(),
            snapshots: vec!["snap-1".into()],
            gb: 8,
        };
        let bucket = Bucket { name: "rollcall-input-1".into(), objects: 2, bytes: 100 << 30, more: false };
        let lines =
            Leftovers { images: vec![image], buckets: vec![bucket], logs: Some(("/rollcall/x".into(), 10 << 30)) };
        let lines = lines.lines();
        assert_eq!(
            lines,
            [
                "image ami-1 (rollcall-x) with snapshot snap-1, 8 GB: at most $0.40 a month",
                "bucket rollcall-input-1 with 2 objects, 100.0 GiB: $2.3000 a month",
                "log group /rollcall/x, 10.0 GiB: $0.3000 a month",
            ]
        );
    }
}
