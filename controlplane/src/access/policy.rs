//! The policy file: which node has which link-layer address.
//!
//! ```toml
//! [[node]]
//! identifier = "mn1@example.net"
//! link_layer_address = "02:00:00:00:0a:01"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kedge_config::UnknownNodes;
use serde::Deserialize;

use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};

/// Why a policy file was refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not TOML of this form.
    #[error("{}: {reason}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A value that cannot be.
    #[error("{}: node[{index}].{key} = {value}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Which node of the file, from 0.
        index: usize,
        /// Its key.
        key: &'static str,
        /// What was found.
        value: String,
        /// What would be right.
        reason: &'static str,
    },
}

/// Who a link-layer address belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// This node.
    Known(MobileNodeIdentifier),
    /// A node that the file does not name; it is served all the same.
    Unknown(MobileNodeIdentifier),
    /// A node that the file does not name, and so is not served.
    Refused,
}

/// The nodes of the policy file, and what to do about others.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    identifiers: BTreeMap<LinkLayerAddress, MobileNodeIdentifier>,
    unknown_nodes: UnknownNodes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "node")]
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    identifier: String,
    link_layer_address: String,
}

impl Policy {
    /// The policy of `access.policy_file` and `access.unknown_nodes`.
    ///
    /// # Errors
    /// A [`PolicyError`] that names the file and what is wrong in it.
    pub fn load(path: Option<&Path>, unknown_nodes: UnknownNodes) -> Result<Self, PolicyError> {
        let Some(path) = path else {
            return Ok(Self {
                identifiers: BTreeMap::new(),
                unknown_nodes,
            });
        };
        let text = std::fs::read_to_string(path).map_err(|source| PolicyError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path, unknown_nodes)
    }

    fn parse(text: &str, path: &Path, unknown_nodes: UnknownNodes) -> Result<Self, PolicyError> {
        let file: File = toml::from_str(text).map_err(|error| PolicyError::Form {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let mut identifiers = BTreeMap::new();
        for (index, node) in file.nodes.iter().enumerate() {
            let error = |key, value: &str, reason| PolicyError::Value {
                path: path.to_owned(),
                index,
                key,
                value: value.to_owned(),
                reason,
            };
            let identifier: MobileNodeIdentifier = node.identifier.parse().map_err(|_| {
                error(
                    "identifier",
                    &node.identifier,
                    "expected a NAI such as mn1@example.net or subtype:hex",
                )
            })?;
            let text = &node.link_layer_address;
            let address: LinkLayerAddress = text.parse().map_err(|_| {
                error(
                    "link_layer_address",
                    text,
                    "expected six octets such as 02:00:00:00:0a:01",
                )
            })?;
            if !address.is_unicast() {
                return Err(error("link_layer_address", text, "expected a unicast address"));
            }
            if identifiers.values().any(|other| *other == identifier) {
                return Err(error("identifier", &node.identifier, "an earlier node has it"));
            }
            if identifiers.insert(address, identifier).is_some() {
                return Err(error("link_layer_address", text, "an earlier node has it"));
            }
        }
        Ok(Self {
            identifiers,
            unknown_nodes,
        })
    }

    /// Who is at `address`.
    #[must_use]
    pub fn identify(&self, address: LinkLayerAddress) -> Identity {
        match (self.identifiers.get(&address), self.unknown_nodes) {
            (Some(identifier), _) => Identity::Known(identifier.clone()),
            (None, UnknownNodes::Accept) => Identity::Unknown(MobileNodeIdentifier::eui_48(address)),
            (None, UnknownNodes::Refuse) => Identity::Refused,
        }
    }

    /// Where `identifier` is to be found, by the file or by the identifier itself.
    #[must_use]
    pub fn link_layer_address(&self, identifier: &MobileNodeIdentifier) -> Option<LinkLayerAddress> {
        let named = self.identifiers.iter().find(|(_, known)| *known == identifier);
        named.map(|(address, _)| *address).or_else(|| {
            let own = identifier.subtype == MobileNodeIdentifier::EUI_48;
            own.then(|| identifier.octets.as_slice().try_into().ok().map(LinkLayerAddress))
                .flatten()
        })
    }

    /// How many nodes the file names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.identifiers.len()
    }

    /// Whether the file names nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.identifiers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text, Path::new("nodes.toml"), UnknownNodes::Accept)
    }

    const TWO: &str = r#"
        [[node]]
        identifier = "mn1@example.net"
        link_layer_address = "02:00:00:00:0a:01"
        [[node]]
        identifier = "mn2@example.net"
        link_layer_address = "02-00-00-00-0A-02"
    "#;

    #[test]
    fn nodes_are_known_both_ways() {
        let mut policy = parse(TWO).unwrap();
        let address = LinkLayerAddress([2, 0, 0, 0, 0x0a, 2]);
        let identifier = MobileNodeIdentifier::nai("mn2@example.net");
        assert_eq!(policy.identify(address), Identity::Known(identifier.clone()));
        assert_eq!(policy.link_layer_address(&identifier), Some(address));
        let stranger = LinkLayerAddress([2, 0, 0, 0, 0, 9]);
        let by_address = MobileNodeIdentifier::eui_48(stranger);
        assert_eq!(policy.identify(stranger), Identity::Unknown(by_address.clone()));
        assert_eq!(policy.link_layer_address(&by_address), Some(stranger));
        assert_eq!(policy.link_layer_address(&MobileNodeIdentifier::nai("x")), None);
        policy.unknown_nodes = UnknownNodes::Refuse;
        assert_eq!(policy.identify(stranger), Identity::Refused);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, message) in [
            ("identifier = \"mn2", "identifer = \"mn2", "identifer"),
            (
                "mn2@example.net",
                "mn1@example.net",
                "node[1].identifier = mn1@example.net: an earlier node has it",
            ),
            (
                "02-00-00-00-0A-02",
                "02:00:00:00:0a:01",
                "node[1].link_layer_address",
            ),
            ("02-00-00-00-0A-02", "03:00:00:00:0a:01", "unicast"),
            ("02-00-00-00-0A-02", "02:00", "six octets"),
            ("mn2@example.net", "", "NAI"),
        ] {
            let error = parse(&TWO.replace(from, to)).unwrap_err().to_string();
            assert!(
                error.starts_with("nodes.toml: ") && error.contains(message),
                "{error}"
            );
        }
        let absent = Policy::load(Some(Path::new("/nonexistent/nodes.toml")), UnknownNodes::Accept);
        assert!(
            absent
                .unwrap_err()
                .to_string()
                .contains("/nonexistent/nodes.toml")
        );
    }
}
