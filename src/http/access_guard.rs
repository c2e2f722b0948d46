//! Refuses requests that lack a role, and those of clients that send too many.

use actix_web::{
    Error, HttpMessage as _,
    body::{BoxBody, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::StatusCode,
    middleware::Next,
    web,
};

use super::{
    access::Decision,
    error::{ErrorFormat, Problem},
    health,
    rate_limits::Client,
    state::State,
};

/// Refuses requests that lack a role, and those of clients that send too many; used as middleware.
pub(super) async fn check<B: MessageBody>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, Error> {
    let decision = match req.app_data::<web::Data<State>>().cloned() {
        Some(state) => {
            let decision = state.access.decide(req.request()).await;
            within_limits(&req, &state, decision)
        }
        None => Decision::Refuse(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the server has no state")),
    };
    match decision {
        Decision::Pass(caller) => {
            req.extensions_mut().insert(caller);
            Ok(next.call(req).await?.map_into_left_body())
        }
        Decision::Refuse(problem) => {
            let response = problem.close_connection(true).respond(ErrorFormat::of(req.path()));
            Ok(req.into_response(response).map_into_right_body())
        }
    }
}

/// Refuses a request if its client has sent too many, whether or not they had a role.
fn within_limits(req: &ServiceRequest, state: &State, decision: Decision) -> Decision {
    let caller = match &decision {
        Decision::Pass(caller) => Some(caller),
        Decision::Refuse(_) => None,
    };
    if health::ROUTES.contains(&req.path()) {
        return decision;
    }
    let client = Client::of(req.request(), caller, &state.web.settings().http);
    state.web.limits().request(&client).map_or_else(Decision::Refuse, |()| decision)
}
