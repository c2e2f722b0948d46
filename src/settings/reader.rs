//! Typed and validated reading of raw settings, key by key.

use std::{
    cell::RefCell, collections::BTreeMap, collections::BTreeSet, fmt::Display, ops::RangeInclusive, path::PathBuf,
    str::FromStr, time::Duration,
};

use config::{Value, ValueKind};

use super::{
    auto::Auto,
    layers::{Entry, Layers, SettingsError},
};

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// Reads the values of [`Layers`], and records which keys it has read and how "auto" was resolved.
///
/// If a value has the wrong type or is out of range, each method returns an error that names its origin, its key and
/// what is allowed. Numbers and lists may also be given as text, because environment variables are text.
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    read: RefCell<BTreeSet<&'static str>>,
    resolved: RefCell<BTreeMap<&'static str, Auto<String>>>,
}

impl<'a> Reader<'a> {
    pub fn new(layers: &'a Layers) -> Self {
        Self { layers, read: RefCell::default(), resolved: RefCell::default() }
    }

    /// Returns the keys that have not been read so far.
    pub fn unread(&self) -> Vec<String> {
        let read = self.read.borrow();
        self.layers.entries().map(|e| e.key).filter(|key| !read.contains(key.as_str())).collect()
    }

    /// Returns every key, in order, with its origin and its effective value: for "auto", the resolved value and the
    /// reason.
    pub fn effective(&self) -> Vec<Entry> {
        let resolved = self.resolved.borrow();
        let effective = |entry: Entry| match resolved.get(entry.key.as_str()) {
            Some(auto) => Entry { value: auto.value.clone(), auto: Some(auto.reason), ..entry },
            None => entry,
        };
        self.layers.entries().map(effective).collect()
    }

    /// Returns the error for a `key` whose value is not `allowed`.
    pub fn invalid(&self, key: &str, allowed: &str) -> SettingsError {
        self.layers.invalid(key, allowed)
    }

    pub fn text(&self, key: &'static str) -> Result<String, SettingsError> {
        self.string(key, &|| "text".to_owned())
    }

    /// Reads text, or `None` if it is empty.
    pub fn optional(&self, key: &'static str) -> Result<Option<String>, SettingsError> {
        Ok(Some(self.text(key)?).filter(|text| !text.is_empty()))
    }

    pub fn path(&self, key: &'static str) -> Result<PathBuf, SettingsError> {
        self.string(key, &|| "a path".to_owned()).map(PathBuf::from)
    }

    /// Reads a path, or `None` if it is empty.
    pub fn path_or_auto(
        &self,
        key: &'static str,
        auto: Auto<Option<PathBuf>>,
    ) -> Result<Option<PathBuf>, SettingsError> {
        if self.is_auto(key) {
            return Ok(self.resolve(key, auto, |path| format!("{:?}", path.as_deref().unwrap_or("".as_ref()))));
        }
        Ok(Some(self.path(key)?).filter(|path| !path.as_os_str().is_empty()))
    }

    pub fn flag(&self, key: &'static str) -> Result<bool, SettingsError> {
        let value = self.get(key);
        let typed = matches!(value.kind, ValueKind::Boolean(_) | ValueKind::String(_));
        let flag = value.clone().into_bool().ok().filter(|_| typed);
        flag.ok_or_else(|| self.invalid(key, "true or false"))
    }

    /// Reads one of the names in `choices`.
    pub fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Result<T, SettingsError> {
        let allowed = || choices.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
        let value = self.string(key, &allowed)?;
        choices.iter().find(|(name, _)| *name == value).map(|(_, c)| *c).ok_or_else(|| self.invalid(key, &allowed()))
    }

    /// Reads text that is parsed as `T`; `allowed` describes the syntax.
    pub fn parsed<T: FromStr>(&self, key: &'static str, allowed: &str) -> Result<T, SettingsError> {
        self.string(key, &|| allowed.to_owned())?.parse().map_err(|_| self.invalid(key, allowed))
    }

    pub fn duration(&self, key: &'static str, range: RangeInclusive<Duration>) -> Result<Duration, SettingsError> {
        let allowed = || {
            let [from, to] = [range.start(), range.end()].map(|d| humantime::format_duration(*d));
            format!("a duration with its unit, such as 30s or 5m, from {from} to {to}")
        };
        let value = humantime::parse_duration(&self.string(key, &allowed)?).ok();
        self.ranged(key, value, &range, &allowed)
    }

    pub fn duration_or_auto(
        &self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        auto: Auto<Duration>,
    ) -> Result<Duration, SettingsError> {
        if self.is_auto(key) {
            return Ok(self.resolve(key, auto, |d| format!("{:?}", humantime::format_duration(*d).to_string())));
        }
        self.duration(key, range)
    }

    /// Reads a size in bytes.
    pub fn size(&self, key: &'static str, range: RangeInclusive<u64>) -> Result<usize, SettingsError> {
        let allowed = || {
            let [from, to] = [range.start(), range.end()].map(|b| bytesize::ByteSize(*b).display().iec());
            format!("a size with its unit, such as 180KiB or 20MiB, from {from} to {to}")
        };
        let text = self.string(key, &allowed)?;
        let value = text.parse::<bytesize::ByteSize>().ok().filter(|_| text.ends_with('B')).map(|b| b.as_u64());
        self.ranged(key, value, &range, &allowed).map(|b| b as usize)
    }

    /// Reads a whole number.
    pub fn count(&self, key: &'static str, range: RangeInclusive<usize>) -> Result<usize, SettingsError> {
        let value = match &self.get(key).kind {
            ValueKind::I64(n) => usize::try_from(*n).ok(),
            ValueKind::String(s) => s.trim().parse().ok(),
            _ => None,
        };
        let allowed = || format!("a whole number from {} to {}", range.start(), range.end());
        self.ranged(key, value, &range, &allowed)
    }

    pub fn count_or_auto(
        &self,
        key: &'static str,
        range: RangeInclusive<usize>,
        auto: Auto<usize>,
    ) -> Result<usize, SettingsError> {
        if self.is_auto(key) { Ok(self.resolve(key, auto, usize::to_string)) } else { self.count(key, range) }
    }

    pub fn number(&self, key: &'static str, range: RangeInclusive<f64>) -> Result<f64, SettingsError> {
        let allowed = || format!("a number from {} to {}", range.start(), range.end());
        self.ranged(key, float(self.get(key)), &range, &allowed)
    }

    /// Reads three numbers, from a list or comma-separated text.
    pub fn triple(&self, key: &'static str, range: RangeInclusive<f64>) -> Result<[f32; 3], SettingsError> {
        let numbers: Option<Vec<f64>> = match &self.get(key).kind {
            ValueKind::String(s) => s.split(',').map(|n| n.trim().parse().ok()).collect(),
            ValueKind::Array(a) => a.iter().map(float).collect(),
            _ => None,
        };
        let triple = numbers.and_then(|n| <[f64; 3]>::try_from(n).ok());
        let triple = triple.filter(|t| t.iter().all(|n| range.contains(n))).map(|t| t.map(|n| n as f32));
        triple.ok_or_else(|| self.invalid(key, &format!("three numbers from {} to {}", range.start(), range.end())))
    }

    /// Reads strings, from a list or comma-separated text. Empty strings are omitted.
    pub fn texts(&self, key: &'static str) -> Result<Vec<String>, SettingsError> {
        self.split(key, ',')
    }

    /// Reads strings that are parsed as `T`, from a list or semicolon-separated text.
    pub fn list<T: FromStr<Err: Display>>(&self, key: &'static str) -> Result<Vec<T>, SettingsError> {
        let texts = self.split(key, ';')?;
        texts.iter().map(|t| t.parse().map_err(|e: T::Err| self.invalid(key, &e.to_string()))).collect()
    }

    /// Reads a name of at most `max` characters that is valid as a tag, a bucket and a folder.
    pub fn name(&self, key: &'static str, max: usize) -> Result<String, SettingsError> {
        let allowed = format!("1 to {max} characters of a-z 0-9 and -, beginning with a letter or digit");
        self.checked(key, &allowed, |name| {
            let known = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            known && (1..=max).contains(&name.len()) && !name.starts_with('-')
        })
    }

    /// Reads text that passes `check`; `allowed` describes the syntax.
    pub fn checked(
        &self,
        key: &'static str,
        allowed: &str,
        check: impl Fn(&str) -> bool,
    ) -> Result<String, SettingsError> {
        let text = self.string(key, &|| allowed.to_owned())?;
        if check(&text) { Ok(text) } else { Err(self.invalid(key, allowed)) }
    }

    fn get(&self, key: &'static str) -> &Value {
        self.read.borrow_mut().insert(key);
        self.layers.get(key)
    }

    /// Returns whether the value is "auto".
    pub fn is_auto(&self, key: &'static str) -> bool {
        matches!(&self.get(key).kind, ValueKind::String(s) if s == "auto")
    }

    /// Records how the "auto" of `key` was resolved, in the syntax of a settings file.
    fn resolve<T>(&self, key: &'static str, auto: Auto<T>, written: impl Fn(&T) -> String) -> T {
        self.resolved.borrow_mut().insert(key, Auto::new(written(&auto.value), auto.reason));
        auto.value
    }

    fn string(&self, key: &'static str, allowed: &dyn Fn() -> String) -> Result<String, SettingsError> {
        match &self.get(key).kind {
            ValueKind::String(s) => Ok(s.clone()),
            _ => Err(self.invalid(key, &format!("{}, in quotes", allowed()))),
        }
    }

    fn ranged<T: PartialOrd>(
        &self,
        key: &str,
        value: Option<T>,
        range: &RangeInclusive<T>,
        allowed: &dyn Fn() -> String,
    ) -> Result<T, SettingsError> {
        value.filter(|v| range.contains(v)).ok_or_else(|| self.invalid(key, &allowed()))
    }

    fn split(&self, key: &'static str, separator: char) -> Result<Vec<String>, SettingsError> {
        let text = |value: &Value| match &value.kind {
            ValueKind::String(s) => Some(s.clone()),
            _ => None,
        };
        let texts: Option<Vec<String>> = match &self.get(key).kind {
            ValueKind::String(s) => Some(s.split(separator).map(str::to_owned).collect()),
            ValueKind::Array(a) => a.iter().map(text).collect(),
            _ => None,
        };
        let texts = texts.ok_or_else(|| self.invalid(key, "a list of strings"))?;
        Ok(texts.iter().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect())
    }
}

fn float(value: &Value) -> Option<f64> {
    match &value.kind {
        ValueKind::I64(n) => Some(*n as f64),
        ValueKind::Float(n) => Some(*n),
        ValueKind::String(s) => s.trim().parse().ok(),
        _ => None,
    }
}
