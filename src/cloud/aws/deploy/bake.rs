//! `rollcall aws bake`: makes the image of a cluster's machines. Whatever it makes on the way it removes at the end, also
//! when it fails or is asked to end.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use aws_sdk_ec2::types::{ImageState, ResourceType, TagSpecification};
use aws_sdk_s3::{
    presigning::PresigningConfig,
    primitives::ByteStream,
    types::{
        BucketLifecycleConfiguration, BucketLocationConstraint, CreateBucketConfiguration, ExpirationStatus,
        LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, PublicAccessBlockConfiguration,
    },
};
use tokio::task::JoinHandle;

use super::{
    Account, BAKE_BUCKET,
    builder::{self, Machine, Mail},
    leftovers,
    package::Package,
    tag, wait,
};
use crate::{
    cloud::{
        CloudError, CloudResult,
        aws::{CLUSTER_TAG, classify, code},
    },
    settings::Settings,
};

/// Builders of this age belong to bakes that were killed: each bake is done long before.
const LEFT_BEHIND: Duration = Duration::from_secs(6 * 3600);

/// What to bake.
#[derive(Clone, Debug)]
pub struct Options {
    pub machine: Machine,
    /// The program to install.
    pub program: PathBuf,
    /// Settings of the cluster's machines.
    pub config: Option<PathBuf>,
    /// Longest time for the installation, and again for making the image.
    pub timeout: Duration,
}

/// A call whose answer must be known, whoever stops waiting for it: the id of what it makes.
type Call = JoinHandle<CloudResult<String>>;

/// What was made and is not wanted at the end.
#[derive(Default)]
struct Made {
    bucket: bool,
    launch: Option<Call>,
    builder: Option<String>,
    image: Option<Call>,
    unfinished: Option<String>,
}

/// One bake.
struct Bake {
    account: Arc<Account>,
    name: String,
    bucket: String,
    made: Mutex<Made>,
}

/// Makes the image and answers with its id; `ended` stops it in good order.
pub async fn bake(
    account: Arc<Account>,
    settings: &Settings,
    options: Options,
    ended: impl Future<Output = ()>,
) -> anyhow::Result<String> {
    let name = ulid::Ulid::generate().to_string().to_lowercase();
    let bucket = account.bucket(BAKE_BUCKET);
    let bake = Bake { account, name, bucket, made: Mutex::default() };
    let result = tokio::select! {
        result = bake.steps(settings, &options) => result,
        () = ended => Err(anyhow::anyhow!("stopped as asked; nothing was made")),
    };
    eprintln!("cleaning up");
    let cleaned = bake.clean_up(result.is_ok()).await;
    match (result, cleaned) {
        (Ok(image), Err(error)) => {
            eprintln!("rollcall: the image is made, but something is left: {error:#}");
            Ok(image)
        }
        (Err(error), Err(left)) => Err(anyhow::anyhow!("{error:#}\nand something is left: {left:#}")),
        (result, Ok(())) => result,
    }
}

impl Bake {
    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn key(&self, what: &str) -> String {
        format!("{}/{what}", self.name)
    }

    async fn steps(&self, settings: &Settings, options: &Options) -> anyhow::Result<String> {
        self.remove_left_behind().await?;
        let package = {
            let (settings, options) = (settings.clone(), options.clone());
            let build = move || Package::build(&options.program, &settings, options.config.as_deref());
            tokio::task::spawn_blocking(build).await.context("the package")??
        };
        eprintln!("uploading {} to {}", bytesize::ByteSize(package.bytes).display().iec(), self.bucket);
        let mail = self.upload(&package, options.timeout).await?;

        let launch = tokio::spawn({
            let (account, machine, name) = (self.account.clone(), options.machine.clone(), self.name.clone());
            let user_data = builder::user_data(&mail, options.timeout);
            async move { builder::launch(&account, &machine, user_data, &name).await }
        });
        let id = self
            .finish(launch, |made| (&mut made.launch, &mut made.builder))
            .await
            .context("no builder: see --base, --instance-type and --subnet, and what your credentials may do")?;
        eprintln!("{id} installs it");
        builder::wait(&self.account, &id, options.timeout, async || self.report().await).await?;

        let making = tokio::spawn({
            let (account, id, name) = (self.account.clone(), id.clone(), self.name.clone());
            async move { make_image(&account, &id, &name).await }
        });
        let image = self.finish(making, |made| (&mut made.image, &mut made.unfinished)).await.context("no image")?;
        eprintln!("{image} is being made of it");
        self.available(&image, options.timeout).await?;
        Ok(image)
    }

    /// Waits for a call that goes on when this is dropped, and notes what it made.
    async fn finish(
        &self,
        call: Call,
        place: impl Fn(&mut Made) -> (&mut Option<Call>, &mut Option<String>),
    ) -> anyhow::Result<String> {
        *place(&mut self.made()).0 = Some(call);
        // Looked at and left in its place, so that whoever cleans up finds it there.
        while !place(&mut self.made()).0.as_ref().is_none_or(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let call = place(&mut self.made()).0.take().context("the call was taken away")?;
        let id = call.await??;
        *place(&mut self.made()).1 = Some(id.clone());
        Ok(id)
    }

    /// A bucket of its own, closed, and in it the package.
    async fn upload(&self, package: &Package, timeout: Duration) -> anyhow::Result<Mail> {
        let (s3, bucket) = (&self.account.s3, &self.bucket);
        let mut create = s3.create_bucket().bucket(bucket);
        if self.account.region != "us-east-1" {
            let place = BucketLocationConstraint::from(self.account.region.as_str());
            let place = CreateBucketConfiguration::builder().location_constraint(place).build();
            create = create.create_bucket_configuration(place);
        }
        match create.send().await {
            Ok(_) => {}
            Err(error) if code(&error) == "BucketAlreadyOwnedByYou" => {}
            Err(error) => return Err(classify(bucket, error).into()),
        }
        self.made().bucket = true;
        let closed = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .block_public_policy(true)
            .ignore_public_acls(true)
            .restrict_public_buckets(true);
        let call = s3.put_public_access_block().bucket(bucket).public_access_block_configuration(closed.build());
        call.send().await.map_err(|e| classify(bucket, e))?;
        // Should this be killed, what it has uploaded goes by itself.
        let all = LifecycleRuleFilter::builder().prefix("").build();
        let rule = LifecycleRule::builder().id("bake").status(ExpirationStatus::Enabled).filter(all);
        let rule = rule.expiration(LifecycleExpiration::builder().days(1).build()).build()?;
        let rules = BucketLifecycleConfiguration::builder().rules(rule).build()?;
        let call = s3.put_bucket_lifecycle_configuration().bucket(bucket).lifecycle_configuration(rules);
        call.send().await.map_err(|e| classify(bucket, e))?;
        let key = self.key("package.tar.gz");
        let body = ByteStream::from_path(package.file.path()).await.context("the package")?;
        let put = s3.put_object().bucket(bucket).key(&key).body(body).send().await;
        put.map_err(|e| classify(&key, e)).context("upload of the package")?;

        let good_for = || PresigningConfig::expires_in(timeout + Duration::from_secs(600));
        let get = s3.get_object().bucket(bucket).key(&key).presigned(good_for()?).await;
        let report = s3.put_object().bucket(bucket).key(self.key("report")).presigned(good_for()?).await;
        Ok(Mail {
            package: get.map_err(|e| classify(&key, e))?.uri().to_owned(),
            sha256: package.sha256.clone(),
            report: report.map_err(|e| classify("report", e))?.uri().to_owned(),
        })
    }

    async fn report(&self) -> CloudResult<Option<String>> {
        let key = self.key("report");
        match self.account.s3.get_object().bucket(&self.bucket).key(&key).send().await {
            Ok(answer) => {
                let body = answer.body.collect().await.map_err(|e| CloudError::Unavailable(format!("{key}: {e}")))?;
                Ok(Some(String::from_utf8_lossy(&body.into_bytes()).into_owned()))
            }
            Err(error) if code(&error) == "NoSuchKey" => Ok(None),
            Err(error) => Err(classify(&key, error)),
        }
    }

    async fn available(&self, image: &str, timeout: Duration) -> anyhow::Result<()> {
        let available = wait::until(timeout, async || {
            let answer = self.account.ec2.describe_images().image_ids(image).send().await;
            let images = match answer {
                Ok(answer) => answer.images.unwrap_or_default(),
                Err(error) if code(&error) == "InvalidAMIID.NotFound" => return Ok(None), // not yet
                Err(error) => return Err(classify(image, error).into()),
            };
            let Some(found) = images.first() else { return Ok(None) };
            match found.state() {
                Some(ImageState::Available) => Ok(Some(())),
                None | Some(ImageState::Pending) => Ok(None),
                Some(state) => {
                    let why = found.state_reason().and_then(|r| r.message()).unwrap_or("AWS says no reason");
                    anyhow::bail!("the image {image} is {}: {why}", state.as_str())
                }
            }
        });
        available.await?.with_context(|| format!("the image {image} is not available in time: try --timeout 60m"))
    }

    /// What bakes that were killed have left.
    async fn remove_left_behind(&self) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let old = builder::all(&self.account).await?.into_iter().filter(|instance| {
            let launched = instance.launch_time().map_or(0, |time| time.secs().max(0) as u64);
            now.as_secs().saturating_sub(launched) > LEFT_BEHIND.as_secs()
        });
        let old: Vec<String> = old.filter_map(|instance| instance.instance_id).collect();
        if !old.is_empty() {
            eprintln!("terminating builders that an earlier bake has left: {}", old.join(", "));
            builder::terminate(&self.account, &old).await?;
        }
        Ok(())
    }

    /// Removes what was made, but for the image where that is `kept`. Goes on after a fault.
    async fn clean_up(&self, kept: bool) -> anyhow::Result<()> {
        let mut made = std::mem::take(&mut *self.made());
        for (call, id) in [(made.launch.take(), &mut made.builder), (made.image.take(), &mut made.unfinished)] {
            if let Some(call) = call {
                *id = call.await.ok().and_then(Result::ok);
            }
        }
        let mut faults = Vec::new();
        if let Some(image) = made.unfinished.filter(|_| !kept)
            && let Err(error) = leftovers::delete_image(&self.account, &image).await
        {
            faults.push(format!("image {image}: {error:#}"));
        }
        if let Some(id) = made.builder
            && let Err(error) = builder::terminate(&self.account, std::slice::from_ref(&id)).await
        {
            faults.push(format!("builder {id}: {error}"));
        }
        if made.bucket
            && let Err(error) = self.empty().await
        {
            faults.push(format!("bucket {}: {error}", self.bucket));
        }
        anyhow::ensure!(faults.is_empty(), "{}", faults.join("; "));
        Ok(())
    }

    /// Deletes this bake's objects, and the bucket unless another bake has some there.
    async fn empty(&self) -> CloudResult<()> {
        for what in ["package.tar.gz", "report"] {
            let key = self.key(what);
            let deleted = self.account.s3.delete_object().bucket(&self.bucket).key(&key).send().await;
            deleted.map_err(|e| classify(&key, e))?;
        }
        match self.account.s3.delete_bucket().bucket(&self.bucket).send().await {
            Err(error) if !["BucketNotEmpty", "NoSuchBucket"].contains(&code(&error)) => {
                Err(classify(&self.bucket, error))
            }
            _ => Ok(()),
        }
    }
}

async fn make_image(account: &Account, builder: &str, name: &str) -> CloudResult<String> {
    let tags = |kind| {
        let tags = TagSpecification::builder().resource_type(kind).tags(tag(CLUSTER_TAG, &account.cluster));
        tags.tags(tag("Name", &format!("{}-{name}", account.cluster))).build()
    };
    let made = account
        .ec2
        .create_image()
        .instance_id(builder)
        .name(format!("{}-{name}", account.cluster))
        .description(format!("Rollcall {}", env!("CARGO_PKG_VERSION")))
        .tag_specifications(tags(ResourceType::Image))
        .tag_specifications(tags(ResourceType::Snapshot))
        .send();
    let id = made.await.map_err(|e| classify("image", e))?.image_id;
    id.ok_or_else(|| CloudError::Unavailable("image: no id in the answer".into()))
}
