//! The CloudFormation template: it passes cfn-lint, and its queues and buckets are such as Rollcall accepts.
#![cfg(feature = "aws")]

#[path = "support/emulators.rs"]
mod emulators;
#[path = "support/wait.rs"]
mod wait;

use std::{process::Command, time::Duration};

use rollcall::cloud::{
    ObjectStore, Precondition, QueueSpec, Queues,
    aws::{Encryption, S3Objects, SqsQueues, s3_client, sqs_client},
};

const TEMPLATE: &str = "deploy/cloudformation.yaml";

#[test]
fn the_template_passes_cfn_lint() {
    let packages = std::path::absolute(emulators::assets().join("python/aws")).expect("a path");
    let lint =
        Command::new("python3").arg(packages.join("bin/cfn-lint")).arg(TEMPLATE).env("PYTHONPATH", packages).output();
    let lint = lint.expect("python3 starts");
    assert!(
        lint.status.success(),
        "{}{}",
        String::from_utf8_lossy(&lint.stdout),
        String::from_utf8_lossy(&lint.stderr)
    );
}

/// A call of CloudFormation's query protocol.
async fn cloudformation(url: &str, action: &str, parameters: &[(&str, &str)]) -> String {
    let form: Vec<(&str, &str)> = [("Action", action), ("Version", "2010-05-15"), ("StackName", "trial")]
        .into_iter()
        .chain(parameters.iter().copied())
        .collect();
    let body: String =
        form.iter().map(|(key, value)| format!("{key}={}", percent(value))).collect::<Vec<_>>().join("&");
    // The emulator takes the service from the credential's scope and checks no signature.
    let scope = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/cloudformation/aws4_request, SignedHeaders=host, Signature=0";
    let call = reqwest::Client::new().post(url).header("authorization", scope);
    let call = call.header("content-type", "application/x-www-form-urlencoded").body(body);
    let answer = call.send().await.expect("an answer");
    let (status, text) = (answer.status(), answer.text().await.expect("text"));
    assert!(status.is_success(), "{action}: {status}: {text}");
    text
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[tokio::test]
async fn rollcall_accepts_what_the_template_makes() {
    let ministack = emulators::Emulator::ministack().await;
    let template = std::fs::read_to_string(TEMPLATE).expect("the template");
    // The emulator's CloudFormation knows no instances: the web node is left out there, and the output that names it.
    let (resources, outputs) = template.split_once("\nOutputs:").expect("outputs");
    let (resources, _web) = resources.split_once("\n  Web:").expect("the web node");
    let (_address, outputs) = outputs.split_once("\n  LaunchTemplate:").expect("the other output");
    let template = format!("{resources}\nOutputs:\n  LaunchTemplate:{outputs}");
    let mut parameters =
        vec![("TemplateBody".to_owned(), template), ("Capabilities.member.1".to_owned(), "CAPABILITY_IAM".to_owned())];
    let given = [
        ("Image", "ami-12345678"),
        ("Vpc", "vpc-12345678"),
        ("Subnet", "subnet-12345678"),
        ("AllowFrom", "10.0.0.0/8"),
    ];
    for (n, (key, value)) in given.iter().enumerate() {
        parameters.push((format!("Parameters.member.{}.ParameterKey", n + 1), (*key).to_owned()));
        parameters.push((format!("Parameters.member.{}.ParameterValue", n + 1), (*value).to_owned()));
    }
    let parameters: Vec<(&str, &str)> = parameters.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    cloudformation(&ministack.url, "CreateStack", &parameters).await;
    loop {
        let stack = cloudformation(&ministack.url, "DescribeStacks", &[]).await;
        if stack.contains("<StackStatus>CREATE_COMPLETE<") {
            break;
        }
        assert!(
            stack.contains("CREATE_IN_PROGRESS"),
            "{stack}\n{}",
            cloudformation(&ministack.url, "DescribeStackEvents", &[]).await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let sdk = emulators::sdk(&ministack.url).await;
    let queues = SqsQueues::new(sqs_client(&sdk), Duration::ZERO, "rollcall");
    let base = QueueSpec {
        name: "rollcall-dead.fifo".into(),
        fifo: true,
        visibility: Duration::from_secs(30),
        max_receives: u32::MAX,
        dead_letter: None,
        durable: true,
    };
    let listener = QueueSpec {
        name: "rollcall-listener.fifo".into(),
        max_receives: 5,
        dead_letter: Some(base.name.clone()),
        ..base.clone()
    };
    let speaker = QueueSpec { name: "rollcall-speaker".into(), fifo: false, ..base.clone() };
    for spec in [base, listener, speaker] {
        queues.open(&spec.name).await.expect("the template made it");
        queues.create(spec).await.expect("its settings are accepted");
    }
    let store = S3Objects::new(s3_client(&sdk, true), Encryption::S3);
    for bucket in ["input", "output", "state"] {
        let bucket = format!("rollcall-{bucket}-000000000000");
        store.put(&bucket, "trial", "x".into(), Precondition::Absent).await.expect("the template made it");
    }
}
