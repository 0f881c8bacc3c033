//! Leases on disk: a file of the whole state, and behind it a journal of transactions.
//!
//! A transaction is one line, written before the answer that depends on it is sent; what a process has written
//! outlives it, so kill -9 loses nothing. Like bindings it is not synced: what a power failure takes is put right by the
//! clients' next Renew (RFC 8415 section 18.3.4 lets a server take up a binding that it finds there). A line that
//! was torn is no transaction. When the journal is long, the state is written anew, and the journal begins again.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::state::{Change, State};
use crate::binding::{BindingStore, FileStore, StoreError};

/// Name of the role, and of the files.
const NAME: &str = "delegating";
/// Transactions after which the state is written anew.
const JOURNAL_LINES: u64 = 20_000;

/// The store of a delegating server.
#[derive(Debug)]
pub struct Journal {
    whole: FileStore,
    path: PathBuf,
    file: Option<File>,
    /// Number of the last transaction in the whole state or the journal.
    number: u64,
    lines: u64,
}

/// The state with the number of the last transaction in it.
#[derive(Default, Serialize, Deserialize)]
struct Loaded {
    number: u64,
    state: State,
}

#[derive(Serialize, Deserialize)]
struct Line {
    number: u64,
    changes: Vec<Change>,
}

impl Journal {
    /// Opens the store in `directory`, which is made if it is not there, and reads what is in it.
    ///
    /// The third value tells of what could not be read and was moved aside.
    ///
    /// # Errors
    /// A [`StoreError`] of the operating system.
    pub fn open(directory: &Path) -> Result<(Self, State, Option<StoreError>), StoreError> {
        let whole = FileStore::new(directory, NAME);
        let path = directory.join(format!("{NAME}.journal"));
        let (loaded, problem) = match BindingStore::<Loaded>::load(&whole) {
            Ok(loaded) => (loaded.unwrap_or_default(), None),
            Err(error @ StoreError::Corrupt { .. }) => (Loaded::default(), Some(error)),
            Err(error) => return Err(error),
        };
        let Loaded {
            mut number,
            mut state,
        } = loaded;
        let octets = match fs::read(&path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(source) => {
                return Err(StoreError::Io {
                    action: "reading",
                    path,
                    source,
                });
            }
        };
        // What follows a line that cannot be read was written after it, and may rest on it.
        for text in octets.split_inclusive(|octet| *octet == b'\n') {
            let complete = text.strip_suffix(b"\n");
            let Some(line) = complete.and_then(|text| serde_json::from_slice::<Line>(text).ok()) else {
                break;
            };
            // Those up to the number are in the whole state: the journal was not emptied in time.
            if line.number > number {
                number = line.number;
                for change in line.changes {
                    state.apply(change);
                }
            }
        }
        let mut journal = Self {
            whole,
            path,
            file: None,
            number,
            lines: 0,
        };
        journal.rewrite(&state)?;
        Ok((journal, state, problem))
    }

    /// Writes one transaction; `state` is what it leads to.
    ///
    /// # Errors
    /// A [`StoreError`]: then it is not written, and nothing may be sent that depends on it.
    pub fn commit(&mut self, changes: Vec<Change>, state: &State) -> Result<(), StoreError> {
        if self.file.is_none() || self.lines >= JOURNAL_LINES {
            // The whole state has this transaction in it.
            self.number += 1;
            return self.rewrite(state);
        }
        let line = Line {
            number: self.number + 1,
            changes,
        };
        let mut octets = serde_json::to_vec(&line).map_err(StoreError::Encode)?;
        octets.push(b'\n');
        let written = self.file.as_mut().map(|file| file.write_all(&octets));
        if let Some(Err(source)) = written {
            // A part of the line may be there, and would hide what follows.
            self.file = None;
            return Err(StoreError::Io {
                action: "writing to",
                path: self.path.clone(),
                source,
            });
        }
        self.number += 1;
        self.lines += 1;
        Ok(())
    }

    fn rewrite(&mut self, state: &State) -> Result<(), StoreError> {
        self.file = None;
        let number = self.number;
        BindingStore::save(
            &self.whole,
            &Loaded {
                number,
                state: state.clone(),
            },
        )?;
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(&self.path);
        let file = file.map_err(|source| StoreError::Io {
            action: "beginning",
            path: self.path.clone(),
            source,
        })?;
        self.file = Some(file);
        self.lines = 0;
        Ok(())
    }
}
