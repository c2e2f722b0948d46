//! The cloud's API, with injected faults.

use std::collections::BTreeMap;

use rollcall::{
    cloud::{CloudError, CloudResult, Depth, Instance, InstanceId, InstanceState},
    fleet::{Action, Cause, Event},
};

use super::{cluster::Cluster, environment::Environment};

#[derive(Default)]
pub struct Cloud {
    by_token: BTreeMap<String, Vec<InstanceId>>,
}

impl Cloud {
    pub fn knows(&self, token: &str) -> bool {
        self.by_token.contains_key(token)
    }

    /// Carries a call out and returns its answer.
    pub fn carry_out(&mut self, action: &Action, cluster: &mut Cluster, env: &mut Environment) -> Event {
        match action.clone() {
            Action::ReadDepth => {
                let (visible, in_flight) = (cluster.visible.into(), cluster.in_flight.into());
                Event::Depth(Ok(Depth { visible, in_flight, delayed: 0 }))
            }
            Action::Describe { generation } => {
                Event::Described { generation, result: Ok(Self::describe(cluster, env)) }
            }
            Action::Launch { token, count } => {
                let result = self.launch(&token, count, cluster, env);
                Event::Launched { token, result }
            }
            Action::Start { ids } => {
                let results = ids.into_iter().map(|id| (id.clone(), Self::start(&id, cluster, env))).collect();
                Event::Started { results }
            }
            Action::Terminate { ids, cause } => {
                let terminate = |id: InstanceId| (id.clone(), Self::terminate(&id, cause, cluster, env));
                let results = ids.into_iter().map(terminate).collect();
                Event::Terminated { results }
            }
        }
    }

    /// Describes the machines as they were some time ago.
    fn describe(cluster: &Cluster, env: &mut Environment) -> Vec<Instance> {
        let at = env.now - env.rng.below(env.plan.staleness + 1).min(env.now);
        let shown = cluster.machines.iter().filter_map(|m| {
            let (id, token, (state, came_up)) = (m.id.clone(), m.token.clone(), m.shown(at)?);
            // The cloud that reports changes also watches the workers.
            let unresponsive = m.dead && env.plan.tells_changes && state == InstanceState::Running;
            Some(Instance {
                name: id.0.clone(),
                id,
                state,
                token,
                pid: None,
                reason: None,
                unresponsive,
                outdated: m.is_outdated(at, env.plan.upgrade),
                came_up,
            })
        });
        shown.collect()
    }

    fn launch(
        &mut self,
        token: &str,
        count: usize,
        cluster: &mut Cluster,
        env: &mut Environment,
    ) -> CloudResult<Vec<InstanceId>> {
        if let Some(made) = self.by_token.get(token) {
            return Ok(made.clone());
        }
        let faults = env.plan.faults;
        if env.draw_fault(faults.throttled) {
            env.count("throttled");
            return Err(CloudError::Throttled);
        }
        if env.draw_fault(faults.no_capacity) {
            env.count("no capacity");
            return Err(CloudError::NoCapacity("none".into()));
        }
        let mut count = count;
        if env.now < env.plan.faults_end {
            if env.plan.quota.is_some_and(|quota| cluster.live() + count > quota) {
                env.count("quota");
                return Err(CloudError::Quota("full".into()));
            }
            if count > 1 && env.rng.percent(faults.partial) {
                env.count("partial launch");
                count = 1 + env.rng.below(count as u64 - 1) as usize;
            }
        }
        let made: Vec<InstanceId> = (0..count).map(|_| cluster.create(token, env)).collect();
        self.by_token.insert(token.to_owned(), made.clone());
        Ok(made)
    }

    fn find(id: &InstanceId, cluster: &Cluster) -> CloudResult<usize> {
        let found = cluster.machines.iter().position(|m| m.id == *id);
        found.ok_or_else(|| CloudError::NotFound(id.to_string()))
    }

    fn start(id: &InstanceId, cluster: &mut Cluster, env: &mut Environment) -> CloudResult<()> {
        let m = Self::find(id, cluster)?;
        match cluster.machines[m].state {
            InstanceState::Pending | InstanceState::Running => Ok(()),
            InstanceState::Stopped => {
                let faults = env.plan.faults;
                if env.draw_fault(faults.no_capacity) {
                    return Err(CloudError::NoCapacity("none".into()));
                }
                if env.draw_fault(faults.throttled) {
                    return Err(CloudError::Throttled);
                }
                cluster.restart(m, env);
                Ok(())
            }
            state => Err(CloudError::Conflict(format!("{state:?}"))),
        }
    }

    fn terminate(id: &InstanceId, cause: Cause, cluster: &mut Cluster, env: &mut Environment) -> CloudResult<()> {
        let m = Self::find(id, cluster)?;
        let throttled = env.plan.faults.throttled;
        if env.draw_fault(throttled) {
            return Err(CloudError::Throttled);
        }
        let is_outdated = cluster.machines[m].is_outdated(env.now, env.plan.upgrade);
        let is_replaced = is_outdated && [Cause::Outdated, Cause::Unobserved].contains(&cause);
        cluster.terminate(m, is_replaced, env);
        Ok(())
    }
}
