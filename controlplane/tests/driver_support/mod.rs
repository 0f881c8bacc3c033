//! Daemons in network namespaces of their own, removed again whatever happens.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test is a program of its own and uses its part"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Patience of every wait: a loaded machine is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(20);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A network namespace.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    /// A new one with its loopback up. Fails loudly without root.
    pub fn new(what: &str) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        assert_eq!(
            uid.split_whitespace().nth(2),
            Some("0"),
            "this test makes network namespaces: run it as root"
        );
        let name = format!(
            "kdrv{}-{}-{what}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// `ip -n NAME ...`.
    pub fn ip(&self, arguments: &[&str]) -> String {
        ip(&[&["-n", self.name.as_str()], arguments].concat())
    }

    /// Adds an address at once, without duplicate address detection.
    pub fn address(&self, address: &str, device: &str) {
        self.ip(&["-6", "address", "add", address, "dev", device, "nodad"]);
    }

    /// Runs a program inside and returns its standard output.
    pub fn run(&self, arguments: &[&str]) -> String {
        ip(&[&["netns", "exec", self.name.as_str()], arguments].concat())
    }

    /// Runs `work` on a thread inside: what it opens stays inside.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A kedge-controlplane process; killed when it goes out of scope.
pub struct Daemon {
    child: Child,
    namespace: String,
    config: PathBuf,
    pub run: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts it in `namespace` with its files in `directory`; `text` is the rest of its
    /// configuration after the directories of `[node]`.
    pub fn start(
        namespace: &Namespace,
        directory: &Path,
        name: &str,
        role: &str,
        address: &str,
        text: &str,
    ) -> Self {
        let (run, state) = (
            directory.join(name).join("run"),
            directory.join(name).join("state"),
        );
        std::fs::create_dir_all(directory.join(name)).unwrap();
        let config = directory.join(name).join("config.toml");
        let node = format!(
            "[node]\nname = {name:?}\nrole = {role:?}\naddress = {address:?}\nrun_directory = {run:?}\nstate_directory = {state:?}\n"
        );
        std::fs::write(&config, node + text).unwrap();
        let log = directory.join(name).join("log");
        let child = spawn(&namespace.name, &config, &log);
        let daemon = Self {
            child,
            namespace: namespace.name.clone(),
            config,
            run,
            log,
        };
        daemon.wait_for_socket();
        daemon
    }

    fn wait_for_socket(&self) {
        eventually("the northbound socket", || {
            self.kedge(&["show", "info"]).status.success().then_some(())
        });
    }

    /// Kills it without a chance to save anything, and starts it again.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// After its end.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.namespace, &self.config, &self.log);
        self.wait_for_socket();
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// SIGHUP.
    pub fn hangup(&self) {
        self.signal(nix::sys::signal::Signal::SIGHUP);
    }

    /// SIGTERM; it must end well.
    pub fn terminate(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let status = eventually("the end of the daemon", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `kedge --run-directory ... ARGUMENTS`.
    pub fn kedge(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_kedge"))
            .arg("--run-directory")
            .arg(&self.run)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// `kedge --json ...`, which must work.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.kedge(&[&["--json"], arguments].concat());
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// One of its counters.
    pub fn counter(&self, name: &str) -> u64 {
        let counters = self.json(&["show", "counters"]);
        counters[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no counter {name} in {counters}"))
    }

    /// Waits until a counter has a value.
    pub fn wait_for_counter(&self, name: &str, value: u64) {
        eventually(&format!("{name} = {value}"), || {
            (self.counter(name) == value).then_some(())
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.config.display(), self.log());
        }
    }
}

fn spawn(namespace: &str, config: &Path, log: &Path) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .unwrap();
    // `ip netns exec` becomes the program, so the child is the daemon.
    Command::new("ip")
        .args([
            "netns",
            "exec",
            namespace,
            env!("CARGO_BIN_EXE_kedge-controlplane"),
            "--config",
        ])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Tries until there is a value.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An IPv6 packet with a Mobility Header whose checksum is right, whatever else is wrong with it.
pub fn mobility_packet(source: Ipv6Addr, destination: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    if message.len() >= 6 {
        message[4..6].fill(0);
        let sum = checksum(source, destination, 135, &message);
        message[4..6].copy_from_slice(&sum.to_be_bytes());
    }
    packet(source, destination, 135, &message)
}

/// An IPv6 packet.
pub fn packet(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// RFC 8200 section 8.1, written apart from the codec.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, message: &[u8]) -> u16 {
    let mut all = [source.octets(), destination.octets()].concat();
    all.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    all.extend([0, 0, 0, next_header]);
    all.extend(message);
    if all.len() % 2 == 1 {
        all.push(0);
    }
    let mut sum: u32 = all
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
