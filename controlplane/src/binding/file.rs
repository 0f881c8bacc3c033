//! A store in one JSON file.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{BindingStore, StoreError};

/// Version of the file's form. A file of another version is not guessed at.
const VERSION: u32 = 1;

/// One JSON file, `{"version": 1, "role": ..., "state": ...}`, replaced at each save.
#[derive(Clone, Debug)]
pub struct FileStore {
    path: PathBuf,
    role: &'static str,
}

#[derive(Serialize)]
struct Written<'a, State> {
    version: u32,
    role: &'static str,
    state: &'a State,
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Header {
    version: u32,
    role: String,
}

#[derive(Deserialize)]
struct Read<State> {
    state: State,
}

impl FileStore {
    /// The store `ROLE.json` in `directory`, which is made at the first save.
    #[must_use]
    pub fn new(directory: &Path, role: &'static str) -> Self {
        Self {
            path: directory.join(format!("{role}.json")),
            role,
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn io(&self, action: &'static str) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = self.path.clone();
        move |source| StoreError::Io { action, path, source }
    }

    fn decode<State: DeserializeOwned>(&self, octets: &[u8]) -> Result<State, String> {
        let header: Header = serde_json::from_slice(octets).map_err(|error| error.to_string())?;
        if header.version != VERSION {
            return Err(format!(
                "version {}, this program writes {VERSION}",
                header.version
            ));
        }
        if header.role != self.role {
            return Err(format!("role {}, this is a {}", header.role, self.role));
        }
        let read: Read<State> = serde_json::from_slice(octets).map_err(|error| error.to_string())?;
        Ok(read.state)
    }
}

impl<State> BindingStore<State> for FileStore {
    fn load(&self) -> Result<Option<State>, StoreError>
    where
        State: DeserializeOwned,
    {
        let octets = match fs::read(&self.path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io("reading")(error)),
        };
        self.decode(&octets).map(Some).map_err(|reason| {
            // Kept for whoever wants to know why; a restart must not meet it again.
            let moved_to = self.path.with_extension("json.corrupt");
            match fs::rename(&self.path, &moved_to) {
                Ok(()) => StoreError::Corrupt {
                    path: self.path.clone(),
                    reason,
                    moved_to,
                },
                Err(error) => self.io("moving aside")(error),
            }
        })
    }

    fn save(&self, state: &State) -> Result<(), StoreError>
    where
        State: Serialize,
    {
        let written = Written {
            version: VERSION,
            role: self.role,
            state,
        };
        let octets = serde_json::to_vec(&written).map_err(StoreError::Encode)?;
        let directory = self.path.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(directory).map_err(self.io("making the directory of"))?;
        let temporary = self.path.with_extension("json.new");
        let mut file = File::create(&temporary).map_err(self.io("writing the next"))?;
        file.write_all(&octets).map_err(self.io("writing the next"))?;
        drop(file);
        // Not synced: what a process has written outlives it, so kill -9 loses nothing. On a busy disk
        // a sync takes seconds, in which the newest state would be nowhere; after a power failure an
        // older state, or none, is put right by the nodes' and the gateways' next registrations.
        fs::rename(&temporary, &self.path).map_err(self.io("replacing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Map = std::collections::BTreeMap<String, u32>;

    fn store() -> (tempfile::TempDir, FileStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::new(&directory.path().join("below"), "cmd");
        (directory, store)
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let (_directory, store) = store();
        assert_eq!(BindingStore::<Map>::load(&store).unwrap(), None);
        for value in [1, 2] {
            let state = Map::from([("a".to_owned(), value)]);
            store.save(&state).unwrap();
            assert_eq!(store.load().unwrap(), Some(state));
        }
        let names: Vec<_> = fs::read_dir(store.path().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["cmd.json"]);
    }

    /// A crash while the next file is written leaves the old one in force.
    #[test]
    fn a_torn_write_is_not_seen() {
        let (_directory, store) = store();
        let state = Map::from([("a".to_owned(), 1)]);
        store.save(&state).unwrap();
        fs::write(store.path().with_extension("json.new"), b"{\"version\":1,\"ro").unwrap();
        assert_eq!(store.load().unwrap(), Some(state.clone()));
        store.save(&state).unwrap();
        assert_eq!(store.load().unwrap(), Some(state));
    }

    #[test]
    fn a_corrupt_file_is_moved_aside_once() {
        for (text, reason) in [
            ("{\"version\":1,\"role\":\"cmd\",\"state\":{\"a\":", "EOF"),
            ("{\"version\":2,\"role\":\"cmd\",\"state\":{}}", "version 2"),
            ("{\"version\":1,\"role\":\"maar\",\"state\":{}}", "role maar"),
            (
                "{\"version\":1,\"role\":\"cmd\",\"state\":{\"a\":-1}}",
                "invalid value",
            ),
            ("", "EOF"),
        ] {
            let (_directory, store) = store();
            store.save(&Map::new()).unwrap();
            fs::write(store.path(), text).unwrap();
            let error = BindingStore::<Map>::load(&store).unwrap_err();
            assert!(
                matches!(&error, StoreError::Corrupt { moved_to, .. } if fs::read_to_string(moved_to).unwrap() == text)
            );
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(BindingStore::<Map>::load(&store).unwrap(), None);
        }
    }

    #[test]
    fn an_impossible_place_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = FileStore::new(&file, "cmd").save(&Map::new()).unwrap_err();
        assert!(error.to_string().contains("file/cmd.json"), "{error}");
    }
}
