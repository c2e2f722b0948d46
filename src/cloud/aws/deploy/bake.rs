//! `rollcall aws bake`: creates the image of a cluster's machines. Everything else that it creates is removed at the
//! end, even after an error or an interruption.

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
    super::{
        errors::{classify, code},
        tags::CLUSTER_TAG,
    },
    account::{Account, BAKE_BUCKET, tag},
    builder::{self, Machine, Transfer},
    image_format, instances, leftovers,
    package::Package,
    wait,
};
use crate::cloud::aws::call_sites::CallSite as _;
use crate::cloud::{CloudError, CloudResult};

/// Age beyond which a builder must be left over from a killed bake: no bake takes that long.
const STALE_AFTER: Duration = Duration::from_secs(6 * 3600);

/// What to bake.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The instance to build on.
    pub(crate) machine: Machine,
    /// The program to install.
    pub(crate) program: PathBuf,
    /// Files that the program loads, as paths relative to the current directory; machines have the same paths below
    /// `/opt/rollcall`.
    pub(crate) files: Vec<PathBuf>,
    /// Settings file of the cluster's machines; by default `config/aws.toml`.
    pub(crate) config: Option<PathBuf>,
    /// Maximum time to wait for the installation, and as long again for the image.
    pub(crate) timeout: Duration,
}

/// A call that creates something and returns its id. It runs to completion even if it is not awaited, so that what it
/// creates can be removed.
type Call = JoinHandle<CloudResult<String>>;

/// What has been created and must be removed at the end.
#[derive(Default)]
struct Created {
    bucket: bool,
    launch: Option<Call>,
    builder: Option<String>,
    image_call: Option<Call>,
    /// Removed unless the bake succeeds.
    image: Option<String>,
}

/// One bake.
struct Bake {
    account: Arc<Account>,
    name: String,
    bucket: String,
    created: Mutex<Created>,
}

/// Creates the image and returns its id. Stops and cleans up when `interrupted` resolves.
///
/// # Errors
/// A step failed, took too long, or was interrupted; the message names what could not be removed.
pub(crate) async fn bake(
    account: Arc<Account>,
    options: Options,
    interrupted: impl Future<Output = ()>,
) -> anyhow::Result<String> {
    let name = ulid::Ulid::generate().to_string().to_lowercase();
    let bucket = account.bucket(BAKE_BUCKET);
    let bake = Bake { account, name, bucket, created: Mutex::default() };
    let result = tokio::select! {
        result = bake.run(&options) => result,
        () = interrupted => Err(anyhow::anyhow!("interrupted: no image was created")),
    };
    eprintln!("cleaning up");
    let cleaned = bake.clean_up(result.is_ok()).await;
    match (result, cleaned) {
        (Ok(image), Err(error)) => {
            eprintln!("rollcall: the image was created, but not everything else was removed: {error:#}");
            Ok(image)
        }
        (Err(error), Err(left)) => Err(anyhow::anyhow!("{error:#}\nand not everything was removed: {left:#}")),
        (result, Ok(())) => result,
    }
}

impl Bake {
    fn created(&self) -> MutexGuard<'_, Created> {
        self.created.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn key(&self, file: &str) -> String {
        format!("{}/{file}", self.name)
    }

    async fn run(&self, options: &Options) -> anyhow::Result<String> {
        self.terminate_stale_builders().await?;
        let package = {
            let options = options.clone();
            let build = move || Package::build(&options.program, &options.files, options.config.as_deref());
            tokio::task::spawn_blocking(build).await.context("the package")??
        };
        eprintln!("uploading {} to {}", bytesize::ByteSize(package.bytes).display().iec(), self.bucket);
        let transfer = self.upload(&package, options.timeout).await?;

        let launch = tokio::spawn({
            let (account, machine, name) = (self.account.clone(), options.machine.clone(), self.name.clone());
            let user_data = builder::user_data(&transfer, options.timeout);
            async move { builder::launch(&account, &machine, user_data, &name).await }
        });
        let id = self.finish(launch, |created| (&mut created.launch, &mut created.builder)).await.context(
            "builder not launched: check --base, --instance-type and --subnet, and the permissions of your credentials",
        )?;
        eprintln!("installing on {id}");
        builder::wait(&self.account, &id, options.timeout, async || self.report().await).await?;

        let call = tokio::spawn({
            let (account, id, name) = (self.account.clone(), id.clone(), self.name.clone());
            async move { create_image(&account, &id, &name).await }
        });
        let image = self.finish(call, |created| (&mut created.image_call, &mut created.image));
        let image = image.await.context("image not created")?;
        eprintln!("creating {image}");
        self.available(&image, options.timeout).await?;
        Ok(image)
    }

    /// Waits for a call and records the id of what it created. `slots` returns where call and id are kept.
    async fn finish(
        &self,
        call: Call,
        slots: impl Fn(&mut Created) -> (&mut Option<Call>, &mut Option<String>),
    ) -> anyhow::Result<String> {
        *slots(&mut self.created()).0 = Some(call);
        // The call stays in its slot while it runs, so that the clean-up finds it if this future is dropped.
        while !slots(&mut self.created()).0.as_ref().is_none_or(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let call = slots(&mut self.created()).0.take().context("the call is missing")?;
        let id = call.await??;
        *slots(&mut self.created()).1 = Some(id.clone());
        Ok(id)
    }

    /// Uploads the package to a private bucket and presigns the builder's URLs.
    async fn upload(&self, package: &Package, timeout: Duration) -> anyhow::Result<Transfer> {
        let (s3, bucket) = (&self.account.s3, &self.bucket);
        let mut create = s3.create_bucket().bucket(bucket);
        if self.account.region != "us-east-1" {
            let place = BucketLocationConstraint::from(self.account.region.as_str());
            let place = CreateBucketConfiguration::builder().location_constraint(place).build();
            create = create.create_bucket_configuration(place);
        }
        match create.recorded().send().await {
            Ok(_) => {}
            Err(error) if code(&error) == "BucketAlreadyOwnedByYou" => {}
            Err(error) => return Err(classify(bucket, error).into()),
        }
        self.created().bucket = true;
        let private = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .block_public_policy(true)
            .ignore_public_acls(true)
            .restrict_public_buckets(true);
        let call = s3.put_public_access_block().bucket(bucket).public_access_block_configuration(private.build());
        call.recorded().send().await.map_err(|e| classify(bucket, e))?;
        // S3 deletes the uploads if this process is killed.
        let all = LifecycleRuleFilter::builder().prefix("").build();
        let rule = LifecycleRule::builder().id("bake").status(ExpirationStatus::Enabled).filter(all);
        let rule = rule.expiration(LifecycleExpiration::builder().days(1).build()).build()?;
        let rules = BucketLifecycleConfiguration::builder().rules(rule).build()?;
        let call = s3.put_bucket_lifecycle_configuration().bucket(bucket).lifecycle_configuration(rules);
        call.recorded().send().await.map_err(|e| classify(bucket, e))?;
        let key = self.key("package.tar.gz");
        let body = ByteStream::from_path(package.file.path()).await.context("the package")?;
        let put = s3.put_object().bucket(bucket).key(&key).body(body).recorded().send().await;
        put.map_err(|e| classify(&key, e)).context("upload of the package")?;

        let expiry = || PresigningConfig::expires_in(timeout + Duration::from_secs(600));
        let get = s3.get_object().bucket(bucket).key(&key).presigned(expiry()?).await;
        let report = s3.put_object().bucket(bucket).key(self.key("report")).presigned(expiry()?).await;
        Ok(Transfer {
            package: get.map_err(|e| classify(&key, e))?.uri().to_owned(),
            sha256: package.sha256.clone(),
            report: report.map_err(|e| classify("report", e))?.uri().to_owned(),
        })
    }

    async fn report(&self) -> CloudResult<Option<String>> {
        let key = self.key("report");
        match self.account.s3.get_object().bucket(&self.bucket).key(&key).recorded().send().await {
            Ok(output) => {
                let body = output.body.collect().await.map_err(|e| CloudError::Unavailable(format!("{key}: {e}")))?;
                Ok(Some(String::from_utf8_lossy(&body.into_bytes()).into_owned()))
            }
            Err(error) if code(&error) == "NoSuchKey" => Ok(None),
            Err(error) => Err(classify(&key, error)),
        }
    }

    async fn available(&self, image: &str, timeout: Duration) -> anyhow::Result<()> {
        let available = wait::until(timeout, async || {
            let output = self.account.ec2.describe_images().image_ids(image).recorded().send().await;
            let images = match output {
                Ok(output) => output.images.unwrap_or_default(),
                Err(error) if code(&error) == "InvalidAMIID.NotFound" => return Ok(None), // not yet
                Err(error) => return Err(classify(image, error).into()),
            };
            let Some(found) = images.first() else { return Ok(None) };
            match found.state() {
                Some(ImageState::Available) => Ok(Some(())),
                None | Some(ImageState::Pending) => Ok(None),
                Some(state) => {
                    let why = found.state_reason().and_then(|r| r.message()).unwrap_or("no reason given");
                    anyhow::bail!("the image {image} is {}: {why}", state.as_str())
                }
            }
        });
        available.await?.with_context(|| {
            format!("the image {image} did not become available in time: try a longer --timeout, such as 60m")
        })
    }

    /// Terminates the builders of bakes that were killed.
    async fn terminate_stale_builders(&self) -> anyhow::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "compared with the times at which AWS launched instances")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let stale = builder::list(&self.account).await?.into_iter().filter(|instance| {
            let launched = instance.launch_time().map_or(0, |time| time.secs().max(0) as u64);
            now.as_secs().saturating_sub(launched) > STALE_AFTER.as_secs()
        });
        let stale: Vec<String> = stale.filter_map(|instance| instance.instance_id).collect();
        if !stale.is_empty() {
            eprintln!("terminating builders of an earlier bake: {}", stale.join(", "));
            instances::terminate(&self.account, &stale).await?;
        }
        Ok(())
    }

    /// Removes what was created, except for the image if `keep_image`. Continues after an error.
    async fn clean_up(&self, keep_image: bool) -> anyhow::Result<()> {
        let mut created = std::mem::take(&mut *self.created());
        let calls = [(created.launch.take(), &mut created.builder), (created.image_call.take(), &mut created.image)];
        for (call, id) in calls {
            if let Some(call) = call {
                *id = call.await.ok().and_then(Result::ok);
            }
        }
        let mut errors = Vec::new();
        if let Some(image) = created.image.filter(|_| !keep_image)
            && let Err(error) = leftovers::delete_image(&self.account, &image).await
        {
            errors.push(format!("image {image}: {error:#}"));
        }
        if let Some(id) = created.builder
            && let Err(error) = instances::terminate(&self.account, std::slice::from_ref(&id)).await
        {
            errors.push(format!("builder {id}: {error}"));
        }
        if created.bucket
            && let Err(error) = self.delete_bucket().await
        {
            errors.push(format!("bucket {}: {error}", self.bucket));
        }
        anyhow::ensure!(errors.is_empty(), "{}", errors.join("; "));
        Ok(())
    }

    /// Deletes the objects of this bake, and the bucket unless another bake has objects there.
    async fn delete_bucket(&self) -> CloudResult<()> {
        for file in ["package.tar.gz", "report"] {
            let key = self.key(file);
            let deleted = self.account.s3.delete_object().bucket(&self.bucket).key(&key).recorded().send().await;
            deleted.map_err(|e| classify(&key, e))?;
        }
        match self.account.s3.delete_bucket().bucket(&self.bucket).recorded().send().await {
            Err(error) if !["BucketNotEmpty", "NoSuchBucket"].contains(&code(&error)) => {
                Err(classify(&self.bucket, error))
            }
            _ => Ok(()),
        }
    }
}

async fn create_image(account: &Account, builder: &str, name: &str) -> CloudResult<String> {
    let tags = |kind| {
        let tags = TagSpecification::builder().resource_type(kind).tags(tag(CLUSTER_TAG, &account.cluster));
        let tags = tags.tags(tag("Name", &format!("{}-{name}", account.cluster)));
        image_format::tags().iter().fold(tags, |tags, (key, value)| tags.tags(tag(key, value))).build()
    };
    let created = account
        .ec2
        .create_image()
        .instance_id(builder)
        .name(format!("{}-{name}", account.cluster))
        .description(image_format::description())
        .tag_specifications(tags(ResourceType::Image))
        .tag_specifications(tags(ResourceType::Snapshot))
        .recorded()
        .send();
    let id = created.await.map_err(|e| classify("image", e))?.image_id;
    id.ok_or_else(|| CloudError::Unavailable("image: no id in the response".into()))
}
