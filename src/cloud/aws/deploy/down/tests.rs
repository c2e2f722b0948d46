//! Terminating more instances than one call to EC2 may name, in an account that has others.

use std::sync::{Arc, Mutex};

use super::{
    super::fake_api::{self, Answer, Call, values},
    *,
};

/// The most ids of a call, and the most instances of a list that has no pages.
const MOST: usize = 1_000;
/// The most values of a filter.
const MOST_VALUES: usize = 200;
/// Time for what takes a moment, if the machine has much else to do.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An instance: its tag, and whether it is terminated.
#[derive(Clone)]
struct Machine {
    id: String,
    tag: (String, String),
    terminated: bool,
}

/// An EC2 with the limits of the real one, and what it returned so far.
#[derive(Default)]
struct Ec2 {
    machines: Vec<Machine>,
    terminations: Vec<usize>,
    /// Ids that were in lists.
    listed: BTreeSet<String>,
}

impl Ec2 {
    fn add(&mut self, prefix: &str, count: usize, key: &str, value: &str, terminated: bool) {
        let tag = (key.to_owned(), value.to_owned());
        let ids = (0..count).map(|n| Machine { id: format!("i-{prefix}{n}"), tag: tag.clone(), terminated });
        self.machines.extend(ids);
    }

    fn alive(&self, prefix: &str) -> usize {
        self.machines.iter().filter(|m| !m.terminated && m.id.starts_with(prefix)).count()
    }

    fn answer(&mut self, call: &Call) -> Answer {
        match call["Action"].as_str() {
            "TerminateInstances" => self.terminate(&values(call, "InstanceId")),
            "DescribeInstances" => self.describe(call),
            action => panic!("{action} is not expected"),
        }
    }

    fn terminate(&mut self, ids: &[String]) -> Answer {
        let is_known = |id: &String| self.machines.iter().any(|m| m.id == *id);
        match ids {
            [] => return Err("MissingParameter"),
            ids if ids.len() > MOST => return Err("InvalidRequest"),
            ids if !ids.iter().all(is_known) => return Err("InvalidInstanceID.NotFound"),
            ids => self.terminations.push(ids.len()),
        }
        self.machines.iter_mut().filter(|m| ids.contains(&m.id)).for_each(|m| m.terminated = true);
        Ok(String::new())
    }

    fn describe(&mut self, call: &Call) -> Answer {
        let (ids, most) = (values(call, "InstanceId"), call.get("MaxResults"));
        if !ids.is_empty() && most.is_some() {
            return Err("InvalidParameterCombination");
        }
        let filters: Vec<(String, Vec<String>)> = (1..)
            .map_while(|n| {
                Some((call.get(&format!("Filter.{n}.Name"))?.clone(), values(call, &format!("Filter.{n}.Value"))))
            })
            .collect();
        if ids.len() > MOST || filters.iter().map(|(_, values)| values.len()).sum::<usize>() > MOST_VALUES {
            return Err("FilterLimitExceeded");
        }
        let matches = |machine: &&Machine, (name, values): &(String, Vec<String>)| {
            let value = match name.as_str() {
                "instance-id" => &machine.id,
                "instance-state-name" if machine.terminated => "terminated",
                "instance-state-name" => "running",
                tag if tag.strip_prefix("tag:") == Some(&machine.tag.0) => &machine.tag.1,
                _ => return false,
            };
            values.iter().any(|wanted| wanted == value)
        };
        let found: Vec<&Machine> = self
            .machines
            .iter()
            .filter(|machine| ids.is_empty() || ids.contains(&machine.id))
            .filter(|machine| filters.iter().all(|filter| matches(machine, filter)))
            .collect();
        let first: usize = call.get("NextToken").map_or(0, |token| token.parse().unwrap());
        let most = most.map_or(found.len().max(1), |most| most.parse().unwrap());
        if most > MOST {
            return Err("OperationNotPermitted");
        }
        let page: Vec<&Machine> = found.iter().skip(first).take(most).copied().collect();
        self.listed.extend(page.iter().map(|machine| machine.id.clone()));
        let items: String =
            page.iter().map(|machine| format!("<item><instanceId>{}</instanceId></item>", machine.id)).collect();
        let next = first + page.len();
        let next = if next < found.len() { format!("<nextToken>{next}</nextToken>") } else { String::new() };
        let set = format!("<item><instancesSet>{items}</instancesSet></item>");
        Ok(format!("<reservationSet>{set}</reservationSet>{next}"))
    }
}

async fn start(ec2: Ec2) -> (Account, Arc<Mutex<Ec2>>) {
    let ec2 = Arc::new(Mutex::new(ec2));
    let shared = ec2.clone();
    (fake_api::account(move |call| shared.lock().unwrap().answer(call)).await, ec2)
}

#[tokio::test]
async fn thousands_of_workers_are_terminated_in_calls_that_ec2_accepts_and_nothing_else_is_listed() {
    let mut ec2 = Ec2::default();
    ec2.add("worker", 2 * MOST + 1, CLUSTER_TAG, "x", false);
    ec2.add("earlier", 3, CLUSTER_TAG, "x", true);
    ec2.add("of-another", 5, CLUSTER_TAG, "y", false);
    ec2.add("someone-else", MOST + 1, "Name", "x", false);
    let (account, ec2) = start(ec2).await;
    terminate_workers(&account, TIMEOUT).await.unwrap();
    let ec2 = ec2.lock().unwrap();
    assert_eq!((ec2.alive("i-worker"), ec2.alive("")), (0, MOST + 6));
    assert_eq!(ec2.terminations, [MOST, MOST, 1]);
    assert!(ec2.listed.iter().all(|id| id.starts_with("i-worker")), "{:?}", ec2.listed);
}

#[tokio::test]
async fn web_nodes_are_found_by_their_template_or_by_the_stack_and_nothing_else_is_listed() {
    let mut ec2 = Ec2::default();
    ec2.add("web", 3, TEMPLATE_TAG, "lt-web", false);
    ec2.add("gone", 3, TEMPLATE_TAG, "lt-web", true);
    ec2.add("single", 1, "Name", "x-web", false);
    ec2.add("someone-else", 2, TEMPLATE_TAG, "lt-other", false);
    let (account, ec2) = start(ec2).await;
    let web = WebTier { ids: vec!["i-single0".into()], template: Some("lt-web".into()), has_group: false };
    web.terminate(&account, TIMEOUT).await.unwrap();
    let ec2 = ec2.lock().unwrap();
    assert_eq!((ec2.terminations.as_slice(), ec2.alive("")), ([4].as_slice(), 2));
    assert_eq!(ec2.listed.len(), 4, "{:?}", ec2.listed);
}

#[tokio::test]
async fn an_instance_that_is_gone_already_does_not_keep_the_others_alive() {
    let mut ec2 = Ec2::default();
    ec2.add("worker", 3, CLUSTER_TAG, "x", false);
    let (account, ec2) = start(ec2).await;
    let ids = ["i-worker0", "i-worker1", "i-gone", "i-worker2"].map(str::to_owned);
    let find = async || alive(&account, filter(format!("tag:{CLUSTER_TAG}"), "x")).await;
    terminate(&account, &ids, TIMEOUT, find).await.unwrap();
    assert_eq!(ec2.lock().unwrap().alive(""), 0);
}
