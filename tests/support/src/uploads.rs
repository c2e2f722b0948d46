//! Photos, generated images and forms for tests of HTTP.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbImage};
use reqwest::{
    Response,
    multipart::{Form, Part},
};
use serde_json::Value;

use crate::http::Client;

pub const KNOWN: &str = ".assets/photos/known";
pub const MACRON: &str = ".assets/photos/probes/Emmanuel_Macron/person_a_2.jpg";
pub const ARDERN: &str = ".assets/photos/probes/Jacinda_Ardern/person_b_2.jpg";
pub const STRANGER: &str = ".assets/photos/strangers/Rishi_Sunak/impostor_2.jpg";

pub fn photo(path: &str) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}: run `make setup`"))
}

/// Returns an image without a face.
pub fn faceless(width: u32, height: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x / 2) as u8, (y / 2) as u8, 90]));
    encode(image.into(), ImageFormat::Png)
}

/// Returns the photos beside one another, each as high as the first times its scale.
pub fn side_by_side(photos: &[(&str, f32)]) -> Vec<u8> {
    let open = |path: &str| image::load_from_memory(&photo(path)).expect("an image").to_rgb8();
    let height = open(photos[0].0).height();
    let scaled = photos.iter().map(|(path, scale)| {
        let image = open(path);
        let high = (height as f32 * scale) as u32;
        let wide = image.width() * high / image.height();
        image::imageops::resize(&image, wide, high, image::imageops::FilterType::Triangle)
    });
    let scaled: Vec<RgbImage> = scaled.collect();
    let mut all = RgbImage::new(scaled.iter().map(RgbImage::width).sum(), height);
    let mut x = 0;
    for image in scaled {
        image::imageops::replace(&mut all, &image, x, 0);
        x += i64::from(image.width());
    }
    encode(all.into(), ImageFormat::Png)
}

pub fn encode(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).expect("encodes");
    out.into_inner()
}

/// Returns a form with one file per pair of name and bytes, all in the field `myfile`.
pub fn form(files: &[(&str, &[u8])]) -> Form {
    files.iter().fold(Form::new(), |form, (name, bytes)| form.part("myfile", file(name, bytes)))
}

pub fn file(name: &str, bytes: &[u8]) -> Part {
    Part::bytes(bytes.to_vec()).file_name(name.to_owned())
}

/// Posts a form over plain HTTP.
pub async fn post(url: &str, form: Form) -> Response {
    Client::plain().post(url).multipart(form).send().await.expect("a response, not a reset")
}

/// Returns the status and the text of a response.
pub async fn status_and_text(response: Response) -> (u16, String) {
    (response.status().as_u16(), response.text().await.expect("text"))
}

/// Checks the form of a response's problem details, and returns them.
pub async fn problem(response: Response) -> Value {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string() && problem["type"].is_string());
    assert!(!problem["detail"].as_str().expect("detail").is_empty());
    problem
}
