//! Runs the policies on one trace.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use crate::{
    cli::simulate::parameters,
    settings::{Layers, Settings},
    simulator::{ControllerKind, Report, Trace, simulate},
};

/// The policies that others are compared with.
pub const BASELINES: [&str; 4] = ["one-per-job", ControllerKind::COOLDOWN_LOOP, "deadline", "backlog"];

/// A trace and its seed.
pub struct Case {
    pub trace: String,
    pub seed: u64,
}

/// What all cases share.
pub struct With {
    pub config: Option<PathBuf>,
    pub env: HashMap<String, String>,
    pub judged: Option<String>,
    pub wait_prices: Vec<f64>,
    pub target_waits: Vec<Duration>,
}

/// The runs on one trace.
pub struct Outcomes {
    /// Of each of [`BASELINES`].
    pub baselines: Vec<Report>,
    /// For each price of waiting, the run of the judged policy, if there is one.
    pub priced: Vec<(f64, Option<Report>)>,
    /// For each p99 of waiting to hold, in seconds, the same.
    pub targets: Vec<(f64, Option<Report>)>,
}

/// Runs every policy on a trace.
pub fn outcomes(case: &Case, with: &With) -> anyhow::Result<Outcomes> {
    let baselines = BASELINES.iter().map(|policy| one(case, with, policy, None)).collect::<anyhow::Result<_>>()?;
    let judged = |key: &'static str, value: String| {
        let run = |policy: &String| one(case, with, policy, Some((key, value)));
        with.judged.as_ref().map(run).transpose()
    };
    let priced = |price: &f64| Ok((*price, judged("fleet.wait_price", price.to_string())?));
    let target = |wait: &Duration| {
        Ok((wait.as_secs_f64(), judged("fleet.target_wait", humantime::format_duration(*wait).to_string())?))
    };
    Ok(Outcomes {
        baselines,
        priced: with.wait_prices.iter().map(priced).collect::<anyhow::Result<_>>()?,
        targets: with.target_waits.iter().map(target).collect::<anyhow::Result<_>>()?,
    })
}

fn one(case: &Case, with: &With, policy: &str, goal: Option<(&str, String)>) -> anyhow::Result<Report> {
    let mut env = with.env.clone();
    let mut kind = ControllerKind::Fleet;
    if policy == ControllerKind::COOLDOWN_LOOP {
        kind = ControllerKind::CooldownLoop;
    } else {
        env.insert("ROLLCALL__FLEET__POLICY".into(), policy.into());
    }
    // A policy with fixed thresholds has no goal; the settings have one as soon as a policy takes it.
    if let Some((key, value)) = goal.filter(|(key, _)| Layers::knows(key)) {
        env.insert(format!("ROLLCALL__{}", key.replace('.', "__").to_uppercase()), value);
    }
    let settings = Settings::for_simulation(&Layers::load(with.config.as_deref(), env)?)?;
    let parameters = parameters(&settings);
    let trace = Trace::named(&case.trace, parameters.cloud.service, case.seed)?;
    Ok(simulate(&parameters, kind, &trace, case.seed).report.with_least_cost(&parameters, &trace))
}
