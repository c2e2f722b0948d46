//! IAM for clusters on emulators, which allow everything: the roles of deploy/cloudformation.yaml are enforced on every call.
//!
//! Web nodes and controllers that a test starts have an access key of their own, and instances that of their instance, whose
//! profile tells the role. Every other key is an operator's, who may do everything.

mod policy;
mod published;
mod request;
mod template;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, RwLock},
};

use hyper::{HeaderMap, StatusCode};

pub use policy::{Context, Right, Statement, decide};
pub use published::{check, published};
pub use request::{Call, Service, right, stack};
pub use template::{ACCOUNT, CLUSTER, REGION, Template, WORKER_TEMPLATE};

/// The access key of web nodes and controllers.
pub const NODE_KEY: &str = "node";
/// What the access key of an instance begins with, before its id.
const INSTANCE_KEY: &str = "ASIA";
/// What the name of the web node's profile contains. Instances with another profile, or none that is known, are workers.
const NODE_PROFILE: &str = "WebProfile";

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
    node: RwLock<Vec<Statement>>,
    worker: RwLock<Vec<Statement>>,
    /// The roles of instances, by id.
    roles: Mutex<HashMap<String, Role>>,
    /// URL at which the EC2 emulator tells of its instances.
    instances: String,
    used: Mutex<BTreeSet<(Role, Right)>>,
    denied: Mutex<Vec<String>>,
    /// Objects that are encrypted with a key of KMS, and its ARN.
    encrypted: Mutex<HashSet<(String, String)>>,
    keys: Keys,
}

/// The keys of KMS that an account uses, as ARNs; empty for AWS's own.
#[derive(Default)]
pub struct Keys {
    pub objects: String,
    /// By default, for every disk of the account.
    pub disks: String,
}

impl Iam {
    /// Enforces the roles of `template`, in an account whose instances are those of the emulator with this control port.
    pub fn new(template: &Template, ec2_control: &str, keys: Keys) -> Arc<Self> {
        Arc::new(Self {
            node: RwLock::new(template.role("WebRole")),
            worker: RwLock::new(template.role("WorkerRole")),
            roles: Mutex::default(),
            instances: format!("{ec2_control}/instances"),
            used: Mutex::default(),
            denied: Mutex::default(),
            encrypted: Mutex::default(),
            keys,
        })
    }

    /// Changes the statements of the web nodes' role.
    pub fn change_node(&self, change: impl FnOnce(&mut Vec<Statement>)) {
        change(&mut self.node.write().expect("no panic"));
    }

    /// Changes the statements of the workers' role.
    pub fn change_worker(&self, change: impl FnOnce(&mut Vec<Statement>)) {
        change(&mut self.worker.write().expect("no panic"));
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
        let (role, instance) = match key.strip_prefix(INSTANCE_KEY) {
            Some(id) => (self.role_of(id).await, Some(id)),
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
            call.rights.push(right("kms:Decrypt", &self.keys.objects, Context::new()));
        }
        if !self.keys.disks.is_empty() {
            call.add_disks(&self.keys.disks);
        }
        for right in call.rights.drain(..).map(published).collect::<Vec<_>>() {
            self.decide(role, right, call.service)?;
        }
        if call.encrypts_alone {
            self.denied.lock().expect("no panic").push(format!("{} asks KMS for a key of its own", call.name));
        }
        self.encrypted.lock().expect("no panic").extend(call.encrypts);
        Ok(())
    }

    /// Decides about the response to a call whose object is missing: S3 tells that only who may list the bucket.
    pub async fn admit_missing(&self, headers: &HeaderMap, call: Option<&Call>) -> Result<(), Refusal> {
        let key = access_key(headers);
        let role = match key.strip_prefix(INSTANCE_KEY) {
            Some(id) => self.role_of(id).await,
            None if key == NODE_KEY => Role::Node,
            None => return Ok(()),
        };
        let Some((bucket, _)) = call.and_then(|call| call.reads.as_ref()) else { return Ok(()) };
        self.decide(role, right("s3:ListBucket", &format!("arn:aws:s3:::{bucket}"), Context::new()), Service::S3)
    }

    fn decide(&self, role: Role, right: Right, service: Service) -> Result<(), Refusal> {
        let decision = match role {
            Role::Node => decide(&self.node.read().expect("no panic"), &right),
            Role::Worker => decide(&self.worker.read().expect("no panic"), &right),
        };
        match decision {
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

    /// Returns the role of an instance, which never changes.
    async fn role_of(&self, id: &str) -> Role {
        if let Some(role) = self.roles.lock().expect("no panic").get(id) {
            return *role;
        }
        let instances = self.instances().await;
        let profile = instances.iter().find(|instance| instance["id"] == id).and_then(|i| i["profile"].as_str());
        let is_node = profile.is_some_and(|profile| profile.contains(NODE_PROFILE));
        let role = if is_node { Role::Node } else { Role::Worker };
        self.roles.lock().expect("no panic").insert(id.to_owned(), role);
        role
    }

    async fn instances(&self) -> Vec<serde_json::Value> {
        let response = reqwest::get(&self.instances).await.expect("the emulator responds");
        response.json().await.expect("JSON")
    }

    async fn tags(&self) -> request::Tags {
        let instances = self.instances().await;
        let instances = instances.iter();
        let tags = |value: &serde_json::Value| serde_json::from_value(value["tags"].clone()).expect("tags");
        instances.map(|instance| (instance["id"].as_str().expect("an id").to_owned(), tags(instance))).collect()
    }
}

impl Refusal {
    /// The response of a service to a call that is not allowed, in its protocol.
    fn of(service: Service, reason: &str) -> Self {
        let (content_type, body) = match service {
            Service::Sqs | Service::Logs => (
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
