//! The search: a grid, then steps from the frontier that become smaller.

use std::collections::BTreeSet;

use super::{
    candidate::Candidate,
    frontier::{Goal, frontier},
    trial::{Cloud, Trial},
};
use crate::{cli::parallel, settings::SettingsError};

/// Share of the trials that the grid may take, in percent; the rest refines.
const GRID: usize = 60;
/// By how much a threshold differs from its neighbours, in each round.
const STEPS: [f64; 4] = [1.6, 1.3, 1.15, 1.07];
/// Number of the best trials, besides the frontier, whose neighbours are tried in each round.
const NEAR_GOAL: usize = 8;
/// Number of the best trials that are simulated again with other boots, and with how many seeds.
const FINALISTS: usize = 6;
const FINAL_SEEDS: u64 = 3;

/// What a search has found.
pub struct Found {
    /// Every configuration that was simulated, the present one first.
    pub trials: Vec<Trial>,
    /// Number of configurations that are not allowed.
    pub rejected: usize,
    /// The one that the goal picks.
    pub chosen: Trial,
}

/// Simulates about `tries` configurations, all with the same jobs and the same random numbers, so that they differ by
/// nothing but their thresholds. Calls `done` after each.
///
/// # Errors
/// The present configuration is not allowed.
pub fn search(
    cloud: &Cloud<'_>,
    present: &Trial,
    goal: Goal,
    tries: usize,
    threads: usize,
    done: &(dyn Fn() + Sync),
) -> Result<Found, SettingsError> {
    let mut found = Found { trials: vec![present.clone()], rejected: 0, chosen: present.clone() };
    let mut tried: Vec<(Candidate, Trial)> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut simulate = |candidates: Vec<Candidate>, found: &mut Found, tried: &mut Vec<(Candidate, Trial)>| {
        let new: Vec<Candidate> = candidates.into_iter().filter(|candidate| seen.insert(candidate.keys())).collect();
        let left = tries.saturating_sub(found.trials.len() + found.rejected);
        let new = &new[..new.len().min(left)];
        let trials = parallel::map(new, threads, |candidate| {
            let trial = cloud.trial(candidate.keys());
            done();
            trial
        });
        found.rejected += trials.iter().filter(|trial| trial.is_err()).count();
        tried.extend(new.iter().cloned().zip(trials).filter_map(|(candidate, trial)| Some((candidate, trial.ok()?))));
        found.trials.truncate(1);
        found.trials.extend(tried.iter().map(|(_, trial)| trial.clone()));
        new.len()
    };
    simulate(thinned(Candidate::grid(), tries * GRID / 100), &mut found, &mut tried);
    for factor in STEPS.into_iter().cycle().take(3 * STEPS.len()) {
        let frontier = frontier(&found.trials);
        tried.sort_by(|a, b| goal.score(&a.1).total_cmp(&goal.score(&b.1)));
        let best = tried.iter().take(NEAR_GOAL).chain(tried.iter().filter(|(_, trial)| frontier.contains(trial)));
        let next = best.flat_map(|(candidate, _)| candidate.neighbours(factor)).collect();
        simulate(next, &mut found, &mut tried);
    }
    found.chosen = choose(cloud, &found.trials, goal, threads)?;
    Ok(found)
}

/// Returns `most` of the candidates, evenly.
fn thinned(candidates: Vec<Candidate>, most: usize) -> Vec<Candidate> {
    let count = candidates.len();
    let kept = |n: &usize| most >= count || n * most / count != (n + 1) * most / count;
    candidates.into_iter().enumerate().filter(|(n, _)| kept(n)).map(|(_, candidate)| candidate).collect()
}

/// Returns the best trial under other boots too: the best of many under one seed owes a part of its rank to chance. The
/// present configuration remains unless another is better.
fn choose(cloud: &Cloud<'_>, trials: &[Trial], goal: Goal, threads: usize) -> Result<Trial, SettingsError> {
    let mut order: Vec<&Trial> = trials.iter().collect();
    order.sort_by(|a, b| goal.score(a).total_cmp(&goal.score(b)));
    let mut finalists: Vec<&Trial> = order.into_iter().take(FINALISTS).collect();
    finalists.extend(trials.first().filter(|present| !finalists.contains(present)));
    let runs: Vec<(usize, u64)> = (0..finalists.len())
        .flat_map(|n| (1..FINAL_SEEDS).map(move |more| (n, cloud.seed.wrapping_add(more))))
        .collect();
    let scores = parallel::map(&runs, threads, |(n, seed)| -> Result<f64, SettingsError> {
        let again = Cloud { config: cloud.config, env: cloud.env, trace: cloud.trace, seed: *seed };
        Ok(goal.score(&again.trial(finalists[*n].settings.clone())?))
    });
    let mut total: Vec<f64> = finalists.iter().map(|trial| goal.score(trial)).collect();
    for ((n, _), score) in runs.iter().zip(scores) {
        total[*n] += score?;
    }
    let best = (0..finalists.len()).min_by(|a, b| total[*a].total_cmp(&total[*b]));
    Ok(finalists[best.unwrap_or(0)].clone())
}
