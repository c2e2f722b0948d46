//! What deploy/cloudformation.yaml makes: a test compares these values with it.

/// What a queue of the stack is like.
pub(super) struct Queue {
    /// What follows the cluster's name in the queue's.
    pub(super) suffix: &'static str,
    /// Attributes as SQS names them.
    pub(super) attributes: &'static [(&'static str, &'static str)],
    /// After how many receives a message moves to the dead-letter queue, if it does.
    pub(super) max_receives: Option<u64>,
}

/// What follows the cluster's name in the name of the dead-letter queue.
pub(super) const DEAD_LETTER: &str = "-dead.fifo";
const HIGH_THROUGHPUT: &[(&str, &str)] = &[
    ("FifoQueue", "true"),
    ("DeduplicationScope", "messageGroup"),
    ("FifoThroughputLimit", "perMessageGroupId"),
    ("VisibilityTimeout", "30"),
    ("MessageRetentionPeriod", "1209600"),
    ("SqsManagedSseEnabled", "true"),
];
/// The queues: dead letters, requests, replies, heartbeats.
pub(super) const QUEUES: [Queue; 4] = [
    Queue { suffix: DEAD_LETTER, attributes: HIGH_THROUGHPUT, max_receives: None },
    Queue { suffix: "-listener.fifo", attributes: HIGH_THROUGHPUT, max_receives: Some(5) },
    Queue {
        suffix: "-speaker",
        // SQS's own retention of four days: the template sets none.
        attributes: &[
            ("VisibilityTimeout", "30"),
            ("MessageRetentionPeriod", "345600"),
            ("SqsManagedSseEnabled", "true"),
        ],
        max_receives: None,
    },
    Queue {
        suffix: "-status",
        attributes: &[("VisibilityTimeout", "30"), ("MessageRetentionPeriod", "60"), ("SqsManagedSseEnabled", "true")],
        max_receives: None,
    },
];

/// What deletes old objects of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Of which keys; empty for all.
    pub(super) prefix: &'static str,
    /// The stack's parameter with the age in days.
    pub(super) days: &'static str,
}

const RETENTION: &str = "RetentionDays";
/// The buckets by purpose, with their rules.
pub(super) const BUCKETS: [(&str, &[Rule]); 3] = [
    ("input", &[Rule { prefix: "", days: RETENTION }]),
    ("output", &[Rule { prefix: "", days: RETENTION }]),
    (
        "state",
        &[
            Rule { prefix: "recognitions/", days: RETENTION },
            Rule { prefix: "dead-letters/", days: RETENTION },
            Rule { prefix: "claims/", days: RETENTION },
            Rule { prefix: "audit/", days: "AuditDays" },
        ],
    ),
];
/// Algorithms by which S3 encrypts what does not state another: with its own keys, as in the template, or with KMS.
pub(super) const ENCRYPTION: [&str; 3] = ["AES256", "aws:kms", "aws:kms:dsse"];
/// The template's names of the workers' launch template, profile and security group, and of the web node's profile.
pub(super) const WORKER_TEMPLATE: &str = "WorkerTemplate";
pub(super) const WEB_TEMPLATE: &str = "WebTemplate";
pub(super) const WORKER_PROFILE: &str = "WorkerProfile";
pub(super) const WORKER_GROUP: &str = "WorkerGroup";
pub(super) const WEB_PROFILE: &str = "WebProfile";
pub(super) const WEB_GROUP: &str = "WebGroup";
/// The security groups of the load balancer, of the web nodes behind it, and of VPC endpoints, which not every stack has.
pub(super) const BALANCER_GROUP: &str = "BalancerGroup";
pub(super) const BALANCED_WEB_GROUP: &str = "BalancedWebGroup";
pub(super) const ENDPOINT_GROUP: &str = "EndpointGroup";

#[cfg(test)]
mod tests {
    use serde_norway::{Value, value::TaggedValue};

    use super::*;

    fn template() -> Value {
        let text = std::fs::read_to_string("deploy/cloudformation.yaml").expect("the template");
        serde_norway::from_str(&text).expect("YAML")
    }

    /// Returns the resources of a type, by name.
    fn of_type(template: &Value, wanted: &str) -> Vec<(String, Value)> {
        let resources = template["Resources"].as_mapping().expect("resources").iter();
        let of_type = resources.filter(|(_, resource)| resource["Type"].as_str() == Some(wanted));
        of_type
            .map(|(name, resource)| (name.as_str().expect("a name").to_owned(), resource["Properties"].clone()))
            .collect()
    }

    /// Returns the argument of a function such as `!Sub`.
    fn argument(value: &Value) -> String {
        let Value::Tagged(tagged) = value else { panic!("{value:?}") };
        let TaggedValue { value, .. } = &**tagged;
        value.as_str().expect("text").to_owned()
    }

    fn text(value: &Value) -> String {
        match value {
            Value::String(text) => text.clone(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => number.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_queues_are_those_of_the_template() {
        let queues = of_type(&template(), "AWS::SQS::Queue");
        assert_eq!(queues.len(), QUEUES.len());
        for (name, properties) in queues {
            let queue_name = argument(&properties["QueueName"]);
            let expected = QUEUES.iter().find(|queue| format!("${{Cluster}}{}", queue.suffix) == queue_name);
            let expected = expected.unwrap_or_else(|| panic!("{name}"));
            let redrive = &properties["RedrivePolicy"];
            assert_eq!(redrive["maxReceiveCount"].as_u64(), expected.max_receives, "{name}");
            let others = ["QueueName", "Tags", "RedrivePolicy"];
            let set = properties.as_mapping().expect("properties").iter();
            let set: Vec<_> = set.filter(|(key, _)| !others.contains(&key.as_str().expect("a name"))).collect();
            for (key, value) in &set {
                let key = key.as_str().expect("a name");
                assert!(expected.attributes.contains(&(key, text(value).as_str())), "{name}: {key}");
            }
            let unset = usize::from(properties.get("MessageRetentionPeriod").is_none());
            assert_eq!(set.len() + unset, expected.attributes.len(), "{name}");
        }
    }

    #[test]
    fn the_buckets_are_those_of_the_template() {
        let buckets = of_type(&template(), "AWS::S3::Bucket");
        assert_eq!(buckets.len(), BUCKETS.len());
        for (name, properties) in buckets {
            let bucket = argument(&properties["BucketName"]);
            let expected = BUCKETS.iter().find(|(purpose, _)| bucket.contains(&format!("-{purpose}-")));
            let (_, expected) = expected.unwrap_or_else(|| panic!("{name}"));
            let rules = properties["LifecycleConfiguration"]["Rules"].as_sequence().expect("rules");
            let rules = rules.iter().map(|rule| {
                assert_eq!(rule["Status"].as_str(), Some("Enabled"), "{name}");
                (rule.get("Prefix").map(text).unwrap_or_default(), argument(&rule["ExpirationInDays"]))
            });
            let expected: Vec<_> = expected.iter().map(|rule| (rule.prefix.to_owned(), rule.days.to_owned())).collect();
            assert_eq!(rules.collect::<Vec<_>>(), expected, "{name}");
            let blocks = properties["PublicAccessBlockConfiguration"].as_mapping().expect("blocks");
            assert!(blocks.len() == 4 && blocks.values().all(|value| value.as_bool() == Some(true)), "{name}");
            let encryption = &properties["BucketEncryption"]["ServerSideEncryptionConfiguration"][0];
            assert_eq!(encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"].as_str(), Some(ENCRYPTION[0]));
        }
    }

    #[test]
    fn the_other_resources_have_these_names() {
        let template = template();
        let groups = [WORKER_GROUP, WEB_GROUP, BALANCER_GROUP, BALANCED_WEB_GROUP, ENDPOINT_GROUP];
        for name in [WORKER_TEMPLATE, WEB_TEMPLATE, WORKER_PROFILE, WEB_PROFILE].into_iter().chain(groups) {
            assert!(template["Resources"].get(name).is_some(), "{name}");
        }
        for parameter in
            ["RetentionDays", "AuditDays", "KmsKey", "Image", "Subnet", "AllowFrom", "Key", "WebNodes", "Certificate"]
        {
            assert!(template["Parameters"].get(parameter).is_some(), "{parameter}");
        }
        assert_eq!(of_type(&template, "AWS::EC2::SecurityGroup").len(), groups.len(), "all are checked");
    }
}
