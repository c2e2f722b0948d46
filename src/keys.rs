//! Where a job's things are kept in the store.

use crate::{settings, wire::JobId};

/// Key of the image in the input bucket.
pub fn input_key(store: &settings::Store, id: JobId, file: &str) -> String {
    render(&store.input_key, id, file)
}

/// Key of the label in the output bucket.
pub fn output_key(store: &settings::Store, id: JobId, file: &str) -> String {
    render(&store.output_key, id, file)
}

/// Key of the full result in the state bucket.
pub fn record_key(id: JobId) -> String {
    format!("recognitions/{id}.json")
}

/// Key, in the state bucket, of a large photo to learn from, until it is learnt.
pub fn claim_key(id: JobId) -> String {
    format!("claims/{id}")
}

fn render(template: &str, id: JobId, file: &str) -> String {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    template.replace("{id}", &id.to_string()).replace("{stem}", stem).replace("{file}", file)
}
