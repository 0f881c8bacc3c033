//! Which node is meant: where its sockets are.

use std::path::{Path, PathBuf};

use super::connect::Failure;

/// Where nodes have their run directories.
const RUN: &str = "/run/kedge";
const VARIABLE: &str = "KEDGE_RUN_DIRECTORY";

/// A node's run directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    directory: PathBuf,
}

impl Node {
    /// The node that is meant: named, by directory, by environment, or the only one.
    pub(super) fn find(name: Option<&str>, directory: Option<PathBuf>) -> Result<Self, Failure> {
        let variable = std::env::var_os(VARIABLE)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from);
        let directory = match (directory, name) {
            (Some(directory), _) => directory,
            (None, Some(name)) => Path::new(RUN).join(name),
            (None, None) => match variable {
                Some(directory) => directory,
                None => only(Path::new(RUN))?,
            },
        };
        Ok(Self { directory })
    }

    pub(super) fn controlplane(&self) -> PathBuf {
        self.directory.join("controlplane.sock")
    }

    pub(super) fn dataplane(&self) -> PathBuf {
        self.directory.join("dataplane.sock")
    }
}

/// The only node that has a socket below `run`.
fn only(run: &Path) -> Result<PathBuf, Failure> {
    let entries = std::fs::read_dir(run).into_iter().flatten().flatten();
    let mut nodes: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.join("controlplane.sock").exists() || path.join("dataplane.sock").exists())
        .collect();
    nodes.sort();
    match nodes.as_slice() {
        [node] => Ok(node.clone()),
        [] => Err(Failure::Node(format!(
            "no node runs under {}; use --node NAME, --run-directory DIR or {VARIABLE}",
            run.display()
        ))),
        several => {
            let names: Vec<_> = several
                .iter()
                .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
                .collect();
            Err(Failure::Node(format!(
                "several nodes run here, say which one: --node {}",
                names.join(" | ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_node_is_meant() {
        let run = tempfile::tempdir().unwrap();
        assert!(
            only(run.path())
                .unwrap_err()
                .to_string()
                .contains("no node runs under")
        );
        for (name, socket) in [("maar1", "dataplane.sock"), ("cmd", "controlplane.sock")] {
            std::fs::create_dir(run.path().join(name)).unwrap();
            std::fs::write(run.path().join(name).join(socket), "").unwrap();
            // A directory without a socket is no node.
            std::fs::create_dir(run.path().join(format!("{name}-old"))).unwrap();
            if name == "maar1" {
                assert_eq!(only(run.path()).unwrap(), run.path().join("maar1"));
            }
        }
        assert!(
            only(run.path())
                .unwrap_err()
                .to_string()
                .ends_with("--node cmd | maar1")
        );
    }
}
