//! Judges what may reach the machines: the security groups admit what the template says, and nothing else.

use std::net::Ipv4Addr;

use super::super::{
    check::Check,
    expected::{BALANCED_WEB_GROUP, BALANCER_GROUP, ENDPOINT_GROUP, WEB_GROUP, WORKER_GROUP},
};
use crate::cloud::aws::deploy::facts::StackFacts;

/// A security group of the stack: what may reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Inbound {
    /// What is in the group.
    pub(in super::super) what: &'static str,
    pub(in super::super) id: String,
    /// The rules of the template: one line of text per source.
    pub(in super::super) expected: Vec<String>,
    /// Those that there are.
    pub(in super::super) seen: Vec<String>,
}

/// Returns the security groups of a stack, with the rules of the template.
pub(in super::super) fn groups(stack: &StackFacts) -> Vec<Inbound> {
    let parameter = |name: &str| stack.parameters.get(name).map(String::as_str).unwrap_or_default();
    let id = |name: &str| stack.resources.get(name).cloned().unwrap_or_default();
    let from = canonical(parameter("AllowFrom"));
    let rule = |port: u16, source: &str| format!("tcp {port} from {source}");
    let ssh = (!parameter("Key").is_empty()).then(|| rule(22, &from));
    let and_ssh = |first: String| [first].into_iter().chain(ssh.clone()).collect::<Vec<_>>();
    let balancer = id(BALANCER_GROUP);
    let all = [
        ("workers", WORKER_GROUP, Vec::new()),
        ("the web node", WEB_GROUP, and_ssh(rule(5000, &from))),
        ("the load balancer", BALANCER_GROUP, vec![rule(443, &from)]),
        ("web nodes behind the load balancer", BALANCED_WEB_GROUP, and_ssh(rule(5000, &balancer))),
        ("VPC endpoints", ENDPOINT_GROUP, vec![rule(443, "0.0.0.0/0")]),
    ];
    // A stack has those of a load balancer and of endpoints only if it has these.
    let there = all.into_iter().filter(|(_, name, _)| [WORKER_GROUP, WEB_GROUP].contains(name) || !id(name).is_empty());
    there.map(|(what, name, expected)| Inbound { what, id: id(name), expected, seen: Vec::new() }).collect()
}

/// Judges what may reach the groups.
pub(in super::super) fn network(groups: &[Inbound]) -> Check {
    let mut faults = Vec::new();
    for Inbound { what, expected, seen, .. } in groups {
        let more = seen.iter().filter(|line| !expected.contains(line));
        faults.extend(more.map(|line| format!("{what} can be reached: {line}")));
        let less = expected.iter().filter(|line| !seen.contains(line));
        faults.extend(less.map(|line| format!("{what} cannot be reached: {line} is missing")));
    }
    let expected = groups.iter().map(|Inbound { what, expected, .. }| match expected.as_slice() {
        [] => format!("nothing reaches {what}"),
        lines => format!("{what}: {}", lines.join(", ")),
    });
    let expected = expected.collect::<Vec<_>>().join("; ");
    let remedy = "find out who changed the security groups, and make their rules those that are expected";
    Check::of_faults("network", expected, "the same", &faults, remedy)
}

/// Returns an address range without the bits that its length leaves out, as EC2 stores it.
fn canonical(range: &str) -> String {
    let parsed = range.split_once('/').and_then(|(address, length)| {
        let (address, length) = (address.parse::<Ipv4Addr>().ok()?, length.parse::<u32>().ok()?);
        let mask = u32::MAX.checked_shl(32u32.checked_sub(length)?).unwrap_or(0);
        Some(format!("{}/{length}", Ipv4Addr::from_bits(address.to_bits() & mask)))
    });
    parsed.unwrap_or_else(|| range.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{super::super::check::Verdict, *};

    fn stack(parameters: &[(&str, &str)], resources: &[(&str, &str)]) -> StackFacts {
        let owned =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        StackFacts { parameters: owned(parameters), resources: owned(resources), ..StackFacts::default() }
    }

    /// Returns the groups as the template makes them.
    fn healthy(stack: &StackFacts) -> Vec<Inbound> {
        groups(stack).into_iter().map(|group| Inbound { seen: group.expected.clone(), ..group }).collect()
    }

    const BALANCED: [(&str, &str); 5] = [
        (WORKER_GROUP, "sg-workers"),
        (WEB_GROUP, "sg-web"),
        (BALANCER_GROUP, "sg-balancer"),
        (BALANCED_WEB_GROUP, "sg-balanced"),
        (ENDPOINT_GROUP, "sg-endpoints"),
    ];

    #[test]
    fn each_rule_that_is_not_of_the_template_is_named_with_its_group() {
        let single = stack(&[("AllowFrom", "10.1.2.3/8")], &BALANCED[..2]);
        let several = stack(&[("AllowFrom", "10.0.0.0/8"), ("Key", "ops")], &BALANCED);
        assert_eq!((groups(&single).len(), groups(&several).len()), (2, 5));
        let expected = "nothing reaches workers; the web node: tcp 5000 from 10.0.0.0/8";
        assert_eq!(network(&healthy(&single)).expected, expected);
        let check = network(&healthy(&several));
        assert_eq!(check.verdict, Verdict::Ok);
        for part in [
            "the load balancer: tcp 443 from 10.0.0.0/8;",
            "web nodes behind the load balancer: tcp 5000 from sg-balancer, tcp 22 from 10.0.0.0/8;",
            "VPC endpoints: tcp 443 from 0.0.0.0/0",
        ] {
            assert!(check.expected.contains(part), "{part}: {}", check.expected);
        }
        for n in 0..5 {
            let mut more = healthy(&several);
            more[n].seen.push("tcp 80 from 0.0.0.0/0".into());
            let check = network(&more);
            assert_eq!(check.seen, format!("{} can be reached: tcp 80 from 0.0.0.0/0", more[n].what));
            let mut less = healthy(&several);
            let Some(gone) = less[n].seen.pop() else { continue };
            let check = network(&less);
            assert_eq!(check.seen, format!("{} cannot be reached: {gone} is missing", less[n].what));
        }
    }

    #[test]
    fn ranges_are_compared_as_ec2_stores_them() {
        let ranges = ["10.1.2.3/8", "203.0.113.7/32", "1.2.3.4/0", "x"].map(canonical);
        assert_eq!(ranges, ["10.0.0.0/8", "203.0.113.7/32", "0.0.0.0/0", "x"]);
    }
}
