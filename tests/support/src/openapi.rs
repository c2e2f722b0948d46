//! Checks responses against the description of the API that the program prints (`rollcall openapi`).

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    sync::LazyLock,
};

use boon::{Compiler, SchemaIndex, Schemas};
use reqwest::{
    Method, StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::{Value, json};

/// The address under which the checker knows the description.
const LOCATION: &str = "http://rollcall/openapi.json";

/// Returns the description of the API.
pub fn document() -> Value {
    let output = Command::new(crate::program()).arg("openapi").output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

static CHECKER: LazyLock<Checker> = LazyLock::new(|| Checker::new(document()));

/// Reads the description, so that the first response is not checked later than the others.
pub(crate) fn prepare() {
    LazyLock::force(&CHECKER);
}

/// Panics if a response is not as the description has it. `body` is `None` if it is a stream.
pub(crate) fn check(method: &Method, path: &str, status: StatusCode, headers: &HeaderMap, body: Option<&[u8]>) {
    if let Err(why) = CHECKER.check(method, path, status, headers, body) {
        panic!("the response {status} to {method} {path} is not as the description has it: {why}");
    }
}

/// Checks responses against a description.
pub struct Checker {
    document: Value,
    schemas: Schemas,
    /// The schemas of bodies, by their pointers in the document.
    compiled: BTreeMap<String, SchemaIndex>,
}

impl Checker {
    /// Creates a checker. Members that a schema does not name are errors.
    pub fn new(document: Value) -> Self {
        let mut strict = document.clone();
        let mut parts = BTreeSet::new();
        collect_parts(&strict, &mut parts);
        close(&mut strict["components"]["schemas"], &parts);
        let mut pointers = ["Problem", "CompreFaceError"].map(|name| format!("/components/schemas/{name}")).to_vec();
        collect_bodies(&document["paths"], "/paths", &mut pointers);
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.add_resource(LOCATION, strict).expect("a document");
        let compile = |pointer: String| {
            let compiled = compiler.compile(&format!("{LOCATION}#{pointer}"), &mut schemas);
            let compiled = compiled.unwrap_or_else(|error| panic!("{pointer}: {error}"));
            (pointer, compiled)
        };
        let compiled = pointers.into_iter().map(compile).collect();
        Self { document, schemas, compiled }
    }

    /// Checks a response.
    ///
    /// # Errors
    /// Why it is not as the description has it.
    pub fn check(
        &self,
        method: &Method,
        path: &str,
        status: StatusCode,
        headers: &HeaderMap,
        body: Option<&[u8]>,
    ) -> Result<(), String> {
        let media = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        let media = media.map(|media| media.split(';').next().unwrap_or_default().trim());
        let method = if method == Method::HEAD { Method::GET } else { method.clone() };
        let Some(responses) = self.responses(&method, path) else {
            return self.unknown(path, status, media, body);
        };
        let described = &self.document.pointer(&responses).expect("found above");
        let status = if described.get(status.as_str()).is_some() {
            status.as_str().to_owned()
        } else if status.is_client_error() || status.is_server_error() {
            "default".to_owned()
        } else {
            return Err("it has no such status".into());
        };
        let Some(contents) = described[&status]["content"].as_object() else {
            let empty = body.is_none_or(<[u8]>::is_empty);
            return if empty { Ok(()) } else { Err("it should have no body".into()) };
        };
        let media = media.ok_or("it has no Content-Type")?;
        if !contents.contains_key(media) {
            return Err(format!(
                "its Content-Type is {media}, which is none of {:?}",
                contents.keys().collect::<Vec<_>>()
            ));
        }
        let pointer = format!("{responses}/{status}/content/{}/schema", escaped(media));
        self.validate(&pointer, media, body)
    }

    /// Checks the response to a request that no route takes.
    fn unknown(&self, path: &str, status: StatusCode, media: Option<&str>, body: Option<&[u8]>) -> Result<(), String> {
        if !status.is_client_error() && !status.is_server_error() {
            return Err("there is no such route".into());
        }
        let (expected, schema) = match path {
            _ if path.starts_with("/v1/") => ("application/problem+json", "Problem"),
            _ if path.starts_with("/api/v1/") => ("application/json", "CompreFaceError"),
            _ => return Ok(()),
        };
        if media != Some(expected) {
            return Err(format!("its Content-Type is {media:?}"));
        }
        self.validate(&format!("/components/schemas/{schema}"), expected, body)
    }

    fn validate(&self, pointer: &str, media: &str, body: Option<&[u8]>) -> Result<(), String> {
        let body = match body {
            Some(body) if media.ends_with("json") && !body.is_empty() => body,
            // The answer to HEAD has none.
            _ => return Ok(()),
        };
        let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let schema = self.compiled.get(pointer).ok_or("its schema is missing")?;
        self.schemas.validate(&value, *schema).map_err(|error| format!("{error:#}\n{value:#}"))
    }

    /// Returns the pointer to the responses of the operation that a request is for. A segment that is the same goes before
    /// a parameter.
    fn responses(&self, method: &Method, path: &str) -> Option<String> {
        let segments: Vec<&str> =
            path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path).split('/').collect();
        let paths = self.document["paths"].as_object().expect("paths");
        let fits = |template: &&String| {
            let template: Vec<&str> = template.split('/').collect();
            let fits =
                |(part, segment): (&&str, &&str)| part == segment || (part.starts_with('{') && !segment.is_empty());
            template.len() == segments.len() && template.iter().zip(&segments).all(fits)
        };
        let parameters = |template: &&String| template.matches('{').count();
        let template = paths.keys().filter(fits).min_by_key(parameters)?;
        let method = method.as_str().to_lowercase();
        let pointer = format!("/paths/{}/{method}/responses", escaped(template));
        self.document.pointer(&pointer).map(|_| pointer)
    }
}

/// Escapes a member's name for a JSON pointer (RFC 6901) in the fragment of an address.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Collects the pointers to the schemas of the bodies of responses, below `pointer`.
fn collect_bodies(value: &Value, pointer: &str, found: &mut Vec<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        let pointer = format!("{pointer}/{}", escaped(name));
        if name == "schema" && pointer.contains("/responses/") {
            found.push(pointer);
        } else {
            collect_bodies(member, &pointer, found);
        }
    }
}

/// Collects the names of the schemas that are a part of others, and so do not name every member.
fn collect_parts(value: &Value, parts: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if name == "allOf" {
                    let references = member.as_array().into_iter().flatten().filter_map(|part| part["$ref"].as_str());
                    parts.extend(references.filter_map(|reference| reference.rsplit('/').next()).map(str::to_owned));
                }
                collect_parts(member, parts);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_parts(item, parts)),
        _ => {}
    }
}

/// Forbids the members that a schema does not name, in the schemas that are not parts of others.
fn close(schemas: &mut Value, parts: &BTreeSet<String>) {
    for (name, schema) in schemas.as_object_mut().expect("schemas") {
        let names_members = ["properties", "allOf", "anyOf"].iter().any(|keyword| schema.get(keyword).is_some());
        if names_members && !parts.contains(name) {
            schema["unevaluatedProperties"] = json!(false);
        }
    }
}
