//! The subcommands of `rollcall aws`; `cloud::aws` implements them, and `verify` judges what it sees.

use std::{
    io::{IsTerminal as _, Read as _},
    path::{Component, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Subcommand;

use super::{super::exit::EXIT_CONFIG, logs, status, verify};
use crate::{
    app,
    cloud::aws::deploy::{
        Account,
        attempts::{self, Attempt},
        bake::{self, bake},
        builder::Machine,
        down::{self, down},
        image_format::UnfitImage,
        up::{self, up},
        web_nodes::WebNodes,
    },
    settings::Settings,
};

/// Arguments of `rollcall aws`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Create the image of the cluster's machines and print its id
    Bake(Bake),
    /// Create the cluster's stack, or update it
    Up(Box<Up>),
    /// Check a cluster that is up by using it, and remove everything that the checks have made
    Verify(verify::Args),
    /// Make the calls that are in standard input, as JSON: what a probe of `verify` runs
    #[command(hide = true)]
    Attempt,
    /// Terminate the cluster's machines and delete its stack; data and images are kept by default
    Down(Down),
    /// Show the stack, the machines, the queues, and what they cost
    Status(status::Args),
    /// Print the logs of all machines
    Logs(logs::Args),
    /// Send the journal of this instance to the cluster's log group (instances start it themselves)
    #[command(hide = true)]
    ForwardLogs(logs::Forward),
}

#[derive(clap::Args)]
struct Bake {
    /// Base image (ami-... or resolve:ssm:...): a Linux with systemd, curl, and a C library no older than this
    /// machine's [default: Ubuntu 24.04]
    #[arg(long)]
    base: Option<String>,
    /// Instance type of the builder [default: t3.small, or t4g.small on arm64]
    #[arg(long)]
    instance_type: Option<String>,
    /// Subnet of the builder, with a route to the internet [default: the default subnet]
    #[arg(long)]
    subnet: Option<String>,
    /// Program to install [default: this one]
    #[arg(long)]
    program: Option<PathBuf>,
    /// Time limit of the installation, and of the creation of the image
    #[arg(long, default_value = "20m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(clap::Args)]
struct Up {
    /// Image of the machines [default: the newest that `bake` has created]
    #[arg(long)]
    image: Option<String>,
    /// Address range that can reach the web node, such as 203.0.113.0/24
    #[arg(long)]
    allow_from: Option<String>,
    /// Network [default: the region's default VPC]
    #[arg(long, requires = "subnet")]
    vpc: Option<String>,
    /// Subnet of the web node, and with --vpc also of the workers, unless --worker-subnets is given [default: the first default
    /// subnet]
    #[arg(long)]
    subnet: Option<String>,
    /// Subnets of the workers in the same network, separated by commas: they must lead to the internet, by a NAT gateway if
    /// machines have no public address there, or have --endpoints
    #[arg(long, value_name = "SUBNETS")]
    worker_subnets: Option<String>,
    /// Give workers no public address: they reach AWS through --endpoints, or through the NAT gateway of their --worker-subnets
    #[arg(long)]
    private_workers: bool,
    /// Create VPC endpoints for SQS, S3, EC2 and CloudWatch Logs
    #[arg(long)]
    endpoints: bool,
    /// EC2 key pair for SSH to the web node from the same address range
    #[arg(long)]
    key: Option<String>,
    /// Instance type of the web nodes
    #[arg(long)]
    web_type: Option<String>,
    /// Number of web nodes; from 2 on, a load balancer with HTTPS is in front of them [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=8))]
    web_nodes: Option<u8>,
    /// Subnets of several web nodes in at least two zones, separated by commas [default: the default subnets of two zones]
    #[arg(long)]
    web_subnets: Option<String>,
    /// ARN of the load balancer's certificate in ACM; required for several web nodes
    #[arg(long)]
    certificate: Option<String>,
    /// Instance types of the workers in order of preference, such as c7i.large,c6i.large
    #[arg(long)]
    worker_type: Option<String>,
    /// Days that uploaded images and their results are kept, at least 15
    #[arg(long)]
    retention_days: Option<u16>,
    /// Days that entries of the audit log are kept
    #[arg(long)]
    audit_days: Option<u16>,
    /// Days that logs are kept: 1, 3, 5, 7, 14, 30, 60, 90 ...
    #[arg(long)]
    log_days: Option<u16>,
    /// E-mail address that alarms are sent to; "" for none
    #[arg(long, value_name = "ADDRESS")]
    alarm_email: Option<String>,
    /// Cost of the workers of a day above which there is an alarm; "" for none
    #[arg(long, value_name = "DOLLARS")]
    daily_cost: Option<String>,
    /// ARN of the KMS key that encrypts objects, which the roles may then use; it cannot be changed later
    #[arg(long)]
    kms_key: Option<String>,
    /// Maximum time to wait for each change of the stack
    #[arg(long, default_value = "30m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Do not ask before a stack is created or gets a load balancer. Without a terminal, nothing is asked
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args)]
struct Down {
    /// Also delete photos, labels, results, the gallery and logs
    #[arg(long)]
    delete_data: bool,
    /// Also delete the images and their snapshots
    #[arg(long)]
    delete_images: bool,
    /// Maximum time to wait for each step
    #[arg(long, default_value = "30m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Runs the subcommand. Prints to standard output what a script needs: the image's id, the stack's outputs, the
/// leftovers.
///
/// # Errors
/// The credentials are not valid, or a step failed.
pub async fn run(args: Args, settings: &Settings, config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    if matches!(args.action, Action::Attempt) {
        // A machine's role may not ask whose account it is in.
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
        let attempts: Vec<Attempt> = serde_json::from_str(&text).context("standard input")?;
        println!("{}", serde_json::to_string(&attempts::make(settings, &attempts).await?)?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Action::ForwardLogs(args) = args.action {
        logs::forward(args, settings).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let account = Arc::new(Account::connect(settings).await?);
    eprintln!("cluster {} in account {}, region {}", account.cluster, account.id, account.region);
    match args.action {
        Action::Bake(args) => {
            let program = match args.program {
                Some(program) => program,
                None => {
                    std::env::current_exe().context("this program's file was not found: specify it with --program")?
                }
            };
            let arm = cfg!(target_arch = "aarch64");
            let instance_type = if arm { "t4g.small" } else { "t3.small" };
            let base = format!(
                "resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/{}/hvm/ebs-gp3/ami-id",
                if arm { "arm64" } else { "amd64" }
            );
            let machine = Machine {
                base: args.base.unwrap_or(base),
                instance_type: args.instance_type.unwrap_or_else(|| instance_type.to_owned()),
                subnet: args.subnet,
            };
            let files = model_files(settings)?;
            let options = bake::Options { machine, program, files, config, timeout: args.timeout };
            println!("{}", bake(account, options, app::asked_to_end()).await?);
        }
        Action::Up(args) => {
            let args = *args;
            let options = up::Options {
                image: args.image,
                worker_image: settings.aws.launch.image.clone(),
                vpc: args.vpc,
                subnet: args.subnet,
                worker_subnets: args.worker_subnets,
                private_workers: args.private_workers,
                endpoints: args.endpoints,
                allow_from: args.allow_from,
                key: args.key,
                web_type: args.web_type,
                web_nodes: WebNodes { count: args.web_nodes, subnets: args.web_subnets, certificate: args.certificate },
                worker_type: args.worker_type,
                retention_days: args.retention_days,
                audit_days: args.audit_days,
                log_days: args.log_days,
                alarm_email: args.alarm_email,
                daily_cost: args.daily_cost,
                kms_key: args.kms_key,
                timeout: args.timeout,
                ask: !args.yes && std::io::stdin().is_terminal(),
            };
            let up = match up(&account, options).await {
                Err(error) if error.is::<UnfitImage>() => {
                    eprintln!("rollcall: configuration: {error:#}");
                    return Ok(ExitCode::from(EXIT_CONFIG));
                }
                up => up?,
            };
            eprintln!("{}", if up.changed { "done" } else { "nothing to change" });
            for (key, value) in up.outputs {
                println!("{key} {value}");
            }
        }
        Action::Verify(args) => return verify::run(args, settings, account).await,
        Action::Attempt => unreachable!("it was handled above, because it needs no account"),
        Action::Status(args) => status::run(&account, args).await?,
        Action::Logs(args) => logs::run(&account, args).await?,
        Action::ForwardLogs(_) => unreachable!("it needs no account"),
        Action::Down(args) => {
            let Down { delete_data, delete_images, timeout } = args;
            let leftovers = down(&account, down::Options { delete_data, delete_images, timeout }).await?;
            match leftovers.lines() {
                lines if lines.is_empty() => println!("nothing is left: the cluster costs nothing"),
                lines => {
                    println!("left, at the prices of us-east-1 (prices change):\n  {}", lines.join("\n  "));
                    eprintln!("--delete-data deletes the buckets and logs, --delete-images the images");
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the files that workers load. On the machines they have the same paths below `/opt/rollcall`.
fn model_files(settings: &Settings) -> anyhow::Result<Vec<PathBuf>> {
    let files = settings.recognition.files();
    for path in &files {
        let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        anyhow::ensure!(
            inside,
            "{}: recognition.* must be paths below the current directory: on the machines they are below /opt/rollcall",
            path.display()
        );
    }
    Ok(files)
}
