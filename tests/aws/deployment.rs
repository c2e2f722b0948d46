//! The CloudFormation template: it passes cfn-lint, Rollcall accepts its queues and buckets, and its machines get the
//! settings that they need.

use std::{collections::BTreeMap, process::Command, time::Duration};

use crate::{
    aws_private_workers::network,
    support::{account::Account, iam::Template},
};
use aws_sdk_cloudformation::types::{Capability, Parameter};
use aws_sdk_ec2::{
    Client,
    types::{
        ArchitectureType, Instance, InstanceAttributeName, InstanceStateName, InstanceType, InstanceTypeInfo,
        ResponseLaunchTemplateData,
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rollcall::cloud::{
    ObjectStore, Precondition, QueueSpec, Queues,
    aws::{Encryption, S3Objects, SqsQueues, s3_client, sqs_client},
};

use serde_json::{Value, json};

const TEMPLATE: &str = "deploy/cloudformation.yaml";

/// The parameters of a stack that have no default, and those of several web nodes.
const PARAMETERS: &str = "Image=ami-0123456789abcdef0 Vpc=vpc-0123456789abcdef0 Subnet=subnet-0123456789abcdef0 \
     AllowFrom=10.0.0.0/8";
const SEVERAL: &str = "WebNodes=2 WebSubnets=subnet-0123456789abcdef0,subnet-0123456789abcdef1 \
     WebProxies=10.0.0.0/20,10.0.16.0/20 Certificate=arn:aws:acm:us-east-1:000000000000:certificate/12345678";

#[test]
fn the_template_passes_cfn_lint() {
    lint(&[]);
}

#[test]
fn the_template_with_several_web_nodes_passes_cfn_lint() {
    lint(&format!("--parameters {PARAMETERS} {SEVERAL}").split(' ').collect::<Vec<_>>());
}

#[test]
fn a_group_of_any_number_of_web_nodes_may_have_one_more() {
    // An update launches a node before it ends one. cfn-lint does not see that a number is missing here.
    let template = std::fs::read_to_string(TEMPLATE).expect("the template");
    assert!(template.contains("      MaxSize: !FindInMap [WithOneMore, !Ref WebNodes, WebNodes]\n"));
    let template: serde_norway::Value = serde_norway::from_str(&template).expect("YAML");
    let numbers = template["Parameters"]["WebNodes"]["AllowedValues"].as_sequence().expect("numbers");
    for number in numbers {
        let number = number.as_u64().expect("a number");
        let more = template["Mappings"]["WithOneMore"][number.to_string().as_str()]["WebNodes"].as_u64();
        assert_eq!(more, Some(number + 1), "{number}");
    }
    let [lowest, highest] = [numbers.first(), numbers.last()].map(|number| number.and_then(|number| number.as_u64()));
    assert_eq!((lowest, highest), (Some(0), Some(8)), "those that `up --web-nodes` takes, and none");
}

fn lint(arguments: &[&str]) {
    let packages = std::path::absolute(rollcall_testing::emulators::assets().join("python/aws")).expect("a path");
    let mut lint = Command::new("python3");
    lint.arg(packages.join("bin/cfn-lint")).arg(TEMPLATE).args(arguments).env("PYTHONPATH", packages);
    let lint = lint.output().expect("python3 starts");
    assert!(
        lint.status.success(),
        "{}{}",
        String::from_utf8_lossy(&lint.stdout),
        String::from_utf8_lossy(&lint.stderr)
    );
}

#[test]
fn vpc_endpoints_have_the_service_names_of_their_partition() {
    // As DescribeVpcEndpointServices lists them, according to the AWS CDK (aws-ec2/lib/vpc-endpoint.ts). In China, those of SQS and
    // EC2 have another beginning, those of CloudWatch Logs and of the gateway of S3 do not.
    let names = |partition: &str, region: &str| {
        let template = Template::read(&[]).in_region(partition, region);
        ["SqsEndpoint", "Ec2Endpoint", "LogsEndpoint", "S3Endpoint"].map(|name| template.property(name, "ServiceName"))
    };
    for (partition, region) in [("aws", "eu-west-1"), ("aws-us-gov", "us-gov-west-1")] {
        let expected = ["sqs", "ec2", "logs", "s3"].map(|service| format!("com.amazonaws.{region}.{service}"));
        assert_eq!(names(partition, region), expected);
    }
    for region in ["cn-north-1", "cn-northwest-1"] {
        let expected = [("cn.com", "sqs"), ("cn.com", "ec2"), ("com", "logs"), ("com", "s3")];
        let expected = expected.map(|(beginning, service)| format!("{beginning}.amazonaws.{region}.{service}"));
        assert_eq!(names("aws-cn", region), expected);
    }
}

/// Returns the machines that are not terminated, nor being so.
pub async fn alive(ec2: &Client) -> Vec<Instance> {
    let machines = ec2.describe_instances().send().await.expect("a list").reservations.unwrap_or_default();
    let mut instances: Vec<Instance> = machines.into_iter().flat_map(|r| r.instances.unwrap_or_default()).collect();
    instances.retain(|instance| {
        let state = instance.state().and_then(|state| state.name()).expect("a state");
        ![InstanceStateName::ShuttingDown, InstanceStateName::Terminated].contains(state)
    });
    instances
}

/// Returns the value of a parameter of the stack.
async fn stack_parameter(account: &Account, name: &str) -> String {
    let client = aws_sdk_cloudformation::Client::new(&rollcall_testing::emulators::sdk(&account.ministack.url).await);
    let stacks = client.describe_stacks().stack_name("rollcall").send().await.expect("a stack").stacks.expect("one");
    let found = stacks[0].parameters().iter().find(|parameter| parameter.parameter_key() == Some(name));
    found.and_then(|parameter| parameter.parameter_value()).expect("a value").to_owned()
}

/// Returns the variables that user data writes as `NAME=value` lines.
pub fn variables(user_data: &str) -> BTreeMap<String, String> {
    let text = String::from_utf8(BASE64_STANDARD.decode(user_data).expect("base64")).expect("text");
    let (_, lines) = text.split_once("<<END\n").expect("a file that is written");
    let (lines, rest) = lines.split_once("\nEND\n").expect("its end");
    // The forwarder first: it also sends what the other unit logs at its start.
    let (first, second) = rest.split_once('\n').expect("two units");
    assert_eq!(first, "systemctl enable --now rollcall-logs");
    assert!(second.starts_with("systemctl enable --now rollcall-"), "{second}");
    let variables = lines.lines().filter_map(|line| line.split_once('='));
    variables.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Returns the variables that the user data of an instance writes.
async fn web_variables(ec2: &Client, id: &str) -> BTreeMap<String, String> {
    let user_data = ec2.describe_instance_attribute().instance_id(id);
    let user_data = user_data.attribute(InstanceAttributeName::UserData).send().await.expect("its user data");
    variables(user_data.user_data().and_then(|data| data.value()).expect("user data"))
}

/// Returns what the newest version of a launch template launches.
async fn launch_template(ec2: &Client, id: &str) -> ResponseLaunchTemplateData {
    let versions = ec2.describe_launch_template_versions().launch_template_id(id).send().await.expect("a list");
    let newest = versions.launch_template_versions().iter().max_by_key(|version| version.version_number());
    newest.and_then(|version| version.launch_template_data()).expect("what is launched").clone()
}

#[test]
fn every_machine_of_the_stack_needs_a_token_for_its_metadata() {
    let stack = std::fs::read_to_string("deploy/cloudformation.yaml").expect("the stack");
    let templates: Vec<&str> = stack.split("LaunchTemplateData:").skip(1).collect();
    assert_eq!(templates.len(), 2, "workers and the web node");
    for template in templates {
        let options = template.lines().find(|line| line.trim_start().starts_with("MetadataOptions:"));
        assert!(options.is_some_and(|options| options.contains("HttpTokens: required")), "{template}");
    }
    // Instances have no options of their own, which would override those of their template.
    assert_eq!(stack.matches("MetadataOptions").count(), 2);
}

/// Updates the stack to a template that has a parameter and an output which this one does not have.
async fn update_as_later_release(account: &Account) {
    let client = aws_sdk_cloudformation::Client::new(&rollcall_testing::emulators::sdk(&account.ministack.url).await);
    let template = std::fs::read_to_string(TEMPLATE).expect("the template");
    let template = template.replacen("\nParameters:\n", "\nParameters:\n  Later: { Type: String, Default: x }\n", 1);
    let template = template.replacen("\nOutputs:\n", "\nOutputs:\n  Later: { Value: !Ref Later }\n", 1);
    let stacks = client.describe_stacks().stack_name("rollcall").send().await.expect("a stack").stacks.expect("one");
    let keys = stacks[0].parameters().iter().filter_map(Parameter::parameter_key);
    let kept = keys.map(|key| Parameter::builder().parameter_key(key).use_previous_value(true).build()).collect();
    let call = client.update_stack().stack_name("rollcall").template_body(template).set_parameters(Some(kept));
    call.capabilities(Capability::CapabilityIam).send().await.expect("an update");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_have_the_types_and_the_subnet_that_up_was_given() {
    let account = Account::start(&[]).await;
    let ec2 = account.ec2().await;
    let [vpc, subnet] = network(&account).await;
    let network = ["--vpc", &vpc, "--subnet", &subnet, "--worker-type", "c7i.xlarge,c6i.xlarge"];
    let up = ["aws", "up", "--image", "ami-12345678", "--allow-from", "10.0.0.0/8"];
    account.run(&[&up[..], &network[..]].concat()).done();
    let machines = ec2.describe_instances().send().await.expect("a list");
    let web = &machines.reservations()[0].instances()[0];
    assert_eq!(web.subnet_id(), Some(subnet.as_str()));
    let variables = web_variables(&ec2, web.instance_id().expect("an id")).await;
    assert_eq!(variables["ROLLCALL__AWS__INSTANCE_TYPES"], "c7i.xlarge,c6i.xlarge");
    assert_eq!(variables["ROLLCALL__AWS__SUBNETS"], subnet, "the workers' security group is of this VPC");
    let launched = launch_template(&ec2, &variables["ROLLCALL__AWS__LAUNCH_TEMPLATE"]).await;
    assert_eq!(launched.instance_type().map(InstanceType::as_str), Some("c7i.xlarge"));

    let key = "arn:aws:kms:us-east-1:000000000000:key/1234";
    account.run(&["aws", "up", "--kms-key", key]).done();
    for other in ["", "arn:aws:kms:us-east-1:000000000000:key/5678"] {
        let why = account.run(&["aws", "up", "--kms-key", other]).failed();
        assert!(why.contains(key) && why.contains("could not read"), "{why}");
    }

    // A later release may have made the stack, with a template that has more parameters: `up` of this one leads back.
    update_as_later_release(&account).await;

    // What is not given again stays, and the web node that replaces the first one has its address.
    account.run(&["aws", "up", "--worker-type", "c7a.large"]).done();
    let web_nodes = alive(&ec2).await;
    let [web] = &web_nodes[..] else { panic!("the earlier web node is replaced: {web_nodes:?}") };
    let addresses = ec2.describe_addresses().send().await.expect("a list");
    assert_eq!(addresses.addresses().len(), 1);
    assert_eq!(addresses.addresses()[0].instance_id(), web.instance_id());
    let variables = web_variables(&ec2, web.instance_id().expect("an id")).await;
    assert_eq!(variables["ROLLCALL__AWS__INSTANCE_TYPES"], "c7a.large");
    assert_eq!(variables["ROLLCALL__AWS__SUBNETS"], subnet);
    assert_eq!(variables["ROLLCALL__AWS__KMS_KEY"], key);
}

#[tokio::test(flavor = "multi_thread")]
async fn web_nodes_may_use_the_keys_of_the_image_and_of_the_account_for_disks() {
    let account = Account::start(&[]).await;
    let ec2 = account.ec2().await;
    let up = ["aws", "up", "--allow-from", "10.0.0.0/8"];
    let granted = async || stack_parameter(&account, "DiskKeys").await;
    account.run(&[&up[..], &["--image", "ami-12345678"]].concat()).done();
    assert_eq!(granted().await, "", "EBS's own key needs no rights");
    let [earlier, later] = ["1234", "5678"].map(|id| format!("arn:aws:kms:us-east-1:000000000000:key/{id}"));
    ec2.enable_ebs_encryption_by_default().send().await.expect("it is set");
    ec2.modify_ebs_default_kms_key_id().kms_key_id(&earlier).send().await.expect("it is set");
    account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    ec2.modify_ebs_default_kms_key_id().kms_key_id(&later).send().await.expect("it is set");
    account.run(&up).done();
    assert_eq!(granted().await, format!("{earlier},{later}"), "disks of the image have its key");
    // Stopped workers have the disks that they have.
    ec2.disable_ebs_encryption_by_default().send().await.expect("it is set");
    account.run(&[&up[..], &["--image", "ami-12345678"]].concat()).done();
    assert_eq!(granted().await, format!("{earlier},{later}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_have_types_that_can_run_the_image() {
    const ARM: &str = "ami-87654321";
    let account = Account::start(&[]).await;
    let up = ["aws", "up", "--allow-from", "10.0.0.0/8", "--image"];
    // Refused before anything is made.
    let why = account.run(&[&up[..], &[ARM, "--worker-type", "c7i.large"]].concat()).failed();
    assert!(why.contains("arm64") && why.contains("c7i.large runs x86_64"), "{why}");
    let why = account.run(&[&up[..], &["ami-12345678", "--web-type", "t4g.small"]].concat()).failed();
    assert!(why.contains("t4g.small runs arm64"), "{why}");
    // EC2 describes at most a hundred types in a call.
    let ec2 = account.ec2().await;
    let kinds = ec2.describe_instance_types().send().await.expect("a list").instance_types.unwrap_or_default();
    let runs = |kind: &InstanceTypeInfo, architecture: &ArchitectureType| {
        kind.processor_info().is_some_and(|info| info.supported_architectures().contains(architecture))
    };
    let named = |architecture: ArchitectureType| {
        let able = kinds.iter().filter(move |kind| runs(kind, &architecture));
        able.filter_map(|kind| kind.instance_type()).map(|name| name.as_str().to_owned())
    };
    let fit: Vec<String> = named(ArchitectureType::Arm64).take(101).collect();
    let last = named(ArchitectureType::X8664).next().expect("a type for x86-64 only");
    let many = [&fit[..], std::slice::from_ref(&last)].concat().join(",");
    let why = account.run(&[&up[..], &[ARM, "--worker-type", &many]].concat()).failed();
    assert!(why.contains(&format!("{last} runs ")), "{why}");
    assert!(ec2.describe_instances().send().await.expect("a list").reservations().is_empty());

    // Types for arm64 are chosen if nobody does, among those that the region has.
    account.ec2.post_control("/supply", json!({ "no_types": ["c8g.large"] })).await;
    account.run(&[&up[..], &[ARM]].concat()).done();
    let machines = ec2.describe_instances().send().await.expect("a list");
    let web = &machines.reservations()[0].instances()[0];
    assert_eq!(web.instance_type().map(InstanceType::as_str), Some("t4g.small"));
    let variables = web_variables(&ec2, web.instance_id().expect("an id")).await;
    assert!(variables["ROLLCALL__AWS__INSTANCE_TYPES"].starts_with("c7g.large,"), "{variables:?}");
    let launched = launch_template(&ec2, &variables["ROLLCALL__AWS__LAUNCH_TEMPLATE"]).await;
    assert_eq!(launched.instance_type().map(InstanceType::as_str), Some("c7g.large"));

    // An image of another architecture needs other types.
    let why = account.run(&["aws", "up", "--image", "ami-12345678"]).failed();
    assert!(why.contains("x86_64") && why.contains("--worker-type"), "{why}");
    account
        .run(&["aws", "up", "--image", "ami-12345678", "--worker-type", "c7i.large", "--web-type", "t3.small"])
        .done();
}

#[tokio::test(flavor = "multi_thread")]
async fn rollcall_accepts_what_the_template_makes() {
    let account = Account::start(&[]).await;
    let up = ["aws", "up", "--image", "ami-12345678", "--allow-from", "10.0.0.0/8"];
    let created = account.run(&up);
    let costs = std::fs::read_to_string("docs/aws.md").expect("the documentation");
    let total = costs.lines().find_map(|line| line.strip_prefix("| **total** | | **")).expect("what a cluster costs");
    let total = total.trim_end_matches("** |");
    assert!(created.err.contains(&format!("costs about {total} $ a month")), "{}", created.err);
    let outputs = created.done();

    let sdk = rollcall_testing::emulators::sdk(&account.ministack.url).await;
    let queues = SqsQueues::new(sqs_client(&sdk), Duration::ZERO, "rollcall");
    let base = QueueSpec {
        name: "rollcall-dead.fifo".into(),
        fifo: true,
        visibility: Duration::from_secs(30),
        max_receives: u32::MAX,
        dead_letter: None,
        durable: true,
    };
    let requests = QueueSpec {
        name: "rollcall-listener.fifo".into(),
        max_receives: 5,
        dead_letter: Some(base.name.clone()),
        ..base.clone()
    };
    let replies = QueueSpec { name: "rollcall-speaker".into(), fifo: false, durable: false, ..base.clone() };
    let status = QueueSpec { name: "rollcall-status".into(), ..replies.clone() };
    for spec in [base, requests, replies, status] {
        queues.open(&spec.name).await.expect("the template made it");
        queues.create(spec).await.expect("its settings are accepted");
    }
    let s3 = s3_client(&sdk, true);
    let store = S3Objects::new(s3.clone(), Encryption::S3);
    for bucket in ["input", "output", "state"] {
        let bucket = format!("rollcall-{bucket}-000000000000-us-east-1");
        let policy =
            s3.get_bucket_policy().bucket(&bucket).send().await.expect("a policy").policy.expect("it is stated");
        let policy: Value = serde_json::from_str(&policy).expect("JSON");
        let denied = json!({
            "Sid": "OnlyEncryptedConnections", "Effect": "Deny", "Principal": "*", "Action": "s3:*",
            "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
            "Condition": { "Bool": { "aws:SecureTransport": "false" } },
        });
        assert_eq!(policy["Statement"], json!([denied]), "{bucket}");
        store.put(&bucket, "trial", "x".into(), Precondition::Absent).await.expect("the template made it");
    }

    // The web node has an address of its own, whatever its subnet assigns.
    let ec2 = account.ec2().await;
    let addresses = ec2.describe_addresses().send().await.expect("a list");
    let [address] = addresses.addresses() else { panic!("{addresses:?}") };
    let public = address.public_ip().expect("an address");
    assert!(outputs.contains(&format!("Address http://{public}:5000/\n")), "{outputs}");

    // The web instance has the same settings of the cluster as the workers.
    let machines = ec2.describe_instances().send().await.expect("a list");
    let web = &machines.reservations()[0].instances()[0];
    assert_eq!(machines.reservations().len(), 1, "nothing else runs");
    assert_eq!(address.instance_id(), web.instance_id());
    let tag = |key: &str| web.tags().iter().find(|tag| tag.key() == Some(key)).and_then(|tag| tag.value());
    assert_eq!(tag("Name"), Some("rollcall-web"));
    assert_eq!(tag("rollcall:cluster"), None, "no controller takes it for a worker");
    assert_eq!(web.image_id(), Some("ami-12345678"));
    let mut of_web = web_variables(&ec2, web.instance_id().expect("an id")).await;
    let template = of_web.remove("ROLLCALL__AWS__LAUNCH_TEMPLATE").expect("what it launches");
    let version = of_web.remove("ROLLCALL__AWS__LAUNCH_TEMPLATE_VERSION");
    assert_eq!(version.as_deref(), Some("1"), "each version has web nodes of its own");
    assert_eq!(of_web.remove("ROLLCALL__AWS__STACK_RESOURCE").as_deref(), Some("Web"), "the stack waits for it");
    assert_eq!(of_web.remove("ROLLCALL__AWS__METRICS").as_deref(), Some("true"), "for the alarms");
    let launched = launch_template(&ec2, &template).await;
    assert_eq!(launched.instance_type().map(InstanceType::as_str), Some("c7i.large"));
    for key in ["ROLLCALL__AWS__INSTANCE_TYPES", "ROLLCALL__AWS__SUBNETS"] {
        assert_eq!(of_web.get(key), None, "left to the settings of the image");
    }
    assert_eq!(launched.image_id(), web.image_id());

    // Without an instance profile a machine has no credentials.
    let profile = web.iam_instance_profile().and_then(|profile| profile.arn()).expect("the web instance has a role");
    assert!(profile.contains("WebProfile"), "{profile}");
    let profile = launched.iam_instance_profile().and_then(|profile| profile.name()).expect("workers have a role");
    assert!(profile.contains("WorkerProfile"), "{profile}");
    assert_eq!(variables(launched.user_data().expect("user data")), of_web);

    // Each variable is a setting that exists.
    let settings = account.command(&["config", "show"]).envs(&of_web).output().expect("the program starts");
    let shown = String::from_utf8_lossy(&settings.stdout).into_owned();
    assert!(settings.status.success(), "{}", String::from_utf8_lossy(&settings.stderr));
    for (key, value) in of_web.iter().filter(|(key, _)| key.starts_with("ROLLCALL__")) {
        let line = shown.lines().find(|line| line.ends_with(key.as_str()));
        assert!(line.is_some_and(|line| line.contains(value.as_str())), "{key}={value}: {line:?}");
    }
}
