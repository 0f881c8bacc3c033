//! What serde cannot see: ranges, and rules between keys. One file for each part of the configuration.

mod addressing;
mod delegation;
mod node;
mod ports;
mod roles;
mod tunnelled;
mod values;

use std::path::Path;

pub(crate) use self::node::is_global_unicast;
use crate::{Config, ConfigError, ConfigErrors, Role, announce, flow, policy};

/// Collects what is wrong.
#[derive(Default)]
pub(crate) struct Findings(Vec<ConfigError>);

impl Findings {
    pub(crate) fn add(&mut self, key: impl Into<String>, value: impl ToString, reason: impl Into<String>) {
        self.0.push(ConfigError {
            key: key.into(),
            value: value.to_string(),
            reason: reason.into(),
        });
    }

    /// The first one.
    pub(crate) fn first(self) -> Option<ConfigError> {
        self.0.into_iter().next()
    }

    /// Adds an error unless `value` is in `range`, whose ends are in the reason.
    pub(crate) fn range<T: PartialOrd + ToString + Copy>(
        &mut self,
        key: &str,
        value: T,
        least: T,
        most: T,
        unit: &str,
    ) {
        if value < least || value > most {
            let space = if unit.is_empty() { "" } else { " " };
            let reason = format!(
                "must be {} to {}{space}{unit}",
                least.to_string(),
                most.to_string()
            );
            self.add(key, value.to_string(), reason);
        }
    }
}

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML of this form, or breaks a rule.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let origin = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &origin),
            Err(error) => {
                let mut findings = Findings::default();
                findings.add("", "", format!("cannot be read: {error}"));
                Err(ConfigErrors {
                    origin,
                    errors: findings.0,
                })
            }
        }
    }

    /// Parses and validates `text`; `origin` names it in errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigErrors> {
        let refused = |errors| ConfigErrors {
            origin: origin.to_owned(),
            errors,
        };
        let config: Config =
            toml::from_str(text).map_err(|error| refused(vec![syntax_error(text, &error)]))?;
        let errors = config.findings();
        if errors.is_empty() {
            Ok(config)
        } else {
            Err(refused(errors))
        }
    }

    fn findings(&self) -> Vec<ConfigError> {
        let mut findings = Findings::default();
        node::check(self, &mut findings);
        roles::check(self, &mut findings);
        ports::check(self, &mut findings);
        addressing::check(self, &mut findings);
        values::check(self, &mut findings);
        announce::check(self, &mut findings);
        delegation::check(self, &mut findings);
        let maar = self.node.role == Role::Maar;
        flow::check(&self.filters, &self.meters, maar, &mut findings);
        policy::check(&self.policies, !maar, &mut findings);
        findings.0
    }
}

/// An error of the TOML itself, or an unknown key: where it is, by line and column.
fn syntax_error(text: &str, error: &toml::de::Error) -> ConfigError {
    let place = error.span().map(|span| {
        let before = text.get(..span.start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        format!("line {line}, column {column}: ")
    });
    let reason = format!("{}{}", place.unwrap_or_default(), error.message());
    ConfigError {
        key: String::new(),
        value: String::new(),
        reason,
    }
}

/// Whether `name` has 1 to `longest` characters, all letters, digits, `-` or `_`.
pub(crate) fn is_name(name: &str, longest: usize) -> bool {
    (1..=longest).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// The octets of a unicast link-layer address such as `02:00:00:00:0a:01`.
pub(crate) fn is_link_layer_address(text: &str) -> bool {
    let octets: Vec<Option<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2))
        .collect();
    let Some(octets) = octets.into_iter().collect::<Option<Vec<u8>>>() else {
        return false;
    };
    octets.len() == 6
        && octets.first().is_some_and(|first| first & 1 == 0)
        && octets.iter().any(|octet| *octet != 0)
}
