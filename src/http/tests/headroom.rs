//! While something is short, whatever adds is refused, and everything else goes on.

use super::*;
use crate::{
    cloud::headroom::Shortage,
    job::{Failure, FailureKind},
};

#[actix::test]
async fn what_adds_is_refused_while_something_is_short_and_all_else_goes_on() {
    let world = World::new().await;
    let (readings, reading) = watch::channel(Reading::default());
    let (settings, requests, results) = (world.settings.clone(), world.requests.clone(), world.results.clone());
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let server = server!(state_with(&world, settings, requests, results, metrics, Headroom::new(reading)));
    let status = async |request: TestRequest| call_service(&server, request.to_request()).await.status().as_u16();
    let failure = Failure::new(FailureKind::Damaged, "cut off");
    world.results.store_failure(&world.job(1, "x"), &failure, "a worker").await.expect("stored");
    let dead_letter = format!("/v1/dead-letters/{}", JobId(1));

    for (shortage, setting) in [
        (Shortage::Jobs { max: 5 }, "queue.max_jobs"),
        (Shortage::Bytes { max: 5 }, "local.max_bytes"),
        (Shortage::Free { min: 5 }, "local.min_free"),
    ] {
        readings.send_replace(Reading { shortage: Some(shortage), ..Reading::default() });
        for request in [
            upload("/", &[(A, &image())]),
            upload("/v1/recognitions", &[(A, &image())]),
            upload("/v1/recognitions", &[(A, &image())]).insert_header(("Prefer", "respond-async")),
            upload("/v1/people", &[(r#"name="name""#, b"Ada"), (A, &image())]),
            TestRequest::post().uri(&dead_letter),
            TestRequest::get().uri("/readyz"),
        ] {
            let request = request.to_request();
            let what = format!("{} {} {setting}", request.method(), request.path());
            let response = call_service(&server, request).await;
            assert_eq!(response.status(), 503, "{what}");
            assert!(header(&response, "retry-after").is_some(), "{what}");
            let text = text(response).await;
            assert!(text.contains(setting), "{what}: {text}");
        }
        assert_eq!(status(TestRequest::get().uri("/healthz")).await, 200);
        assert_eq!(status(TestRequest::get().uri("/v1/people")).await, 200);
        assert_eq!(status(TestRequest::get().uri("/metrics")).await, 200);
    }
    let result = format!("/v1/recognitions/{}", JobId(1));
    assert_eq!(status(TestRequest::delete().uri(&result)).await, 204, "a deletion makes room");

    readings.send_replace(Reading::default());
    assert_eq!(status(TestRequest::get().uri("/readyz")).await, 200);
    let accepted = upload("/v1/recognitions", &[(A, &image())]).insert_header(("Prefer", "respond-async"));
    assert_eq!(status(accepted).await, 202);
}
