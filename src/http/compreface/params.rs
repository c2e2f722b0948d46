//! Query parameters.

use percent_encoding::percent_decode_str;

use super::refusal::Refusal;
use crate::{
    http::code,
    recognition::{MAX_CANDIDATES, MAX_CANDIDATES_IN_ALL},
};

/// The parameters that [`Params`] understands.
const KNOWN: [&str; 8] =
    ["limit", "det_prob_threshold", "prediction_count", "face_plugins", "status", "detect_faces", "page", "size"];
/// Default number of examples on a page.
const PAGE_SIZE: usize = 20;
/// Most examples on a page, so that a response is bounded: that of Spring, which CompreFace uses.
const MAX_PAGE_SIZE: usize = 2_000;

/// The plugins that have a counterpart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Plugins {
    /// Include the embedding of each face.
    pub calculator: bool,
    /// Include the landmarks of each face.
    pub landmarks: bool,
}

/// The query parameters of a request.
#[derive(Debug, PartialEq)]
pub(super) struct Params {
    /// Most faces; the largest ones come first.
    pub limit: usize,
    /// Confidence below which a face is ignored, in addition to `recognition.detector_score`.
    pub min_score: f32,
    /// Most subjects for each face.
    pub prediction_count: usize,
    pub plugins: Plugins,
    /// The plugins that have no counterpart.
    pub ignored: Vec<String>,
    /// Whether times and versions are included.
    pub status: bool,
    /// Number of the page, from 0.
    pub page: usize,
    /// Examples on a page.
    pub size: usize,
    /// The subject, if there is that parameter.
    pub subject: Option<String>,
}

impl Params {
    /// Reads a query string.
    ///
    /// # Errors
    /// A value is out of range or of another type, or asks for what has no counterpart.
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let mut params = Self {
            limit: usize::MAX,
            min_score: 0.0,
            prediction_count: 1,
            plugins: Plugins::default(),
            ignored: Vec::new(),
            status: false,
            page: 0,
            size: PAGE_SIZE,
            subject: None,
        };
        for (name, value) in pairs(query) {
            match name.as_str() {
                "limit" => {
                    let limit = at_least(&name, &value, 0, "Limit should be equal or greater than 0")?;
                    params.limit = if limit == 0 { usize::MAX } else { limit };
                }
                "det_prob_threshold" => params.min_score = score(&value)?,
                "prediction_count" => {
                    let why = "prediction_count should be equal or greater than 1";
                    params.prediction_count = at_least(&name, &value, 1, why)?;
                }
                "face_plugins" => value.split(',').map(str::trim).for_each(|slug| params.add_plugin(slug)),
                "status" => params.status = flag(&name, &value)?,
                "detect_faces" if !flag(&name, &value)? => {
                    let why = "detect_faces=false has no counterpart: every image is searched for faces";
                    return Err(Refusal::new(code::BAD_ARGUMENT, why));
                }
                "page" => params.page = at_least(&name, &value, 0, "page should be equal or greater than 0")?,
                "size" => {
                    let size = at_least(&name, &value, 1, "size should be equal or greater than 1")?;
                    params.size = size.min(MAX_PAGE_SIZE);
                }
                "subject" => params.subject = Some(value),
                _ => {}
            }
        }
        Ok(params)
    }

    /// Returns the subject.
    ///
    /// # Errors
    /// It is missing or blank.
    pub fn required_subject(&self) -> Result<&str, Refusal> {
        match self.subject.as_deref() {
            None => Err(Refusal::new(code::MISSING_PARAMETER, "Required parameter subject is missing")),
            Some(subject) if subject.trim().is_empty() => Err(Refusal::new(code::INVALID, "Subject name is empty")),
            Some(subject) => Ok(subject),
        }
    }

    fn add_plugin(&mut self, slug: &str) {
        match slug {
            "" => {}
            "calculator" => self.plugins.calculator = true,
            "landmarks" => self.plugins.landmarks = true,
            other => self.ignored.push(other.chars().filter(char::is_ascii_graphic).take(32).collect()),
        }
    }
}

/// Checks that the candidates for so many probes are not too many for one request.
///
/// # Errors
/// They are.
pub(super) fn check_candidates(probes: usize, params: &Params, what: &str) -> Result<(), Refusal> {
    let count = params.prediction_count.min(MAX_CANDIDATES);
    if probes.saturating_mul(count) <= MAX_CANDIDATES_IN_ALL {
        return Ok(());
    }
    let most = MAX_CANDIDATES_IN_ALL / count;
    let why = format!(
        "with prediction_count={count}, a request can have {most} {what}, and this one has {probes}: ask for fewer at once"
    );
    Err(Refusal::new(code::INVALID, why))
}

/// Splits a query into names and values.
///
/// CompreFace's JavaScript client 1.0 begins each option with a question mark in place of an ampersand, unless there is a
/// limit. So a question mark before the name of an option divides, too; in a value, clients write it as `%3F`.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let divides = |rest: &str| rest.split_once('=').is_some_and(|(name, _)| KNOWN.contains(&name));
    let mut parts = Vec::new();
    for part in query.split('&') {
        let mut start = 0;
        for (at, _) in part.match_indices('?').filter(|(at, _)| divides(&part[at + 1..])) {
            parts.push(&part[start..at]);
            start = at + 1;
        }
        parts.push(&part[start..]);
    }
    parts.into_iter().filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        (decoded(name), decoded(value))
    })
}

fn at_least(name: &str, value: &str, least: usize, why: &str) -> Result<usize, Refusal> {
    match value.trim().parse::<i128>() {
        Ok(number) if number >= least as i128 => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
        Ok(_) => Err(Refusal::new(code::INVALID, why)),
        Err(_) => Err(Refusal::new(code::UNDEFINED, format!("{name} should be an integer"))),
    }
}

fn score(value: &str) -> Result<f32, Refusal> {
    match value.trim().parse::<f32>() {
        Ok(score) if (0.0..=1.0).contains(&score) => Ok(score),
        Ok(_) => Err(Refusal::new(code::INVALID, "det_prob_threshold should be between 0.0 and 1.0")),
        Err(_) => Err(Refusal::new(code::UNDEFINED, "det_prob_threshold should be a number")),
    }
}

fn flag(name: &str, value: &str) -> Result<bool, Refusal> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err(Refusal::new(code::UNDEFINED, format!("{name} should be true or false"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(query: &str) -> Params {
        Params::parse(query).expect(query)
    }

    #[test]
    fn parameters_have_the_defaults_of_compreface() {
        let params = parsed("");
        assert_eq!((params.limit, params.prediction_count, params.status), (usize::MAX, 1, false));
        assert_eq!((params.page, params.size, params.subject), (0, 20, None));
        assert_eq!(parsed("limit=0").limit, usize::MAX, "0 is no limit");
    }

    #[test]
    fn every_parameter_is_read() {
        let params = parsed(
            "&limit=2&det_prob_threshold=0.8&prediction_count=3&face_plugins=calculator,age,landmarks&status=True",
        );
        assert_eq!((params.limit, params.min_score, params.prediction_count, params.status), (2, 0.8, 3, true));
        assert_eq!(params.plugins, Plugins { calculator: true, landmarks: true });
        assert_eq!(params.ignored, ["age"]);
        let params = parsed("page=4&size=7&subject=Zo%C3%AB+S%26a");
        assert_eq!((params.page, params.size, params.subject.as_deref()), (4, 7, Some("Zoë S&a")));
        assert_eq!(parsed("size=99999999").size, MAX_PAGE_SIZE);
    }

    #[test]
    fn what_the_javascript_client_sends_is_divided_where_it_should_have_been() {
        let params = parsed("subject=Tom?det_prob_threshold=0.8");
        assert_eq!((params.subject.as_deref(), params.min_score), (Some("Tom"), 0.8));
        let params = parsed("det_prob_threshold=0.5?face_plugins=landmarks?status=true");
        assert_eq!((params.min_score, params.plugins.landmarks, params.status), (0.5, true, true));
        for (query, subject) in
            [("subject=Who?", "Who?"), ("subject=a%3Flimit=1", "a?limit=1"), ("subject=?x=1", "?x=1")]
        {
            assert_eq!(parsed(query).subject.as_deref(), Some(subject), "{query}");
        }
    }

    #[test]
    fn values_that_are_not_allowed_have_the_codes_of_compreface() {
        for (query, expected) in [
            ("limit=-1", code::INVALID),
            ("limit=x", code::UNDEFINED),
            ("prediction_count=0", code::INVALID),
            ("det_prob_threshold=1.5", code::INVALID),
            ("det_prob_threshold=NaN", code::INVALID),
            ("det_prob_threshold=", code::UNDEFINED),
            ("status=perhaps", code::UNDEFINED),
            ("detect_faces=false", code::BAD_ARGUMENT),
            ("page=-1", code::INVALID),
            ("size=0", code::INVALID),
        ] {
            let refusal = Params::parse(query).expect_err(query);
            assert_eq!(refusal.code_for_tests(), (400, Some(expected)), "{query}");
        }
        let subject =
            |query: &str| parsed(query).required_subject().map(str::to_owned).map_err(|r| r.code_for_tests().1);
        assert_eq!(subject("subject=Ada"), Ok("Ada".into()));
        assert_eq!(subject("subject=%20"), Err(Some(code::INVALID)));
        assert_eq!(subject(""), Err(Some(code::MISSING_PARAMETER)));
    }

    #[test]
    fn candidates_are_limited_in_all() {
        let check =
            |probes, query: &str| check_candidates(probes, &parsed(query), "faces").map_err(|r| r.code_for_tests());
        assert_eq!(check(1_000, ""), Ok(()));
        assert_eq!(check(1_001, ""), Err((400, Some(code::INVALID))));
        assert_eq!(check(10, "prediction_count=100"), Ok(()));
        assert_eq!(check(11, "prediction_count=100"), Err((400, Some(code::INVALID))));
        assert_eq!(check(10, "prediction_count=999999"), Ok(()), "there are never more than 100");
    }

    proptest! {
        #[test]
        fn no_query_makes_the_parser_panic(query in "[a-z_=&?%+0-9.,é-]{0,80}") {
            let _ = Params::parse(&query);
        }
    }
}
