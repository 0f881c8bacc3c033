//! Where a command writes: tables or JSON, and never a panic when nobody reads.

use std::io::Write;

use serde_json::Value;

use super::connect::Failure;
use super::table::Table;

/// Standard output, for people or for programs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a program reads.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// A table, or its values.
    pub(super) fn table(self, table: &Table, nothing: &str, values: &Value) -> Result<(), Failure> {
        if self.json {
            self.value(values)
        } else {
            self.text(&table.render(nothing))
        }
    }

    /// A value on one line.
    pub(super) fn value(self, value: &Value) -> Result<(), Failure> {
        self.text(&format!("{value}\n"))
    }

    /// Text as it is.
    pub(super) fn text(self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }
}
