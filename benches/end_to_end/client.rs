//! Uploads photos and measures the response times.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use reqwest::{Client, header::CONTENT_TYPE};

/// Times in microseconds.
pub type Times = Histogram<u64>;

/// Returns an empty histogram.
pub fn times() -> Times {
    Histogram::new(3).expect("3 digits")
}

/// Returns a quantile in milliseconds.
pub fn quantile_ms(times: &Times, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1e3
}

/// Returns a photo as a browser's form. Forms are built once, so that the client's work is small.
pub fn form(photo: &Bytes) -> Bytes {
    let head = "--rollcall\r\nContent-Disposition: form-data; name=\"myfile\"; filename=\"photo.jpg\"\r\n\r\n";
    [head.as_bytes(), photo, b"\r\n--rollcall--\r\n"].concat().into()
}

/// Uploads a photo and waits for the label. Returns how long that took.
pub async fn post(client: &Client, url: &str, form: &Bytes) -> Duration {
    let started = Instant::now();
    let request = client.post(url).header(CONTENT_TYPE, "multipart/form-data; boundary=rollcall");
    let response = request.body(form.clone()).send().await.expect("a response");
    assert_eq!(response.status(), 200);
    response.bytes().await.expect("the label");
    started.elapsed()
}

/// Uploads for the length of a round, `waiting` photos at a time. Returns the response times.
pub async fn round(client: &Client, url: &str, forms: &[Bytes], waiting: usize, length: Duration) -> Times {
    let (started, next, took) = (Instant::now(), RefCell::new(forms.iter().cycle()), RefCell::new(times()));
    let uploads = (0..waiting).map(|_| async {
        while started.elapsed() < length {
            let form = next.borrow_mut().next().cloned();
            let time = post(client, url, &form.expect("at least one photo")).await;
            took.borrow_mut().record(time.as_micros() as u64).expect("in range");
        }
    });
    join_all(uploads).await;
    took.into_inner()
}
