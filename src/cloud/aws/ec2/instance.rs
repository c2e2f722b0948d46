//! An EC2 instance as the port describes it.

use std::time::Duration;

use aws_sdk_ec2::types::{Instance as Ec2Instance, InstanceLifecycleType, InstanceStateName};

use super::{
    super::tags::{HEARTBEAT_TAG, READY_TAG, TOKEN_TAG},
    version::Version,
};
use crate::cloud::{Instance, InstanceId, InstanceState};

/// The times that a worker may state between its heartbeats: those that the setting allows. A worker tags itself, so
/// the value is not trusted.
const HEARTBEATS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(600)];

/// Returns the time between the heartbeats of an instance's worker; `None` if it sends none.
pub(super) fn heartbeat(instance: &Ec2Instance) -> Option<Duration> {
    let tag = instance.tags().iter().find(|tag| tag.key() == Some(HEARTBEAT_TAG))?;
    let every = Duration::from_millis(tag.value()?.parse().ok()?);
    (!every.is_zero()).then(|| every.clamp(HEARTBEATS[0], HEARTBEATS[1]))
}

/// The codes of state reasons by which EC2 says that it cannot run an instance where it was launched ("StateReason").
/// Interruptions of spot instances have others.
const FAULTS: [&str; 2] = ["Server.InternalError", "Server.InsufficientInstanceCapacity"];
/// The code by which EC2 says that it could not launch an instance, mostly because the key of its disk may not be used. A
/// service-linked role of its own launches spot instances, so on-demand ones may well have that right.
const NOT_LAUNCHED: &str = "Client.InternalError";

/// Returns whether an instance has ended because of the pool that it was launched in; `None` if it has not ended.
pub(super) fn ended_by_pool(instance: &Ec2Instance) -> Option<bool> {
    match instance.state()?.name()? {
        InstanceStateName::ShuttingDown | InstanceStateName::Terminated => {
            Some(reason_code(instance).is_some_and(|code| FAULTS.contains(&code)) || is_spot_not_launched(instance))
        }
        _ => None,
    }
}

fn reason_code(instance: &Ec2Instance) -> Option<&str> {
    instance.state_reason()?.code()
}

fn is_spot_not_launched(instance: &Ec2Instance) -> bool {
    instance.instance_lifecycle() == Some(&InstanceLifecycleType::Spot) && reason_code(instance) == Some(NOT_LAUNCHED)
}

/// Converts an instance; `None` if EC2 reports no id or an unknown state.
///
/// `current` is what a launch would use, and `announced` since when its worker has been ready, in seconds since the Unix
/// epoch, if it has said so. An instance that EC2 reports as running is pending until its worker has tagged it
/// as ready, or has said that it is. A start counts as a launch: what is older than the latest launch does not count.
pub(super) fn convert(instance: Ec2Instance, current: &Version, announced: Option<i64>) -> Option<Instance> {
    let tag = |key: &str| instance.tags().iter().find(|t| t.key() == Some(key)).and_then(|t| t.value());
    let reason = instance.state_reason().and_then(|r| r.message()).or(instance.state_transition_reason());
    let launched = instance.launch_time().map_or(0, |time| time.secs());
    let tagged: Option<i64> = tag(READY_TAG).and_then(|at| at.parse().ok());
    let ready = tagged.max(announced).is_some_and(|at| at >= launched);
    let state = match state(instance.state()?.name()?)? {
        InstanceState::Running if !ready => InstanceState::Pending,
        state => state,
    };
    // EC2's codes of what EC2 itself has ended: `Server.SpotInstanceTermination`, `Server.InsufficientInstanceCapacity`.
    let by_ec2 =
        reason_code(&instance).is_some_and(|code| code.starts_with("Server.")) || is_spot_not_launched(&instance);
    Some(Instance {
        state,
        name: tag("Name").unwrap_or_default().to_owned(),
        token: tag(TOKEN_TAG).or(instance.client_token()).unwrap_or_default().to_owned(),
        pid: None,
        reason: reason.filter(|r| !r.is_empty()).map(str::to_owned),
        unresponsive: false, // EC2 does not know the worker: see `heartbeats.rs`
        outdated: current.is_outdated(&instance),
        came_up: (ready || (!by_ec2 && state != InstanceState::Pending)).then_some(ready),
        id: InstanceId(instance.instance_id.clone()?),
    })
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

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::{
        primitives::DateTime,
        types::{InstanceState as Ec2State, StateReason, Tag, builders::InstanceBuilder},
    };

    use super::*;

    fn convert(instance: Ec2Instance) -> Option<Instance> {
        super::convert(instance, &Version::default(), None)
    }

    fn ec2(state: InstanceStateName) -> InstanceBuilder {
        let state = Ec2State::builder().name(state).build();
        Ec2Instance::builder().instance_id("i-1").state(state).launch_time(DateTime::from_secs(1_000))
    }

    fn tagged(instance: InstanceBuilder, key: &str, value: &str) -> InstanceBuilder {
        instance.tags(Tag::builder().key(key).value(value).build())
    }

    #[test]
    fn an_instance_is_running_once_tagged_ready_at_or_after_its_launch() {
        let state = |ready: Option<&str>| {
            let running = ec2(InstanceStateName::Running);
            let running = match ready {
                Some(at) => tagged(running, READY_TAG, at),
                None => running,
            };
            convert(running.build()).unwrap().state
        };
        assert_eq!(state(None), InstanceState::Pending);
        assert_eq!(state(Some("999")), InstanceState::Pending, "before a stop and start");
        assert_eq!(state(Some("1000")), InstanceState::Running, "within the same second");
        assert_eq!(state(Some("1001")), InstanceState::Running);
        assert_eq!(state(Some("soon")), InstanceState::Pending);
    }

    #[test]
    fn the_time_between_heartbeats_is_within_limits() {
        let every = |value: Option<&str>| {
            let running = ec2(InstanceStateName::Running);
            heartbeat(&value.map_or(running.clone(), |value| tagged(running, HEARTBEAT_TAG, value)).build())
        };
        assert_eq!([None, Some("0"), Some("soon"), Some("-1")].map(every), [None; 4]);
        for (value, seconds) in [("30000", 30), ("1", 1), ("18446744073709551615", 600)] {
            assert_eq!(every(Some(value)), Some(Duration::from_secs(seconds)), "{value}");
        }
    }

    #[test]
    fn only_a_running_instance_depends_on_its_ready_tag() {
        use InstanceStateName as Ec2;
        for (name, expected) in [
            (Ec2::Pending, Some(InstanceState::Pending)),
            (Ec2::Stopping, Some(InstanceState::Stopping)),
            (Ec2::Stopped, Some(InstanceState::Stopped)),
            (Ec2::ShuttingDown, Some(InstanceState::ShuttingDown)),
            (Ec2::Terminated, Some(InstanceState::Terminated)),
            (Ec2::from("novel"), None),
        ] {
            assert_eq!(convert(ec2(name.clone()).build()).map(|i| i.state), expected, "{name:?}");
            assert_eq!(
                convert(tagged(ec2(name.clone()), READY_TAG, "2000").build()).map(|i| i.state),
                expected,
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_boot_has_failed_if_it_ended_without_a_tag_and_not_because_of_ec2() {
        let came_up = |state: InstanceStateName, ready: Option<&str>, code: &str| {
            let reason = StateReason::builder().code(code).message(code).build();
            let instance = ec2(state).state_reason(reason);
            let instance = ready.map_or(instance.clone(), |at| tagged(instance, READY_TAG, at));
            convert(instance.build()).unwrap().came_up
        };
        use InstanceStateName as Ec2;
        for ended in [Ec2::Stopping, Ec2::Stopped, Ec2::ShuttingDown, Ec2::Terminated] {
            for code in ["Client.InstanceInitiatedShutdown", "Client.InternalError", ""] {
                assert_eq!(came_up(ended.clone(), None, code), Some(false), "{ended:?}, {code}");
                assert_eq!(came_up(ended.clone(), Some("999"), code), Some(false), "of the boot before");
                assert_eq!(came_up(ended.clone(), Some("1000"), code), Some(true), "{ended:?}, {code}");
            }
            for code in ["Server.SpotInstanceTermination", "Server.InsufficientInstanceCapacity"] {
                assert_eq!(came_up(ended.clone(), None, code), None, "{ended:?}, {code}");
                assert_eq!(came_up(ended.clone(), Some("1000"), code), Some(true), "{ended:?}, {code}");
            }
        }
        assert_eq!(
            [Ec2::Pending, Ec2::Running].map(|state| came_up(state, None, "")),
            [None, None],
            "it may become ready"
        );
        assert_eq!(came_up(Ec2::Running, Some("1000"), ""), Some(true));
    }

    #[test]
    fn an_instance_that_is_not_tagged_is_running_once_it_says_that_it_is_ready() {
        let state = |announced, tag: Option<&str>| {
            let running = ec2(InstanceStateName::Running);
            let running = if let Some(at) = tag { tagged(running, READY_TAG, at) } else { running };
            super::convert(running.build(), &Version::default(), announced).unwrap().state
        };
        assert_eq!(state(None, None), InstanceState::Pending);
        assert_eq!(state(Some(999), None), InstanceState::Pending, "of the boot before");
        assert_eq!(state(Some(1_000), Some("900")), InstanceState::Running);
        assert_eq!(state(Some(999), Some("1000")), InstanceState::Running);
    }

    #[test]
    fn a_fault_of_ec2_is_told_from_other_ends() {
        let by_fault = |state: InstanceStateName, code: &str| {
            ended_by_pool(&ec2(state).state_reason(StateReason::builder().code(code).build()).build())
        };
        use InstanceStateName as Ec2;
        for code in ["Server.InternalError", "Server.InsufficientInstanceCapacity"] {
            assert_eq!([Ec2::ShuttingDown, Ec2::Terminated].map(|state| by_fault(state, code)), [Some(true); 2]);
            assert_eq!([Ec2::Pending, Ec2::Running, Ec2::Stopped].map(|state| by_fault(state, code)), [None; 3]);
        }
        for code in ["Server.SpotInstanceTermination", "Client.UserInitiatedShutdown", "Client.InternalError", ""] {
            assert_eq!(by_fault(Ec2::Terminated, code), Some(false), "{code}");
        }
    }

    #[test]
    fn a_spot_instance_that_could_not_be_launched_is_the_fault_of_its_pool_and_no_failed_boot() {
        let reason = StateReason::builder().code("Client.InternalError").build();
        let ended = ec2(InstanceStateName::Terminated).state_reason(reason);
        let spot = ended.clone().instance_lifecycle(InstanceLifecycleType::Spot).build();
        let on_demand = ended.build();
        assert_eq!([&spot, &on_demand].map(ended_by_pool), [Some(true), Some(false)]);
        let came_up = [spot, on_demand].map(|instance| convert(instance).unwrap().came_up);
        assert_eq!(came_up, [None, Some(false)], "other pools of on-demand instances have the same key");
    }

    #[test]
    fn names_tokens_and_reasons_come_from_tags_and_state() {
        let instance = tagged(tagged(ec2(InstanceStateName::Terminated), "Name", "worker-7"), TOKEN_TAG, "t");
        let reason = StateReason::builder().message("spot interruption").build();
        let converted = convert(instance.client_token("c").state_reason(reason).build()).unwrap();
        assert_eq!((converted.name.as_str(), converted.token.as_str()), ("worker-7", "t"));
        assert_eq!(converted.reason.as_deref(), Some("spot interruption"));
        let plain = convert(ec2(InstanceStateName::Running).client_token("c").state_transition_reason("").build());
        let plain = plain.unwrap();
        assert_eq!((plain.name.as_str(), plain.token.as_str(), plain.reason), ("", "c", None));
    }
}
