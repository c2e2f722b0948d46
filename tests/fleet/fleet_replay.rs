//! A replay of an event log gives the same decisions, and a replay with another policy gives those of a core with that
//! policy.

use rollcall::{
    fleet::{
        FleetCore, FleetRules,
        event_log::{EventEncoder, Replayed, replay},
        explain::{Decision, Decisions, Kind},
    },
    settings::Policy,
};

use crate::fleet_support::{
    bugs::Bug,
    plan::Plan,
    world::{Recording, World},
};

/// Written by the first version that had an event log.
const OLD_LOG: &str = include_str!("fleet_support/old_event_log.jsonl");

const HISTORIES: u64 = 300;

fn recordings(seed: u64) -> Vec<Recording> {
    World::new(Plan::new(seed), Bug::None).record()
}

/// Returns the event log of a history's controllers, one epoch after the other.
fn event_log(recordings: &[Recording]) -> String {
    let mut text = String::new();
    for recording in recordings {
        let mut encoder = EventEncoder::default();
        text += &EventEncoder::epoch(recording.epoch, &recording.rules);
        text.extend(recording.events.iter().map(|(at, event)| encoder.event(*at, event)));
    }
    text
}

fn replayed(log: &str, policy: Option<Policy>) -> Vec<Replayed> {
    replay(log.lines(), policy).expect("an event log")
}

fn list(decisions: &Decisions) -> Vec<Decision> {
    decisions.iter().map(|d| (**d).clone()).collect()
}

/// Returns the decisions of a core with `policy` on the same events.
fn decided_by(policy: Policy, recording: &Recording) -> Vec<Decision> {
    decided(FleetRules { policy, ..recording.rules.clone() }, recording)
}

/// Returns the decisions of a core with these rules on the same events.
fn decided(rules: FleetRules, recording: &Recording) -> Vec<Decision> {
    let mut core = FleetCore::new(rules, recording.epoch);
    core.keep_all_decisions();
    for (at, event) in &recording.events {
        core.step(event.clone(), *at);
    }
    list(core.decisions())
}

#[test]
fn replaying_with_the_same_policy_repeats_the_decisions() {
    let mut decisions = 0;
    for seed in 0..HISTORIES {
        let recordings = recordings(seed);
        let epochs = replayed(&event_log(&recordings), None);
        assert_eq!(epochs.len(), recordings.len(), "history {seed}");
        for (epoch, recording) in epochs.iter().zip(&recordings) {
            let again: Vec<Decision> = epoch.decisions.iter().map(|d| (**d).clone()).collect();
            assert_eq!(again, list(recording.core.decisions()), "history {seed}");
            assert_eq!(epoch.policy, recording.rules.policy);
            assert_eq!(epoch.events, recording.events.len() as u64, "history {seed}");
            assert_eq!(u128::from(epoch.started_ms), recording.rules.started_at.as_millis());
            decisions += again.len();
        }
    }
    assert!(decisions > 1000, "{decisions} decisions are no test");
}

#[test]
fn replaying_with_another_policy_makes_the_decisions_of_that_policy() {
    let mut otherwise = 0;
    for seed in 0..HISTORIES {
        let recordings = recordings(seed);
        let log = event_log(&recordings);
        for policy in [Policy::OnePerJob, Policy::Backlog, Policy::Deadline, Policy::Adaptive] {
            for (epoch, recording) in replayed(&log, Some(policy)).iter().zip(&recordings) {
                let again: Vec<Decision> = epoch.decisions.iter().map(|d| (**d).clone()).collect();
                assert_eq!(again, decided_by(policy, recording), "history {seed} by {policy:?}");
                assert_eq!(epoch.policy, policy);
                for decision in &again {
                    let cap = recording.rules.max_instances;
                    assert!(decision.inputs.target <= cap && decision.inputs.policy == policy);
                    assert!(decision.kind != Kind::Launch || decision.count <= cap, "{decision:?}");
                }
                let targets = |all: &[Decision]| all.iter().map(|d| d.inputs.target).collect::<Vec<_>>();
                otherwise += u64::from(targets(&again) != targets(&list(recording.core.decisions())));
            }
        }
    }
    assert!(otherwise > HISTORIES / 2, "policies differ in {otherwise} epochs only");
}

#[test]
fn with_a_target_a_replay_repeats_the_decisions_and_each_says_when_its_jobs_are_planned_to_begin() {
    let (mut requests, mut otherwise) = (0, 0);
    for seed in 0..HISTORIES {
        let recordings = recordings(seed);
        let Some(target) = recordings.first().and_then(|recording| recording.rules.target_wait) else { continue };
        for (epoch, recording) in replayed(&event_log(&recordings), None).iter().zip(&recordings) {
            let again: Vec<Decision> = epoch.decisions.iter().map(|d| (**d).clone()).collect();
            assert_eq!(again, list(recording.core.decisions()), "history {seed}");
            for decision in again.iter().filter(|decision| matches!(decision.kind, Kind::Launch | Kind::Start)) {
                let learned = decision.inputs.adaptive.expect("what was learned");
                let within = learned.within_s.expect("a target");
                let share = within / target.as_secs_f64();
                assert!((0.499..0.801).contains(&share), "history {seed}: {decision:?}");
                let reason = format!("; jobs are planned to begin within {within:.1} s; ");
                assert!(decision.reason.contains(&reason), "history {seed}: {decision:?}");
                let late = learned.late_share.expect("a target");
                assert!((0.0..=1.0).contains(&late) && learned.wait_value == 0.0, "history {seed}: {decision:?}");
                requests += 1;
            }
            let with_a_price = FleetRules { target_wait: None, ..recording.rules.clone() };
            let targets = |all: &[Decision]| all.iter().map(|d| d.inputs.target).collect::<Vec<_>>();
            let other = decided(with_a_price, recording);
            assert!(other.iter().all(|d| d.inputs.adaptive.is_some_and(|learned| learned.within_s.is_none())));
            otherwise += usize::from(targets(&other) != targets(&again));
        }
    }
    assert!(requests > 50 && otherwise > 10, "{requests} requests are no test, nor {otherwise} epochs that differ");
}

#[test]
fn event_logs_of_earlier_versions_replay() {
    let epochs = replayed(OLD_LOG, None);
    let found: Vec<String> = epochs
        .iter()
        .flat_map(|epoch| &epoch.decisions)
        .map(|d| format!("{} {:?} of {} {}", d.at_ms, d.kind, d.count, d.instances.join(" ")))
        .collect();
    let expected: Vec<&str> = include_str!("fleet_support/old_event_log.decisions").lines().collect();
    assert_eq!(found, expected);
    assert!(epochs.len() > 1 && expected.len() > 5);
    assert_eq!(epochs[0].policy, Policy::OnePerJob, "`report` is an alias");
}

#[test]
fn an_invalid_event_log_is_refused_with_the_line_number() {
    let recordings = recordings(1);
    let log = event_log(&recordings);
    let epochs = recordings.len();
    let problem = |text: &str| replay(text.lines(), None).expect_err("no event log").to_string();
    let cut = &log[..log.len() - 3];
    assert_eq!(replayed(cut, None).len(), epochs, "a cut-off end is left out");
    let twice = replayed(&format!("{cut}\n{log}"), None);
    assert_eq!(twice.len(), 2 * epochs);
    let last = twice.last().map(|epoch| epoch.decisions.len());
    assert_eq!(last, recordings.last().map(|recording| recording.core.decisions().len()));
    assert!(problem(&log.replacen("\"event\"", "\"evnt\"", 1)).starts_with("line 2 "));
    let headless = log.split_once('\n').expect("lines").1;
    assert!(problem(headless).starts_with("line 1 comes before"));
}
