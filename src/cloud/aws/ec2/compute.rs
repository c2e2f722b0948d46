//! The instances of a cluster on EC2.
//!
//! Tags record which cluster owns an instance and which launch created it, so that a new controller learns its fleet
//! from EC2 alone. The client does not retry: the controller, which keeps track of the launches, decides when to retry.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use aws_sdk_ec2::{Client, types::Filter};
use tokio::{sync::watch, time::Instant};

use super::{
    super::{
        errors::{classify, code},
        heartbeats::Heartbeats,
        tags::{CLUSTER_TAG, TOKEN_TAG},
    },
    PAGE,
    changes::{Change, change_each},
    cores::cores,
    instance::{convert, ended_by_pool, heartbeat},
    names::set_names,
    pools::{Pool, Pools},
    request::{Ec2Options, Request},
    version::CurrentVersion,
};
use crate::cloud::aws::call_sites::CallSite as _;
use crate::{
    cloud::{CloudError, CloudResult, Compute, Instance, InstanceId, InstanceState},
    settings::Launching,
};

/// EC2's code of a launch that is larger than the subnet, which it refuses as a whole.
const NO_ADDRESSES: &str = "InsufficientFreeAddressesInSubnet";
/// Number of launches that are remembered, so that a call with the same token resumes its launch.
const REMEMBERED: usize = 1_000;

/// One call of a launch, at most one per pool. Its parameters never change, as its `ClientToken` requires.
struct Step {
    /// Index of the pool.
    pool: usize,
    count: usize,
    /// Number in the first instance's name.
    number: usize,
    /// The instances launched; `None` until EC2 has responded.
    launched: Option<Vec<InstanceId>>,
    /// When EC2 last failed to respond or with an unknown outcome.
    failed: Option<Instant>,
}

/// The steps of one token.
type Launch = Arc<tokio::sync::Mutex<Vec<Step>>>;

/// The instances of one cluster.
pub struct Ec2Compute {
    client: Client,
    options: Ec2Options,
    pools: Mutex<Pools>,
    launches: Mutex<VecDeque<(String, Launch)>>,
    /// The pools of the latest instances that have not been seen to end: EC2 does not tell the subnet of a terminated one.
    placed: Mutex<VecDeque<(InstanceId, usize)>>,
    /// Highest number in an instance's name so far.
    last_number: AtomicUsize,
    current: CurrentVersion,
    heartbeats: Arc<Heartbeats>,
}

impl Ec2Compute {
    /// Creates the adapter. `client` must not retry.
    pub fn new(client: Client, options: Ec2Options) -> Self {
        let Launching { instance_types, subnets, spot, capacity_memory, .. } = &options.launch;
        let pools = Pools::new(instance_types, subnets, *spot, *capacity_memory);
        let (launches, placed, last_number) = (Mutex::default(), Mutex::default(), AtomicUsize::new(0));
        let (current, heartbeats) = (CurrentVersion::default(), Arc::default());
        Self { client, options, pools: Mutex::new(pools), launches, placed, last_number, current, heartbeats }
    }

    /// Notes that the controller of this process begins to act.
    pub fn begin_to_lead(&self) {
        self.current.begin_to_lead();
    }

    /// Returns the heartbeats by which [`Compute::describe`] tells which workers do not respond.
    pub fn heartbeats(&self) -> Arc<Heartbeats> {
        self.heartbeats.clone()
    }

    /// Returns the number of virtual CPUs of the smallest instance that a launch may use; `None` if nothing names a type.
    ///
    /// # Errors
    /// Any error of EC2.
    pub async fn cores(&self) -> CloudResult<Option<usize>> {
        cores(&self.client, &self.options.launch).await
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn launches(&self) -> MutexGuard<'_, VecDeque<(String, Launch)>> {
        self.launches.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn placed(&self) -> MutexGuard<'_, VecDeque<(InstanceId, usize)>> {
        self.placed.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Remembers the pool of instances that were launched.
    fn place(&self, ids: &[InstanceId], pool: usize) {
        let mut placed = self.placed();
        placed.extend(ids.iter().map(|id| (id.clone(), pool)));
        let surplus = placed.len().saturating_sub(REMEMBERED);
        placed.drain(..surplus);
    }

    /// Avoids a pool for a while if EC2 could not run an instance there: the next one would probably end in the same way.
    fn observe_end(&self, instance: &aws_sdk_ec2::types::Instance) {
        let Some(is_fault) = ended_by_pool(instance) else { return };
        let mut placed = self.placed();
        let Some(at) = placed.iter().position(|(id, _)| Some(id.0.as_str()) == instance.instance_id()) else { return };
        if let Some((id, pool)) = placed.remove(at).filter(|_| is_fault) {
            let pools = &mut *self.pools();
            tracing::warn!(%id, pool = ?pools.get(pool), "EC2 has ended an instance: trying other pools first");
            pools.mark_empty(pool, Instant::now());
        }
    }

    /// Returns the launch with that token, which may be a new one.
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

    /// Tries one pool after another until there are enough instances. After an error, the same token resumes at that
    /// step.
    async fn advance(&self, token: &str, count: usize, steps: &mut Vec<Step>) -> CloudResult<Vec<InstanceId>> {
        let mut launched: Vec<InstanceId> = Vec::new();
        let mut refusal = "no instances were requested".to_owned();
        let mut fewer_may_fit = false;
        for at in 0.. {
            if launched.len() >= count {
                break;
            }
            if at == steps.len() {
                let tried: Vec<usize> = steps.iter().map(|step| step.pool).collect();
                let Some(pool) = self.pools().next(&tried, Instant::now()) else { break };
                let count = count - launched.len();
                let number = self.last_number.fetch_add(count, Ordering::Relaxed) + 1;
                steps.push(Step { pool, count, number, launched: None, failed: None });
            }
            if self.should_move_on(steps, at) {
                let found = self.find(token, steps).await?;
                let step = &mut steps[at];
                if found.is_empty() {
                    tracing::warn!(pool = ?self.pools().get(step.pool), "launches fail: trying the next pool");
                    self.pools().mark_empty(step.pool, Instant::now());
                }
                step.launched = Some(found);
            }
            let step = &mut steps[at];
            if step.launched.is_none() {
                let pool = self.pools().get(step.pool).clone();
                step.launched = Some(match self.run(token, step, &pool).await {
                    Ok(ids) => ids,
                    Err(CloudError::NoCapacity(why)) => {
                        tracing::warn!(?pool, why, "no capacity: trying the next pool");
                        if step.count > 1 && why.contains(NO_ADDRESSES) {
                            fewer_may_fit = true;
                        } else {
                            self.pools().mark_empty(step.pool, Instant::now());
                        }
                        refusal = why;
                        Vec::new()
                    }
                    // Spot instances have a quota of their own.
                    Err(CloudError::Quota(why)) if pool.spot => {
                        self.pools().mark_empty(step.pool, Instant::now());
                        refusal = why;
                        Vec::new()
                    }
                    Err(CloudError::Quota(why)) if !launched.is_empty() => {
                        tracing::warn!(why, launched = launched.len(), "fewer instances than requested");
                        break;
                    }
                    Err(error) => {
                        step.failed = matches!(error, CloudError::Unavailable(_)).then(Instant::now);
                        return Err(error);
                    }
                });
            }
            launched.extend(step.launched.iter().flatten().cloned());
        }
        match launched.is_empty() {
            true if fewer_may_fit => Err(CloudError::Quota(refusal)),
            true => Err(CloudError::NoCapacity(refusal)),
            false => Ok(launched),
        }
    }

    /// Returns whether the step that failed last should be given up for another pool. It may have been carried out, so not
    /// before EC2 has had the time to show that.
    fn should_move_on(&self, steps: &[Step], at: usize) -> bool {
        let (step, now) = (&steps[at], Instant::now());
        let tried: Vec<usize> = steps.iter().map(|step| step.pool).collect();
        let is_visible = step.failed.is_some_and(|failed| failed + self.options.describe_lag <= now);
        step.launched.is_none() && is_visible && self.pools().next(&tried, now).is_some()
    }

    /// Returns the instances that EC2 shows of a launch, except those of steps to which it has responded.
    async fn find(&self, token: &str, steps: &[Step]) -> CloudResult<Vec<InstanceId>> {
        let filter = |tag: &str, value: &str| Filter::builder().name(format!("tag:{tag}")).values(value).build();
        let ours = [filter(CLUSTER_TAG, &self.options.cluster), filter(TOKEN_TAG, token)];
        let found = self.client.describe_instances().set_filters(Some(ours.into())).recorded().send().await;
        let found = found.map_err(|e| classify("describe", e))?.reservations.unwrap_or_default();
        let ids = found.into_iter().flat_map(|r| r.instances.unwrap_or_default()).filter_map(|i| i.instance_id);
        let is_known =
            |id: &InstanceId| steps.iter().flat_map(|step| &step.launched).flatten().any(|known| known == id);
        Ok(ids.map(InstanceId).filter(|id| !is_known(id)).collect())
    }

    async fn run(&self, token: &str, step: &Step, pool: &Pool) -> CloudResult<Vec<InstanceId>> {
        let call = self.request(token, step, pool).build(&self.client, &self.options);
        let output = call.recorded().send().await.map_err(|e| classify("launch", e))?;
        let ids: Vec<InstanceId> =
            output.instances.unwrap_or_default().into_iter().filter_map(|i| i.instance_id).map(InstanceId).collect();
        self.place(&ids, step.pool);
        self.name_others(&ids, step.number).await;
        Ok(ids)
    }

    fn request<'a>(&self, token: &'a str, step: &Step, pool: &'a Pool) -> Request<'a> {
        Request { token, pool_index: step.pool, pool, count: step.count, name: self.name(step.number) }
    }

    /// Checks that a launch is permitted and that the resources it refers to exist. Launches nothing.
    ///
    /// # Errors
    /// Any error that [`Compute::launch`] would return.
    pub async fn dry_run(&self) -> CloudResult<()> {
        let step = Step { pool: 0, count: 1, number: 0, launched: None, failed: None };
        let pool = self.pools().get(0).clone();
        let call = self.request("dry-run", &step, &pool).build(&self.client, &self.options);
        match call.dry_run(true).recorded().send().await {
            Err(error) if code(&error) == "DryRunOperation" => Ok(()),
            Err(error) => Err(classify("launch", error)),
            Ok(_) => Err(CloudError::Unavailable("EC2 responded to a dry run as if it were a launch".into())),
        }
    }

    fn name(&self, number: usize) -> String {
        format!("{}{number}", self.options.name_prefix)
    }

    /// Names all instances but the first: RunInstances gives all of them the same name.
    async fn name_others(&self, ids: &[InstanceId], number: usize) {
        let names = ids.iter().enumerate().skip(1).map(|(at, id)| (id.0.clone(), self.name(number + at)));
        set_names(&self.client, names.collect()).await;
    }

    /// Makes the numbers in names continue after that of `name`.
    fn observe_name(&self, name: &str) {
        if let Some(number) = name.strip_prefix(&self.options.name_prefix).and_then(|n| n.parse().ok()) {
            self.last_number.fetch_max(number, Ordering::Relaxed);
        }
    }
}

#[async_trait]
impl Compute for Ec2Compute {
    async fn launch(&self, token: &str, count: usize) -> CloudResult<Vec<InstanceId>> {
        let launch = self.launch_of(token);
        let mut steps = launch.lock().await;
        let result = self.advance(token, count, &mut steps).await;
        if let Err(CloudError::NoCapacity(_)) = &result {
            steps.clear(); // nothing was launched, so the same token may try every pool again
        }
        result
    }

    async fn start(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        change_each(&self.client, Change::Start, ids).await
    }

    async fn terminate(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        change_each(&self.client, Change::Terminate, ids).await
    }

    async fn describe(&self) -> CloudResult<Vec<Instance>> {
        let ours = Filter::builder().name(format!("tag:{CLUSTER_TAG}")).values(&self.options.cluster).build();
        let mut pages =
            self.client.describe_instances().filters(ours).max_results(PAGE).into_paginator().recorded().send();
        let current = self.current.get(&self.client, &self.options).await;
        let (mut instances, mut promised, mut booting) = (Vec::new(), HashMap::new(), false);
        let ready = self.heartbeats.ready();
        while let Some(page) = pages.next().await {
            let reservations = page.map_err(|e| classify("describe", e))?.reservations.unwrap_or_default();
            let found = reservations.into_iter().flat_map(|r| r.instances.unwrap_or_default());
            for found in found {
                let every = heartbeat(&found);
                self.observe_end(&found);
                let announced = found.instance_id.clone().and_then(|id| ready.get(&InstanceId(id)).copied());
                let Some(instance) = convert(found, &current, announced) else { continue };
                booting |= instance.state == InstanceState::Pending;
                if instance.state == InstanceState::Running {
                    promised.extend(every.map(|every| (instance.id.clone(), every)));
                }
                instances.push(instance);
            }
        }
        let silent = self.heartbeats.silent(&promised, booting);
        instances.iter_mut().for_each(|instance| instance.unresponsive = silent.contains(&instance.id));
        instances.iter().for_each(|instance| self.observe_name(&instance.name));
        Ok(instances)
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compute() -> Ec2Compute {
        let config = aws_sdk_ec2::Config::builder().behavior_version(aws_config::BehaviorVersion::latest());
        let options = Ec2Options { name_prefix: "worker-".into(), ..Ec2Options::default() };
        Ec2Compute::new(Client::from_conf(config.build()), options)
    }

    #[test]
    fn the_latest_launches_are_remembered_by_token() {
        let compute = compute();
        let first = compute.launch_of("0");
        for n in 1..REMEMBERED {
            compute.launch_of(&n.to_string());
        }
        assert!(Arc::ptr_eq(&first, &compute.launch_of("0")));
        compute.launch_of("one more");
        assert!(!Arc::ptr_eq(&first, &compute.launch_of("0")), "the oldest is forgotten");
        assert_eq!(compute.launches().len(), REMEMBERED);
    }

    #[test]
    fn instance_numbers_continue_after_the_highest_in_use() {
        let compute = compute();
        for name in ["worker-7", "worker-3", "other-9", "worker-x"] {
            compute.observe_name(name);
        }
        assert_eq!(compute.last_number.load(Ordering::Relaxed), 7);
    }
}
