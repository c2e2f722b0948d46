//! Machines on EC2. Tags are the record of who owns an instance and which intent asked for it, so that a new controller
//! knows its fleet from EC2 alone.
//!
//! An instance that EC2 calls running is pending here until its worker has said that it is ready: see
//! [`Ec2Metadata`](super::Ec2Metadata).
//!
//! The client makes no retries of its own: when to ask again is decided where the intents are kept.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use aws_sdk_ec2::{
    Client,
    operation::run_instances::builders::RunInstancesFluentBuilder,
    types::{
        Filter, IamInstanceProfileSpecification, Instance as Ec2Instance, InstanceMarketOptionsRequest,
        InstanceStateName, InstanceType, LaunchTemplateSpecification, MarketType, ResourceType, ShutdownBehavior, Tag,
        TagSpecification,
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, time::Instant};

use super::{
    CLUSTER_TAG, READY_TAG, TOKEN_TAG,
    errors::{classify, code},
    pools::{Pool, Pools},
};
use crate::{
    cloud::{CloudError, CloudResult, Compute, Instance, InstanceId, InstanceState},
    settings::Launching,
};

/// Launches whose course is remembered, so that the same token again is the same launch.
const REMEMBERED: usize = 1_000;
/// Instances in one page of a description.
const PAGE: i32 = 500;

/// What to launch.
#[derive(Clone, Debug, Default)]
pub struct Ec2Options {
    pub cluster: String,
    pub name_prefix: String,
    pub launch: Launching,
    /// What an instance runs at its first boot, as it is (not base64). At most 16 KiB.
    pub user_data: Option<String>,
}

/// One call of a launch: at most one a pool. What it asks for never changes, because the `ClientToken` forbids it.
struct Step {
    pool: usize,
    count: usize,
    /// Number in the name of the first.
    number: usize,
    /// Known once EC2 has answered.
    made: Option<Vec<InstanceId>>,
}

#[derive(Clone, Copy)]
enum Change {
    Start,
    Stop,
    Terminate,
}

type Launch = Arc<tokio::sync::Mutex<Vec<Step>>>;

/// See the module.
pub struct Ec2Compute {
    client: Client,
    options: Ec2Options,
    pools: Mutex<Pools>,
    launches: Mutex<VecDeque<(String, Launch)>>,
    /// Highest number in a name so far.
    numbers: AtomicUsize,
}

impl Ec2Compute {
    /// `client` should make no retries of its own.
    pub fn new(client: Client, options: Ec2Options) -> Self {
        let Launching { instance_types, subnets, spot, capacity_memory, .. } = &options.launch;
        let pools = Pools::new(instance_types, subnets, *spot, *capacity_memory);
        Self { client, options, pools: Mutex::new(pools), launches: Mutex::default(), numbers: AtomicUsize::new(0) }
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn launches(&self) -> MutexGuard<'_, VecDeque<(String, Launch)>> {
        self.launches.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The launch of that token, begun or new.
    fn launch_of(&self, token: &str) -> Launch {
        let mut launches = self.launches();
        if let Some((_, launch)) = launches.iter().find(|(t, _)| t == token) {
            return launch.clone();
        }
        if launches.len() == REMEMBERED {
            launches.pop_front();
        }
        let launch = Launch::default();
        launches.push_back((token.to_owned(), launch.clone()));
        launch
    }

    /// Asks pool after pool. An error leaves the launch where it is: the same token again goes on from there.
    async fn go_on(&self, token: &str, count: usize, steps: &mut Vec<Step>) -> CloudResult<Vec<InstanceId>> {
        let mut made: Vec<InstanceId> = Vec::new();
        let mut refusal = "nothing was asked for".to_owned();
        for at in 0.. {
            if made.len() >= count {
                break;
            }
            if at == steps.len() {
                let tried: Vec<usize> = steps.iter().map(|step| step.pool).collect();
                let Some(pool) = self.pools().next(&tried, Instant::now()) else { break };
                let count = count - made.len();
                let number = self.numbers.fetch_add(count, Ordering::Relaxed) + 1;
                steps.push(Step { pool, count, number, made: None });
            }
            let step = &mut steps[at];
            if step.made.is_none() {
                let pool = self.pools().get(step.pool).clone();
                step.made = Some(match self.run(token, step, &pool).await {
                    Ok(ids) => ids,
                    Err(CloudError::NoCapacity(why)) => {
                        tracing::warn!(?pool, why, "no machine there: trying the next");
                        self.pools().had_none(step.pool, Instant::now());
                        refusal = why;
                        Vec::new()
                    }
                    // The limit of spot instances is a limit of its own.
                    Err(CloudError::Quota(why)) if pool.spot => {
                        self.pools().had_none(step.pool, Instant::now());
                        refusal = why;
                        Vec::new()
                    }
                    Err(CloudError::Quota(why)) if !made.is_empty() => {
                        tracing::warn!(why, made = made.len(), "fewer instances than asked for");
                        break;
                    }
                    Err(error) => return Err(error),
                });
            }
            made.extend(step.made.iter().flatten().cloned());
        }
        if made.is_empty() { Err(CloudError::NoCapacity(refusal)) } else { Ok(made) }
    }

    async fn run(&self, token: &str, step: &Step, pool: &Pool) -> CloudResult<Vec<InstanceId>> {
        let answer = self.request(token, step, pool).send().await.map_err(|e| classify("launch", e))?;
        let ids: Vec<InstanceId> =
            answer.instances.unwrap_or_default().into_iter().filter_map(|i| i.instance_id).map(InstanceId).collect();
        self.name_the_others(&ids, step.number).await;
        Ok(ids)
    }

    fn request(&self, token: &str, step: &Step, pool: &Pool) -> RunInstancesFluentBuilder {
        let (o, launch) = (&self.options, &self.options.launch);
        let tags = |kind| {
            let tag = |key: &str, value: String| Tag::builder().key(key).value(value).build();
            TagSpecification::builder()
                .resource_type(kind)
                .tags(tag(CLUSTER_TAG, o.cluster.clone()))
                .tags(tag(TOKEN_TAG, token.to_owned()))
                .tags(tag("Name", self.name(step.number)))
                .build()
        };
        let template = launch.launch_template.as_ref().map(|template| {
            let spec = LaunchTemplateSpecification::builder().version("$Default");
            if template.starts_with("lt-") {
                spec.launch_template_id(template)
            } else {
                spec.launch_template_name(template)
            }
            .build()
        });
        let profile =
            launch.instance_profile.as_ref().map(|name| IamInstanceProfileSpecification::builder().name(name).build());
        let spot = InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).build();
        let plain = template.is_none().then_some(ShutdownBehavior::Stop);
        self.client
            .run_instances()
            .client_token(client_token(&o.cluster, token, step.pool))
            .min_count(1)
            .max_count(step.count as i32)
            .set_launch_template(template)
            .set_image_id(launch.image.clone())
            .set_instance_type(pool.instance_type.as_deref().map(InstanceType::from))
            .set_subnet_id(pool.subnet.clone())
            .set_security_group_ids(Some(launch.security_groups.clone()).filter(|groups| !groups.is_empty()))
            .set_iam_instance_profile(profile)
            .set_user_data(o.user_data.as_ref().map(|text| BASE64_STANDARD.encode(text)))
            .set_instance_market_options(pool.spot.then_some(spot))
            // A worker that shuts its machine down stops it. A spot instance of one request cannot be stopped.
            .set_instance_initiated_shutdown_behavior(if pool.spot { Some(ShutdownBehavior::Terminate) } else { plain })
            .tag_specifications(tags(ResourceType::Instance))
            .tag_specifications(tags(ResourceType::Volume))
    }

    /// Whether a launch would be allowed and its parts exist; launches nothing.
    pub async fn dry_run(&self) -> CloudResult<()> {
        let step = Step { pool: 0, count: 1, number: 0, made: None };
        let pool = self.pools().get(0).clone();
        match self.request("dry-run", &step, &pool).dry_run(true).send().await {
            Err(error) if code(&error) == "DryRunOperation" => Ok(()),
            Err(error) => Err(classify("launch", error)),
            Ok(_) => Err(CloudError::Unavailable("a dry run was answered as a launch".into())),
        }
    }

    fn name(&self, number: usize) -> String {
        format!("{}{number}", self.options.name_prefix)
    }

    /// One call gives all its instances one name: the second and later get theirs here. Names are for people only.
    async fn name_the_others(&self, ids: &[InstanceId], number: usize) {
        let name = |(at, id): (usize, &InstanceId)| {
            let tag = Tag::builder().key("Name").value(self.name(number + at)).build();
            self.client.create_tags().resources(&id.0).tags(tag).send()
        };
        for error in join_all(ids.iter().enumerate().skip(1).map(name)).await.into_iter().filter_map(Result::err) {
            tracing::warn!(error = %classify("name", error), "instance keeps the name of another");
        }
    }

    /// Makes a change to all ids; where the call fails because of one of them, to each half, and so on.
    async fn change_each(&self, change: Change, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        let mut results = vec![Ok(()); ids.len()];
        let mut todo: Vec<Range<usize>> = Vec::from_iter((!ids.is_empty()).then_some(0..ids.len()));
        while let Some(range) = todo.pop() {
            let Err(error) = self.change(change, &ids[range.clone()]).await else { continue };
            let of_one = matches!(error, CloudError::NotFound(_) | CloudError::Conflict(_) | CloudError::Invalid(_));
            if of_one && range.len() > 1 {
                let middle = range.start + range.len() / 2;
                todo.extend([range.start..middle, middle..range.end]);
            } else {
                results[range].fill(Err(error));
            }
        }
        results
    }

    async fn change(&self, change: Change, ids: &[InstanceId]) -> CloudResult<()> {
        let ids = Some(ids.iter().map(|id| id.0.clone()).collect());
        match change {
            Change::Start => {
                let answer = self.client.start_instances().set_instance_ids(ids).send().await;
                answer.map(drop).map_err(|e| classify("start", e))
            }
            Change::Stop => {
                let answer = self.client.stop_instances().set_instance_ids(ids).send().await;
                answer.map(drop).map_err(|e| classify("stop", e))
            }
            Change::Terminate => {
                let answer = self.client.terminate_instances().set_instance_ids(ids).send().await;
                answer.map(drop).map_err(|e| classify("terminate", e))
            }
        }
    }

    fn instance(&self, instance: Ec2Instance) -> Option<Instance> {
        let tag = |key: &str| instance.tags().iter().find(|t| t.key() == Some(key)).and_then(|t| t.value());
        let name = tag("Name").unwrap_or_default().to_owned();
        if let Some(number) = name.strip_prefix(&self.options.name_prefix).and_then(|n| n.parse().ok()) {
            self.numbers.fetch_max(number, Ordering::Relaxed);
        }
        let reason = instance.state_reason().and_then(|r| r.message()).or(instance.state_transition_reason());
        let launched = instance.launch_time().map_or(0, |time| time.secs());
        // A start is a launch to EC2: what was said before it does not count.
        let ready = tag(READY_TAG).and_then(|at| at.parse().ok()).is_some_and(|at: i64| at >= launched);
        Some(Instance {
            state: match state(instance.state()?.name()?)? {
                InstanceState::Running if !ready => InstanceState::Pending,
                state => state,
            },
            token: tag(TOKEN_TAG).or(instance.client_token()).unwrap_or_default().to_owned(),
            pid: None,
            reason: reason.filter(|r| !r.is_empty()).map(str::to_owned),
            id: InstanceId(instance.instance_id.clone()?),
            name,
        })
    }
}

fn state(name: &InstanceStateName) -> Option<InstanceState> {
    match name {
        InstanceStateName::Pending => Some(InstanceState::Pending),
        InstanceStateName::Running => Some(InstanceState::Running),
        InstanceStateName::Stopping => Some(InstanceState::Stopping),
        InstanceStateName::Stopped => Some(InstanceState::Stopped),
        InstanceStateName::ShuttingDown => Some(InstanceState::ShuttingDown),
        InstanceStateName::Terminated => Some(InstanceState::Terminated),
        _ => None,
    }
}

/// At most 64 characters, and its own for each pool: the same token must not carry other parameters.
fn client_token(cluster: &str, token: &str, pool: usize) -> String {
    let digest = Sha256::digest(format!("{cluster}\0{token}\0{pool}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[async_trait]
impl Compute for Ec2Compute {
    async fn launch(&self, token: &str, count: usize) -> CloudResult<Vec<InstanceId>> {
        let launch = self.launch_of(token);
        let mut steps = launch.lock().await;
        let result = self.go_on(token, count, &mut steps).await;
        if let Err(CloudError::NoCapacity(_)) = &result {
            steps.clear(); // nothing was made: the same token may ask every pool again
        }
        result
    }

    async fn start(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        self.change_each(Change::Start, ids).await
    }

    async fn stop(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        self.change_each(Change::Stop, ids).await
    }

    async fn terminate(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        self.change_each(Change::Terminate, ids).await
    }

    async fn describe(&self) -> CloudResult<Vec<Instance>> {
        let ours = Filter::builder().name(format!("tag:{CLUSTER_TAG}")).values(&self.options.cluster).build();
        let mut pages = self.client.describe_instances().filters(ours).max_results(PAGE).into_paginator().send();
        let mut instances = Vec::new();
        while let Some(page) = pages.next().await {
            let reservations = page.map_err(|e| classify("describe", e))?.reservations.unwrap_or_default();
            let found = reservations.into_iter().flat_map(|r| r.instances.unwrap_or_default());
            instances.extend(found.filter_map(|instance| self.instance(instance)));
        }
        Ok(instances)
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}
