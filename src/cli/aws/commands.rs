//! The commands themselves; what they do is in `deploy`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Subcommand;

use crate::{
    app,
    cloud::aws::deploy::{
        Account,
        bake::{self, bake},
        builder::Machine,
        down::{self, down},
        up::{self, up},
    },
    settings::Settings,
};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make the image of the cluster's machines, and print its id
    Bake(Bake),
    /// Create the cluster's stack, or bring it to what is asked for now
    Up(Up),
    /// End the cluster's machines and delete its stack; data and images stay unless told otherwise
    Down(Down),
}

#[derive(clap::Args)]
struct Bake {
    /// Image to begin with (ami-... or resolve:ssm:...): a Linux with systemd, curl, and a C library that is not older than
    /// this machine's [default: Ubuntu 24.04]
    #[arg(long)]
    base: Option<String>,
    /// Type of the machine that it is made on [default: t3.small, or t4g.small for a program for arm64]
    #[arg(long)]
    instance_type: Option<String>,
    /// Subnet with a way to the internet [default: the default one]
    #[arg(long)]
    subnet: Option<String>,
    /// Program to install [default: this one]
    #[arg(long)]
    program: Option<PathBuf>,
    /// Longest time for the installation, and again for making the image
    #[arg(long, default_value = "20m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(clap::Args)]
struct Up {
    /// Image of the machines [default: the newest that `bake` has made]
    #[arg(long)]
    image: Option<String>,
    /// Who may upload, as an address range such as 203.0.113.0/24; there is no login
    #[arg(long)]
    allow_from: Option<String>,
    /// Network [default: the account's default one]
    #[arg(long, requires = "subnet")]
    vpc: Option<String>,
    /// Subnet of the web node [default: the first default one]
    #[arg(long)]
    subnet: Option<String>,
    /// EC2 key pair for SSH to the web node from where uploads come from
    #[arg(long)]
    key: Option<String>,
    /// Instance type of the web node
    #[arg(long)]
    web_type: Option<String>,
    /// Instance type of the workers
    #[arg(long)]
    worker_type: Option<String>,
    /// Days that uploaded images are kept
    #[arg(long)]
    retention_days: Option<u16>,
    /// Longest time for the stack
    #[arg(long, default_value = "30m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(clap::Args)]
struct Down {
    /// Delete photos, labels, results and the gallery too
    #[arg(long)]
    delete_data: bool,
    /// Delete the images and their snapshots too
    #[arg(long)]
    delete_images: bool,
    /// Longest time for each step
    #[arg(long, default_value = "30m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Does it, and prints to standard output what a script wants: the image's id, the stack's outputs, what is left.
pub async fn run(args: Args, settings: &Settings, config: Option<PathBuf>) -> anyhow::Result<()> {
    let account = Arc::new(Account::connect(settings).await?);
    eprintln!("cluster {} in account {}, region {}", account.cluster, account.id, account.region);
    match args.action {
        Action::Bake(args) => {
            let program = match args.program {
                Some(program) => program,
                None => std::env::current_exe().context("where is this program? Say it with --program")?,
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
            let options = bake::Options { machine, program, config, timeout: args.timeout };
            println!("{}", bake(account, settings, options, app::asked_to_end()).await?);
        }
        Action::Up(args) => {
            let options = up::Options {
                image: args.image,
                vpc: args.vpc,
                subnet: args.subnet,
                allow_from: args.allow_from,
                key: args.key,
                web_type: args.web_type,
                worker_type: args.worker_type,
                retention_days: args.retention_days,
                timeout: args.timeout,
            };
            let up = up(&account, options).await?;
            eprintln!("{}", if up.changed { "done" } else { "nothing had to be changed" });
            for (key, value) in up.outputs {
                println!("{key} {value}");
            }
        }
        Action::Down(args) => {
            let Down { delete_data, delete_images, timeout } = args;
            let leftovers = down(&account, down::Options { delete_data, delete_images, timeout }).await?;
            match leftovers.lines() {
                lines if lines.is_empty() => println!("nothing is left: the cluster costs nothing"),
                lines => {
                    println!("left, by the price list of us-east-1 (prices change):\n  {}", lines.join("\n  "));
                    eprintln!("`--delete-data` deletes buckets, `--delete-images` images");
                }
            }
        }
    }
    Ok(())
}
