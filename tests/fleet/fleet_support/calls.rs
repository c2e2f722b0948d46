//! Calls of the controller under way, some of which are lost.

use std::collections::BTreeMap;

use rollcall::{
    cloud::CloudError,
    fleet::{Action, Event},
};

use super::{
    cloud::Cloud,
    cluster::Cluster,
    environment::{Environment, WorldEvent},
};

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loss {
    /// It is carried out nevertheless.
    applied: bool,
    /// The controller learns that there is no answer.
    noticed: bool,
}

struct Call {
    epoch: u64,
    action: Action,
    /// Its time has come: it is carried out, or never will be.
    applied: bool,
    loss: Option<Loss>,
    answer: Option<Event>,
}

#[derive(Default)]
pub struct Calls {
    calls: Vec<Call>,
    /// Instances that launches under way may still create: by token, the epoch and the number.
    may_come: BTreeMap<String, (u64, usize)>,
}

impl Calls {
    /// Returns the number of instances that launches under way, of `epoch` or of all epochs, may still create.
    pub fn may_come(&self, epoch: Option<u64>) -> usize {
        self.may_come.values().filter(|(of, _)| epoch.is_none_or(|e| e == *of)).map(|(_, count)| count).sum()
    }

    pub fn make(&mut self, epoch: u64, action: Action, cloud: &Cloud, env: &mut Environment) {
        if let Action::Launch { token, count } = &action
            && !cloud.knows(token)
        {
            self.may_come.insert(token.clone(), (epoch, *count));
        }
        let loss = env
            .draw_fault(env.plan.faults.lost)
            .then(|| Loss { applied: env.rng.percent(50), noticed: !env.rng.percent(env.plan.faults.unanswered) });
        match loss {
            Some(Loss { noticed: false, .. }) => env.count("no answer"),
            Some(Loss { applied: true, .. }) => env.count("answer lost"),
            Some(_) => env.count("call lost"),
            None => {}
        }
        let call = self.calls.len();
        self.calls.push(Call { epoch, action, applied: false, loss, answer: None });
        let apply = env.rng.below(env.plan.call_delay + 1);
        // The controller may learn of a lost answer before the call is carried out.
        let answer = if loss.is_some() { env.rng.below(env.plan.call_delay + 1) } else { apply };
        env.schedule(apply, WorldEvent::Apply { call });
        env.schedule(answer, WorldEvent::Respond { call });
    }

    pub fn apply(&mut self, call: usize, cloud: &mut Cloud, cluster: &mut Cluster, env: &mut Environment) {
        self.calls[call].applied = true;
        let (action, loss) = (self.calls[call].action.clone(), self.calls[call].loss);
        let carried_out = loss.is_none_or(|loss| loss.applied);
        if carried_out {
            let answer = cloud.carry_out(&action, cluster, env);
            self.calls[call].answer = Some(answer);
        }
        if let Action::Launch { token, .. } = &action {
            let pending = |c: &Call| matches!(&c.action, Action::Launch { token: t, .. } if t == token) && !c.applied;
            if cloud.knows(token) || !self.calls.iter().any(pending) {
                self.may_come.remove(token);
            }
        }
    }

    /// Returns what the controller of `epoch` learns of its call.
    pub fn answer(&mut self, call: usize, epoch: u64) -> Option<Event> {
        let call = &mut self.calls[call];
        if call.epoch != epoch {
            return None;
        }
        match call.loss {
            None => call.answer.take(),
            Some(Loss { noticed: false, .. }) => None,
            Some(_) => Some(lost(&call.action)),
        }
    }
}

/// Returns the event of a call that got no answer.
fn lost(action: &Action) -> Event {
    let gone = || CloudError::Unavailable("no answer".into());
    match action.clone() {
        Action::ReadDepth => Event::Depth(Err(gone())),
        Action::Describe { generation } => Event::Described { generation, result: Err(gone()) },
        Action::Launch { token, .. } => Event::Launched { token, result: Err(gone()) },
        Action::Start { ids } => Event::Started { results: ids.into_iter().map(|id| (id, Err(gone()))).collect() },
        Action::Terminate { ids, .. } => {
            Event::Terminated { results: ids.into_iter().map(|id| (id, Err(gone()))).collect() }
        }
    }
}
