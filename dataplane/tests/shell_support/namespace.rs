//! Network namespaces: made, entered, removed.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Fails, loudly, unless the test runs as root.
pub fn need_root() {
    let user = std::fs::metadata("/proc/self").unwrap().uid();
    assert_eq!(
        user, 0,
        "this test makes network namespaces and needs root: run it with sudo, or leave it out by name"
    );
}

/// A network namespace; removed with all its interfaces when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    pub fn new(purpose: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let name = format!(
            "kdgsh-{}-{}-{purpose}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        ip(&format!("netns add {name}"));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace.sysctl("net.ipv6.conf.default.accept_dad", "0");
        namespace.sysctl("net.ipv6.conf.all.accept_dad", "0");
        namespace.sysctl("net.ipv6.conf.default.accept_ra", "0");
        namespace.sysctl("net.ipv6.conf.default.router_solicitations", "0");
        namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in it, which must succeed.
    pub fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name));
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    pub fn run(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        self.command(words.next().unwrap()).args(words).output().unwrap()
    }

    pub fn sysctl(&self, key: &str, value: &str) {
        let output = self.run(&format!("sysctl -qw {key}={value}"));
        assert!(
            output.status.success(),
            "{key}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Runs `work` on a thread that is in the namespace. Sockets made there stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = File::open(path).unwrap();
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    /// `ping -6`, output and success.
    pub fn ping(&self, arguments: &str) -> (bool, String) {
        let output = self.run(&format!("ping -6 -n {arguments}"));
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.success(), text)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Sockets that are still open would keep the namespace, but not its name, alive.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Removes what tests that were killed have left: namespaces named after processes that are no more.
fn sweep() {
    let names = Command::new("ip").args(["netns", "list"]).output().unwrap();
    for name in String::from_utf8_lossy(&names.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        let process = name
            .strip_prefix("kdgsh-")
            .and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !std::path::Path::new("/proc").join(process).exists()) {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// A veth pair between two namespaces with distinct link-layer addresses;
/// `dpdk` says which ends a data plane uses, of which the kernel keeps away.
pub fn veth(left: (&Namespace, &str, &str, bool), right: (&Namespace, &str, &str, bool)) {
    let (left_space, left_name, left_address, _) = left;
    let (right_space, right_name, right_address, _) = right;
    ip(&format!(
        "link add {left_name} netns {} address {left_address} type veth peer name {right_name} netns {} address {right_address}",
        left_space.name, right_space.name
    ));
    for (space, name, _, dpdk) in [left, right] {
        // The kernel would hand over unfinished checksums and frames larger than the link's.
        let output = space.run(&format!(
            "ethtool -K {name} tx off rx off tso off gso off gro off"
        ));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        if dpdk {
            space.sysctl(&format!("net.ipv6.conf.{name}.disable_ipv6"), "1");
        }
        space.ip(&format!("link set {name} up"));
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// 02:00:00:00:xx:yy as octets.
pub fn octets(address: &str) -> [u8; 6] {
    let mut octets = [0; 6];
    for (octet, text) in octets.iter_mut().zip(address.split(':')) {
        *octet = u8::from_str_radix(text, 16).unwrap();
    }
    octets
}
