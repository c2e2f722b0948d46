//! Whole clusters, the set-up of an account and the adapters, on emulators of AWS.

mod aws_bake;
mod aws_calls;
mod aws_cap;
mod aws_compute;
mod aws_cores;
mod aws_dead_letters;
mod aws_end_to_end;
mod aws_erasure;
mod aws_example_job;
mod aws_failed_boots;
mod aws_faults;
mod aws_hung_worker;
mod aws_private_workers;
mod aws_refused_tags;
mod aws_roles;
mod aws_secrets;
mod aws_storm;
mod aws_up_down;
mod aws_upgrade;
mod aws_web_node;
mod deployment;
mod doctor;
mod sqs_queues;
mod support;
