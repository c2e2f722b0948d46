//! `/metrics` has what the documentation promises.

use super::*;
use crate::cloud::headroom::DiskUsage;

#[actix::test]
async fn metrics_are_labelled_by_route_and_have_the_documented_names() {
    let world = World::new().await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _recording = ::metrics::set_default_local_recorder(&recorder);
    let disk = DiskUsage { queue: 14, objects: 15, indexes: 16, logs: 17, other: 18 };
    let headroom = Headroom::of(Reading { shortage: None, disk: Some(disk), free: Some(19) });
    let (settings, requests, results) = (world.settings.clone(), world.requests.clone(), world.results.clone());
    let state = state_with(&world, settings, requests, results, handle, headroom);
    let server = server!(state.clone());
    for (method, path) in [
        ("GET", "/v1/recognitions/01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("GET", "/v1/recognitions/01ARZ3NDEKTSV4RRFFQ69G5FAW"),
        ("BREW", "/v1/fleet"),
        ("GET", "/nothing/of/this/name"),
    ] {
        let request = TestRequest::with_uri(path).method(method.parse().expect("a method"));
        call_service(&server, request.to_request()).await;
    }
    call_service(&server, upload("/", &[(A, b"12345")]).to_request()).await;
    let _admissions = [(); 2].map(|()| state.web.admit().expect("a place"));
    let counted = text(call_service(&server, TestRequest::get().uri("/metrics").to_request()).await).await;
    for line in [
        r#"rollcall_http_requests_total{route="/v1/recognitions/{id}",method="GET",status="404"} 2"#,
        r#"rollcall_http_requests_total{route="/v1/fleet",method="other",status="405"} 1"#,
        r#"rollcall_http_requests_total{route="unknown",method="GET",status="404"} 1"#,
        r#"rollcall_http_request_duration_seconds"#,
        r#"rollcall_uploads_waiting 2"#,
        r#"rollcall_demand_jobs 12"#,
        r#"rollcall_target_instances 13"#,
        r#"rollcall_fleet_degraded 1"#,
        r#"rollcall_failed_boots 14"#,
        r#"rollcall_refused_requests 0"#,
        r#"rollcall_queue_jobs{state="visible"} 3"#,
        r#"rollcall_queue_jobs{state="in-flight"} 4"#,
        r#"rollcall_queue_jobs{state="delayed"} 5"#,
        r#"rollcall_instances{state="pending"} 6"#,
        r#"rollcall_instances{state="running"} 7"#,
        r#"rollcall_instances{state="stopping"} 8"#,
        r#"rollcall_instances{state="stopped"} 9"#,
        r#"rollcall_instances{state="shutting-down"} 10"#,
        r#"rollcall_instances{state="terminated"} 11"#,
        r#"rollcall_disk_bytes{kind="queue"} 14"#,
        r#"rollcall_disk_bytes{kind="objects"} 15"#,
        r#"rollcall_disk_bytes{kind="indexes"} 16"#,
        r#"rollcall_disk_bytes{kind="logs"} 17"#,
        r#"rollcall_disk_bytes{kind="other"} 18"#,
        r#"rollcall_disk_free_bytes 19"#,
    ] {
        assert!(counted.contains(line), "{line} in {counted}");
    }
    let uploaded = counted.lines().find_map(|line| line.strip_prefix("rollcall_http_upload_bytes_total "));
    assert!(uploaded.and_then(|bytes| bytes.parse::<usize>().ok()).is_some_and(|bytes| bytes > 5), "{counted}");
}
