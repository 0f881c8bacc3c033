//! The Unix socket that the API is served on.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The API cannot be served where it should be.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another data plane answers there.
    #[error("{path}: another data plane answers on this socket", path = .0.display())]
    InUse(PathBuf),
    /// Something that is no socket has that name.
    #[error("{path}: there is something here that is no socket; not removing it", path = .0.display())]
    NotASocket(PathBuf),
    /// A step failed.
    #[error("{path}: {step}: {error}", path = .path.display())]
    Io {
        /// Socket or directory.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

/// A bound socket; its file is removed with it.
#[derive(Debug)]
pub(crate) struct ApiSocket {
    listener: Option<UnixListener>,
    path: PathBuf,
    inode: u64,
}

impl ApiSocket {
    /// Binds `path`. Makes its directory, for the owner and the group, and
    /// removes what a data plane that died has left.
    pub(crate) fn bind(path: &Path) -> Result<Self, SocketError> {
        let io = |path: &Path, step| {
            let path = path.to_owned();
            move |error| SocketError::Io { path, step, error }
        };
        if let Some(directory) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o750).create(directory);
            made.map_err(io(directory, "the run directory cannot be made"))?;
        }
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io(path, "the socket cannot be examined")(error)),
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(SocketError::NotASocket(path.to_owned()));
            }
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => return Err(SocketError::InUse(path.to_owned())),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    fs::remove_file(path)
                        .map_err(io(path, "the socket of a data plane that died cannot be removed"))?;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(io(
                        path,
                        "whether another data plane answers here cannot be found out",
                    )(error));
                }
            },
        }
        let listener = UnixListener::bind(path).map_err(io(path, "the socket cannot be bound"))?;
        let prepared = fs::set_permissions(path, Permissions::from_mode(0o660))
            .and_then(|()| listener.set_nonblocking(true))
            .and_then(|()| fs::symlink_metadata(path));
        let inode = prepared.map_err(io(path, "the socket cannot be prepared"))?.ino();
        Ok(Self {
            listener: Some(listener),
            path: path.to_owned(),
            inode,
        })
    }

    /// The listening end, once.
    pub(crate) fn take_listener(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        // If another process has taken the name meanwhile, it is not ours to remove.
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/kedge/dataplane.sock");
        let first = ApiSocket::bind(&path).unwrap();
        assert_eq!(
            fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777,
            0o750
        );
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        let error = ApiSocket::bind(&path).unwrap_err();
        assert!(matches!(&error, SocketError::InUse(at) if *at == path), "{error}");
        drop(first);
        assert!(!path.exists(), "removed at the end");
        ApiSocket::bind(&path).unwrap();
    }

    #[test]
    fn what_the_dead_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dataplane.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        ApiSocket::bind(&path).unwrap();
    }

    #[test]
    fn other_files_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dataplane.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(ApiSocket::bind(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
