//! Simulates one configuration.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use serde::Serialize;

use crate::{
    cli::simulate::parameters,
    settings::{Layers, Settings, SettingsError},
    simulator::{ControllerKind, Parameters, Run, Trace, simulate},
};

/// What all trials share.
pub struct Cloud<'a> {
    /// The present configuration.
    pub config: Option<&'a Path>,
    pub env: &'a HashMap<String, String>,
    pub trace: &'a Trace,
    pub seed: u64,
}

/// A configuration and how it did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// Its settings that differ from the present ones, as in a settings file; none for the present configuration.
    pub settings: BTreeMap<String, String>,
    pub cost: f64,
    /// The p99 of waiting, in seconds.
    pub p99_s: f64,
    /// Waiting of all jobs, in hours.
    pub waiting_hours: f64,
    /// Whether every request was answered.
    pub answered: bool,
}

impl Cloud<'_> {
    /// Simulates the present configuration.
    ///
    /// # Errors
    /// It is not valid.
    pub fn present(&self) -> Result<Trial, SettingsError> {
        self.trial(BTreeMap::new())
    }

    /// Simulates a configuration.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn trial(&self, settings: BTreeMap<String, String>) -> Result<Trial, SettingsError> {
        let report = self.run(&settings, self.seed)?.report;
        Ok(Trial {
            settings,
            cost: report.cost,
            p99_s: report.wait_s.p99,
            waiting_hours: report.waiting_hours,
            answered: report.completed == report.requests,
        })
    }

    /// Simulates a configuration with the random numbers of a seed.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn run(&self, settings: &BTreeMap<String, String>, seed: u64) -> Result<Run, SettingsError> {
        Ok(simulate(&self.parameters(settings)?, ControllerKind::Fleet, self.trace, seed))
    }

    fn parameters(&self, settings: &BTreeMap<String, String>) -> Result<Parameters, SettingsError> {
        let mut env = self.env.clone();
        let text = |value: &String| value.trim_matches('"').to_owned();
        env.extend(settings.iter().map(|(key, value)| (variable(key), text(value))));
        Ok(parameters(&Settings::for_simulation(&Layers::load(self.config, env)?)?))
    }
}

fn variable(key: &str) -> String {
    format!("ROLLCALL__{}", key.replace('.', "__").to_uppercase())
}
