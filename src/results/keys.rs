//! Builds the keys of a job's objects: from the templates in the settings in the input and output buckets, fixed in the
//! state bucket.

use std::path::Path;

use crate::{job::JobId, settings::Store};

/// The prefix, in the state bucket, of the keys of all results.
pub const RESULTS: &str = "recognitions/";
/// The prefix, in the state bucket, of the temporary keys of payloads.
pub const CLAIMS: &str = "claims/";

/// Returns the key of a job's payload in the input bucket. `file` is its sanitised file name.
pub fn input_key(store: &Store, id: JobId, file: &str) -> String {
    render(&store.input_key, id, file)
}

/// Returns the key of a job's summary in the output bucket. `file` is its sanitised file name.
pub fn output_key(store: &Store, id: JobId, file: &str) -> String {
    render(&store.output_key, id, file)
}

/// Returns the key of a job's full result in the state bucket.
pub fn result_key(id: JobId) -> String {
    format!("{RESULTS}{id}.json")
}

/// Returns the temporary key, in the state bucket, of a large payload that is not kept.
pub fn claim_key(id: JobId) -> String {
    format!("{CLAIMS}{id}")
}

/// Returns the job of a key that [`result_key`] returned.
pub fn job_of_result(key: &str) -> Option<JobId> {
    key.strip_prefix(RESULTS)?.strip_suffix(".json")?.parse().ok()
}

/// Returns the job of a key that [`claim_key`] returned.
pub fn job_of_claim(key: &str) -> Option<JobId> {
    key.strip_prefix(CLAIMS)?.parse().ok()
}

/// Returns the job of a key that was rendered from `template`, if its id comes after fixed text only.
pub fn job_of(template: &str, key: &str) -> Option<JobId> {
    let (before, after) = template.split_once("{id}")?;
    let (text, rest) = key.strip_prefix(before)?.split_at_checked(ulid::ULID_LEN)?;
    let literal = after.split('{').next().unwrap_or_default();
    let id: JobId = text.parse().ok()?;
    // Other programs' keys may look similar: hexadecimal digits are valid in an id.
    (id.to_string() == text && rest.starts_with(literal) && (!after.is_empty() || rest.is_empty())).then_some(id)
}

/// The prefix, in the state bucket, of the keys of all dead letters.
pub const DEAD_LETTERS: &str = "dead-letters/";

/// Returns the prefix, in the state bucket, of the keys of a job's dead letters.
pub fn dead_letter_prefix(id: JobId) -> String {
    format!("{DEAD_LETTERS}{id}/")
}

/// Renders a template in one pass, so that a file called `{id}.jpg` keeps its name.
fn render(template: &str, id: JobId, file: &str) -> String {
    let mut key = String::with_capacity(template.len() + file.len() + 26);
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        key.push_str(&rest[..start]);
        rest = &rest[start..];
        if let Some(after) = rest.strip_prefix("{id}") {
            key.push_str(&id.to_string());
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{file}") {
            key.push_str(file);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{stem}") {
            key.push_str(stem(file));
            rest = after;
        } else {
            key.push('{');
            rest = &rest[1..];
        }
    }
    key.push_str(rest);
    key
}

/// Returns a file name without its last extension.
pub fn stem(file: &str) -> &str {
    Path::new(file).file_stem().and_then(|s| s.to_str()).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn store(input_key: &str, output_key: &str) -> Store {
        Store {
            input: "in".into(),
            input_key: input_key.into(),
            output: "out".into(),
            output_key: output_key.into(),
            state: "state".into(),
            retention: None,
        }
    }

    const ID: JobId = JobId(0x018f_3c1e_7a44_0000_0000_0000_0000_002a);

    #[test]
    fn the_default_templates_keep_two_uploads_of_one_name_apart() {
        let s = store("{id}/{file}", "{id}/{stem}");
        assert_eq!(input_key(&s, ID, "ada.jpg"), format!("{ID}/ada.jpg"));
        assert_eq!(output_key(&s, ID, "ada.jpg"), format!("{ID}/ada"));
        assert_ne!(input_key(&s, JobId(1), "ada.jpg"), input_key(&s, JobId(2), "ada.jpg"));
        assert_eq!(ID.to_string().len(), 26, "the id is a ULID");
    }

    #[test]
    fn objects_in_the_state_bucket_have_their_own_key_per_job() {
        for key in [result_key, claim_key] {
            assert!(key(ID).contains(&ID.to_string()));
        }
        assert_ne!(result_key(ID), claim_key(ID));
    }

    #[test]
    fn keys_of_jobs_that_are_submitted_together_begin_differently() {
        const JOBS: usize = 10_000;
        let s = store("{id}/{file}", "{id}/{stem}");
        let ids: Vec<JobId> = (0..JOBS).map(|_| JobId::new()).collect();
        let keys: [&dyn Fn(JobId) -> String; 4] =
            [&|id| input_key(&s, id, "a.jpg"), &|id| output_key(&s, id, "a.jpg"), &result_key, &claim_key];
        for (key, folder) in keys.into_iter().zip(["", "", RESULTS, CLAIMS]) {
            let mut beginnings = std::collections::BTreeMap::<String, usize>::new();
            for id in &ids {
                *beginnings.entry(key(*id)[..folder.len() + 2].to_owned()).or_default() += 1;
            }
            // Two characters have 256 values: the first one of an id has three bits, each other one five.
            assert_eq!(beginnings.len(), 256, "{folder}");
            assert!(beginnings.values().all(|count| *count < JOBS / 100), "{folder}: {beginnings:?}");
        }
    }

    #[test]
    fn the_templates_of_the_report_give_bare_file_names() {
        let s = store("{file}", "{stem}");
        assert_eq!(input_key(&s, ID, "test_00.jpg"), "test_00.jpg");
        assert_eq!(output_key(&s, ID, "test_00.jpg"), "test_00");
    }

    #[test]
    fn only_the_last_extension_is_removed() {
        let s = store("{file}", "labels/{stem}.txt");
        for (file, key) in [
            ("a.b.jpg", "labels/a.b.txt"),
            ("noextension", "labels/noextension.txt"),
            (".hidden", "labels/.hidden.txt"),
            ("Ωμέγα.png", "labels/Ωμέγα.txt"),
        ] {
            assert_eq!(output_key(&s, ID, file), key);
        }
    }

    #[test]
    fn results_are_keyed_by_job_id() {
        assert_eq!(result_key(ID), format!("recognitions/{ID}.json"));
    }

    #[test]
    fn the_job_of_a_key_is_found_where_the_id_follows_fixed_text() {
        assert_eq!((job_of_result(&result_key(ID)), job_of_claim(&claim_key(ID))), (Some(ID), Some(ID)));
        for template in ["{id}/{file}", "photos/{id}-{stem}", "{id}"] {
            let key = input_key(&store(template, ""), ID, "a.jpg");
            assert_eq!(job_of(template, &key), Some(ID), "{template}");
        }
        for (template, key) in [
            ("{file}", "a.jpg"),
            ("{file}/{id}", "a.jpg/x"),
            ("{id}/{file}", "Ωμέγα/a.jpg"),
            ("{id}", "018F3C1E7A440000000000002A.jpg"),
        ] {
            assert_eq!(job_of(template, key), None, "{template}");
        }
    }

    proptest! {
        #[test]
        fn a_file_name_is_never_taken_for_a_template(file in "[a-z{}.]{1,12}") {
            let s = store("{id}/{file}", "{stem}");
            prop_assert_eq!(input_key(&s, ID, &file), format!("{ID}/{file}"));
        }
    }
}
