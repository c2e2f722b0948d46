//! What an account contains, as the emulators list it. It shows what commands leave behind, whatever they report.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_ec2::types::{Filter, RequestLaunchTemplateData, ResourceType, Tag, TagSpecification};
use rollcall_testing::{emulators, wait_until};

use super::account::Account;

/// Longest wait for an instance to shut down, on a busy host.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The account of the emulated EC2, which lists the snapshots of public images too.
const OWNER: &str = "123456789012";
/// A cluster whose name begins with that of the cluster under test.
const OTHER: &str = "rollcall-2";

/// What has come into an account, and what has gone from it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<String>,
    pub gone: Vec<String>,
}

impl Account {
    /// Lists all that the account contains, except for terminated machines, each as `KIND NAME`.
    pub async fn inventory(&self) -> BTreeSet<String> {
        let (sqs, ec2) = (self.sqs().await, self.ec2().await);
        let stacks = aws_sdk_cloudformation::Client::new(&emulators::sdk(&self.ministack.url).await);
        let queues = sqs.list_queues().send().await.expect("a list");
        let stacks = stacks.describe_stacks().send().await.expect("a list");
        let templates = ec2.describe_launch_templates().send().await.expect("a list");
        let groups = ec2.describe_security_groups().send().await.expect("a list");
        let images = ec2.describe_images().owners("self").send().await.expect("a list");
        let own = Filter::builder().name("owner-id").values(OWNER).build();
        let snapshots = ec2.describe_snapshots().filters(own).send().await.expect("a list");
        let volumes = ec2.describe_volumes().send().await.expect("a list");
        let groups_of_logs = self.logs().await.describe_log_groups().send().await.expect("a list");
        let addresses = ec2.describe_addresses().send().await.expect("a list");
        let machines = self.machines().await.into_iter().filter(|(_, state)| state != "terminated");

        let mut all = BTreeSet::new();
        let mut add = |kind: &str, name: Option<&str>| all.insert(format!("{kind} {}", name.expect("a name")));
        for url in queues.queue_urls() {
            add("queue", url.rsplit('/').next());
        }
        for stack in stacks.stacks() {
            add("stack", stack.stack_name());
        }
        for template in templates.launch_templates() {
            add("launch template", template.launch_template_name());
        }
        for group in groups.security_groups() {
            add("security group", group.group_name());
        }
        for image in images.images() {
            add("image", image.image_id());
        }
        for snapshot in snapshots.snapshots() {
            add("snapshot", snapshot.snapshot_id());
        }
        for address in addresses.addresses() {
            add("address", address.public_ip());
        }
        for volume in volumes.volumes() {
            add("volume", volume.volume_id());
        }
        for group in groups_of_logs.log_groups() {
            add("log group", group.log_group_name());
        }
        for bucket in self.buckets().await {
            add("bucket", Some(&bucket));
        }
        for (id, _) in machines {
            add("machine", Some(&id));
        }
        all
    }

    /// Compares the account with an earlier inventory. Waits for machines that are shutting down.
    pub async fn changes(&self, before: &BTreeSet<String>) -> Changes {
        wait_until("no machine is shutting down", TIMEOUT, async || {
            self.states().await.iter().all(|state| state != "shutting-down")
        })
        .await;
        let now = self.inventory().await;
        let difference = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect();
        Changes { added: difference(&now, before), gone: difference(before, &now) }
    }

    /// Launches a machine with that tag, and returns its id. It does nothing, for it has no user data.
    pub async fn launch(&self, key: &str, value: &str) -> String {
        let launch = self.ec2().await.run_instances().image_id("ami-12345678").min_count(1).max_count(1);
        let made = launch.tag_specifications(tags(ResourceType::Instance, key, value)).send().await.expect("launched");
        made.instances()[0].instance_id().expect("an id").to_owned()
    }

    /// Creates one of everything that another cluster has in the same account.
    pub async fn create_another_cluster(&self) {
        let (ec2, s3) = (self.ec2().await, self.s3().await);
        let worker = self.launch("rollcall:cluster", OTHER).await;
        self.launch("rollcall:bake", OTHER).await;
        let image = ec2.create_image().instance_id(worker).name(format!("{OTHER}-image"));
        let image = image.tag_specifications(tags(ResourceType::Image, "rollcall:cluster", OTHER));
        let image = image.tag_specifications(tags(ResourceType::Snapshot, "rollcall:cluster", OTHER));
        image.send().await.expect("an image");
        let data = RequestLaunchTemplateData::builder().image_id("ami-12345678").build();
        let template = ec2.create_launch_template().launch_template_name(format!("{OTHER}-worker"));
        template.launch_template_data(data).send().await.expect("a launch template");
        let group = ec2.create_security_group().group_name(format!("{OTHER}-WorkerGroup")).description("workers");
        group.send().await.expect("a security group");
        let logs = self.logs().await.create_log_group().log_group_name(format!("/rollcall/{OTHER}"));
        logs.send().await.expect("a log group");
        let bucket = format!("{OTHER}-input-000000000000");
        s3.create_bucket().bucket(&bucket).send().await.expect("a bucket");
        s3.put_object().bucket(&bucket).key("photo.jpg").send().await.expect("an object");
        for name in [format!("{OTHER}-speaker"), format!("{OTHER}-speaker_1")] {
            let queue = self.sqs().await.create_queue().queue_name(name);
            queue.send().await.expect("a queue");
        }
    }

    /// Returns the id of an image's snapshot.
    pub async fn snapshot_of(&self, image: &str) -> String {
        let images = self.ec2().await.describe_images().image_ids(image).send().await.expect("the image");
        let disk = images.images()[0].block_device_mappings()[0].ebs().expect("a disk");
        disk.snapshot_id().expect("a snapshot").to_owned()
    }
}

fn tags(kind: ResourceType, key: &str, value: &str) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).tags(Tag::builder().key(key).value(value).build()).build()
}
