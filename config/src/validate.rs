//! What serde cannot see: ranges, and rules between keys.

use std::path::Path;

use crate::{Config, ConfigError, ConfigErrors};

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML of this form, or breaks a rule.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ConfigErrors {
            origin: origin.clone(),
            errors: vec![ConfigError { key: String::new(), value: String::new(), reason: format!("cannot be read: {error}") }],
        })?;
        Self::parse(&text, &origin)
    }

    /// Parses and validates `text`; `origin` names it in errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigErrors> {
        let config: Config = toml::from_str(text).map_err(|error| ConfigErrors {
            origin: origin.to_owned(),
            errors: vec![ConfigError { key: String::new(), value: String::new(), reason: error.to_string() }],
        })?;
        Ok(config)
    }
}
