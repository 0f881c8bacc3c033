//! The Unix socket of a daemon: one daemon for each, no leftovers in the way.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Why a socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers there.
    #[error("{} is in use: another daemon of this node is running", .0.display())]
    InUse(PathBuf),
    /// Something else has that name.
    #[error("{} is there and is no socket", .0.display())]
    NotASocket(PathBuf),
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The socket, or its directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A listening socket whose file is removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`, making its directory, and removing the socket of a daemon that was killed.
    ///
    /// # Errors
    /// A [`SocketError`].
    pub fn listen(path: &Path) -> Result<(Self, UnixListener), SocketError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| SocketError::Io { path, source }
        };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(io(directory))?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(SocketError::NotASocket(path.to_owned()));
            }
            Ok(_) => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Err(SocketError::InUse(path.to_owned()));
                }
                std::fs::remove_file(path).map_err(io(path))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(path)(error)),
        }
        let listener = UnixListener::bind(path).map_err(io(path))?;
        // Whoever may write to it may detach nodes.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(io(path))?;
        Ok((
            Self {
                path: path.to_owned(),
            },
            listener,
        ))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the socket cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_daemon_for_each_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/controlplane.sock");
        let (socket, listener) = Socket::listen(&path).unwrap();
        assert!(matches!(Socket::listen(&path), Err(SocketError::InUse(_))));
        drop(socket);
        assert!(!path.exists());
        drop(listener);
        // A daemon that was killed leaves its socket, which is no obstacle.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (_socket, _listener) = Socket::listen(&path).unwrap();
    }

    #[tokio::test]
    async fn a_file_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(Socket::listen(&path), Err(SocketError::NotASocket(_))));
        assert!(path.exists());
    }
}
