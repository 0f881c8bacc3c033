//! A commit, built apart from the work in progress.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::processes::{in_background, when_interrupted};
use crate::report::{progress, settle};

/// What a bench needs.
const PACKAGES: [&str; 2] = ["kedge-perf", "kedge-dataplane"];
/// Below the repository's target directory: what was built of which commit.
const STORE: &str = "compare";
/// Says, when it is there, that all of a commit was built, and with what.
const STAMP: &str = "built-with";

/// The repository that this is called in.
pub(super) struct Repository {
    root: PathBuf,
}

/// What was built of a commit.
pub(super) struct Built {
    commit: String,
    directory: PathBuf,
}

/// A checkout of a commit in a directory of its own; gone with this value.
struct Worktree<'a> {
    repository: &'a Repository,
    path: PathBuf,
}

impl Repository {
    /// The one around the current directory.
    pub(super) fn here() -> anyhow::Result<Self> {
        let root = output(Command::new("git").args(["rev-parse", "--show-toplevel"]))
            .context("this is to be called inside the repository whose commits are compared")?;
        let repository = Self { root: root.into() };
        // What an earlier run that was killed has left, and this one leaves if it is interrupted.
        repository.prune();
        let again = Self {
            root: repository.root.clone(),
        };
        when_interrupted(move || again.prune());
        Ok(repository)
    }

    /// The whole name of a commit.
    pub(super) fn resolve(&self, commit: &str) -> anyhow::Result<String> {
        let name = format!("{commit}^{{commit}}");
        output(self.git().args(["rev-parse", "--verify", "--quiet", &name]))
            .ok()
            .with_context(|| format!("{commit}: there is no such commit"))
    }

    /// Builds `commit`, unless that was done before; the checkout for it lies in `scratch`.
    pub(super) fn build(&self, commit: &str, scratch: &Path) -> anyhow::Result<Built> {
        let built = Built {
            commit: commit.to_owned(),
            directory: self.root.join("target").join(STORE).join(commit),
        };
        let compiler = output(Command::new("rustc").arg("--version").current_dir(&self.root))?;
        let stamp = built.directory.join(STAMP);
        if std::fs::read_to_string(&stamp).is_ok_and(|text| text == compiler) {
            return Ok(built);
        }
        progress(&format!("building {}", built.short()));
        let worktree = Worktree {
            repository: self,
            path: scratch.join(commit),
        };
        output(
            self.git()
                .args(["worktree", "add", "--quiet", "--detach"])
                .arg(&worktree.path)
                .arg(commit),
        )?;
        let mut cargo = in_background("cargo");
        cargo
            .args(["build", "--release", "--locked"])
            .args(PACKAGES.iter().flat_map(|package| ["-p", package]))
            .current_dir(&worktree.path)
            .env("CARGO_TARGET_DIR", &built.directory);
        output(&mut cargo).with_context(|| format!("{} cannot be built", built.short()))?;
        std::fs::write(&stamp, compiler)?;
        settle(&format!("built {}", built.short()));
        Ok(built)
    }

    fn git(&self) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.root);
        command
    }

    fn prune(&self) {
        // If it does not work, it does not matter: the next call does it.
        let _ = output(self.git().args(["worktree", "prune"]));
    }
}

impl Drop for Worktree<'_> {
    fn drop(&mut self) {
        let mut remove = self.repository.git();
        // There is none if it could not be made.
        let _ = output(remove.args(["worktree", "remove", "--force"]).arg(&self.path));
        self.repository.prune();
    }
}

impl Built {
    /// kedge-perf; kedge-dataplane lies beside it.
    pub(super) fn program(&self) -> PathBuf {
        self.directory.join("release/kedge-perf")
    }

    /// The commit, as people call it.
    pub(super) fn short(&self) -> &str {
        self.commit.get(..10).unwrap_or(&self.commit)
    }
}

/// What a command prints, without the last line's end; what it complains of, if it fails.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be started"))?;
    ensure!(
        output.status.success(),
        "{program} failed ({}):\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_is_none_is_named() {
        let repository = Repository {
            root: env!("CARGO_MANIFEST_DIR").into(),
        };
        let error = repository.resolve("no-such-commit").unwrap_err();
        assert!(error.to_string().contains("no-such-commit"), "{error}");
    }

    #[test]
    fn a_command_that_fails_says_why() {
        let mut command = Command::new("sh");
        let error = output(command.args(["-c", "echo because >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("because"), "{error}");
    }
}
