//! Where a daemon keeps what it must not forget, so that it goes on after a restart.
//!
//! A store holds one value, the state of one state machine, as a whole. The
//! embedded one is a file that is replaced, never rewritten: a crash leaves
//! either the old state or the new one.

mod file;
mod saver;

pub use file::FileStore;
pub use saver::Saver;

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A place that keeps one value across restarts.
pub trait BindingStore<State> {
    /// What was saved last; `None` if nothing ever was.
    ///
    /// # Errors
    /// A [`StoreError`]. After [`StoreError::Corrupt`] the store is empty and usable.
    fn load(&self) -> Result<Option<State>, StoreError>
    where
        State: DeserializeOwned;

    /// Replaces what is kept. When it returns, `state` survives a crash of the machine.
    ///
    /// # Errors
    /// A [`StoreError`]; what was kept before is still there.
    fn save(&self, state: &State) -> Result<(), StoreError>
    where
        State: Serialize;
}

/// Why a store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What is there is not a state of this program; it was moved aside.
    #[error("{} is no state that can be read ({reason}); it was moved to {}", path.display(), moved_to.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// Where it is now.
        moved_to: PathBuf,
    },
    /// The state cannot be written as JSON.
    #[error("the state cannot be written as JSON: {0}")]
    Encode(serde_json::Error),
}
