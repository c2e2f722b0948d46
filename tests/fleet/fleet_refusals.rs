//! A cloud that refuses every launch and start: a fleet without an instance is then degraded, which is shown and changes no
//! decision.

use rollcall::{
    cloud::{CloudError, InstanceState},
    fleet::{FleetRules, explain::Kind},
};

use crate::fleet_support::script::{Script, rules};

use InstanceState::{Pending, Running, Stopped, Terminated};

fn none() -> CloudError {
    CloudError::NoCapacity("none in this region".into())
}

/// Refuses every launch and start that has not been answered, for so many seconds.
struct Refusing {
    script: Script,
    launches: usize,
    starts: usize,
}

impl Refusing {
    fn new(script: Script) -> Self {
        Self { script, launches: 0, starts: 0 }
    }

    fn run_for(&mut self, seconds: f64, error: &CloudError) {
        let end = self.script.now() + seconds;
        while self.script.now() < end {
            let tokens: Vec<String> =
                self.script.launches()[self.launches..].iter().map(|(_, token, _)| (*token).to_owned()).collect();
            let ids: Vec<String> = self.script.starts()[self.starts..]
                .iter()
                .flat_map(|(_, ids)| ids)
                .map(|id| (*id).to_owned())
                .collect();
            (self.launches, self.starts) = (self.script.launches().len(), self.script.starts().len());
            tokens.iter().for_each(|token| self.script.launched(token, Err(error.clone())));
            ids.iter().for_each(|id| self.script.started(id, Err(error.clone())));
            self.script.run_for(0.1);
        }
    }

    /// Waits for the next launch, and returns its token.
    fn next_launch(&mut self) -> String {
        let end = self.script.now() + 61.0;
        while self.script.launches().len() == self.launches {
            assert!(self.script.now() < end, "no launch within the longest pause");
            self.script.run_for(0.1);
        }
        self.script.launches()[self.launches].1.to_owned()
    }

    fn kinds(&self) -> Vec<Kind> {
        let kinds = self.script.core.decisions().iter().map(|decision| decision.kind);
        kinds.filter(|kind| matches!(kind, Kind::Degraded | Kind::Recovered)).collect()
    }
}

#[test]
fn a_fleet_that_gets_no_instance_is_degraded_from_five_refusals_on_until_one_is_accepted() {
    let mut script = Script::new(rules());
    script.jobs(3);
    let mut refusing = Refusing::new(script);
    refusing.run_for(7.0, &none());
    assert_eq!((refusing.launches, refusing.script.view().degraded), (4, None));
    refusing.run_for(600.0, &none());
    let degraded = refusing.script.view().degraded.expect("degraded");
    assert_eq!((degraded.failed_boots, degraded.refused), (0, refusing.launches), "{degraded:?}");
    assert!(degraded.reason.contains("none in this region"), "{degraded}");
    assert!(degraded.next_attempt_ms.is_some_and(|at| at <= 60_000), "{degraded:?}");
    assert!(refusing.launches <= 7 + 600 / 60, "the pauses double to a minute: {}", refusing.launches);
    assert_eq!(refusing.kinds(), [Kind::Degraded]);

    let token = refusing.next_launch();
    refusing.script.launched(&token, Ok(&["a", "b", "c"]));
    assert_eq!(refusing.script.view().degraded, None);
    assert_eq!(refusing.kinds(), [Kind::Degraded, Kind::Recovered]);
}

#[test]
fn starts_that_are_refused_count_as_launches_do() {
    let rules = FleetRules { max_instances: 1, ..rules() };
    let mut script = Script::with(rules, &[Stopped]);
    script.jobs(1);
    let mut refusing = Refusing::new(script);
    refusing.run_for(20.0, &none());
    assert_eq!(refusing.launches, 0, "the cap is reached");
    let degraded = refusing.script.view().degraded.expect("degraded");
    assert_eq!(degraded.refused, refusing.starts);
    refusing.run_for(60.0, &none());
    refusing.script.show("i-0", Running); // somebody has started it
    assert_eq!(refusing.script.view().degraded, None);
}

#[test]
fn a_fleet_with_an_instance_is_not_degraded_because_others_are_refused() {
    let mut script = Script::with(rules(), &[Running]);
    script.jobs(3);
    let mut refusing = Refusing::new(script);
    refusing.run_for(100.0, &none());
    assert_eq!(refusing.script.view().degraded, None);
    refusing.script.show("i-0", Terminated);
    refusing.run_for(1.0, &none());
    assert!(refusing.script.view().degraded.is_some(), "now there is none");
    let token = refusing.next_launch();
    refusing.script.launched(&token, Ok(&["new"]));
    refusing.script.show_launched("new", Pending, &token);
    assert_eq!(refusing.script.view().degraded, None);
}

#[test]
fn an_instance_of_a_launch_whose_answer_was_lost_ends_it_although_others_are_refused() {
    let mut script = Script::new(rules());
    script.jobs(3);
    let mut refusing = Refusing::new(script);
    refusing.run_for(100.0, &none());
    assert!(refusing.script.view().degraded.is_some());
    let token = refusing.next_launch();
    refusing.script.launched(&token, Err(CloudError::Unavailable("no answer".into())));
    refusing.script.show_launched("new", Running, &token);
    assert_eq!(refusing.script.view().degraded, None);
    assert_eq!(refusing.kinds(), [Kind::Degraded, Kind::Recovered]);
}

#[test]
fn a_fleet_that_needs_no_instance_is_not_degraded() {
    let mut script = Script::new(rules());
    script.jobs(3);
    let mut refusing = Refusing::new(script);
    refusing.run_for(100.0, &none());
    assert!(refusing.script.view().degraded.is_some());
    refusing.script.jobs(0);
    assert_eq!(refusing.script.view().degraded, None);
}

#[test]
fn a_quota_that_leaves_room_for_fewer_instances_is_no_refusal_and_one_that_leaves_none_is() {
    let mut script = Script::new(FleetRules { max_instances: 1_000, ..rules() });
    script.jobs(1_000);
    let quota = CloudError::Quota("4 instances".into());
    let mut refusing = Refusing::new(script);
    while refusing.script.launches().last().is_none_or(|(_, _, count)| *count > 4) {
        assert!(refusing.script.now() < 1_000.0, "it does not halve what it asks for");
        refusing.run_for(1.0, &quota);
    }
    assert!(refusing.launches > 5, "{}", refusing.launches);
    assert_eq!(refusing.script.view().degraded, None, "it halves what it asks for");
    refusing.run_for(600.0, &quota);
    let degraded = refusing.script.view().degraded.expect("degraded");
    assert!(degraded.reason.contains("quota reached: 4 instances"), "{degraded}");
}

#[test]
fn every_definite_error_is_a_refusal_and_what_may_have_been_applied_is_none() {
    let text = || String::from("x");
    for (error, counts) in [
        (CloudError::NoCapacity(text()), true),
        (CloudError::Denied(text()), true),
        (CloudError::Invalid(text()), true),
        (CloudError::Throttled, false),
        (CloudError::Unavailable(text()), false),
    ] {
        let mut script = Script::new(rules());
        script.jobs(1);
        let mut refusing = Refusing::new(script);
        refusing.run_for(100.0, &error);
        assert_eq!(refusing.script.view().degraded.is_some(), counts, "{error}");
    }
}
