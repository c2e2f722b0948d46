//! `rollcall aws verify`: checks a cluster that is up by using it, within a budget, and removes what the checks have made.
//!
//! The calls are in [`steps`], [`probes`] and [`clean`]; what is seen is judged by pure functions in the other modules.

mod api;
mod check;
mod clean;
mod cost;
mod earlier;
mod expected;
mod judge;
mod live;
mod photos;
mod probes;
mod roles;
mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};

use crate::{
    access::TokenStore,
    app,
    cli::{audit::CommandLog, server::CA},
    cloud::{
        ObjectStore,
        aws::deploy::{
            Account,
            facts::{InstanceFacts, StackFacts},
        },
    },
    job::JobId,
    settings::{CloudKind, Settings},
};
use api::Api;
use check::{Check, Report, Verdict};
use cost::Spend;

/// Interval at which instances are described, to know what they cost.
const WATCH: Duration = Duration::from_secs(1);
/// Longest time for the checks. What a run has made counts as left over some time after it ([`earlier`]).
const LONGEST: Duration = Duration::from_secs(100 * 60);
/// What the labels of the tokens begin with. The run follows.
const LABEL: &str = "rollcall aws verify ";

/// Arguments of `rollcall aws verify`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    /// Most that the checks may cost, in US dollars, at the prices of this configuration ([prices])
    #[arg(long, value_name = "DOLLARS", value_parser = dollars)]
    budget: f64,
    /// Address of the web node [default: that of the stack]. Required for several web nodes: the name in the certificate of their
    /// load balancer
    #[arg(long)]
    url: Option<String>,
    /// File of the authority, in PEM, that has signed the certificate of an https:// address; by default any that this
    /// machine trusts
    #[arg(long, env = CA, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Maximum time to wait for each step: the boot of a worker, its stop
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print the checks as JSON
    #[arg(long)]
    json: bool,
}

/// Parses an amount of money.
fn dollars(text: &str) -> Result<f64, String> {
    let amount = text.trim_start_matches('$').parse().ok().filter(|amount: &f64| amount.is_finite() && *amount >= 0.0);
    amount.ok_or_else(|| "must be an amount in dollars, such as 0.50".to_owned())
}

/// Runs the checks and prints them. The exit code is 1 if one has failed.
///
/// # Errors
/// The address of a load balancer is missing, or the result cannot be printed.
pub(super) async fn run(args: Args, settings: &Settings, account: Arc<Account>) -> anyhow::Result<ExitCode> {
    let report = Report::new(args.json);
    let first = cost::budget(&settings.prices, args.timeout, args.budget);
    let affordable = first.verdict == Verdict::Ok;
    report.add(first);
    let stack = if affordable { stack(&account, &report).await } else { None };
    if let Some(stack) = &stack {
        check_url(args.url.as_deref(), &stack.parameters)?;
    }
    let report = match stack {
        Some(stack) => Verification::new(args, settings, account, stack, report).run().await,
        None => report,
    };
    Ok(if report.finish()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks that the address of a load balancer is given. That of the stack is not the name that its certificate is for.
fn check_url(url: Option<&str>, parameters: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let several = !matches!(parameters.get("WebNodes").map(String::as_str), None | Some("0" | "1"));
    let certificate = parameters.get("Certificate").map(String::as_str).unwrap_or_default();
    anyhow::ensure!(
        !several || url.is_some(),
        "--url is missing: clients reach several web nodes by the host name of the certificate {certificate}, so specify \
         https://HOST/"
    );
    Ok(())
}

/// Reads and checks the stack; `None` if there is none.
async fn stack(account: &Account, report: &Report) -> Option<StackFacts> {
    let cluster = &account.cluster;
    match account.stack_facts().await {
        Ok(stack) => {
            report.add(judge::stack(cluster, stack.as_ref()));
            stack
        }
        Err(error) => {
            report.add(judge::unreadable(&format!("stack {cluster}"), "it can be read", &error));
            None
        }
    }
}

/// A job of the checks.
#[derive(Clone, Debug)]
struct CreatedJob {
    id: JobId,
    file: String,
}

/// A probe whose launch was begun.
struct RunningProbe {
    /// Key of its report in the state bucket.
    key: String,
    /// Returns the id of its machine, if it was launched.
    call: JoinHandle<Option<String>>,
}

/// What the checks have made, and what is needed to remove it.
#[derive(Default)]
struct Created {
    api: Option<Api>,
    objects: Option<Arc<dyn ObjectStore>>,
    /// A token that may read.
    reader: Option<String>,
    jobs: Vec<CreatedJob>,
    probes: Vec<RunningProbe>,
    /// The workers that there were before.
    workers_before: Option<BTreeSet<String>>,
}

/// One run of the checks.
struct Verification {
    args: Args,
    account: Arc<Account>,
    stack: StackFacts,
    /// With the names of the stack.
    settings: Settings,
    report: Report,
    /// Identifies the run in names and keys.
    run: String,
    began: Instant,
    spend: Mutex<Spend>,
    created: Mutex<Created>,
}

impl Verification {
    fn new(args: Args, settings: &Settings, account: Arc<Account>, stack: StackFacts, report: Report) -> Self {
        let mut settings = settings.clone();
        settings.cloud.kind = CloudKind::Aws;
        let suffix = stack.parameters.get("BucketSuffix").map(String::as_str).unwrap_or_default();
        let store = &mut settings.store;
        [store.input, store.output, store.state] =
            ["input", "output", "state"].map(|purpose| account.stack_bucket(purpose, suffix));
        Self {
            args,
            account,
            stack,
            settings,
            report,
            run: ulid::Ulid::generate().to_string().to_lowercase(),
            began: Instant::now(),
            spend: Mutex::default(),
            created: Mutex::default(),
        }
    }

    /// Makes the checks and removes what they have made.
    async fn run(self) -> Report {
        let Args { budget, .. } = self.args;
        let ended = tokio::select! {
            result = self.checks() => result,
            () = self.exceeds_budget() => Ok(()), // which the cost says
            () = app::asked_to_end() => Err(anyhow::anyhow!("interrupted")),
            () = tokio::time::sleep(LONGEST) => Err(anyhow::anyhow!("not made within {}", humantime::format_duration(LONGEST))),
        };
        if let Err(error) = ended {
            let seen = format!("{error:#}");
            self.report.add(Check::failed("checks", "all are made", seen, "remove the cause, and try again"));
        }
        eprintln!("cleaning up");
        let left = self.clean_up().await;
        self.report.add(cost::cost(&self.spend(), &self.settings.prices, budget, self.time()));
        self.report.add(live::nothing_left(&left));
        self.report
    }

    fn created(&self) -> MutexGuard<'_, Created> {
        self.created.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spend(&self) -> MutexGuard<'_, Spend> {
        self.spend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time since the beginning.
    fn time(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns the label of the tokens of this run.
    fn label(&self) -> String {
        format!("{LABEL}{}", self.run)
    }

    fn objects(&self) -> Arc<dyn ObjectStore> {
        let key = self.stack.parameters.get("KmsKey").map(String::as_str).unwrap_or_default();
        Arc::new(self.account.objects(key))
    }

    fn tokens(&self, objects: Arc<dyn ObjectStore>) -> (TokenStore, CommandLog) {
        let log = CommandLog::new(&self.settings, objects.clone());
        (TokenStore::new(objects, self.settings.store.state.clone()), log)
    }

    /// Describes the instances and adds them to what is spent.
    async fn observe(&self) -> anyhow::Result<()> {
        let billed = |instances: Vec<InstanceFacts>| -> Vec<String> {
            instances.into_iter().filter(InstanceFacts::is_billed).map(|instance| instance.id).collect()
        };
        let (workers, probes) = (self.account.worker_facts().await?, self.account.probes().await?);
        let (time, mut spend) = (self.time(), self.spend());
        spend.workers.observe(&billed(workers), time);
        spend.probes.observe(&billed(probes), time);
        Ok(())
    }

    /// Resolves when the budget is exceeded.
    async fn exceeds_budget(&self) {
        loop {
            if let Err(error) = self.observe().await {
                tracing::warn!(error = format!("{error:#}"), "what instances cost is not known");
            }
            if self.spend().dollars(&self.settings.prices, self.time()) > self.args.budget {
                return;
            }
            tokio::time::sleep(WATCH).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_web_nodes_need_the_name_of_their_certificate() {
        let parameters = |count: &str| {
            let pairs = [("WebNodes", count), ("Certificate", "arn:aws:acm:x")];
            BTreeMap::from(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
        };
        for (count, url, right) in
            [("1", None, true), ("2", Some("https://a/"), true), ("2", None, false), ("8", None, false)]
        {
            let checked = check_url(url, &parameters(count)).map_err(|error| error.to_string());
            assert_eq!(checked.is_ok(), right, "{count} {url:?}");
            assert!(checked.err().is_none_or(|why| why.contains("--url") && why.contains("arn:aws:acm:x")));
        }
        assert!(check_url(None, &BTreeMap::new()).is_ok(), "a stack of an earlier release");
    }

    #[test]
    fn a_budget_is_an_amount_of_dollars() {
        assert_eq!((dollars("0.5"), dollars("$2"), dollars("0")), (Ok(0.5), Ok(2.0), Ok(0.0)));
        assert!(["-1", "NaN", "inf", "much"].iter().all(|text| dollars(text).is_err()));
    }
}
