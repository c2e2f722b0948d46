//! How many requests and bytes of uploads each client may send. The algorithm is the generic cell rate algorithm (ITU-T
//! I.371), in the crate `governor`.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use actix_web::HttpRequest;
use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};

use super::{access::Caller, client_address::client_address, error::Problem, receiving::network};
use crate::{access::TokenId, settings::Http};

/// Bytes are counted in units of this many, because the crate counts in 32 bits.
const UNIT: usize = 1 << 10;

/// Who is limited.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Client {
    Token(TokenId),
    Network(Option<IpAddr>),
}

impl Client {
    /// Returns the client of a request: its token or, without a valid one, its network.
    pub(super) fn of(req: &HttpRequest, caller: Option<&Caller>, http: &Http) -> Self {
        match caller.and_then(|caller| caller.token.clone()) {
            Some(token) => Self::Token(token),
            None => Self::Network(client_address(req, http).map(network)),
        }
    }
}

type Limiter<C> = RateLimiter<Client, HashMapStateStore<Client>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The limits of all clients.
pub(super) struct RateLimits<C: Clock = DefaultClock> {
    requests: Option<Limiter<C>>,
    bytes: Option<Limiter<C>>,
    clock: C,
}

impl RateLimits {
    /// Creates the limits of these settings.
    pub(super) fn new(http: &Http) -> Self {
        Self::with_clock(http, DefaultClock::default())
    }
}

impl<C: Clock + Clone> RateLimits<C> {
    fn with_clock(http: &Http, clock: C) -> Self {
        let limiter = |per_minute: u32| {
            let quota = Quota::per_minute(NonZeroU32::new(per_minute)?);
            Some(RateLimiter::new(quota, HashMapStateStore::default(), clock.clone()))
        };
        let (requests, bytes) = (limiter(http.requests_per_minute), limiter(units(http.upload_per_minute)));
        Self { requests, bytes, clock }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// The client has sent too many; it is told when it may send another.
    pub(super) fn request(&self, client: &Client) -> Result<(), Problem> {
        let Some(limiter) = &self.requests else { return Ok(()) };
        limiter.check_key(client).map_err(|not| self.refused(&not, "requests (http.requests_per_minute)"))
    }

    /// Counts bytes of an upload.
    ///
    /// # Errors
    /// The client has sent too many; it is told when it may send as many.
    pub(super) fn upload(&self, client: &Client, bytes: usize) -> Result<(), Problem> {
        let (Some(limiter), Some(units)) = (&self.bytes, NonZeroU32::new(units(bytes))) else { return Ok(()) };
        match limiter.check_key_n(client, units) {
            Ok(allowed) => allowed.map_err(|not| self.refused(&not, "bytes of uploads (http.upload_per_minute)")),
            // More than ever fits: uploads are no larger than the limit.
            Err(_) => Err(Problem::too_large("the upload is larger than http.upload_per_minute")),
        }
    }

    fn refused(&self, not: &NotUntil<C::Instant>, what: &str) -> Problem {
        let wait = not.wait_time_from(self.clock.now());
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let detail = format!("this client has sent too many {what}; wait {seconds} s");
        Problem::too_many(detail, Duration::from_secs(seconds))
    }

    /// Forgets clients that are within their limits.
    pub(super) fn forget_idle(&self) {
        for limiter in [&self.requests, &self.bytes].into_iter().flatten() {
            limiter.retain_recent();
        }
    }
}

fn units(bytes: usize) -> u32 {
    bytes.div_ceil(UNIT).try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limits(
        requests_per_minute: u32,
        upload_per_minute: usize,
    ) -> (RateLimits<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let http = Http { requests_per_minute, upload_per_minute, ..crate::testing::settings().http };
        (RateLimits::with_clock(&http, clock.clone()), clock)
    }

    fn network(last: u8) -> Client {
        Client::Network(Some([10, 0, 0, last].into()))
    }

    #[test]
    fn a_client_may_send_its_requests_at_once_and_then_evenly() {
        let (limits, clock) = limits(60, 0);
        let sent = |client: u8| (0..100).take_while(|_| limits.request(&network(client)).is_ok()).count();
        assert_eq!(sent(1), 60);
        assert_eq!(sent(2), 60, "each client has its own limit");
        let refusal = limits.request(&network(1)).expect_err("refused");
        assert_eq!(refusal.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(
            refusal.detail.contains("http.requests_per_minute") && refusal.detail.contains("1 s"),
            "{}",
            refusal.detail
        );
        clock.advance(Duration::from_secs(3));
        assert_eq!(sent(1), 3);
        assert!(limits.upload(&network(1), usize::MAX).is_ok(), "uploads are not limited");
    }

    #[test]
    fn uploads_are_counted_by_their_size() {
        let (limits, clock) = limits(0, 60 << 20);
        let upload = |mib: usize| limits.upload(&network(1), mib << 20).map_err(|problem| problem.status.as_u16());
        assert_eq!([upload(20), upload(40), upload(1)], [Ok(()), Ok(()), Err(429)]);
        clock.advance(Duration::from_secs(10));
        assert_eq!([upload(11), upload(10), upload(1)], [Err(429), Ok(()), Err(429)], "a refused one is not counted");
        assert_eq!(upload(61), Err(413));
        assert!((0..1000).all(|_| limits.request(&network(1)).is_ok()), "requests are not limited");
    }

    #[test]
    fn clients_that_have_waited_are_forgotten() {
        let (limits, clock) = limits(60, 0);
        for last in 0..100 {
            limits.request(&network(last)).expect("allowed");
        }
        let known = || limits.requests.as_ref().expect("a limit").len();
        limits.forget_idle();
        assert_eq!(known(), 100);
        clock.advance(Duration::from_secs(120));
        limits.forget_idle();
        assert_eq!(known(), 0);
    }
}
