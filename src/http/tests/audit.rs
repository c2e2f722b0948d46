//! What the audit log says of requests to the API of CompreFace.

use std::collections::BTreeSet;

use actix_web::http::Method;
use serde_json::json;

use super::*;
use crate::{
    audit::{Entry, Outcome},
    inference::gallery::PhotoId,
    recognition::{GalleryName, ModelId},
};

/// Whom an entry must be about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum About {
    Nobody,
    People(BTreeSet<&'static str>),
    Everybody,
}

const PEOPLE: [&str; 4] = ["Ada", "Zoe", "Bob", "subject"];

fn people<const N: usize>(names: [&'static str; N]) -> About {
    About::People(names.into())
}

/// Sends a request to a new server whose gallery has Ada and Zoe. Returns the entries that follow, each with whether it
/// was written before the change, whom it is about, and whether it has the id of Ada's example.
async fn entries(method: &Method, path: &str, body: Value) -> Vec<(bool, About, bool)> {
    let world = World::new().await;
    let gallery = GalleryName::default();
    let (ada, zoe) = (vec![1.0, 0.0], vec![0.0, 1.0]);
    let [ada_id, zoe_id] = [&ada, &zoe].map(|embedding| PhotoId::of(embedding).to_string());
    let store = GalleryStores::new(world.objects.clone(), &world.settings).gallery(&gallery);
    for (name, embedding) in [("Ada", ada), ("Zoe", zoe)] {
        store.add(name, vec![embedding], ModelId::known("a")).await.expect("added");
    }
    let state = node(&world);
    let audit = state.audit.clone();
    let server = init_service(
        App::new()
            .app_data(state)
            .wrap(middleware::from_fn(audit_guard::check))
            .wrap(middleware::from_fn(access_guard::check))
            .configure(configure),
    )
    .await;
    let known = |text: &str| text.replace("ADA", &ada_id).replace("ZOE", &zoe_id);
    let request = TestRequest::with_uri(&known(path)).method(method.clone()).insert_header(("x-api-key", "any"));
    let request = request.insert_header(("Host", "localhost:8080")).insert_header(("Content-Type", "application/json"));
    drop(call_service(&server, request.set_payload(known(&body.to_string())).to_request()).await);
    audit.flush().await;
    let lines = crate::audit::in_objects(world.objects.clone(), &world.settings.store.state).since(0).await;
    let entries = lines.expect("read").into_iter().map(|line| serde_json::from_str::<Entry>(&line).expect("an entry"));
    let described = entries.map(|entry| {
        assert_eq!(entry.gallery.as_ref(), Some(&gallery));
        let named = PEOPLE.into_iter().filter(|name| entry.people.contains(&audit.pseudonym(&gallery, name)));
        let named: BTreeSet<&str> = named.collect();
        assert_eq!(named.len(), entry.people.len(), "{method} {path} names somebody else");
        let about = match entry.everybody {
            true => About::Everybody,
            false if named.is_empty() => About::Nobody,
            false => About::People(named),
        };
        (entry.outcome == Outcome::Begun, about, entry.id.as_deref() == Some(&*ada_id))
    });
    described.collect()
}

#[actix::test]
async fn every_request_of_compreface_is_audited_with_whom_it_is_about() {
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let nothing = || Value::Null;
    let subject = |name: &str| json!({ "subject": name });
    let cases = [
        (&get, "recognition/subjects", nothing(), Some(About::Everybody)),
        (&get, "recognition/subjects/", nothing(), Some(About::Everybody)),
        (&get, "recognition/subjects?subject=Ada", nothing(), Some(About::Everybody)),
        (&post, "recognition/subjects", subject("Bob"), Some(people(["Bob"]))),
        (&post, "recognition/subjects/", subject("Bob"), Some(people(["Bob"]))),
        (&delete, "recognition/subjects", nothing(), Some(About::Everybody)),
        (&delete, "recognition/subjects/", nothing(), Some(About::Everybody)),
        (&put, "recognition/subjects/Ada", subject("Bob"), Some(people(["Ada", "Bob"]))),
        (&delete, "recognition/subjects/A%64a", nothing(), Some(people(["Ada"]))),
        (&get, "recognition/faces", nothing(), Some(About::Everybody)),
        (&get, "recognition/faces?page=1", nothing(), Some(About::Everybody)),
        (&get, "recognition/faces?subject=", nothing(), Some(About::Everybody)),
        (&get, "recognition/faces?xsubject=1", nothing(), Some(About::Everybody)),
        (&get, "recognition/faces?subject=Ada", nothing(), Some(people(["Ada"]))),
        (&get, "recognition/faces?page=0&s%75bject=Ad%61?size=3", nothing(), Some(people(["Ada"]))),
        (&get, "recognition/faces?subject=Ada&page=x", nothing(), Some(About::Nobody)),
        (&post, "recognition/faces?subject=Bob", nothing(), Some(people(["Bob"]))),
        (&post, "recognition/faces", nothing(), Some(About::Nobody)),
        (&delete, "recognition/faces", nothing(), Some(About::Everybody)),
        (&delete, "recognition/faces?xsubject=1", nothing(), Some(About::Everybody)),
        (&delete, "recognition/faces?subject=Ada", nothing(), Some(people(["Ada"]))),
        (&delete, "recognition/faces?subject=", nothing(), Some(About::Nobody)),
        (&delete, "recognition/faces/ADA", nothing(), Some(people(["Ada"]))),
        (&post, "recognition/faces/delete", json!(["ADA", "ZOE"]), Some(people(["Ada", "Zoe"]))),
        (&get, "recognition/faces/ADA/img", nothing(), Some(people(["Ada"]))),
        (&get, "static/any/images/ADA", nothing(), Some(people(["Ada"]))),
        (&post, "recognition/faces/ADA/verify", nothing(), None),
        (&post, "recognition/recognize", nothing(), None),
        (&post, "recognition/embeddings/recognize", nothing(), None),
        (&post, "recognition/embeddings/faces/ADA/verify", nothing(), None),
        (&post, "detection/detect", nothing(), None),
        (&post, "verification/verify", nothing(), None),
        (&post, "verification/embeddings/verify", nothing(), None),
    ];
    let mut wrong = Vec::new();
    for (method, path, body, expected) in &cases {
        let entries = entries(method, &format!("/api/v1/{path}"), body.clone()).await;
        let Some(about) = expected else {
            assert!(entries.is_empty(), "{method} {path}: {entries:?}");
            continue;
        };
        let ended: Vec<_> = entries.iter().filter(|(begun, ..)| !begun).map(|(_, about, _)| about).collect();
        // Whoever is removed is named before, so that no failure and no end of the process hides it.
        let removes = **method == delete || path.ends_with("/delete");
        let before = !removes || entries.iter().any(|(begun, found, _)| *begun && found == about);
        let ids = entries.iter().all(|(.., has_id)| *has_id) == path.contains("ADA");
        if ended != [about] || !before || !ids || (*method == get) != (entries.len() == 1) {
            wrong.push(format!("{method} {path}: {entries:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (route, methods) in COMPREFACE_ROUTES {
        for method in methods.split(", ") {
            let is_case = |path: &str| {
                let path = format!("/api/v1/{}", path.split('?').next().unwrap_or_default());
                let (route, path): (Vec<_>, Vec<_>) = (route.split('/').collect(), path.split('/').collect());
                route.len() == path.len()
                    && route.iter().zip(path).all(|(part, given)| part.starts_with('{') || *part == given)
            };
            let tested = cases.iter().any(|(given, path, ..)| given.as_str() == method && is_case(path));
            assert!(tested, "{method} {route} is not among the cases of this test");
        }
    }
}
