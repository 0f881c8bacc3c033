//! What happened, told once: for `kedge watch`, the log, and the demo's timeline.

/// Something that an operator wants to see as it happens.
///
/// `kind` is for programs, `text` for people; `fields` carry the values of the
/// text under stable names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// A stable word such as `message_sent`.
    pub kind: &'static str,
    /// A sentence.
    pub text: String,
    /// Named values.
    pub fields: Vec<(&'static str, String)>,
}

impl Event {
    /// An event without fields.
    #[must_use]
    pub fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            fields: Vec::new(),
        }
    }

    /// Adds a named value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }

    /// The value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str())
    }
}
