//! The result as text.

use std::fmt::Write as _;

use super::{frontier::Goal, trial::Trial, tuned::Tuned};

/// Most points of the frontier that are printed.
const MAX_LINES: usize = 20;

/// Returns the frontier, the present configuration's place on it, and what the chosen one saves.
pub fn text(tuned: &Tuned) -> String {
    // Writing to a String cannot fail.
    let mut out = format!(
        "{}: {} requests, {} configurations tried, {} not allowed\n\n    cost $  wait p99 s  hours waited\n",
        tuned.trace, tuned.requests, tuned.tried, tuned.rejected
    );
    let mut points: Vec<&Trial> = shown(tuned);
    points.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    for trial in points {
        let mark = match trial {
            _ if *trial == tuned.chosen => '>',
            _ if *trial == tuned.present => '*',
            _ => ' ',
        };
        let _ = writeln!(
            out,
            "{mark} {:>8.4}  {:>10.2}  {:>12.2}  {}",
            trial.cost,
            trial.p99_s,
            trial.waiting_hours,
            name(trial)
        );
    }
    let _ = write!(out, "\n* the present configuration\n> {}", saving(tuned));
    out
}

/// Returns the points of the frontier, evenly if there are many, with the chosen and the present one.
pub fn shown(tuned: &Tuned) -> Vec<&Trial> {
    let step = tuned.frontier.len().div_ceil(MAX_LINES).max(1);
    let mut shown: Vec<&Trial> = tuned.frontier.iter().step_by(step).collect();
    for trial in [&tuned.chosen, &tuned.present] {
        if !shown.contains(&trial) {
            shown.push(trial);
        }
    }
    shown
}

/// Returns the settings of a trial on one line.
pub fn name(trial: &Trial) -> String {
    if trial.settings.is_empty() {
        return "the present configuration".to_owned();
    }
    let settings = trial.settings.iter().map(|(key, value)| format!("{key} = {value}"));
    settings.collect::<Vec<_>>().join(", ")
}

/// Returns what the chosen configuration is for and what it saves.
pub fn saving(tuned: &Tuned) -> String {
    let (present, chosen) = (&tuned.present, &tuned.chosen);
    let goal = match tuned.goal {
        Goal::WaitPrice(price) => format!("the least cost and waiting, at {price} $ per job-hour of waiting"),
        Goal::P99(p99) => format!("the least cost with a p99 of waiting of at most {p99} s"),
    };
    let percent = |new: f64, old: f64| if old > 0.0 { (new / old - 1.0) * 100.0 } else { 0.0 };
    format!(
        "Chosen for {goal}.\nOn {} with {} requests, simulated:\n  cost          {:.4} $ instead of {:.4} $ ({:+.1} %)\n  \
         wait p99      {:.2} s instead of {:.2} s\n  hours waited  {:.2} instead of {:.2}\n",
        tuned.trace,
        tuned.requests,
        chosen.cost,
        present.cost,
        percent(chosen.cost, present.cost),
        chosen.p99_s,
        present.p99_s,
        chosen.waiting_hours,
        present.waiting_hours,
    )
}
