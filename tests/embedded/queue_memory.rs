//! A long queue takes a bounded amount of memory, also when it is opened.

use futures_util::{StreamExt as _, stream};
use image::{DynamicImage, ImageFormat, RgbImage};
use rollcall_testing::http::Client;
use rollcall_testing::uploads::{encode, form};
use rollcall_testing::{Rollcall, RollcallOptions, peak_memory};

const JOBS: usize = 3000;
/// The caches of the queue and of its file take 64 MiB each; uploads and responses take the rest. With the database's
/// own default for its cache, this is more than twice as much.
const MAX_BYTES: usize = 600 << 20;

/// Returns an image of about 100 kB that cannot be compressed.
fn noise() -> Vec<u8> {
    let mut state = 1_u32;
    let image = RgbImage::from_fn(182, 182, |_, _| {
        image::Rgb(std::array::from_fn(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }))
    });
    encode(DynamicImage::from(image), ImageFormat::Png)
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_queued_jobs_take_a_bounded_amount_of_memory() {
    // No worker comes up, so that all jobs stay in the queue.
    let broken = RollcallOptions::default().env("ROLLCALL__RECOGNITION__DETECTOR", "/nonexistent.onnx");
    let mut server = Rollcall::start(broken).await;
    let (client, photo) = (Client::new(), noise());
    assert!((90_000..120_000).contains(&photo.len()), "{}", photo.len());
    let upload = async |_| {
        let request = client.post(server.url("/v1/recognitions")).header("Prefer", "respond-async");
        request.multipart(form(&[("x.png", &photo)])).send().await.expect("a response").status().as_u16()
    };
    let statuses: Vec<u16> = stream::iter(0..JOBS).map(upload).buffer_unordered(32).collect().await;
    assert!(statuses.iter().all(|status| *status == 202), "{statuses:?}");
    let while_filled = peak_memory(server.pid());
    server.kill9();
    server.restart().await;
    let when_opened = peak_memory(server.pid());
    let file = std::fs::metadata(server.data_dir().join("queues.redb")).expect("a file").len() >> 20;
    let mib = [while_filled, when_opened].map(|bytes| bytes >> 20);
    println!("{mib:?} MiB while filled and when opened, with a file of {file} MiB");
    assert!(file > 250, "the jobs are in the file: {file} MiB");
    assert!(while_filled < MAX_BYTES && when_opened < MAX_BYTES, "{mib:?} MiB");
}
