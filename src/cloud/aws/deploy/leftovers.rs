//! What a cluster leaves in an account when its stack is gone: images with their snapshots, and buckets with data.

use aws_sdk_ec2::types::Image as Ec2Image;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::{Account, filter};
use crate::cloud::{
    CloudError, CloudResult,
    aws::{CLUSTER_TAG, classify, code},
};

/// US dollars a month for a gigabyte, by AWS's price list for us-east-1; other regions differ by some tenths.
const SNAPSHOT_GB_MONTH: f64 = 0.05;
const S3_GB_MONTH: f64 = 0.023;
const GB: f64 = (1u64 << 30) as f64;
/// Objects that are counted before a bucket is called big: a listing costs a call for each thousand.
const COUNTED: usize = 100_000;

/// An image of the cluster's machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    pub name: String,
    /// As EC2 writes it: text that sorts by time.
    pub made: String,
    pub snapshots: Vec<String>,
    /// Size of its disks; snapshots cost what of it is used, so at most this.
    pub gb: i32,
}

impl Image {
    fn new(image: Ec2Image) -> Option<Self> {
        let disks: Vec<_> = image.block_device_mappings().iter().filter_map(|disk| disk.ebs()).collect();
        Some(Self {
            snapshots: disks.iter().filter_map(|disk| disk.snapshot_id().map(str::to_owned)).collect(),
            gb: disks.iter().filter_map(|disk| disk.volume_size()).sum(),
            id: image.image_id.clone()?,
            name: image.name.clone().unwrap_or_default(),
            made: image.creation_date.clone().unwrap_or_default(),
        })
    }
}

/// A bucket of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub name: String,
    pub objects: usize,
    pub bytes: u64,
    /// There are more objects than were counted.
    pub more: bool,
}

/// What is left, as `down` says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    pub images: Vec<Image>,
    pub buckets: Vec<Bucket>,
}

impl Leftovers {
    pub async fn of(account: &Account) -> anyhow::Result<Self> {
        let mut buckets = Vec::new();
        for name in account.buckets() {
            buckets.extend(bucket(account, &name).await?);
        }
        Ok(Self { images: images(account).await?, buckets })
    }

    /// A line for each thing with what it costs.
    pub fn lines(&self) -> Vec<String> {
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
                "bucket {} with {more}{} objects, {}: {more}${cost:.4} a month",
                bucket.name,
                bucket.objects,
                size.display().iec()
            ));
        }
        lines
    }
}

/// Images of the cluster, the oldest first.
pub async fn images(account: &Account) -> CloudResult<Vec<Image>> {
    let ours = filter(format!("tag:{CLUSTER_TAG}"), &account.cluster);
    let answer = account.ec2.describe_images().owners("self").filters(ours).send().await;
    let images = answer.map_err(|e| classify("images", e))?.images.unwrap_or_default();
    let mut images: Vec<Image> = images.into_iter().filter_map(Image::new).collect();
    images.sort_by(|a, b| (&a.made, &a.name).cmp(&(&b.made, &b.name)));
    Ok(images)
}

/// Deregisters an image and deletes its snapshots; fine if it is gone.
pub async fn delete_image(account: &Account, id: &str) -> CloudResult<()> {
    let answer = match account.ec2.describe_images().image_ids(id).send().await {
        Err(error) if code(&error).starts_with("InvalidAMIID.") => return Ok(()),
        answer => answer.map_err(|e| classify(id, e))?,
    };
    let Some(image) = answer.images.unwrap_or_default().pop().and_then(Image::new) else { return Ok(()) };
    let gone = account.ec2.deregister_image().image_id(id).send().await;
    gone.map_err(|e| classify(id, e))?;
    for snapshot in image.snapshots {
        match account.ec2.delete_snapshot().snapshot_id(&snapshot).send().await {
            Err(error) if code(&error) != "InvalidSnapshot.NotFound" => return Err(classify(&snapshot, error)),
            _ => {}
        }
    }
    Ok(())
}

/// Whether the bucket is there and ours.
pub async fn exists(account: &Account, name: &str) -> CloudResult<bool> {
    match account.s3.head_bucket().bucket(name).send().await {
        Ok(_) => Ok(true),
        Err(error) => match classify(name, error) {
            CloudError::NotFound(_) => Ok(false),
            error => Err(error),
        },
    }
}

/// `None` where there is none.
async fn bucket(account: &Account, name: &str) -> CloudResult<Option<Bucket>> {
    if !exists(account, name).await? {
        return Ok(None);
    }
    let mut found = Bucket { name: name.to_owned(), objects: 0, bytes: 0, more: false };
    let mut pages = account.s3.list_objects_v2().bucket(name).into_paginator().send();
    while let Some(page) = pages.next().await {
        for object in page.map_err(|e| classify(name, e))?.contents.unwrap_or_default() {
            found.objects += 1;
            found.bytes += object.size.unwrap_or(0).max(0) as u64;
        }
        if found.objects >= COUNTED {
            found.more = true;
            break;
        }
    }
    Ok(Some(found))
}

/// Deletes every version of every object, and the bucket; fine if it is gone.
pub async fn delete_bucket(account: &Account, name: &str) -> CloudResult<()> {
    if !exists(account, name).await? {
        return Ok(());
    }
    // Always the first page: what was on it is gone at the next look.
    loop {
        let page = account.s3.list_object_versions().bucket(name).send().await.map_err(|e| classify(name, e))?;
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
        let answer = account.s3.delete_objects().bucket(name).delete(delete).send().await;
        let answer = answer.map_err(|e| classify(name, e))?;
        if let Some(error) = answer.errors().first() {
            let (key, why) = (error.key().unwrap_or_default(), error.message().unwrap_or_default());
            return Err(CloudError::Denied(format!("{name}/{key} cannot be deleted: {why}")));
        }
    }
    match account.s3.delete_bucket().bucket(name).send().await {
        Err(error) if code(&error) != "NoSuchBucket" => Err(classify(name, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_with_its_price() {
        let image = Image {
            id: "ami-1".into(),
            name: "rollcall-x".into(),
            made: String::new(),
            snapshots: vec!["snap-1".into()],
            gb: 8,
        };
        let bucket = Bucket { name: "rollcall-input-1".into(), objects: 2, bytes: 100 << 30, more: false };
        let lines = Leftovers { images: vec![image], buckets: vec![bucket] }.lines();
        assert_eq!(
            lines,
            [
                "image ami-1 (rollcall-x) with snapshot snap-1, 8 GB: at most $0.40 a month",
                "bucket rollcall-input-1 with 2 objects, 100.0 GiB: $2.3000 a month",
            ]
        );
    }
}
