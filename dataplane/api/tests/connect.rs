//! Connecting to what is not there says what is not there.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use kedge_dataplane_api::{Client, ClientError};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn no_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dataplane.sock");
    let error = run(Client::connect(&path)).unwrap_err();
    assert!(
        matches!(&error, ClientError::Absent(socket) if *socket == path),
        "{error:?}"
    );
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn socket_of_the_dead() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dataplane.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = run(Client::connect(&path)).unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused(socket) if *socket == path),
        "{error:?}"
    );
    assert!(error.to_string().contains("nobody answers"), "{error}");
}
