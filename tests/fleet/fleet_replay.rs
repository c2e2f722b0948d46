//! The record of a run, taken through the core again, gives the same decisions; by another policy it keeps within the cap.

use crate::fleet_support::{bugs::Bug, plan::Plan, world::World};
use rollcall::{
    fleet::{
        event_log::{EventEncoder, replay},
        explain::{Decision, Kind},
    },
    settings::Policy,
};

/// A generated history's last life, as it is recorded, and what was decided in it.
fn recorded(seed: u64) -> (String, Vec<Decision>) {
    let mut world = World::new(Plan::new(seed), Bug::None).keeping();
    world.run().expect("its promises are kept");
    let core = world.core().expect("a controller");
    let mut recorder = EventEncoder::default();
    let mut text = EventEncoder::epoch(core.epoch(), core.rules());
    text.extend(world.heard.iter().map(|(at, event)| recorder.event(*at, event)));
    (text, core.decisions().iter().map(|d| (**d).clone()).collect())
}

#[test]
fn the_same_policy_decides_the_same() {
    let mut decisions = 0;
    for seed in 0..300 {
        let (record, decided) = recorded(seed);
        let lives = replay(record.lines(), None).expect("a record");
        let again: Vec<Decision> = lives[0].decisions.iter().map(|d| (**d).clone()).collect();
        assert_eq!(again, decided, "history {seed}");
        decisions += decided.len();
    }
    assert!(decisions > 1000, "{decisions} decisions are no test");
}

#[test]
fn another_policy_decides_otherwise_within_the_cap() {
    let mut otherwise = 0;
    for seed in 0..300 {
        let (record, decided) = recorded(seed);
        let cap = Plan::new(seed).rules.max_instances;
        for (_, policy) in Policy::ALL {
            let lives = replay(record.lines(), Some(policy)).expect("a record");
            assert_eq!(lives[0].policy, policy);
            for decision in &lives[0].decisions {
                assert!(decision.inputs.target <= cap && decision.inputs.policy == policy);
                assert!(decision.kind != Kind::Launch || decision.count <= cap, "{decision:?}");
            }
            otherwise += usize::from(lives[0].decisions.len() != decided.len());
        }
    }
    assert!(otherwise > 0, "all policies are alike");
}

#[test]
fn what_is_no_record_is_refused_with_its_line() {
    let (record, decided) = recorded(1);
    let cut = &record[..record.len() - 3];
    assert!(replay(cut.lines(), None).is_ok_and(|lives| lives.len() == 1), "a cut-off end is left out");
    let twice = format!("{cut}\n{record}");
    let lives = replay(twice.lines(), None).expect("two lives");
    assert_eq!(lives[1].decisions.len(), decided.len());
    let damaged = record.replacen("\"event\"", "\"evnt\"", 1);
    assert!(replay(damaged.lines(), None).expect_err("damaged").to_string().starts_with("line 2 "));
    let headless = record.split_once('\n').expect("lines").1;
    assert!(
        replay(headless.lines(), None)
            .is_err_and(|e| e.to_string().contains("line 1") || e.to_string().contains("1 comes before"))
    );
}
