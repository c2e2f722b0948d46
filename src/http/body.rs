//! A request's body with a size limit, which can be drained after an early response.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::{error::PayloadError, web};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

/// How much is read and discarded after an early response, so that a client that is still sending receives the response
/// instead of a connection reset.
const DRAIN_BYTES: usize = 64 << 20;
/// How long it is read and discarded.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A body with a size limit. Clones share it, so that a body that was handed to a parser can still be counted and
/// drained.
pub(super) struct Body<S = web::Payload>(Rc<RefCell<Inner<S>>>);

impl<S> Clone for Body<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<S> {
    payload: S,
    read: usize,
    limit: usize,
    ended: bool,
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Body<S> {
    /// Limits `payload` to `limit` bytes. Beyond them, the stream yields `PayloadError::Overflow`.
    pub(super) fn new(payload: S, limit: usize) -> Self {
        Self(Rc::new(RefCell::new(Inner { payload, read: 0, limit, ended: false })))
    }

    /// Returns the number of bytes received so far.
    pub(super) fn read(&self) -> usize {
        self.0.borrow().read
    }

    /// Reads on past the limit, within bounds, and returns whether the end was reached.
    pub(super) async fn drain(&self) -> bool {
        let mut rest = futures_util::stream::poll_fn(|cx| self.0.borrow_mut().poll(cx));
        let read_on = async {
            let mut drained = 0;
            while drained < DRAIN_BYTES {
                match rest.next().await {
                    Some(Ok(chunk)) => drained += chunk.len(),
                    Some(Err(_)) => return false, // the client has disconnected
                    None => return true,
                }
            }
            false
        };
        tokio::time::timeout(DRAIN_TIME, read_on).await.unwrap_or(false)
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Inner<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.payload.poll_next_unpin(cx));
        match &next {
            Some(Ok(chunk)) => self.read += chunk.len(),
            Some(Err(_)) | None => self.ended = true,
        }
        Poll::Ready(next)
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for Body<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut inner = self.0.borrow_mut();
        let next = ready!(inner.poll(cx));
        if inner.read > inner.limit {
            return Poll::Ready(Some(Err(PayloadError::Overflow)));
        }
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn chunks(count: usize, size: usize) -> impl Stream<Item = Result<Bytes, PayloadError>> + Unpin {
        stream::iter((0..count).map(move |_| Ok(Bytes::from(vec![0; size]))))
    }

    #[tokio::test]
    async fn a_body_may_be_as_large_as_the_limit_and_no_larger() {
        let exact = Body::new(chunks(4, 25), 100);
        assert!(exact.clone().all(|chunk| async move { chunk.is_ok() }).await);
        assert_eq!(exact.read(), 100);

        let over = Body::new(chunks(4, 25), 99);
        let last = over.clone().skip(3).next().await.expect("a fourth item");
        assert!(matches!(last, Err(PayloadError::Overflow)), "{last:?}");
    }

    #[tokio::test]
    async fn draining_reads_past_the_limit_to_the_end() {
        let body = Body::new(chunks(50, 1000), 10);
        assert!(body.clone().next().await.expect("an item").is_err());
        assert!(body.drain().await);
        assert_eq!(body.read(), 50_000);
    }

    #[tokio::test]
    async fn draining_is_bounded_in_bytes() {
        let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[0; 65536])));
        let body = Body::new(endless, 10);
        assert!(!body.drain().await);
        assert_eq!(body.read(), DRAIN_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_is_bounded_in_time() {
        let silent = stream::pending::<Result<Bytes, PayloadError>>();
        let start = tokio::time::Instant::now();
        assert!(!Body::new(silent, 10).drain().await);
        assert_eq!(start.elapsed(), DRAIN_TIME);
    }
}
