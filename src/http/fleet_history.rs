//! `/v1/fleet/history`: what the fleet did, for the page that draws it.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{openapi::Problems, state::State};
use crate::{
    clock::now_ms,
    fleet::{Counts, view::FleetView},
    fleet_history::{Page, Range},
    settings::Prices,
};

/// The query of a request.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    range: Range,
    /// Leave out what was before this time, in seconds since the Unix epoch.
    #[serde(default)]
    from: u64,
}

/// The fleet as it is.
#[derive(Serialize, ToSchema)]
#[schema(as = FleetNow)]
struct Now {
    /// When this was seen, in milliseconds since the Unix epoch; 0 if it was not seen yet.
    at_ms: u64,
    waiting: u64,
    in_flight: u64,
    /// Uploads whose clients wait for this server.
    uploads_waiting: usize,
    instances: Counts,
    target: usize,
    max_instances: usize,
    policy: String,
    /// Why the fleet is degraded.
    degraded: Option<String>,
    /// Why nothing is accepted.
    shortage: Option<String>,
    cost_per_hour: f64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FleetHistory)]
pub(super) struct Body {
    now: Now,
    #[serde(flatten)]
    page: Page,
}

/// `GET /v1/fleet/history?range=15m`: returns what the fleet did, and how it is.
#[utoipa::path(
    get, path = "/v1/fleet/history", operation_id = "fleet_history", tag = "Fleet", summary = "Show what the fleet did", params(Query),
    responses((status = 200, description = "What the fleet did", body = Body), Problems)
)]
pub(super) async fn show(query: web::Query<Query>, state: web::Data<State>) -> HttpResponse {
    let Query { range, from } = query.into_inner();
    let view = state.web.fleet().borrow().clone();
    let shortage = state.web.headroom().check().err().map(|shortage| shortage.to_string());
    let now = Now::new(&view, &state.web.settings().prices, state.web.waiting(), shortage);
    HttpResponse::Ok().json(Body { now, page: state.web.history().page(now_ms(), range, from) })
}

impl Now {
    fn new(view: &FleetView, prices: &Prices, uploads_waiting: usize, shortage: Option<String>) -> Self {
        Self {
            at_ms: view.at_ms,
            waiting: view.depth.visible.saturating_add(view.depth.delayed),
            in_flight: view.depth.in_flight,
            uploads_waiting,
            instances: view.counts,
            target: view.target,
            max_instances: view.max_instances,
            policy: view.policy.clone(),
            degraded: view.degraded.as_ref().map(ToString::to_string),
            shortage,
            cost_per_hour: prices.workers_per_hour(&view.counts),
        }
    }
}
