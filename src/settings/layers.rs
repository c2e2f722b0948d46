//! Layers of raw settings: the defaults in the program, then a file, then the environment. Each value knows where it
//! came from, and each error says so.

use std::{
    cell::RefCell, collections::BTreeMap, collections::HashMap, fmt::Display, path::Path, path::PathBuf, str::FromStr,
    time::Duration,
};

use config::{Config, ConfigError, Environment, File, FileFormat, Value, ValueKind};

const DEFAULTS: &str = include_str!("../../config/default.toml");
/// Origin of values nobody has overridden.
const DEFAULT_ORIGIN: &str = "default";

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {problem}")]
pub struct SettingsError {
    /// A file's path, an environment variable, or `default`.
    origin: String,
    problem: String,
}

/// Merged raw values by dotted key.
pub struct Layers {
    values: BTreeMap<String, Value>,
    /// What "auto" came to, by key, noted by the code that resolves it.
    resolved: RefCell<BTreeMap<String, String>>,
    /// Keys that a section has read.
    #[cfg(test)]
    pub(super) read: RefCell<std::collections::BTreeSet<String>>,
}

impl Layers {
    /// Merges the defaults, `file` if given, and `ROLLCALL__SECTION__KEY` of `env`.
    pub fn load(file: Option<&Path>, env: HashMap<String, String>) -> Result<Self, SettingsError> {
        let defaults = || File::from_str(DEFAULTS, FileFormat::Toml);
        let known = flatten(build(Config::builder().add_source(defaults()), DEFAULT_ORIGIN)?);

        let mut builder = Config::builder().add_source(defaults());
        let mut place = "the environment".to_owned();
        if let Some(path) = file {
            place = path.display().to_string();
            builder = builder.add_source(File::from(path).format(FileFormat::Toml));
        }
        let environment = Environment::with_prefix("ROLLCALL").prefix_separator("__").separator("__").source(Some(env));
        let values = flatten(build(builder.add_source(environment), &place)?);

        for (key, value) in &values {
            if !known.contains_key(key) {
                let problem = match nearest(key, known.keys()) {
                    Some(near) => format!("unknown key `{key}`; did you mean `{near}`?"),
                    None => format!("unknown key `{key}`; config/default.toml lists all"),
                };
                return Err(SettingsError { origin: origin(key, value), problem });
            }
        }
        Ok(Self {
            values,
            resolved: RefCell::default(),
            #[cfg(test)]
            read: RefCell::default(),
        })
    }

    /// Key, raw value and origin of every setting, in key order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, String, String)> {
        self.values.iter().map(|(k, v)| (k.as_str(), display(v), origin(k, v)))
    }

    /// The error for `key` having a value that is not `allowed`.
    pub fn invalid(&self, key: &str, allowed: &str) -> SettingsError {
        let value = &self.values[key];
        SettingsError { origin: origin(key, value), problem: format!("{key} = {}: must be {allowed}", display(value)) }
    }

    /// Returns what each "auto" came to, by key. Complete once the settings have been made of these layers.
    pub fn resolved(&self) -> BTreeMap<String, String> {
        self.resolved.borrow().clone()
    }

    /// Notes what "auto" came to.
    fn resolve<T>(&self, key: &str, auto: T, shown: impl Display) -> T {
        self.resolved.borrow_mut().insert(key.to_owned(), shown.to_string());
        auto
    }

    fn get(&self, key: &str) -> &Value {
        #[cfg(test)]
        self.read.borrow_mut().insert(key.to_owned());
        self.values.get(key).unwrap_or_else(|| panic!("config/default.toml lacks {key}")) // a typing error in this program
    }

    fn string(&self, key: &str, allowed: &str) -> Result<String, SettingsError> {
        match &self.get(key).kind {
            ValueKind::String(s) => Ok(s.clone()),
            _ => Err(self.invalid(key, &format!("{allowed}, in quotes"))),
        }
    }

    fn ranged<T: PartialOrd>(
        &self,
        key: &str,
        value: Option<T>,
        (min, max): (T, T),
        allowed: &str,
    ) -> Result<T, SettingsError> {
        value.filter(|v| *v >= min && *v <= max).ok_or_else(|| self.invalid(key, allowed))
    }

    fn is_auto(&self, key: &str) -> bool {
        matches!(&self.get(key).kind, ValueKind::String(s) if s == "auto")
    }

    pub(super) fn text(&self, key: &str) -> Result<String, SettingsError> {
        self.string(key, "text")
    }

    /// Text, or `None` where it is empty.
    pub(super) fn optional(&self, key: &str) -> Result<Option<String>, SettingsError> {
        Ok(Some(self.text(key)?).filter(|text| !text.is_empty()))
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, SettingsError> {
        self.get(key).clone().into_bool().map_err(|_| self.invalid(key, "true or false"))
    }

    /// Texts: an array, or one text with commas (the environment).
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, SettingsError> {
        let texts: Option<Vec<String>> = match &self.get(key).kind {
            ValueKind::String(s) => Some(s.split(',').map(|part| part.trim().to_owned()).collect()),
            ValueKind::Array(a) => a.iter().map(|v| v.clone().into_string().ok()).collect(),
            _ => None,
        };
        let texts = texts.ok_or_else(|| self.invalid(key, "a list of texts"))?;
        Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
    }

    pub(super) fn path(&self, key: &str) -> Result<PathBuf, SettingsError> {
        self.string(key, "a path").map(PathBuf::from)
    }

    /// A path, or what "auto" is, which may be none.
    pub(super) fn path_or_auto(&self, key: &str, auto: Option<PathBuf>) -> Result<Option<PathBuf>, SettingsError> {
        if self.is_auto(key) {
            let shown = auto.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
            return Ok(self.resolve(key, auto, shown));
        }
        self.path(key).map(Some)
    }

    pub(super) fn parsed<T: FromStr>(&self, key: &str, allowed: &str) -> Result<T, SettingsError> {
        self.string(key, allowed)?.parse().map_err(|_| self.invalid(key, allowed))
    }

    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, SettingsError> {
        let allowed = choices.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
        let value = self.string(key, &allowed)?;
        choices.iter().find(|(name, _)| *name == value).map(|(_, c)| *c).ok_or_else(|| self.invalid(key, &allowed))
    }

    pub(super) fn duration(&self, key: &str, min: Duration, max: Duration) -> Result<Duration, SettingsError> {
        let show = humantime::format_duration;
        let allowed = format!("a duration with its unit, such as 30s or 5m, from {} to {}", show(min), show(max));
        let value = humantime::parse_duration(&self.string(key, &allowed)?).ok();
        self.ranged(key, value, (min, max), &allowed)
    }

    pub(super) fn duration_or_auto(
        &self,
        key: &str,
        min: Duration,
        max: Duration,
        auto: Duration,
    ) -> Result<Duration, SettingsError> {
        if self.is_auto(key) {
            return Ok(self.resolve(key, auto, humantime::format_duration(auto)));
        }
        self.duration(key, min, max)
    }

    /// A size in bytes.
    pub(super) fn size(&self, key: &str, min: u64, max: u64) -> Result<usize, SettingsError> {
        let show = |b| bytesize::ByteSize(b).display().iec();
        let allowed = format!("a size with its unit, such as 180KiB or 20MiB, from {} to {}", show(min), show(max));
        let text = self.string(key, &allowed)?;
        let value = text.parse::<bytesize::ByteSize>().ok().filter(|_| text.ends_with('B')).map(|b| b.as_u64());
        self.ranged(key, value, (min, max), &allowed).map(|b| b as usize)
    }

    pub(super) fn count(&self, key: &str, min: usize, max: usize) -> Result<usize, SettingsError> {
        let value = match self.get(key).kind {
            ValueKind::Float(_) | ValueKind::Boolean(_) => None,
            _ => self.get(key).clone().into_uint().ok().map(|n| n as usize),
        };
        self.ranged(key, value, (min, max), &format!("a whole number from {min} to {max}"))
    }

    pub(super) fn count_or_auto(&self, key: &str, min: usize, max: usize, auto: usize) -> Result<usize, SettingsError> {
        if self.is_auto(key) { Ok(self.resolve(key, auto, auto)) } else { self.count(key, min, max) }
    }

    pub(super) fn number(&self, key: &str, min: f32, max: f32) -> Result<f32, SettingsError> {
        let value = self.get(key).clone().into_float().ok().map(|n| n as f32);
        self.ranged(key, value, (min, max), &format!("a number from {min} to {max}"))
    }

    /// As [`Self::number`], for sums of money and shares, where a float of 32 bits would show.
    pub(super) fn amount(&self, key: &str, min: f64, max: f64) -> Result<f64, SettingsError> {
        let value = self.get(key).clone().into_float().ok();
        self.ranged(key, value, (min, max), &format!("a number from {min} to {max}"))
    }

    /// Three numbers: an array, or text with commas (the environment).
    pub(super) fn triple(&self, key: &str, min: f32, max: f32) -> Result<[f32; 3], SettingsError> {
        let allowed = format!("three numbers from {min} to {max}");
        let numbers: Option<Vec<f32>> = match &self.get(key).kind {
            ValueKind::String(s) => s.split(',').map(|n| n.trim().parse().ok()).collect(),
            ValueKind::Array(a) => a.iter().map(|v| v.clone().into_float().ok().map(|n| n as f32)).collect(),
            _ => None,
        };
        let triple = numbers.and_then(|n| <[f32; 3]>::try_from(n).ok());
        triple.filter(|t| t.iter().all(|n| (min..=max).contains(n))).ok_or_else(|| self.invalid(key, &allowed))
    }

    /// A list of what `T` reads: an array of texts, or one text with semicolons between (the environment).
    pub(super) fn list<T: FromStr<Err: Display>>(&self, key: &str) -> Result<Vec<T>, SettingsError> {
        let texts: Option<Vec<String>> = match &self.get(key).kind {
            ValueKind::String(s) => Some(s.split(';').map(str::to_owned).collect()),
            ValueKind::Array(a) => a.iter().map(|v| v.clone().into_string().ok()).collect(),
            _ => None,
        };
        let texts = texts.ok_or_else(|| self.invalid(key, "a list of texts"))?;
        let texts = texts.iter().map(|t| t.trim()).filter(|t| !t.is_empty());
        texts.map(|t| t.parse().map_err(|e: T::Err| self.invalid(key, &e.to_string()))).collect()
    }

    /// A name fit for a tag, a bucket or a folder.
    pub(super) fn name(&self, key: &str, max: usize) -> Result<String, SettingsError> {
        let allowed = format!("1 to {max} of a-z 0-9 and -, beginning with a letter or digit");
        let s = self.string(key, &allowed)?;
        let fits = s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if fits && (1..=max).contains(&s.len()) && !s.starts_with('-') {
            Ok(s)
        } else {
            Err(self.invalid(key, &allowed))
        }
    }

    /// SQS's rule for queue names.
    pub(super) fn queue_name(&self, key: &str, fifo: bool) -> Result<String, SettingsError> {
        let allowed = if fifo {
            "1 to 80 of A-Z a-z 0-9 - _ ending in .fifo"
        } else {
            "1 to 80 of A-Z a-z 0-9 - _ without .fifo at the end"
        };
        let s = self.string(key, allowed)?;
        let stem = if fifo { s.strip_suffix(".fifo") } else { Some(s.as_str()) };
        let fits = stem.is_some_and(|n| {
            !n.is_empty() && s.len() <= 80 && n.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        });
        if fits { Ok(s) } else { Err(self.invalid(key, allowed)) }
    }

    /// A key with `{id}`, `{file}` or `{stem}` in it.
    pub(super) fn key_template(&self, key: &str) -> Result<String, SettingsError> {
        let allowed = "a key such as {id}/{file}, of {id}, {file}, {stem} and text, with at least one of them";
        let s = self.string(key, allowed)?;
        let rest = s.replace("{id}", "").replace("{file}", "").replace("{stem}", "");
        let fits = rest.len() < s.len() && !rest.contains(['{', '}', '\\']) && !s.starts_with('/') && !s.contains("..");
        if fits { Ok(s) } else { Err(self.invalid(key, allowed)) }
    }
}

fn build(builder: config::ConfigBuilder<config::builder::DefaultState>, place: &str) -> Result<Value, SettingsError> {
    let fail = |e: ConfigError| SettingsError { origin: place.to_owned(), problem: e.to_string() };
    Ok(Value::new(None, ValueKind::Table(builder.build().map_err(fail)?.cache.into_table().map_err(fail)?)))
}

fn flatten(root: Value) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    let mut todo = vec![(String::new(), root)];
    while let Some((path, value)) = todo.pop() {
        match value.kind {
            ValueKind::Table(table) => {
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

fn origin(key: &str, value: &Value) -> String {
    match value.origin() {
        None => DEFAULT_ORIGIN.to_owned(),
        Some(o) if o.contains("environment") => format!("ROLLCALL__{}", key.replace('.', "__").to_uppercase()),
        Some(o) => o.to_owned(),
    }
}

fn display(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(s) => format!("{s:?}"),
        ValueKind::Array(a) => format!("[{}]", a.iter().map(display).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// The known key that differs least, if it differs little.
fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    known.map(|k| (strsim::damerau_levenshtein(key, k), k)).filter(|(d, _)| *d <= 4).min().map(|(_, k)| k)
}

impl Display for Layers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (key, value, origin) in self.entries() {
            writeln!(f, "{key:<36} {value:<34} {origin}")?;
        }
        Ok(())
    }
}
