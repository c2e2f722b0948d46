//! What the roles of the machines must be denied, tried by machines that have these roles.

use crate::cloud::aws::deploy::attempts::{Attempt, Attempted};

use super::check::Check;

/// The names that the attempts are about.
pub(super) struct Names<'a> {
    pub(super) cluster: &'a str,
    pub(super) input: &'a str,
    pub(super) output: &'a str,
    pub(super) state: &'a str,
    pub(super) image: &'a str,
    pub(super) subnet: &'a str,
    /// A type that can run the image.
    pub(super) instance_type: &'a str,
    /// The web node, if its id is known.
    pub(super) web: Option<&'a str>,
    /// No object's key ends with it.
    pub(super) run: &'a str,
}

impl Names<'_> {
    fn launch(&self) -> Attempt {
        let [image, subnet, instance_type] = [self.image, self.subnet, self.instance_type].map(str::to_owned);
        Attempt::Launch { image, subnet, instance_type }
    }
}

/// The calls of one role.
pub(super) struct Plan {
    /// What the role needs, so that a refusal of everything is not taken for a narrow role.
    pub(super) needed: Attempt,
    /// What it must be denied.
    pub(super) denied: Vec<Attempt>,
}

impl Plan {
    /// Returns all calls, the needed one first.
    pub(super) fn attempts(&self) -> Vec<Attempt> {
        std::iter::once(&self.needed).chain(&self.denied).cloned().collect()
    }
}

/// Workers decode images of strangers: they change no gallery, read no token, no pseudonym and no audit log, launch nothing,
/// and end and tag themselves only.
pub(super) fn worker(names: &Names<'_>) -> Plan {
    let run = names.run;
    let key = |prefix: &str| (names.state.to_owned(), format!("{prefix}verify-{run}"));
    let get = |(bucket, key): (String, String)| Attempt::Get { bucket, key };
    let put = |(bucket, key): (String, String)| Attempt::Put { bucket, key };
    let delete = |(bucket, key): (String, String)| Attempt::Delete { bucket, key };
    let mut denied = vec![
        put(key("gallery/")),
        put(key("galleries/")),
        put(key("")),
        put(key("access/")),
        put(key("audit/")),
        get(key("access/")),
        get(key("private/")),
        get(key("audit/")),
        delete(key("access/")),
        delete(key("audit/")),
        delete(key("gallery/")),
        delete(key("recognitions/")),
        Attempt::List { bucket: names.output.to_owned() },
        Attempt::Find { queue: format!("{}-dead.fifo", names.cluster) },
        names.launch(),
    ];
    if let Some(instance) = names.web.map(str::to_owned) {
        denied.push(Attempt::Stop { instance: instance.clone() });
        denied.push(Attempt::Terminate { instance: instance.clone() });
        denied.push(Attempt::Tag { instance, key: "rollcall:cluster".into() });
    }
    Plan { needed: get(key("gallery/")), denied }
}

/// Web nodes make no token, delete nothing from the audit log, read no photo, and launch and end workers only.
pub(super) fn web(names: &Names<'_>) -> Plan {
    let run = names.run;
    let key = |bucket: &str, prefix: &str| (bucket.to_owned(), format!("{prefix}verify-{run}"));
    let get = |(bucket, key): (String, String)| Attempt::Get { bucket, key };
    let put = |(bucket, key): (String, String)| Attempt::Put { bucket, key };
    let delete = |(bucket, key): (String, String)| Attempt::Delete { bucket, key };
    let mut denied = vec![
        put(key(names.state, "access/")),
        delete(key(names.state, "access/")),
        delete(key(names.state, "audit/")),
        get(key(names.input, "")),
        put(key(names.output, "")),
        Attempt::List { bucket: names.input.to_owned() },
        names.launch(),
    ];
    if let Some(instance) = names.web.map(str::to_owned) {
        denied.push(Attempt::Terminate { instance: instance.clone() });
        denied.push(Attempt::Tag { instance, key: "rollcall:cluster".into() });
    }
    Plan { needed: get(key(names.state, "recognitions/")), denied }
}

/// Judges what came of the calls. An error is that of the probe.
pub(super) fn judge(name: &str, plan: &Plan, attempted: Result<Vec<Attempted>, String>) -> Check {
    let expected = format!("{} calls are denied, and one is allowed", plan.denied.len());
    let attempted = match attempted {
        Ok(attempted) => attempted,
        Err(why) => {
            let remedy = "look at its console output: the image must boot in the stack's subnet, with a route to the internet, \
                          and have this version of the program (`rollcall aws bake`, `rollcall aws up`)";
            return Check::failed(name, expected, why, remedy);
        }
    };
    let mut faults = Vec::new();
    for (attempt, came) in plan.attempts().iter().zip(&attempted) {
        let is_needed = *attempt == plan.needed;
        match came {
            Attempted::Allowed if !is_needed => faults.push(format!("it may {attempt}")),
            Attempted::Denied if is_needed => faults.push(format!("it may not {attempt}")),
            Attempted::Unclear(why) => faults.push(format!("whether it may {attempt} is not known: {why}")),
            Attempted::Allowed | Attempted::Denied => {}
        }
    }
    let remedy = "find out who changed the role, and give it the policy of deploy/cloudformation.yaml and no other";
    Check::of_faults(name, expected, "the same", &faults, remedy)
}

#[cfg(test)]
mod tests {
    use super::{super::check::Verdict, *};

    const NAMES: Names<'_> = Names {
        cluster: "c",
        input: "in",
        output: "out",
        state: "s",
        image: "ami-1",
        subnet: "subnet-1",
        instance_type: "t3.small",
        web: Some("i-1"),
        run: "r",
    };

    fn denied(plan: &Plan) -> Vec<Attempted> {
        let mut all = vec![Attempted::Denied; plan.denied.len() + 1];
        all[0] = Attempted::Allowed;
        all
    }

    #[test]
    fn a_role_that_may_too_much_or_too_little_is_named_with_the_call() {
        for plan in [worker(&NAMES), web(&NAMES)] {
            assert_eq!(judge("role", &plan, Ok(denied(&plan))).verdict, Verdict::Ok);
            for (n, attempt) in plan.attempts().iter().enumerate() {
                let mut all = denied(&plan);
                all[n] = if n == 0 { Attempted::Denied } else { Attempted::Allowed };
                let check = judge("role", &plan, Ok(all.clone()));
                let may = if n == 0 { "it may not " } else { "it may " };
                assert_eq!((check.verdict, check.seen), (Verdict::Failed, format!("{may}{attempt}")));
                all[n] = Attempted::Unclear("no network".into());
                assert!(judge("role", &plan, Ok(all)).seen.contains("no network"));
            }
            assert_eq!(judge("role", &plan, Err("no report".into())).verdict, Verdict::Failed);
        }
    }

    #[test]
    fn without_a_known_web_node_its_instance_is_left_out() {
        let names = Names { web: None, ..NAMES };
        assert_eq!(worker(&NAMES).denied.len(), worker(&names).denied.len() + 3);
        assert_eq!(web(&NAMES).denied.len(), web(&names).denied.len() + 2);
    }
}
