//! Between what travels and what is computed with.
//!
//! Decoding is strict: an octet string of the wrong length, a value out of
//! range, an absent field or an unknown enumeration value is refused with the
//! field's path. Nothing is defaulted but where the contract says so.

mod decode;
mod encode;
mod flow;

pub use decode::prefix_keys;

/// Bits in front of the IPv4 address in an IPv4-mapped one (RFC 4291 section 2.5.5.2).
const MAPPED_LENGTH: u8 = 96;

/// A message that breaks the contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} = {value}: {reason}")]
pub struct ConversionError {
    /// Path of the field, such as `put_prefixes[3].next_hop.deliver.link_layer_address`.
    pub field: String,
    /// The value found, as text; octets in hexadecimal.
    pub value: String,
    /// What would be right.
    pub reason: &'static str,
}

impl ConversionError {
    fn new(field: impl Into<String>, value: impl Into<String>, reason: &'static str) -> Self {
        Self {
            field: field.into(),
            value: value.into(),
            reason,
        }
    }

    /// The same error, seen from the message that contains this one.
    fn inside(mut self, outer: &str) -> Self {
        self.field = if self.field.is_empty() {
            outer.to_owned()
        } else {
            format!("{outer}.{}", self.field)
        };
        self
    }
}
