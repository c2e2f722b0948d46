//! Any ONNX image classifier with a labels file is served in place of the face models.

use std::{io::Cursor, path::Path};

use crate::support::{recogniser, see, settings};
use image::{ImageFormat, Rgb, RgbImage};
use rollcall::{
    inference::factory::factory,
    settings::{RecogniserKind, Settings},
};

fn with_model(model: &str, labels: &str) -> (Settings, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, labels).unwrap();
    let mut settings = settings();
    settings.recognition.kind = RecogniserKind::Classifier;
    settings.recognition.classifier = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(model);
    settings.recognition.labels = file.path().to_owned();
    settings.recognition.classifier_mean = [0.0; 3];
    settings.recognition.classifier_std = [1.0; 3];
    (settings, file)
}

fn png(image: &RgbImage) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, ImageFormat::Png).unwrap();
    out.into_inner()
}

const COLOURS: &str = "red\ngreen\nblue\n";

#[test]
fn the_label_is_the_best_class_and_classes_come_best_first() {
    let (mut settings, _labels) = with_model("mean_colour.onnx", COLOURS);
    settings.recognition.classifier_top = 2;
    let mut recogniser = recogniser(&settings);
    let image = png(&RgbImage::from_pixel(300, 200, Rgb([51, 204, 102])));
    let seen = see(recogniser.as_mut(), &image).unwrap();
    assert_eq!(seen.label, "green");
    assert_eq!((seen.width, seen.height), (300, 200));
    let labels: Vec<&str> = seen.classes.iter().map(|c| c.label.as_str()).collect();
    assert_eq!(labels, ["green", "blue"]);
    // Logits 2, 8, 4: softmax of the first is e^8 / (e^2 + e^8 + e^4).
    let expected = 8.0_f32.exp() / (2.0_f32.exp() + 8.0_f32.exp() + 4.0_f32.exp());
    assert!((seen.classes[0].probability - expected).abs() < 1e-4);
}

#[test]
fn a_fixed_size_model_with_softmax_output_gives_the_same_result() {
    let image = png(&RgbImage::from_pixel(300, 200, Rgb([51, 204, 102])));
    let (logits, _labels) = with_model("mean_colour.onnx", COLOURS);
    let (softmax, _other_labels) = with_model("softmax.onnx", COLOURS);
    let one = see(recogniser(&logits).as_mut(), &image).unwrap();
    let other = see(recogniser(&softmax).as_mut(), &image).unwrap();
    for (a, b) in one.classes.iter().zip(&other.classes) {
        assert_eq!(a.label, b.label);
        assert!((a.probability - b.probability).abs() < 1e-4);
    }
}

#[test]
fn the_central_square_of_the_image_is_classified() {
    // Blue in the central square, red on both sides of it.
    let image =
        RgbImage::from_fn(300, 100, |x, _| if (100..200).contains(&x) { Rgb([0, 0, 255]) } else { Rgb([255, 0, 0]) });
    let (settings, _labels) = with_model("mean_colour.onnx", COLOURS);
    assert_eq!(see(recogniser(&settings).as_mut(), &png(&image)).unwrap().label, "blue");
}

#[test]
fn the_configured_mean_and_deviation_are_applied() {
    let (mut settings, _labels) = with_model("mean_colour.onnx", COLOURS);
    settings.recognition.classifier_mean = [0.1, 0.6, 0.3];
    settings.recognition.classifier_std = [0.5, 1.0, 0.25];
    let image = png(&RgbImage::from_pixel(50, 50, Rgb([51, 204, 102])));
    // Logits 2, 2, 4.
    let seen = see(recogniser(&settings).as_mut(), &image).unwrap();
    assert_eq!(seen.label, "blue");
    let expected = 4.0_f32.exp() / (4.0_f32.exp() + 2.0 * 2.0_f32.exp());
    assert!((seen.classes[0].probability - expected).abs() < 1e-3, "{}", seen.classes[0].probability);
}

#[test]
fn mismatched_labels_or_models_are_reported_with_the_cause() {
    for (model, labels, part) in [
        ("mean_colour.onnx", "red\ngreen\n", "has 2 labels, one per line, but the model has 3 classes"),
        ("planar_last.onnx", COLOURS, "not planar RGB"),
        ("make.py", COLOURS, "not a model that ONNX Runtime can load"),
        ("absent.onnx", COLOURS, "recognition.classifier"),
    ] {
        let (settings, _labels) = with_model(model, labels);
        let error = format!("{:#}", factory(&settings.recognition).build().err().unwrap());
        assert!(error.contains(part), "{model}: {error}");
    }
    let (mut settings, _labels) = with_model("mean_colour.onnx", COLOURS);
    settings.recognition.labels = "nowhere/labels.txt".into();
    let error = format!("{:#}", factory(&settings.recognition).build().err().unwrap());
    assert!(error.contains("nowhere/labels.txt"), "{error}");
}
