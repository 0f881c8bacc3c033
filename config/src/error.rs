//! What can be wrong with a configuration.

use std::fmt;

/// One thing that is wrong: where, what was found, and why it cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Path of the key, such as `port[1].mtu`; empty where the file as a whole is meant.
    pub key: String,
    /// The value found, as text.
    pub value: String,
    /// What would be right.
    pub reason: String,
}

/// Everything that is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file, or another name of where the text came from.
    pub origin: String,
    /// At least one.
    pub errors: Vec<ConfigError>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.is_empty(), self.value.is_empty()) {
            (true, _) => f.write_str(&self.reason),
            (false, true) => write!(f, "{}: {}", self.key, self.reason),
            (false, false) => write!(f, "{} = {}: {}", self.key, self.value, self.reason),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {error}", self.origin)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
