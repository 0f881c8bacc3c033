//! What the tests of the running daemon share: a daemon, its client, namespaces.
//! Everything that is made here is removed when its guard is dropped.
#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test support"
)]

pub mod api;
pub mod namespace;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kedge_dataplane_api::Client;
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_kedge-dataplane");
/// Long enough for a machine that compiles beside the test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running daemon; killed and its directory removed when dropped.
pub struct Daemon {
    pub directory: TempDir,
    child: Child,
}

impl Daemon {
    /// Writes the configuration that `text` makes of the run directory, starts the daemon
    /// (in `namespace` if given) and waits until it answers.
    pub fn start(namespace: Option<&str>, text: impl FnOnce(&Path) -> String) -> Self {
        let directory = tempfile::Builder::new().prefix("kedge-shell-").tempdir().unwrap();
        let configuration = directory.path().join("node.toml");
        std::fs::write(&configuration, text(directory.path())).unwrap();
        let child = spawn(namespace, directory.path());
        let mut daemon = Self { directory, child };
        daemon.wait();
        daemon
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("dataplane.sock")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn wait(&mut self) {
        let start = Instant::now();
        // The socket is there before the daemon answers on it.
        while block_on(async { Client::connect(&self.socket()).await?.status().await }).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended ({status}):\n{}", self.log());
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the daemon does not answer:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.socket()).await.unwrap()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn restart(&mut self, namespace: Option<&str>) {
        self.child = spawn(namespace, self.directory.path());
        self.wait();
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the daemon does not end:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the daemon ---\n{}", self.log());
        }
    }
}

/// However the test ends, even by SIGKILL, the daemon goes with it.
fn spawn(namespace: Option<&str>, directory: &Path) -> Child {
    // Each of these becomes the next one: the child is the daemon itself.
    let mut words = match namespace {
        Some(namespace) => vec!["ip", "netns", "exec", namespace],
        None => vec![],
    };
    words.extend(["setpriv", "--pdeathsig", "KILL", BINARY]);
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("log"))
        .unwrap();
    Command::new(words[0])
        .args(&words[1..])
        .arg("--config")
        .arg(directory.join("node.toml"))
        .args(["--log", "debug"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Runs the daemon to its end.
pub fn run_binary(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A TCP port of the loopback interface that nobody uses.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap()
}

/// A plain HTTP GET; status line and headers, and body.
pub fn http_get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Asks until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `node.toml` up to the ports, for a MAAR without huge pages.
pub fn node(run_directory: &Path, name: &str, address: &str, more: &str) -> String {
    format!(
        r#"[node]
name = "{name}"
role = "maar"
address = "{address}"
run_directory = "{}"
state_directory = "{}"

[maar]
cmd = ["2001:db8:c::1"]
prefix_pools = ["2001:db8:100::/48"]

[dataplane]
workers = [0]
huge_pages = "never"
memory_mib = 64
packet_buffers = 4096
{more}
"#,
        run_directory.display(),
        run_directory.join("state").display(),
    )
}
