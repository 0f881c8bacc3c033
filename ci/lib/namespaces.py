"""Hosts of the kernel in network namespaces, with the links and the processes that a test gives them."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# Debian's, whatever else is first in the path: nothing but the standard library is needed.
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
TRAFFIC = str(pathlib.Path(__file__).with_name("traffic.py"))


def need_root():
    """For `setUpModule` of a module of tests."""
    if os.geteuid() != 0:
        raise RuntimeError("the scenario makes network namespaces: run it as root")


class Failure(Exception):
    """Something that the demo needs does not work; the text says what."""


def run(*command, check=True, **options):
    """Runs a command; its output comes back as text, its failure as a Failure."""
    result = subprocess.run(command, text=True, capture_output=True, **options)
    if check and result.returncode != 0:
        raise Failure(f"{' '.join(command)}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


class Daemon:
    """One running process of Kedge's."""

    def __init__(self, name, role, command, log):
        self.name, self.role, self.command, self.log = name, role, command, log
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self, how=signal.SIGKILL):
        if self.alive():
            self.process.send_signal(how)
        self.process.wait()

    def report(self):
        return {"name": self.name, "role": self.role, "pid": self.process.pid}


class Namespaces:
    """Hosts, links, and what runs there. Use it with `with`: it removes what it made. A subclass says in `build` what there is."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
        self.namespaces = []
        self.daemons = {}
        self.others = []
        # The processor of hosts that have but one.
        self.processors = {}

    def build(self):
        raise NotImplementedError

    def __enter__(self):
        try:
            self.build()
            return self
        except BaseException:
            self.remove()
            raise

    def __exit__(self, *_):
        self.remove()

    # Hosts and links

    def name(self, host):
        return f"{self.prefix}-{host}"

    def inside(self, host):
        """The beginning of a command that runs on `host`."""
        return ["ip", "netns", "exec", self.name(host)]

    def on(self, host, *command, **options):
        return run(*self.inside(host), *command, **options)

    def ip(self, host, *arguments):
        return run("ip", "-n", self.name(host), *arguments)

    def sysctl(self, host, **values):
        for key, value in values.items():
            self.on(host, "sysctl", "-qw", f"net.ipv6.conf.{key.replace('__', '.')}={value}")

    def namespace(self, host):
        run("ip", "netns", "add", self.name(host))
        self.namespaces.append(host)
        # Duplicate address detection would add a second of silence to each step of the set-up.
        self.sysctl(host, all__accept_dad=0, default__accept_dad=0, default__dad_transmits=0)
        self.ip(host, "link", "set", "lo", "up")

    def link(self, first, first_device, second, second_device):
        run("ip", "link", "add", first_device, "netns", self.name(first), "type", "veth",
            "peer", "name", second_device, "netns", self.name(second))
        for host, device in ((first, first_device), (second, second_device)):
            # A veth leaves checksums and segments to a device that is not there; a packet reader
            # such as DPDK would see neither done.
            self.on(host, "ethtool", "-K", device, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")

    def one_processor(self, host, device):
        """Has a host receive by a device, and run its senders of traffic, on one processor.

        While the kernel of a host learns where its router is, datagrams wait in its neighbour cache. With a second
        processor one that is sent in the instant in which these are let go is ahead of them on the link, and whoever
        is to keep their order has lost before it begins.
        """
        processor = min(os.sched_getaffinity(0))
        words = processor // 32
        mask = f"{1 << (processor % 32):x}" + ",00000000" * words
        self.on(host, "sh", "-c", f"echo {mask} > /sys/class/net/{device}/queues/rx-0/rps_cpus")
        self.processors[host] = processor

    # Processes

    def wait(self, condition, seconds, message):
        deadline = time.monotonic() + seconds
        while not condition():
            dead = [daemon for daemon in self.daemons.values() if daemon.process and not daemon.alive()]
            if dead:
                raise Failure(f"{message}: {dead[0].name} has ended; it said:\n{tail(dead[0].log)}")
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {name}\n{tail(daemon.log)}" for name, daemon in self.daemons.items())
                raise Failure(f"{message} within {seconds} s\n{logs}")
            time.sleep(0.05)

    def popen(self, host, *command, **options):
        """A helper process on a host; it ends with the domain."""
        process = subprocess.Popen([*self.inside(host), *command], text=True, start_new_session=True, **options)
        self.others.append(process)
        return process

    def traffic(self, host, *arguments, stdout=subprocess.PIPE):
        """A sender or receiver of traffic.py on a host; `last_report` has what it says in the end."""
        where = ["taskset", "-c", str(self.processors[host])] if host in self.processors else []
        return self.popen(host, *where, PYTHON, "-u", TRAFFIC, *arguments, stdout=stdout)

    # The end

    def end_helpers(self):
        """Ends the processes that are no daemons of Kedge's."""
        for process in self.others:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.others = []

    def remove(self):
        """Ends and removes everything. May be called at any point, and twice."""
        self.end_helpers()
        running = [daemon for daemon in self.daemons.values() if daemon.alive()]
        for daemon in running:
            daemon.process.terminate()
        for daemon in running:
            try:
                daemon.process.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
        remove_namespaces([self.name(host) for host in self.namespaces])
        self.namespaces = []
        shutil.rmtree(self.directory, ignore_errors=True)


def remove_namespaces(names):
    for name in names:
        pids = run("ip", "netns", "pids", name, check=False).split()
        for pid in pids:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        run("ip", "netns", "del", name, check=False)


def last_report(process, seconds=60):
    """Ends a process, and gives what it said last, as values; None if it said nothing."""
    process.terminate()
    lines = process.communicate(timeout=seconds)[0].strip().splitlines()
    return json.loads(lines[-1]) if lines else None


def tail(path, lines=25):
    try:
        return "\n".join(pathlib.Path(path).read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
