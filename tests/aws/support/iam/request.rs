//! What a request to SQS, S3, EC2, CloudFormation or CloudWatch Logs does, and which rights it needs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hyper::{HeaderMap, http::request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{
    policy::{Context, Right},
    published,
    template::{ACCOUNT, REGION, WORKER_ROLE, WORKER_TEMPLATE},
};

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The action, and for S3 the kind of bucket: `SendMessageBatch`, `GetObject state`, `RunInstances`.
    pub name: String,
    pub service: Service,
    pub rights: Vec<Right>,
    /// The object that it reads, as bucket and key.
    pub reads: Option<(String, String)>,
    /// The object that it encrypts with a key of KMS, as bucket and key.
    pub encrypts: Option<(String, String)>,
    /// Whether it does that without a bucket key, so that S3 asks KMS for each object, which is billed.
    pub encrypts_alone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Sqs,
    S3,
    Ec2,
    CloudFormation,
    Logs,
}

/// The tags of instances, by id.
pub type Tags = BTreeMap<String, BTreeMap<String, String>>;

impl Call {
    /// Reads a request; `None` if it is none to these services.
    pub fn of(parts: &Parts, body: &Bytes) -> Option<Self> {
        if let Some(target) = header(&parts.headers, "x-amz-target") {
            let logs = target.strip_prefix("Logs_20140328.").map(|action| Self::logs(action, body));
            return logs.or_else(|| target.strip_prefix("AmazonSQS.").map(|action| Self::sqs(action, body)));
        }
        if body.starts_with(b"Action=") {
            let form = form_urlencoded::parse(body).map(|(key, value)| (key.into_owned(), value.into_owned()));
            let form: BTreeMap<String, String> = form.collect();
            // Both services are called in this way, and the nodes of a stack make one call to CloudFormation.
            return Some(if form["Action"] == "SignalResource" {
                Self::cloudformation(&form)
            } else {
                Self::ec2(form)
            });
        }
        Self::s3(parts)
    }

    fn sqs(action: &str, body: &Bytes) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |key: &str| body[key].as_str().map(|text| text.rsplit('/').next().unwrap_or(text).to_owned());
        let queue = text("QueueUrl").or_else(|| text("QueueName")).unwrap_or_else(|| "*".into());
        let resource = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}");
        // A batch needs the right of a single call.
        let mut actions = vec![action.trim_end_matches("Batch").to_owned()];
        if action == "CreateQueue" && body["tags"].as_object().is_some_and(|tags| !tags.is_empty()) {
            actions.push("TagQueue".into());
        }
        let rights = actions.into_iter().map(|action| right(&format!("sqs:{action}"), &resource, Context::new()));
        Self::new(action.to_owned(), Service::Sqs, rights.collect())
    }

    fn logs(action: &str, body: &Bytes) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let name = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let resource = format!("log-group:{}:log-stream:{}", name("logGroupName"), name("logStreamName"));
        let resource = format!("arn:aws:logs:{REGION}:{ACCOUNT}:{resource}");
        let rights = vec![right(&format!("logs:{action}"), &resource, Context::new())];
        Self::new(action.to_owned(), Service::Logs, rights)
    }

    fn s3(parts: &Parts) -> Option<Self> {
        let path = percent_decode_str(parts.uri.path().trim_start_matches('/')).decode_utf8().ok()?.into_owned();
        let query = parts.uri.query().unwrap_or_default();
        let (bucket, key) = path.split_once('/').map_or((path.as_str(), ""), |(bucket, key)| (bucket, key));
        let named = query.split('&').find_map(|part| part.strip_prefix("x-id="));
        let action = match (parts.method.as_str(), named) {
            (_, Some(named)) => named.to_owned(),
            ("GET", _) if query.contains("list-type=2") => "ListObjectsV2".to_owned(),
            ("HEAD", _) if key.is_empty() => "HeadBucket".to_owned(),
            _ => return None,
        };
        let kind = bucket.split('-').nth(1).unwrap_or(bucket);
        let (of_bucket, of_object) = (format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/{key}"));
        let rights = match action.as_str() {
            "ListObjectsV2" | "HeadBucket" => vec![right("s3:ListBucket", &of_bucket, Context::new())],
            action => vec![right(&format!("s3:{action}"), &of_object, Context::new())],
        };
        let object = || Some((bucket.to_owned(), key.to_owned()));
        let mut call = Self::new(format!("{action} {kind}"), Service::S3, rights);
        call.reads = (action == "GetObject").then(object).flatten();
        if header(&parts.headers, "x-amz-server-side-encryption") == Some("aws:kms") {
            let key = header(&parts.headers, "x-amz-server-side-encryption-aws-kms-key-id").unwrap_or_default();
            call.rights.push(right("kms:GenerateDataKey", key, Context::new()));
            call.encrypts = object();
            call.encrypts_alone =
                header(&parts.headers, "x-amz-server-side-encryption-bucket-key-enabled") != Some("true");
        }
        Some(call)
    }

    fn ec2(form: BTreeMap<String, String>) -> Self {
        let action = form["Action"].clone();
        let full = format!("ec2:{action}");
        let rights = match action.as_str() {
            "RunInstances" => launch(&form),
            "CreateTags" => {
                let mut context = Context::new();
                tag_request(&mut context, tags(&form, "Tag."));
                values(&form, "ResourceId.").map(|id| right(&full, &instance(id), context.clone())).collect()
            }
            "StartInstances" | "StopInstances" | "TerminateInstances" => {
                values(&form, "InstanceId.").map(|id| right(&full, &instance(id), Context::new())).collect()
            }
            _ => vec![right(&full, "*", Context::new())],
        };
        Self::new(action, Service::Ec2, rights)
    }

    fn cloudformation(form: &BTreeMap<String, String>) -> Self {
        let action = form["Action"].clone();
        let right = right(&format!("cloudformation:{action}"), &stack(&form["StackName"]), Context::new());
        Self::new(action, Service::CloudFormation, vec![right])
    }

    fn new(name: String, service: Service, rights: Vec<Right>) -> Self {
        Self { name, service, rights, reads: None, encrypts: None, encrypts_alone: false }
    }

    /// Adds what is known of the instances that the call is about.
    pub fn add_instances(&mut self, known: &Tags) {
        for right in &mut self.rights {
            let Some((_, id)) = right.resource.split_once(":instance/") else { continue };
            if let Some(tags) = known.get(id) {
                right.context.insert("ec2:InstanceID".into(), vec![id.to_owned()]);
                for (key, value) in tags {
                    right.context.insert(format!("aws:ResourceTag/{key}"), vec![value.clone()]);
                }
            }
        }
    }

    /// Adds what the call needs if `key` encrypts the disks of instances ("Permissions for IAM users" in the user guide of EBS). EC2
    /// itself accepts the call without, and then terminates the instance.
    pub fn add_disks(&mut self, key: &str) {
        if !["RunInstances", "StartInstances"].contains(&self.name.as_str()) {
            return;
        }
        let through = ("kms:ViaService".to_owned(), vec![format!("ec2.{REGION}.amazonaws.com")]);
        let actions = [
            "CreateGrant",
            "Decrypt",
            "DescribeKey",
            "GenerateDataKeyWithoutPlaintext",
            "ReEncryptFrom",
            "ReEncryptTo",
        ];
        let rights = actions.map(|action| right(&format!("kms:{action}"), key, Context::from([through.clone()])));
        self.rights.extend(rights);
    }

    /// Adds that the call comes from an instance, with the credentials of its role.
    pub fn add_source(&mut self, id: &str) {
        for right in &mut self.rights {
            right.context.insert("ec2:SourceInstanceARN".into(), vec![instance(id)]);
            right.context.insert("aws:userid".into(), vec![format!("AROAEMULATOR:{id}")]);
        }
    }
}

/// Returns what a launch needs: the required resources, those that it names, the tags of what it creates, and the
/// workers' role.
fn launch(form: &BTreeMap<String, String>) -> Vec<Right> {
    let given = |key: &str| form.get(key).map(String::as_str);
    let spot = given("InstanceMarketOptions.MarketType") == Some("spot");
    let mut kinds: BTreeSet<&str> = published::required_kinds("ec2:RunInstances").into_iter().collect();
    kinds.insert("volume"); // of every image with a disk
    let template = given("LaunchTemplate.LaunchTemplateName").or_else(|| given("LaunchTemplate.LaunchTemplateId"));
    kinds.extend(template.map(|_| "launch-template"));
    kinds.extend(given("KeyName").map(|_| "key-pair"));
    kinds.extend(spot.then_some("spot-instances-request"));
    let mut rights = Vec::new();
    let template_arn = format!("arn:aws:ec2:{REGION}:{ACCOUNT}:launch-template/{WORKER_TEMPLATE}");
    for kind in kinds {
        let mut context = Context::new();
        if template.is_some() {
            context.insert("ec2:LaunchTemplate".into(), vec![template_arn.clone()]);
            let is_of_template = kind == "image" && !form.contains_key("ImageId");
            context.insert("ec2:IsLaunchTemplateResource".into(), vec![is_of_template.to_string()]);
        }
        for n in (1..).take_while(|n| form.contains_key(&format!("TagSpecification.{n}.ResourceType"))) {
            if given(&format!("TagSpecification.{n}.ResourceType")) == Some(kind) {
                tag_request(&mut context, tags(form, &format!("TagSpecification.{n}.Tag.")));
            }
        }
        let arn = match kind {
            "image" => format!("arn:aws:ec2:{REGION}::image/{}", given("ImageId").unwrap_or("ami-of-the-template")),
            "launch-template" => template_arn.clone(),
            kind => format!("arn:aws:ec2:{REGION}:{ACCOUNT}:{kind}/new"),
        };
        rights.push(right("ec2:RunInstances", &arn, context.clone()));
        if context.contains_key("aws:TagKeys") {
            context.insert("ec2:CreateAction".into(), vec!["RunInstances".into()]);
            rights.push(right("ec2:CreateTags", &arn, context));
        }
    }
    let service = |key: &str, service: &str| Context::from([(key.to_owned(), vec![service.to_owned()])]);
    rights.push(right("iam:PassRole", WORKER_ROLE, service("iam:PassedToService", "ec2.amazonaws.com")));
    if spot {
        // EC2 creates this role with the first spot instance of an account.
        let role = "role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot";
        let context = service("iam:AWSServiceName", "spot.amazonaws.com");
        rights.push(right("iam:CreateServiceLinkedRole", &format!("arn:aws:iam::{ACCOUNT}:{role}"), context));
    }
    rights
}

fn tag_request(context: &mut Context, tags: Vec<(String, String)>) {
    if !tags.is_empty() {
        context.insert("aws:TagKeys".into(), tags.iter().map(|(key, _)| key.clone()).collect());
    }
    for (key, value) in tags {
        context.insert(format!("aws:RequestTag/{key}"), vec![value]);
    }
}

fn tags(form: &BTreeMap<String, String>, prefix: &str) -> Vec<(String, String)> {
    let numbers = (1..).map_while(|n| form.get(&format!("{prefix}{n}.Key")).map(|key| (n, key.clone())));
    numbers.map(|(n, key)| (key, form.get(&format!("{prefix}{n}.Value")).cloned().unwrap_or_default())).collect()
}

fn values<'a>(form: &'a BTreeMap<String, String>, prefix: &str) -> impl Iterator<Item = &'a str> {
    form.iter().filter(move |(key, _)| key.starts_with(prefix)).map(|(_, value)| value.as_str())
}

fn instance(id: &str) -> String {
    format!("arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{id}")
}

/// Returns the ARN of a stack.
pub fn stack(name: &str) -> String {
    format!("arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/1c2fa620-982a-11e3-aff7-50e2416294e0")
}

pub fn right(action: &str, resource: &str, context: Context) -> Right {
    Right { action: action.to_owned(), resource: resource.to_owned(), context }
}

pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
