//! Each fault of a resource is named, and a resource as in the template has none.

use super::{super::check::Verdict, *};
use crate::{
    cli::aws::verify::expected::{BUCKETS, QUEUES},
    cloud::aws::deploy::facts::Expiry,
};

fn assert_fault(check: &Check, parts: &[&str]) {
    assert_eq!(check.verdict, Verdict::Failed, "{check:?}");
    assert!(parts.iter().all(|part| check.seen.contains(part)), "{check:?}");
    assert!(check.remedy.as_ref().is_some_and(|remedy| !remedy.is_empty()));
}

fn assert_ok(check: &Check) {
    assert_eq!(check.verdict, Verdict::Ok, "{check:?}");
}

fn parameters() -> BTreeMap<String, String> {
    let all = [("RetentionDays", "30"), ("AuditDays", "365"), ("Image", "ami-1")];
    all.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn queue_facts(expected: &Queue) -> QueueFacts {
    let mut attributes: BTreeMap<String, String> =
        expected.attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    if let Some(receives) = expected.max_receives {
        let policy = format!(r#"{{"deadLetterTargetArn":"arn:aws:sqs:r:1:c-dead.fifo","maxReceiveCount":{receives}}}"#);
        attributes.insert("RedrivePolicy".into(), policy);
    }
    QueueFacts { attributes }
}

#[test]
fn a_queue_is_as_in_the_template_or_its_fault_is_named() {
    let public = r#"{"Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sqs:*"}]}"#;
    for expected in &QUEUES {
        let healthy = queue_facts(expected);
        assert_ok(&queue("c", expected, &healthy));
        for (attribute, _) in expected.attributes {
            let mut facts = healthy.clone();
            facts.attributes.insert((*attribute).to_owned(), "7".into());
            assert_fault(&queue("c", expected, &facts), &[attribute, "is 7"]);
            facts.attributes.remove(*attribute);
            assert_fault(&queue("c", expected, &facts), &[attribute, "unset"]);
        }
        let mut facts = healthy.clone();
        facts.attributes.insert("Policy".into(), public.into());
        assert_fault(&queue("c", expected, &facts), &["everybody"]);
    }
    let requests = &QUEUES[1];
    let mut facts = queue_facts(requests);
    for policy in [
        r#"{"deadLetterTargetArn":"arn:aws:sqs:r:1:other.fifo","maxReceiveCount":"5"}"#,
        r#"{"deadLetterTargetArn":"arn:aws:sqs:r:1:c-dead.fifo","maxReceiveCount":"6"}"#,
    ] {
        facts.attributes.insert("RedrivePolicy".into(), policy.into());
        assert_fault(&queue("c", requests, &facts), &["dead-letter queue", policy.split('"').nth(3).expect("an ARN")]);
    }
    facts.attributes.remove("RedrivePolicy");
    assert_fault(&queue("c", requests, &facts), &["no dead-letter queue"]);
}

#[test]
fn a_bucket_is_as_in_the_template_or_its_fault_is_named() {
    for (purpose, rules) in BUCKETS {
        let days = |rule: &Rule| parameters()[rule.days].parse().expect("a number");
        let expiry = rules.iter().map(|rule| Expiry { prefix: rule.prefix.into(), days: days(rule) }).collect();
        let healthy = BucketFacts { encryption: Some("AES256".into()), expiry, ..BucketFacts::default() };
        let judged = |facts: &BucketFacts| bucket(purpose, rules, &parameters(), facts);
        assert_ok(&judged(&healthy));
        assert_ok(&judged(&BucketFacts { encryption: Some("aws:kms".into()), ..healthy.clone() }));
        assert_fault(&judged(&BucketFacts { encryption: None, ..healthy.clone() }), &["nothing"]);
        assert_fault(&judged(&BucketFacts { open: vec!["BlockPublicAcls"], ..healthy.clone() }), &["BlockPublicAcls"]);
        for (n, rule) in rules.iter().enumerate() {
            let mut facts = healthy.clone();
            facts.expiry[n].days = 1;
            assert_fault(&judged(&facts), &["after 1 days", rule.prefix, rule.days]);
            facts.expiry.remove(n);
            assert_fault(&judged(&facts), &["never", rule.prefix]);
        }
        let mut facts = healthy.clone();
        facts.expiry.push(Expiry { prefix: "private/".into(), days: 1 });
        assert_fault(&judged(&facts), &["another rule", "private/"]);
        let policy = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject"}}"#;
        assert_fault(&judged(&BucketFacts { policy: Some(policy.into()), ..healthy }), &["everybody"]);
    }
}

#[test]
fn a_policy_is_public_if_it_allows_something_to_everybody() {
    for (principal, more, public) in [
        (r#""*""#, "", true),
        (r#"{"AWS":["arn:aws:iam::1:root","*"]}"#, "", true),
        (r#"{"AWS":"arn:aws:iam::1:root"}"#, "", false),
        (r#""*""#, r#","Condition":{"StringEquals":{"aws:SourceAccount":"1"}}"#, false),
    ] {
        let policy = format!(r#"{{"Statement":[{{"Effect":"Allow","Principal":{principal}{more}}}]}}"#);
        assert_eq!(is_public(&policy), public, "{policy}");
        assert!(!is_public(&policy.replace("Allow", "Deny")), "{policy}");
    }
}

fn stack_facts() -> StackFacts {
    let resources = [(WORKER_PROFILE, "c-WorkerProfile-1"), (WORKER_GROUP, "sg-1")];
    StackFacts {
        status: "CREATE_COMPLETE".into(),
        outputs: [("Address".to_owned(), "http://192.0.2.1:5000/".to_owned())].into(),
        parameters: parameters(),
        resources: resources.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    }
}

#[test]
fn a_stack_is_complete_and_has_an_address() {
    assert_ok(&stack("c", Some(&stack_facts())));
    assert_fault(&stack("c", None), &["does not exist"]);
    let failed = StackFacts { status: "ROLLBACK_FAILED".into(), ..stack_facts() };
    assert_fault(&stack("c", Some(&failed)), &["ROLLBACK_FAILED"]);
    assert_fault(&stack("c", Some(&StackFacts { outputs: BTreeMap::new(), ..stack_facts() })), &["no address"]);
}

fn template_facts() -> TemplateFacts {
    TemplateFacts {
        version: 3,
        image: Some("ami-1".into()),
        http_tokens: Some("required".into()),
        profile: Some("arn:aws:iam::1:instance-profile/c-WorkerProfile-1".into()),
        on_shutdown: Some("stop".into()),
        groups: vec!["sg-1".into()],
        user_data: String::new(),
    }
}

#[test]
fn a_launch_template_is_that_of_the_stack_or_its_fault_is_named() {
    let healthy = template_facts();
    let judged = |facts: &TemplateFacts| template(&stack_facts(), facts);
    assert_ok(&judged(&healthy));
    assert_ok(&judged(&TemplateFacts { profile: Some("c-WorkerProfile-1".into()), ..healthy.clone() }));
    for (facts, part) in [
        (TemplateFacts { http_tokens: Some("optional".into()), ..healthy.clone() }, "IMDSv1"),
        (TemplateFacts { http_tokens: None, ..healthy.clone() }, "IMDSv1"),
        (TemplateFacts { image: Some("ami-2".into()), ..healthy.clone() }, "ami-2"),
        (TemplateFacts { profile: Some("admin".into()), ..healthy.clone() }, "admin"),
        (TemplateFacts { profile: None, ..healthy.clone() }, "unset"),
        (TemplateFacts { on_shutdown: Some("terminate".into()), ..healthy.clone() }, "terminate"),
        (TemplateFacts { groups: vec!["sg-1".into(), "sg-2".into()], ..healthy.clone() }, "sg-2"),
    ] {
        assert_fault(&judged(&facts), &[part]);
    }
    let mut private = stack_facts();
    private.parameters.insert("PrivateWorkers".into(), "yes".into());
    assert_fault(&template(&private, &healthy), &["[sg-1], not []"]);
    assert_ok(&template(&private, &TemplateFacts { groups: Vec::new(), ..healthy }));
}

#[test]
fn workers_of_another_version_or_image_are_named() {
    let worker = |id: &str, version: Option<i64>, image: &str| InstanceFacts {
        id: id.into(),
        name: String::new(),
        state: "running".into(),
        version,
        image: Some(image.into()),
        subnet: None,
        launched_ms: None,
    };
    let current = [worker("i-1", Some(3), "ami-1"), worker("i-2", None, "ami-1")];
    assert_ok(&versions(&template_facts(), &current));
    let check = versions(&template_facts(), &[worker("i-1", Some(2), "ami-1"), worker("i-2", Some(3), "ami-2")]);
    assert_fault(&check, &["i-1 (running) is of version 2", "i-2 (running) is of image ami-2"]);
    let ending = InstanceFacts { state: "shutting-down".into(), ..worker("i-1", Some(2), "ami-1") };
    assert_ok(&versions(&template_facts(), &[ending]));
}
