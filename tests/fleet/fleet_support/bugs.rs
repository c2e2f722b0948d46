//! Bugs injected between the core and its world. The checks of the invariants must catch each of them.

use std::time::Duration;

use rollcall::{
    cloud::InstanceState,
    fleet::{Action, Event, FleetRules, Timestamp},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    None,
    /// Launched instances do not count until they run.
    IntentsNotCounted,
    /// Each launch goes out twice, under two tokens.
    LaunchesDoubled,
    /// A launch that is retried has a new token.
    TokensChange,
    /// Running instances look stopped.
    RunningLooksStopped,
    /// The core believes that the cloud shows everything at once.
    NoDescribeLag,
    /// The core is not woken when it has requested it.
    NoTicks,
    /// The core is woken a second late.
    LateTicks,
    /// Starts never reach the cloud.
    StartsDropped,
    /// Each read goes out twice.
    ReadsDoubled,
    /// The outcome of boots is not shown.
    FailuresHidden,
    /// Running instances look as if they were booting.
    RunningLooksPending,
}

impl Bug {
    /// Each bug, and what the check says that is there to catch it.
    pub const ALL: [(Self, &str); 11] = [
        (Self::IntentsNotCounted, "and the controller counts"),
        (Self::LaunchesDoubled, "may come, with a cap of"),
        (Self::TokensChange, "may come, with a cap of"),
        (Self::RunningLooksStopped, "was terminated at work"),
        (Self::NoDescribeLag, "may come, with a cap of"),
        (Self::NoTicks, "it never ends"),
        (Self::LateTicks, "without having asked to be woken"),
        (Self::StartsDropped, "it never ends"),
        (Self::ReadsDoubled, "is called too often"),
        (Self::FailuresHidden, "although none succeeds"),
        (Self::RunningLooksPending, "although an instance is up"),
    ];

    pub fn rules(self, rules: &FleetRules) -> FleetRules {
        let mut rules = rules.clone();
        if self == Self::NoDescribeLag {
            rules.describe_lag = Duration::ZERO;
        }
        rules
    }

    pub fn event(self, event: Event) -> Event {
        match (self, event) {
            (Self::IntentsNotCounted, Event::Launched { token, result: Ok(_) }) => {
                Event::Launched { token, result: Ok(Vec::new()) }
            }
            (Self::IntentsNotCounted, Event::Described { generation, result: Ok(mut instances) }) => {
                instances.retain(|i| i.state != InstanceState::Pending);
                Event::Described { generation, result: Ok(instances) }
            }
            (Self::RunningLooksStopped, Event::Described { generation, result: Ok(mut instances) }) => {
                for instance in &mut instances {
                    if instance.state == InstanceState::Running {
                        instance.state = InstanceState::Stopped;
                    }
                }
                Event::Described { generation, result: Ok(instances) }
            }
            (Self::FailuresHidden, Event::Described { generation, result: Ok(mut instances) }) => {
                instances.iter_mut().for_each(|instance| instance.came_up = None);
                Event::Described { generation, result: Ok(instances) }
            }
            (Self::RunningLooksPending, Event::Described { generation, result: Ok(mut instances) }) => {
                for instance in instances.iter_mut().filter(|i| i.state == InstanceState::Running) {
                    (instance.state, instance.came_up) = (InstanceState::Pending, None);
                }
                Event::Described { generation, result: Ok(instances) }
            }
            (_, event) => event,
        }
    }

    pub fn wake_at(self, wake_at: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Self::NoTicks => None,
            Self::LateTicks => wake_at.map(|at| at + Duration::from_secs(1)),
            _ => wake_at,
        }
    }

    pub fn actions(self, actions: Vec<Action>, n: u32) -> Vec<Action> {
        let change = |action| match (self, action) {
            (Self::LaunchesDoubled, Action::Launch { token, count }) => {
                vec![Action::Launch { token: format!("{token}-again"), count }, Action::Launch { token, count }]
            }
            (Self::TokensChange, Action::Launch { token, count }) => {
                vec![Action::Launch { token: format!("{token}-{n}"), count }]
            }
            (Self::StartsDropped, Action::Start { .. }) => Vec::new(),
            (Self::ReadsDoubled, read @ (Action::ReadDepth | Action::Describe { .. })) => vec![read.clone(), read],
            (_, action) => vec![action],
        };
        actions.into_iter().flat_map(change).collect()
    }
}
