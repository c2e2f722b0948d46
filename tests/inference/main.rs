//! From the bytes of an image to faces, names and labels: models, gallery and pool.

mod accuracy;
mod classifier_models;
mod embedder_models;
mod enrolling;
mod false_accept;
mod gallery_command;
mod gallery_models;
mod gallery_versions;
mod golden_agreement;
mod image_formats;
mod population;
mod recogniser_pool;
mod support;
