//! Fields of a JSON file, read so that an error names the file and the field.

use std::path::{Path, PathBuf};

use mobile_files::{FromFile as _, read_text};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// One object of a JSON file.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    path: PathBuf,
    map: Map<String, Value>,
}

impl Fields {
    /// Reads a JSON object from `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let text = read_text(path)?;
        match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => Ok(Self { path: path.to_owned(), map }),
            Ok(_) => Err(Error::config(path, "expected a JSON object")),
            Err(e) => Err(Error::config(path, format!("not valid JSON: {e}"))),
        }
    }

    /// As [`Fields::open`], or `None` where there is no such file.
    pub(crate) fn open_if_present(path: &Path) -> Result<Option<Self>> {
        if path.exists() { Self::open(path).map(Some) } else { Ok(None) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An error about this file.
    pub(crate) fn error(&self, what: impl Into<String>) -> Error {
        Error::config(&self.path, what)
    }

    /// The raw value of a field; JSON's `null` counts as absent, as in Hugging Face's configs.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|v| !v.is_null())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.map.iter()
    }

    /// A nested object.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Self>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self { path: self.path.clone(), map: map.clone() })),
            Some(_) => Err(self.error(format!("field {name:?} must be an object"))),
        }
    }

    /// An integer from 1 to `i32::MAX`.
    pub(crate) fn size(&self, name: &str) -> Result<usize> {
        self.opt_size(name)?.ok_or_else(|| self.missing(name))
    }

    /// As [`Fields::size`], or `None` where the field is absent.
    pub(crate) fn opt_size(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value
            .as_u64()
            .filter(|n| (1..=i32::MAX as u64).contains(n))
            .map(|n| Some(n as usize))
            .ok_or_else(|| self.error(format!("field {name:?} must be a positive integer, found {value}")))
    }

    /// A finite number.
    pub(crate) fn opt_number(&self, name: &str) -> Result<Option<f32>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value
            .as_f64()
            .filter(|n| n.is_finite())
            .map(|n| Some(n as f32))
            .ok_or_else(|| self.error(format!("field {name:?} must be a number, found {value}")))
    }

    /// A finite number.
    pub(crate) fn number(&self, name: &str) -> Result<f32> {
        self.opt_number(name)?.ok_or_else(|| self.missing(name))
    }

    /// A boolean, or `default` where the field is absent.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.error(format!("field {name:?} must be true or false, found {value}")))
    }

    /// A string, or `None` where the field is absent.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.error(format!("field {name:?} must be a string, found {value}")))
    }

    fn missing(&self, name: &str) -> Error {
        self.error(format!("field {name:?} is missing"))
    }
}
