//! Refuses requests that lack a role.

use actix_web::{
    Error, HttpMessage as _,
    body::{BoxBody, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::Next,
    web,
};

use super::{
    access::Decision,
    error::{ErrorFormat, Problem},
    state::State,
};

/// Refuses requests that lack a role; used as middleware.
pub(super) async fn check<B: MessageBody>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, Error> {
    let decision = match req.app_data::<web::Data<State>>().cloned() {
        Some(state) => state.access.decide(req.request()).await,
        None => Decision::Refuse(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the server has no state")),
    };
    match decision {
        Decision::Pass(caller) => {
            req.extensions_mut().insert(caller);
            Ok(next.call(req).await?.map_into_left_body())
        }
        Decision::Refuse(problem) => {
            let mut response = problem.close_connection(true).respond(ErrorFormat::of(req.path()));
            if response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            }
            Ok(req.into_response(response).map_into_right_body())
        }
    }
}
