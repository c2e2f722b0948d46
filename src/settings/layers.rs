//! Layers of raw settings: the defaults in the program, then a file, then the environment. Each value keeps its origin,
//! and each error names it.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::LazyLock,
};

use config::{Config, ConfigError, Environment, File, FileFormat, Value, ValueKind};

/// `config/default.toml`, parsed once: raw values by dotted key.
static DEFAULTS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let file = File::from_str(include_str!("../../config/default.toml"), FileFormat::Toml);
    let defaults = Config::builder().add_source(file).build().expect("a part of this program, read by its tests");
    flatten(defaults.cache)
});
/// Origin of values that nothing has overridden.
const DEFAULT_ORIGIN: &str = "default";
/// Number of edits up to which an unknown key counts as a misspelt one.
const NEAR: usize = 4;
/// Origin of values from the environment, as named by the library.
const ENVIRONMENT: &str = "the environment";

/// A setting that cannot be used. The message names the origin of the value, the key and what is allowed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {problem}")]
pub struct SettingsError {
    /// A file's path, an environment variable, or `default`.
    origin: String,
    problem: String,
}

/// One setting, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `section.name`.
    pub key: String,
    /// The value in the syntax of a settings file.
    pub value: String,
    /// A file's path, an environment variable, or `default`.
    pub origin: String,
    /// Why "auto" has this value, if the setting is "auto". Completes the sentence "it has this value …".
    pub auto: Option<&'static str>,
}

impl Entry {
    /// Returns whether nothing has overridden the default.
    pub fn is_default(&self) -> bool {
        self.origin == DEFAULT_ORIGIN
    }
}

/// Raw values by dotted key, each from the last layer that has the key.
pub struct Layers {
    /// Those that are not from the defaults.
    overrides: BTreeMap<String, Value>,
}

impl Layers {
    /// Lays `file`, if given, and the variables `ROLLCALL__SECTION__KEY` of `env` over the defaults.
    ///
    /// # Errors
    /// The file cannot be read or parsed, or a key does not exist.
    pub fn load(file: Option<&Path>, env: HashMap<String, String>) -> Result<Self, SettingsError> {
        let mut builder = Config::builder();
        let mut place = ENVIRONMENT.to_owned();
        if let Some(path) = file {
            place = path.display().to_string();
            builder = builder.add_source(File::from(path).format(FileFormat::Toml));
        }
        let environment = Environment::with_prefix("ROLLCALL").prefix_separator("__").separator("__").source(Some(env));
        let mut overrides = flatten(build(builder.add_source(environment), &place)?);
        overrides.retain(|key, value| !(is_table(value) && is_section(key)));

        for (key, value) in &overrides {
            if !DEFAULTS.contains_key(key) {
                let problem = match nearest(key, DEFAULTS.keys()) {
                    Some(near) => format!("unknown key `{key}`; did you mean `{near}`?"),
                    None => format!("unknown key `{key}`; config/default.toml lists all keys"),
                };
                let origin = if is_table(value) { place } else { origin(key, value) };
                return Err(SettingsError { origin, problem });
            }
            if has_table(value) {
                return Err(SettingsError { origin: place, problem: format!("{key}: must be a value, not a table") });
            }
        }
        Ok(Self { overrides })
    }

    /// Returns whether there is a setting with this key.
    pub fn knows(key: &str) -> bool {
        DEFAULTS.contains_key(key)
    }

    /// Returns every setting with its raw value, in the order of the keys.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        DEFAULTS.keys().map(|key| {
            let value = self.get(key);
            Entry { key: key.clone(), value: display(value), origin: origin(key, value), auto: None }
        })
    }

    /// Returns the error for a `key` whose value is not `allowed`.
    pub(super) fn invalid(&self, key: &str, allowed: &str) -> SettingsError {
        let value = self.get(key);
        SettingsError { origin: origin(key, value), problem: format!("{key} = {}: must be {allowed}", display(value)) }
    }

    /// Returns the raw value of a key of `config/default.toml`.
    ///
    /// # Panics
    /// For any other key, which is a bug in this program.
    pub(super) fn get(&self, key: &str) -> &Value {
        self.overrides
            .get(key)
            .or_else(|| DEFAULTS.get(key))
            .unwrap_or_else(|| panic!("config/default.toml lacks {key}"))
    }
}

fn build(builder: config::ConfigBuilder<config::builder::DefaultState>, place: &str) -> Result<Value, SettingsError> {
    let fail = |e: ConfigError| SettingsError { origin: place.to_owned(), problem: e.to_string() };
    Ok(Value::new(None, ValueKind::Table(builder.build().map_err(fail)?.cache.into_table().map_err(fail)?)))
}

/// Returns the values in a table by dotted key. A table is a value if it is empty.
fn flatten(root: Value) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    let mut todo = vec![(String::new(), root)];
    while let Some((path, value)) = todo.pop() {
        match value.kind {
            ValueKind::Table(table) if !table.is_empty() || path.is_empty() => {
                for (key, child) in table {
                    todo.push((if path.is_empty() { key } else { format!("{path}.{key}") }, child));
                }
            }
            _ => {
                out.insert(path, value);
            }
        }
    }
    out
}

fn is_table(value: &Value) -> bool {
    matches!(value.kind, ValueKind::Table(_))
}

/// Returns whether this is a table, or a list with one in it. No setting is.
fn has_table(value: &Value) -> bool {
    match &value.kind {
        ValueKind::Array(values) => values.iter().any(has_table),
        _ => is_table(value),
    }
}

/// Returns whether keys may begin with this and a dot.
fn is_section(path: &str) -> bool {
    DEFAULTS.keys().any(|key| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

fn origin(key: &str, value: &Value) -> String {
    match value.origin() {
        None => DEFAULT_ORIGIN.to_owned(),
        Some(o) if o == ENVIRONMENT => format!("ROLLCALL__{}", key.replace('.', "__").to_uppercase()),
        Some(o) => o.to_owned(),
    }
}

fn display(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => quoted(text),
        ValueKind::Array(a) => format!("[{}]", a.iter().map(display).collect::<Vec<_>>().join(", ")),
        // With a point or an exponent, which tells it from an integer that may be too large.
        ValueKind::Float(number) => format!("{number:?}").to_lowercase(),
        other => other.to_string(),
    }
}

/// Returns text as a string of TOML, which is like one of JSON except for one more character that must be escaped.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7F}', "\\u007F")
}

/// Returns the most similar known key, at most [`NEAR`] edits away. Of another length than that, none is: a key may be long,
/// and the comparison takes the product of both lengths.
fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let length = key.chars().count();
    let similar = known.filter(|k| k.chars().count().abs_diff(length) <= NEAR);
    similar.map(|k| (strsim::damerau_levenshtein(key, k), k)).filter(|(d, _)| *d <= NEAR).min().map(|(_, k)| k)
}
