//! IAM for clusters on emulators, which allow everything: the roles of deploy/cloudformation.yaml are enforced on every call.
//!
//! Web nodes and controllers have an access key of their own, and workers that of their instance. Every other key is an
//! operator's, who may do everything.

mod policy;
mod published;
mod request;
mod template;

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex},
};

use hyper::{HeaderMap, StatusCode};

pub use policy::{Context, Right, Statement, decide};
pub use published::{check, published};
pub use request::{Call, Service, right, stack};
pub use template::{ACCOUNT, CLUSTER, REGION, Template, WORKER_TEMPLATE};

/// The access key of web nodes and controllers.
pub const NODE_KEY: &str = "node";
/// What the access key of a worker begins with, before the id of its instance.
const WORKER_KEY: &str = "ASIA";

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Node,
    Worker,
}

/// The response to a call that is not allowed.
pub struct Refusal {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: String,
}

/// The policies of an account, and what has been asked of them.
pub struct Iam {
    node: Vec<Statement>,
    worker: Vec<Statement>,
    /// URL at which the EC2 emulator tells of its instances.
    instances: String,
    used: Mutex<BTreeSet<(Role, Right)>>,
    denied: Mutex<Vec<String>>,
    /// Objects that are encrypted with a key of KMS, and its ARN.
    encrypted: Mutex<HashSet<(String, String)>>,
    kms_key: String,
}

impl Iam {
    /// Enforces the roles of `template`, in an account whose instances are those of the emulator with this control port.
    pub fn new(template: &Template, ec2_control: &str, kms_key: &str) -> Arc<Self> {
        Arc::new(Self {
            node: template.role("WebRole"),
            worker: template.role("WorkerRole"),
            instances: format!("{ec2_control}/instances"),
            used: Mutex::default(),
            denied: Mutex::default(),
            encrypted: Mutex::default(),
            kms_key: kms_key.to_owned(),
        })
    }

    /// Returns the statements of a role.
    pub fn statements(&self, role: Role) -> &[Statement] {
        match role {
            Role::Node => &self.node,
            Role::Worker => &self.worker,
        }
    }

    /// Returns the rights that were used so far.
    pub fn used(&self) -> BTreeSet<(Role, Right)> {
        self.used.lock().expect("no panic").clone()
    }

    /// Returns what was denied so far.
    pub fn denied(&self) -> Vec<String> {
        self.denied.lock().expect("no panic").clone()
    }

    /// Decides about a request that makes this call.
    pub async fn admit(&self, headers: &HeaderMap, call: Option<&Call>) -> Result<(), Refusal> {
        let key = access_key(headers);
        let (role, instance) = match key.strip_prefix(WORKER_KEY) {
            Some(id) => (Role::Worker, Some(id)),
            None if key == NODE_KEY => (Role::Node, None),
            None => return Ok(()),
        };
        let Some(call) = call else { panic!("a call of {role:?} that is not known here") };
        let mut call = call.clone();
        if call.rights.iter().any(|right| right.resource.contains(":instance/i-")) {
            call.add_instances(&self.tags().await);
        }
        if let Some(id) = instance {
            call.add_source(id);
        }
        if call.reads.as_ref().is_some_and(|object| self.encrypted.lock().expect("no panic").contains(object)) {
            call.rights.push(right("kms:Decrypt", &self.kms_key, Context::new()));
        }
        for right in call.rights.drain(..).map(published).collect::<Vec<_>>() {
            self.decide(role, right, call.service)?;
        }
        self.encrypted.lock().expect("no panic").extend(call.encrypts);
        Ok(())
    }

    /// Decides about the response to a call whose object is missing: S3 tells that only who may list the bucket.
    pub fn admit_missing(&self, headers: &HeaderMap, call: Option<&Call>) -> Result<(), Refusal> {
        let role = match access_key(headers) {
            key if key.starts_with(WORKER_KEY) => Role::Worker,
            NODE_KEY => Role::Node,
            _ => return Ok(()),
        };
        let Some((bucket, _)) = call.and_then(|call| call.reads.as_ref()) else { return Ok(()) };
        self.decide(role, right("s3:ListBucket", &format!("arn:aws:s3:::{bucket}"), Context::new()), Service::S3)
    }

    fn decide(&self, role: Role, right: Right, service: Service) -> Result<(), Refusal> {
        match decide(self.statements(role), &right) {
            Ok(()) => drop(self.used.lock().expect("no panic").insert((role, right))),
            Err(reason) => {
                let reason = format!("{role:?}: {reason}");
                eprintln!("IAM: {reason}");
                self.denied.lock().expect("no panic").push(reason.clone());
                return Err(Refusal::of(service, &reason));
            }
        }
        Ok(())
    }

    async fn tags(&self) -> request::Tags {
        let response = reqwest::get(&self.instances).await.expect("the emulator responds");
        let instances: serde_json::Value = response.json().await.expect("JSON");
        let instances = instances.as_array().expect("a list").iter();
        let tags = |value: &serde_json::Value| serde_json::from_value(value["tags"].clone()).expect("tags");
        instances.map(|instance| (instance["id"].as_str().expect("an id").to_owned(), tags(instance))).collect()
    }
}

impl Refusal {
    /// The response of a service to a call that is not allowed, in its protocol.
    fn of(service: Service, reason: &str) -> Self {
        let (content_type, body) = match service {
            Service::Sqs => (
                "application/x-amz-json-1.0",
                format!(r#"{{"__type":"com.amazon.coral.service#AccessDeniedException","message":{reason:?}}}"#),
            ),
            Service::S3 => {
                ("application/xml", format!("<Error><Code>AccessDenied</Code><Message>{reason}</Message></Error>"))
            }
            Service::Ec2 => {
                let error = format!("<Code>UnauthorizedOperation</Code><Message>{reason}</Message>");
                let errors = format!("<Errors><Error>{error}</Error></Errors><RequestID>r</RequestID>");
                ("text/xml", format!("<Response>{errors}</Response>"))
            }
            Service::CloudFormation => {
                let error = format!("<Type>Sender</Type><Code>AccessDenied</Code><Message>{reason}</Message>");
                ("text/xml", format!("<ErrorResponse><Error>{error}</Error><RequestId>r</RequestId></ErrorResponse>"))
            }
        };
        Self { status: StatusCode::FORBIDDEN, content_type, body }
    }
}

fn access_key(headers: &HeaderMap) -> &str {
    let authorization = request::header(headers, "authorization").unwrap_or_default();
    let credential = authorization.split_once("Credential=").map(|(_, rest)| rest).unwrap_or_default();
    credential.split('/').next().unwrap_or_default()
}
