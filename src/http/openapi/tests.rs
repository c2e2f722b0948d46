//! The description has every route with its methods, and no other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::api;
use crate::http::{COMPREFACE_ROUTES, ROUTES};

#[test]
fn the_description_has_every_route_with_its_methods_and_no_other() {
    let document = serde_json::to_value(api()).expect("JSON");
    assert_eq!(
        (&document["openapi"], &document["info"]["version"]),
        (&"3.1.0".into(), &env!("CARGO_PKG_VERSION").into())
    );
    let paths = document["paths"].as_object().expect("paths").iter();
    let described = paths.flat_map(|(path, item)| {
        let methods = item.as_object().expect("an item").keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    let routes = ROUTES.iter().chain(&COMPREFACE_ROUTES).flat_map(|(path, methods)| {
        // That HEAD is like GET goes without saying.
        methods.split(", ").filter(|method| *method != "HEAD").map(move |method| format!("{method} {path}"))
    });
    assert_eq!(described.collect::<BTreeSet<_>>(), routes.collect());
}

/// Returns every reference in a document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, member)| match member {
            Value::String(reference) if key == "$ref" => drop(found.insert(reference.clone())),
            member => references(member, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_to_a_schema_and_every_operation_has_its_own_id() {
    let document = serde_json::to_value(api()).expect("JSON");
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("in this document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let mut ids = BTreeSet::new();
    for item in document["paths"].as_object().expect("paths").values() {
        for operation in item.as_object().expect("an item").values() {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id), "{id} is there twice");
            assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{id}");
        }
    }
}
