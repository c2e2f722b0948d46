//! The roles of deploy/cloudformation.yaml, as a stack has them: CloudFormation's functions are evaluated.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use serde_norway::{Value as Yaml, value::TaggedValue};

use super::policy::Statement;

pub const REGION: &str = "us-east-1";
pub const ACCOUNT: &str = "000000000000";
/// Name of the cluster of every stack here.
pub const CLUSTER: &str = "rollcall";
/// What stands in place of the ids and names that CloudFormation chooses.
pub const WORKER_ROLE: &str = "arn:aws:iam::000000000000:role/rollcall-worker";
pub const WORKER_TEMPLATE: &str = "rollcall-worker";

/// The template with values of its parameters.
pub struct Template {
    document: Yaml,
    parameters: BTreeMap<String, String>,
    /// The partition of AWS, and the region in it.
    place: (String, String),
}

impl Template {
    /// Reads the template. Parameters that are not here have their defaults.
    pub fn read(parameters: &[(&str, &str)]) -> Self {
        let text = std::fs::read_to_string("deploy/cloudformation.yaml").expect("the template");
        let document: Yaml = serde_norway::from_str(&text).expect("YAML");
        let mut values = BTreeMap::new();
        for (name, parameter) in document["Parameters"].as_mapping().expect("parameters") {
            let default = parameter.get("Default").and_then(Yaml::as_str);
            values.insert(name.as_str().expect("a name").to_owned(), default.unwrap_or_default().to_owned());
        }
        for (name, value) in parameters {
            *values.get_mut(*name).unwrap_or_else(|| panic!("no parameter {name}")) = (*value).to_owned();
        }
        Self { document, parameters: values, place: ("aws".into(), REGION.into()) }
    }

    /// Returns the template in another partition and region.
    pub fn in_region(self, partition: &str, region: &str) -> Self {
        Self { place: (partition.to_owned(), region.to_owned()), ..self }
    }

    /// Returns a property of a resource, which is text.
    pub fn property(&self, resource: &str, name: &str) -> String {
        let value = self.value(&self.document["Resources"][resource]["Properties"][name]);
        value.expect("a property").as_str().expect("text").to_owned()
    }

    /// Returns the statements of a role's policies.
    pub fn role(&self, name: &str) -> Vec<Statement> {
        let role = &self.document["Resources"][name]["Properties"];
        assert!(role.get("ManagedPolicyArns").is_none(), "{name}: a managed policy grants more than is used");
        let policies = self.value(&role["Policies"]).unwrap_or_default();
        let documents = policies.as_array().expect("policies").iter();
        let statements = documents.flat_map(|policy| policy["PolicyDocument"]["Statement"].as_array().expect("a list"));
        statements.map(Statement::of).collect()
    }

    /// Evaluates the functions in a value; `None` for `AWS::NoValue`.
    fn value(&self, value: &Yaml) -> Option<Json> {
        match value {
            Yaml::Tagged(tagged) => self.function(tagged),
            Yaml::Sequence(values) => Some(values.iter().filter_map(|value| self.value(value)).collect()),
            Yaml::Mapping(values) => {
                let entries =
                    values.iter().filter_map(|(key, value)| Some((key.as_str()?.to_owned(), self.value(value)?)));
                Some(Json::Object(entries.collect::<Map<_, _>>()))
            }
            other => Some(serde_json::to_value(other).expect("JSON")),
        }
    }

    fn function(&self, tagged: &TaggedValue) -> Option<Json> {
        let value = &tagged.value;
        match tagged.tag.to_string().as_str() {
            "!Ref" if value.as_str() == Some("AWS::NoValue") => None,
            "!Ref" => Some(self.named(value.as_str().expect("a name")).into()),
            "!GetAtt" => Some(self.named(value.as_str().expect("a name")).into()),
            "!Sub" => Some(self.filled(value.as_str().expect("text")).into()),
            "!Split" => {
                let text = self.value(&value[1]).expect("text");
                let separator = value[0].as_str().expect("a separator");
                Some(text.as_str().expect("text").split(separator).collect())
            }
            "!If" => {
                let holds = self.condition(&self.document["Conditions"][value[0].as_str().expect("a condition")]);
                self.value(&value[if holds { 1 } else { 2 }])
            }
            other => panic!("{other} is not evaluated here"),
        }
    }

    fn condition(&self, condition: &Yaml) -> bool {
        let Yaml::Tagged(tagged) = condition else { panic!("not a condition: {condition:?}") };
        match tagged.tag.to_string().as_str() {
            "!Not" => !self.condition(&tagged.value[0]),
            "!Equals" => self.value(&tagged.value[0]) == self.value(&tagged.value[1]),
            other => panic!("{other} is not evaluated here"),
        }
    }

    /// Replaces `${NAME}` by its value, and `${!NAME}` by `${NAME}`.
    fn filled(&self, text: &str) -> String {
        let mut parts = text.split("${");
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').expect("a closed variable");
            filled += &match name.strip_prefix('!') {
                Some(name) => format!("${{{name}}}"),
                None => self.named(name),
            };
            filled += rest;
        }
        filled
    }

    /// Returns the value of a parameter, or of an attribute of a resource.
    fn named(&self, name: &str) -> String {
        if let Some(value) = self.parameters.get(name) {
            return value.clone();
        }
        match name {
            "AWS::Region" => self.place.1.clone(),
            "AWS::AccountId" => ACCOUNT.into(),
            "AWS::Partition" => self.place.0.clone(),
            "AWS::StackId" => super::request::stack(CLUSTER),
            "AWS::URLSuffix" => "amazonaws.com".into(),
            "WorkerRole.Arn" => WORKER_ROLE.into(),
            "WorkerTemplate" => WORKER_TEMPLATE.into(),
            queue => {
                let resource = queue.strip_suffix(".Arn").unwrap_or_else(|| panic!("{name} is not evaluated here"));
                let properties = &self.document["Resources"][resource]["Properties"];
                let name = self.value(&properties["QueueName"]).unwrap_or_else(|| panic!("{resource} is no queue"));
                format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{}", name.as_str().expect("a name"))
            }
        }
    }
}
