//! Policies as IAM evaluates them: a call needs rights, and each must be allowed by a statement and denied by none.
//!
//! Only what deploy/cloudformation.yaml uses is known here; anything else in a policy is a panic.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a request is known by when conditions are evaluated: the values of condition keys.
pub type Context = BTreeMap<String, Vec<String>>;

/// One action on one resource that a call needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Such as `s3:GetObject`.
    pub action: String,
    /// ARN, or `*` for an action without resources.
    pub resource: String,
    pub context: Context,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    /// One of the values is that of the key, which must be present.
    StringEquals,
    /// The same with wildcards.
    StringLike,
    /// Every value of the key is one of the values; also if the key is absent.
    ForAllStringEquals,
}

#[derive(Clone, Debug)]
pub struct Condition {
    operator: Operator,
    pub key: String,
    values: Vec<String>,
}

/// A statement of a policy.
#[derive(Clone, Debug)]
pub struct Statement {
    pub sid: String,
    pub allows: bool,
    pub actions: Vec<String>,
    pub resources: Vec<String>,
    pub conditions: Vec<Condition>,
}

impl Statement {
    /// Reads a statement of a policy document.
    pub fn of(value: &Value) -> Self {
        let sid = value["Sid"].as_str().unwrap_or_else(|| panic!("a statement without a name: {value}")).to_owned();
        let known = ["Sid", "Effect", "Action", "Resource", "Condition"];
        let unknown = value.as_object().expect("a statement").keys().find(|key| !known.contains(&key.as_str()));
        assert_eq!(unknown, None, "{sid}");
        let allows = match value["Effect"].as_str() {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => panic!("{sid}: {}", value["Effect"]),
        };
        let mut conditions = Vec::new();
        for (operator, keys) in value["Condition"].as_object().into_iter().flatten() {
            let operator = match operator.as_str() {
                "StringEquals" => Operator::StringEquals,
                // Of the keys here, IAM compares values of these kinds as it compares text.
                "Bool" => Operator::StringEquals,
                "StringLike" | "ArnLike" => Operator::StringLike,
                "ForAllValues:StringEquals" => Operator::ForAllStringEquals,
                other => panic!("{sid}: unknown operator {other}"),
            };
            for (key, values) in keys.as_object().expect("condition keys") {
                conditions.push(Condition { operator, key: key.clone(), values: texts(values) });
            }
        }
        Self { allows, actions: texts(&value["Action"]), resources: texts(&value["Resource"]), conditions, sid }
    }

    /// Returns whether the statement speaks of this right.
    fn applies_to(&self, right: &Right) -> bool {
        self.actions.iter().any(|action| like(action, &right.action))
            && self.resources.iter().any(|resource| like(resource, &right.resource))
            && self.conditions.iter().all(|condition| condition.holds(&right.context))
    }
}

impl Condition {
    fn holds(&self, context: &Context) -> bool {
        let found = context.get(&self.key).map(Vec::as_slice).unwrap_or_default();
        let equals = |value: &String, like: fn(&str, &str) -> bool| {
            let allowed = self.values.iter().filter_map(|pattern| filled(pattern, context));
            allowed.into_iter().any(|pattern| like(&pattern, value))
        };
        match self.operator {
            Operator::StringEquals => found.iter().any(|value| equals(value, |a, b| a == b)),
            Operator::StringLike => found.iter().any(|value| equals(value, like)),
            Operator::ForAllStringEquals => found.iter().all(|value| equals(value, |a, b| a == b)),
        }
    }
}

/// Replaces policy variables, such as `${ec2:InstanceID}`; `None` if a key is absent, or has several values.
fn filled(pattern: &str, context: &Context) -> Option<String> {
    let mut text = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once("${") {
        let (key, after) = after.split_once('}').expect("a variable");
        let [value] = context.get(key)?.as_slice() else { return None };
        text.extend([before, value]);
        rest = after;
    }
    Some(text + rest)
}

/// Returns whether text matches a pattern in which `*` stands for any characters, also none, and `?` for exactly one.
pub fn like(pattern: &str, text: &str) -> bool {
    let mut pattern_left = pattern.chars();
    match pattern_left.next() {
        None => text.is_empty(),
        Some('*') => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| like(pattern_left.as_str(), &text[at..]))
        }
        Some(wanted) => {
            let mut text_left = text.chars();
            let found = text_left.next().is_some_and(|found| wanted == '?' || wanted == found);
            found && like(pattern_left.as_str(), text_left.as_str())
        }
    }
}

#[test]
fn wildcards_stand_for_what_iam_documents() {
    for (pattern, text, matches) in [
        ("a-???", "a-123", true),
        ("a-???", "a-12", false),
        ("a-???", "a-1234", false),
        ("a-???", "a-1*?", true),
        ("a-?*", "a-", false),
        ("a-?*", "a-12", true),
        ("a*", "a", true),
        ("a*b*c", "abbc", true),
        ("a*b*c", "acb", false),
        ("a-*-*", "a-1", false),
        ("a-*-*", "a-1-2", true),
        ("A", "a", false),
    ] {
        assert_eq!(like(pattern, text), matches, "{pattern} {text}");
    }
}

/// Decides about a right.
///
/// # Errors
/// It is not allowed, or it is denied: says which.
pub fn decide(statements: &[Statement], right: &Right) -> Result<(), String> {
    let mut applying = statements.iter().filter(|statement| statement.applies_to(right));
    if let Some(denying) = applying.clone().find(|statement| !statement.allows) {
        return Err(format!("{} on {}: denied by {}", right.action, right.resource, denying.sid));
    }
    match applying.next() {
        Some(_) => Ok(()),
        None => Err(format!("{} on {}: allowed by no statement ({:?})", right.action, right.resource, right.context)),
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        other => panic!("not text: {other}"),
    }
}
