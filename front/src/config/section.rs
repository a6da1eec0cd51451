//! Walks the tables of a configuration: one [`Section`] a table, asked for one setting after the other.
//!
//! Every fault goes to the collector and the walk goes on with the default, so that one run reports all of them. Flags
//! and environment variables come in here, at the only place where a setting's value is decided: flag, then
//! environment, then file, then default.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Debug;

use toml::de::{DeTable, DeValue};

use super::held::{Address, Held, Origin};
use super::problem::{Collector, Problem, did_you_mean};
use super::value::{Read, Value, Wrong};

/// A setting given outside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Override {
    /// `--listen` or `TEMPEST_LISTEN`.
    pub(super) place: String,
    /// Its text.
    pub(super) text: String,
}

/// What all sections of one configuration share.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// The file's name as it is shown.
    pub(super) name: String,
    /// Its text; empty where there is no file.
    pub(super) text: &'a str,
    /// Settings given outside the file, by their dotted names.
    pub(super) overrides: HashMap<&'static str, Override>,
    /// Where faults go.
    pub(super) problems: Collector,
    /// The text is no TOML: what is missing may only have been unreadable, so it is no fault of its own.
    pub(super) broken: bool,
    /// Every setting that was asked for, as it was read.
    pub(super) held: RefCell<Vec<Held>>,
    /// Every key that was looked for, a setting's or a table's, and whether it was there.
    pub(super) looked: RefCell<Vec<(String, bool)>>,
}

impl Source<'_> {
    /// The line, from 1, of a byte of the text.
    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|b| *b == b'\n').count()
    }

    /// Takes a fault of the file.
    pub(super) fn problem(&self, at: usize, setting: &str, message: impl Into<String>) {
        let line = self.line(at);
        let place = format!("{}:{line}", self.name);
        self.problems.add(line, Problem { place, setting: setting.to_owned(), message: message.into() });
    }

    /// Takes a fault of the file's syntax; what else was found wrong in its line is only a consequence.
    pub(super) fn syntax(&self, at: usize, message: &str) {
        self.problems.forget(self.line(at));
        self.problem(at, "", message);
    }

    fn check<T>(&self, setting: &str, read: Read<T>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(Wrong { at, message }) => {
                self.problem(at, setting, message);
                None
            }
        }
    }

    fn outside(&self, place: &str, setting: &str, message: String) {
        self.problems.add(0, Problem { place: place.to_owned(), setting: setting.to_owned(), message });
    }
}

/// One table, or the absence of one.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) source: &'a Source<'a>,
    /// Its dotted name; empty for the whole file.
    pub(super) path: String,
    /// The same, told from others of its kind.
    address: Address,
    /// The byte it begins at.
    pub(super) at: usize,
    table: Option<&'a DeTable<'a>>,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Self {
        Self { source, path: String::new(), address: Address::default(), at: 0, table: Some(table), asked: Vec::new() }
    }

    /// A table that the file cannot have: its settings are given as flags only.
    pub(super) fn outside_the_file(source: &'a Source<'a>, path: &'static str) -> Self {
        let address = Address::default().below(path);
        Self { source, path: path.to_owned(), address, at: 0, table: None, asked: Vec::new() }
    }

    /// Makes a fault of every setting of the table `path` that was given outside the file.
    pub(super) fn refuse_overrides(&self, path: &str, message: &str) {
        let within = |key: &str| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        let given = self.source.overrides.iter().filter(|(key, _)| within(key));
        given.for_each(|(_, given)| self.source.outside(&given.place, "", message.to_owned()));
    }

    fn entry(&mut self, key: &'static str) -> Option<&'a toml::Spanned<DeValue<'a>>> {
        self.asked.push(key);
        let found = self.table.and_then(|table| table.get(key));
        self.source.looked.borrow_mut().push((self.address.below(key).key().to_owned(), found.is_some()));
        found
    }

    /// The dotted name of a setting in here; of the table itself where `key` is empty.
    pub(super) fn name_of(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    /// True where the file has this setting.
    pub(super) fn has(&self, key: &str) -> bool {
        let found = self.table.is_some_and(|table| table.contains_key(key));
        self.source.looked.borrow_mut().push((self.address.below(key).key().to_owned(), found));
        found
    }

    /// A setting that need not be there.
    pub(super) fn optional<T: Debug>(&mut self, key: &'static str, read: impl Fn(&Value<'_>) -> Read<T>) -> Option<T> {
        let found = self.look(key, read);
        match &found {
            Some(value) => self.hold(key, value),
            None => self.hold(key, &format_args!("not set")),
        }
        found
    }

    /// Notes what a setting is.
    fn hold(&self, key: &str, value: &dyn Debug) {
        let given = self.source.overrides.get(self.name_of(key).as_str());
        let in_file = self.table.and_then(|table| table.get(key)).map(|value| value.span());
        let (origin, text) = match (given, in_file) {
            (Some(given), _) => (Origin::Given(given.place.clone()), given.text.as_str()),
            (None, Some(span)) => {
                let place = format!("{}:{}", self.source.name, self.source.line(span.start));
                (Origin::Given(place), self.source.text.get(span).unwrap_or_default())
            }
            (None, None) => (Origin::Default, ""),
        };
        self.source.held.borrow_mut().push(Held::new(self.address.below(key), value, text, origin));
    }

    fn look<T>(&mut self, key: &'static str, read: impl Fn(&Value<'_>) -> Read<T>) -> Option<T> {
        let setting = self.name_of(key);
        let in_file = self.entry(key).and_then(|value| self.source.check(&setting, read(&Value::of(value))));
        match self.source.overrides.get(setting.as_str()) {
            None => in_file,
            Some(given) => match read(&Value::text(&given.text)) {
                Ok(value) => Some(value),
                Err(wrong) => {
                    self.source.outside(&given.place, "", wrong.message);
                    None
                }
            },
        }
    }

    /// A setting with a default.
    pub(super) fn get<T: Debug>(&mut self, key: &'static str, read: impl Fn(&Value<'_>) -> Read<T>, default: T) -> T {
        let value = self.look(key, read).unwrap_or(default);
        self.hold(key, &value);
        value
    }

    /// A setting that has to be there; its absence is a fault.
    pub(super) fn require<T: Debug>(&mut self, key: &'static str, read: impl Fn(&Value<'_>) -> Read<T>) -> Option<T> {
        if !self.has(key) && !self.source.broken {
            self.problem(key, "is missing");
        }
        self.optional(key, read)
    }

    /// Settings that are known here but mean nothing in this case.
    pub(super) fn ignore(&mut self, keys: &[&'static str]) {
        self.asked.extend(keys);
    }

    /// A fault of a setting in here, at the place that gave it: flag or variable, its own line, where the section
    /// begins, or nowhere, when it is a default that does not go with the rest.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        let setting = self.name_of(key);
        if let Some(given) = self.source.overrides.get(setting.as_str()) {
            return self.source.outside(&given.place, "", message.into());
        }
        let at = self.table.and_then(|table| table.get(key)).map(|value| value.span().start);
        match at.or(self.table.map(|_| self.at)) {
            Some(at) => self.source.problem(at, &setting, message),
            None => self.source.outside("default", &setting, message.into()),
        }
    }

    /// One table below this one; anything else is a fault.
    fn child(&self, path: String, address: Address, value: &'a toml::Spanned<DeValue<'a>>) -> Option<Self> {
        let at = value.span().start;
        let DeValue::Table(table) = value.get_ref() else {
            self.source.problem(at, &path, "expected a table");
            return None;
        };
        Some(Self { source: self.source, path, address, at, table: Some(table), asked: Vec::new() })
    }

    /// `[key]`; one that is absent has only defaults.
    pub(super) fn section(&mut self, key: &'static str) -> Self {
        let (path, address) = (self.name_of(key), self.address.below(key));
        let found = self.entry(key).and_then(|value| self.child(path.clone(), address.clone(), value));
        found.unwrap_or(Self { source: self.source, path, address, at: self.at, table: None, asked: Vec::new() })
    }

    /// `[[key]]`, in the order of the file; `None` where there is none.
    pub(super) fn sections(&mut self, key: &'static str) -> Option<Vec<Self>> {
        let path = self.name_of(key);
        let value = self.entry(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.source.problem(value.span().start, &path, format!("expected tables, each headed [[{path}]]"));
            return None;
        };
        let mut labels: Vec<String> = Vec::new();
        let child = |item: &'a toml::Spanned<DeValue<'a>>| {
            let label = label_of(item.get_ref());
            let same = labels.iter().filter(|known| **known == label).count();
            labels.push(label.clone());
            self.child(path.clone(), self.address.one_of(key, &label, same), item)
        };
        Some(items.iter().filter_map(child).collect())
    }

    /// `[key.NAME]`, in the order of the file.
    pub(super) fn named(&mut self, key: &'static str) -> Vec<(String, Self)> {
        let all = self.section(key);
        let child = |(name, value): (&str, _)| {
            Some((name.to_owned(), all.child(all.name_of(name), all.address.named(name), value)?))
        };
        all.entries().into_iter().filter_map(child).collect()
    }

    /// All pairs of this table, whatever their names, in the order of the file.
    pub(super) fn pairs<T: Debug>(self, read: impl Fn(&Value<'_>) -> Read<T>) -> Vec<(String, T)> {
        let pair = |(name, value)| {
            let value = self.source.check(&self.name_of(name), read(&Value::of(value)))?;
            self.hold(name, &value);
            Some((name.to_owned(), value))
        };
        self.entries().into_iter().filter_map(pair).collect()
    }

    fn entries(&self) -> Vec<(&'a str, &'a toml::Spanned<DeValue<'a>>)> {
        let mut entries: Vec<_> = self.table.into_iter().flatten().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        entries.into_iter().map(|(name, value)| (&**name.get_ref(), value)).collect()
    }

    /// Reports every key that was not asked for. To be called when all settings have been.
    pub(super) fn finish(self) {
        for (key, _) in self.table.into_iter().flatten() {
            let word: &str = key.get_ref();
            if self.asked.contains(&word) {
                continue;
            }
            let advice = match did_you_mean(word, &self.asked) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("known here: {}", self.asked.join(", ")),
            };
            let at = key.span().start;
            self.source.problem(at, &self.name_of(word), format!("is no setting; {advice}"));
        }
    }
}

/// What tells one table of an array from the others: the first of these that it has.
fn label_of(table: &DeValue<'_>) -> String {
    let DeValue::Table(table) = table else { return String::new() };
    let text = |key: &&str| table.get(*key).and_then(|value| value.get_ref().as_str().map(str::to_owned));
    ["name", "path", "pattern"].iter().find_map(text).unwrap_or_default()
}
