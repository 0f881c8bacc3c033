#!/usr/bin/env python3
"""DHCPv6 prefix delegation with real peers, in network namespaces: our requesting router and Kea; dhcpcd, the WIDE client
and dibbler and our delegating server; and ours with each other, through a relay of ours. Each is killed on the way.

Needs root, the release build of kedge-controlplane (or KEDGE_BINARIES), and what ci/setup installs.
"""

import ipaddress
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))

import topology  # noqa: E402
from namespaces import remove_namespaces  # noqa: E402
from topology import CMD, CN, MAARS, Domain  # noqa: E402

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ.get("KEDGE_BINARIES", REPOSITORY / "target" / "release"))
# What peers write there is gone with the mount namespace.
SCRATCH = ("/run", "/var/lib/dhcpcd", "/var/lib/dhcpv6", "/var/lib/dibbler", "/var/log/dibbler", "/etc/dibbler")


def run(*command, check=True):
    result = subprocess.run(command, text=True, capture_output=True)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def until(what, get, seconds=15):
    """Waits for `get` to give something."""
    end = time.monotonic() + seconds
    while True:
        value = get()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.1)


def addresses(shown):
    """Those in what `ip -j addr` has shown."""
    return [ipaddress.ip_address(info["local"]) for interface in json.loads(shown) for info in interface.get("addr_info", []) if "local" in info]


class Process:
    """A program in a namespace, with directories of its own where peers write."""

    def __init__(self, test, host, *command, scratch=False):
        self.test, self.command = test, ["ip", "netns", "exec", test.name(host)]
        self.log = test.directory / f"{host}.{pathlib.Path(command[0]).name}.log"
        if scratch:
            there = [path for path in SCRATCH if pathlib.Path(path).is_dir()]
            mounts = " && ".join(f"mount -t tmpfs none {path}" for path in there)
            copy = "cp dibbler.conf /etc/dibbler/client.conf 2> /dev/null; mkdir -p /run/dhcpcd /run/kea"
            shell = f"{mounts} && cd {test.directory} && {{ {copy}; exec \"$@\"; }}"
            self.command += ["unshare", "-m", "sh", "-c", shell, "sh"]
        self.command += command
        self.process = None
        self.start()
        test.addCleanup(self.kill)

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)

    def kill(self, how=signal.SIGKILL, wait=15):
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(wait)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.command[-1]} did not end") from None


class Delegation(unittest.TestCase):
    def setUp(self):
        self.prefix = f"kpd{os.getpid()}"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.prefix}-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.addCleanup(self.tell)

    def tell(self):
        """What everybody wrote, if something went wrong."""
        outcome = getattr(self._outcome, "result", None)
        broken = [test for test, _ in (outcome.failures + outcome.errors)] if outcome else []
        if self in broken or os.environ.get("KEDGE_LOGS"):
            for log in sorted(self.directory.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-6000:]}")

    def name(self, host):
        return f"{self.prefix}-{host}"

    def ip(self, host, *arguments):
        return run("ip", "-n", self.name(host), *arguments)

    def host(self, host):
        run("ip", "netns", "add", self.name(host))
        # With whatever helpers of a program that was killed are left in it.
        self.addCleanup(remove_namespaces, [self.name(host)])
        run("ip", "netns", "exec", self.name(host), "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0",
            "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.dad_transmits=0",
            "net.ipv6.conf.default.accept_ra=0")
        self.ip(host, "link", "set", "lo", "up")

    def link(self, first, first_device, second, second_device):
        run("ip", "link", "add", first_device, "netns", self.name(first), "type", "veth",
            "peer", "name", second_device, "netns", self.name(second))
        for host, device in ((first, first_device), (second, second_device)):
            run("ip", "netns", "exec", self.name(host), "ethtool", "-K", device, "tx", "off", "rx", "off")
            self.ip(host, "link", "set", device, "up")
        # Kea looks once, when it starts.
        for host, device in ((first, first_device), (second, second_device)):
            until(f"{device} to run", lambda: "state UP" in self.ip(host, "link", "show", device))

    def ours(self, host, text):
        """A control plane of ours on that host, with its configuration but for [node] and its directories."""
        run_directory, state = self.directory / f"{host}.run", self.directory / f"{host}.state"
        text = text.replace("[node]\n", f'[node]\nname = "{host}"\nrun_directory = "{run_directory}"\n'
                                        f'state_directory = "{state}"\n')
        path = self.directory / f"{host}.toml"
        path.write_text(text)
        return Process(self, host, str(BINARIES / "kedge-controlplane"), "--config", str(path), "--log", "info,kedge_controlplane=debug")

    def kedge(self, host, *arguments):
        out = subprocess.run([str(BINARIES / "kedge"), "--json", "--run-directory", str(self.directory / f"{host}.run"),
                              *arguments], text=True, capture_output=True)
        return json.loads(out.stdout) if out.returncode == 0 else None

    def delegations(self, host, state="bound"):
        return [it for it in self.kedge(host, "show", "delegations") or [] if it["state"] == state]

    def count(self, host, name):
        counters = self.kedge(host, "show", "counters") or {}
        if isinstance(counters, list):
            counters = {it["name"]: it["value"] for it in counters}
        return counters.get(name, 0)

    def maar(self, delegation, more=""):
        return f"""
[node]
role = "maar"
address = "2001:db8:a::1"
[dataplane]
[[port]]
name = "core"
device = "net_null0"
side = "core"
exception = "kcore"
addresses = ["2001:db8:ca::2/64"]
[[port]]
name = "access"
device = "net_null1"
side = "access"
exception = "kacc"
[[route]]
prefix = "::/0"
port = "core"
gateway = "2001:db8:ca::1"
[maar]
cmd = ["2001:db8:d::1"]
[maar.delegation]
{delegation}
{more}"""

    def test_our_requesting_router_and_kea(self):
        self.host("maar")
        self.host("kea")
        self.link("maar", "kcore", "kea", "s0")
        # Another one, which will not have two messages for four.
        self.host("four")
        self.link("four", "kcore", "kea", "s1")
        config = {"Dhcp6": {
            "interfaces-config": {"interfaces": ["s0", "s1"]},
            "lease-database": {"type": "memfile", "persist": True, "name": str(self.directory / "leases.csv"),
                               "lfc-interval": 0},
            "server-id": {"type": "LL", "persist": False, "identifier": "0200000000fe", "htype": 1},
            "preferred-lifetime": 10, "valid-lifetime": 14, "renew-timer": 2, "rebind-timer": 4,
            "subnet6": [{"id": 1, "subnet": "2001:db8:ca::/64", "interface": "s0", "rapid-commit": True,
                         # Kea takes an excluded prefix only where the pool is one delegated prefix.
                         "pd-pools": [{"prefix": "2001:db8:1000::", "prefix-len": 48, "delegated-len": 48,
                                       "excluded-prefix": "2001:db8:1000:ff::", "excluded-prefix-len": 64}]},
                        {"id": 2, "subnet": "2001:db8:cb::/64", "interface": "s1", "rapid-commit": True,
                         "pd-pools": [{"prefix": "2001:db8:2000::", "prefix-len": 44, "delegated-len": 48}]}],
            "loggers": [{"name": "kea-dhcp6", "severity": "INFO", "output_options": [{"output": "stdout"}]}]}}
        path = self.directory / "kea.json"
        path.write_text(json.dumps(config))
        kea = Process(self, "kea", "env", f"KEA_PIDFILE_DIR={self.directory}", f"KEA_LOCKFILE_DIR={self.directory}",
                      "kea-dhcp6", "-c", str(path), scratch=True)
        maar = self.ours("maar", self.maar('port = "core"\nlength = 48'))
        [held] = until("a pool", lambda: self.delegations("maar"))
        self.assertEqual(held["prefix"], "2001:db8:1000::/48")
        self.assertEqual(held["exclude"], "2001:db8:1000:ff::/64")
        self.assertEqual(self.count("maar", "pools_delegated"), 1)
        self.ours("four", self.maar('port = "core"\nlength = 48\nrapid_commit = false'))
        [other] = until("a pool by four messages", lambda: self.delegations("four"))
        # What Kea said to each: it offered a prefix only to the one that asked for an offer.
        said = lambda what: [line for line in kea.log.read_text().splitlines() if what in line]
        offered, leased = said("DHCP6_PD_LEASE_ADVERT"), said("DHCP6_PD_LEASE_ALLOC")
        for prefix, offers in ((held["prefix"], 0), (other["prefix"], 1)):
            of = lambda lines: sum(f" {prefix} " in line for line in lines)
            self.assertEqual((of(offered), of(leased)), (offers, 1), (prefix, offered, leased))
        until("a renewal", lambda: self.count("maar", "delegations_renewed") >= 1)
        # Kea is killed, and comes back with its leases: the next Renew or Rebind finds it.
        kea.kill()
        time.sleep(1)
        kea.start()
        before = self.count("maar", "delegations_renewed")
        until("a renewal after Kea's restart", lambda: self.count("maar", "delegations_renewed") > before)
        # So is ours: what it held is rebound, and held at once.
        maar.kill()
        maar.start()
        until("our control plane", lambda: self.kedge("maar", "show", "delegations"))
        self.assertEqual([it["prefix"] for it in self.kedge("maar", "show", "delegations")], ["2001:db8:1000::/48"])
        until("a renewal after our restart", lambda: self.count("maar", "delegations_renewed") >= 1)
        self.assertEqual(self.count("maar", "delegations_lost"), 0)
        # Nobody answers any more: at the end of the valid lifetime the pool is not ours.
        kea.kill()
        until("the pool's end", lambda: self.count("maar", "pools_lost") == 1, 20)
        self.assertEqual(self.delegations("maar"), [])
        kea.start()
        until("another pool", lambda: self.delegations("maar"), 40)

    def cmd(self, interfaces, lifetime):
        return f"""
[node]
role = "cmd"
address = "2001:db8:d::1"
metrics = "[::1]:9110"
[cmd]
[[cmd.known_maar]]
address = "2001:db8:a::1"
prefix_pools = []
[cmd.delegation]
interfaces = {json.dumps(interfaces)}
preferred_lifetime = {lifetime}
valid_lifetime = {2 * lifetime}
[[cmd.delegation.pool]]
prefix = "2001:db8:2000::/40"
delegated_length = 56
exclude_length = 64
"""

    def test_clients_of_others_and_our_delegating_server(self):
        clients = {
            "dhcpcd": ["dhcpcd", "-B", "-d", "-f", str(self.directory / "dhcpcd.conf"), "-6", "eth0"],
            "wide": ["dhcp6c", "-f", "-D", "-c", str(self.directory / "dhcp6c.conf"), "-p", "/run/dhcp6c.pid", "eth0"],
            "dibbler": ["dibbler-client", "run"],
            "excluding": ["dhcpcd", "-B", "-d", "-f", str(self.directory / "excluding.conf"), "-6", "eth0"],
        }
        # RFC 6603: the excluded part is for the link to the server.
        for name, use in (("dhcpcd", "-"), ("excluding", "eth0/0")):
            (self.directory / f"{name}.conf").write_text(
                "duid\nrelease\nnoipv4\nnoarp\nnohook resolv.conf, hostname, timesyncd.conf\nipv6only\nnoipv6rs\n"
                f"interface eth0\n  iaid 7\n  ia_pd 9/::/56 {use}\n")
        (self.directory / "dhcp6c.conf").write_text(
            "interface eth0 { send ia-pd 1; send rapid-commit; };\n"
            "id-assoc pd 1 { prefix-interface lo { sla-id 0; sla-len 8; ifid 1; }; };\n")
        (self.directory / "dibbler.conf").write_text(
            "log-level 7\nlog-mode short\nduid-type duid-ll\nstrict-rfc-no-routing\niface eth0 { pd { prefix ::/56 } }\n")
        self.host("cmd")
        for number, client in enumerate(clients):
            self.host(client)
            self.link(client, "eth0", "cmd", f"s{number}")
        # The WIDE client takes no T1 below 18 s.
        server = self.ours("cmd", self.cmd([f"s{number}" for number in range(len(clients))], 24))
        until("our server", lambda: self.kedge("cmd", "show", "info"))
        running = {name: Process(self, name, *command, scratch=True) for name, command in clients.items()}
        until("four leases", lambda: len(self.delegations("cmd")) == 4, 25)
        leases = sorted(it["prefix"] for it in self.delegations("cmd"))
        self.assertEqual(len(set(leases)), 4)
        # The last part is excluded for the one that can take that, which uses it for the link to us (RFC 6603).
        excluded = [list(ipaddress.ip_network(it).subnets(new_prefix=64))[-1] for it in leases]
        of_its = lambda: [it for it in addresses(self.ip("excluding", "-j", "-6", "addr", "show", "dev", "eth0")) for part in excluded if it in part]
        self.assertEqual(len(until("an address of the excluded prefix at dhcpcd", of_its)), 1)
        # Killed and started again, it knows what it has delegated, and extends it for each of them.
        server.kill()
        server.start()
        until("our server", lambda: self.kedge("cmd", "show", "info"))
        self.assertEqual(sorted(it["prefix"] for it in self.delegations("cmd")), leases)
        until("four renewals", lambda: self.count("cmd", "delegations_extended") >= 4
              and len(self.delegations("cmd")) == 4 and min(it["valid_ms"] for it in self.delegations("cmd")) > 30000, 40)
        self.assertEqual(sorted(it["prefix"] for it in self.delegations("cmd")), leases)
        self.assertEqual(self.count("cmd", "delegations_made"), 0)
        self.assertEqual(self.count("cmd", "dhcp_malformed"), 0)
        metrics = run("ip", "netns", "exec", self.name("cmd"), "python3", "-c",
                      "import urllib.request as r; print(r.urlopen('http://[::1]:9110/metrics').read().decode())")
        self.assertIn("kedge_controlplane_delegations 4", metrics)
        # Of what dhcpcd 9.4.1 says when it gives back a prefix with an excluded part, the end is no option.
        running.pop("excluding").kill()
        for name, process in running.items():
            process.kill(signal.SIGTERM)
            until(f"the release of {name}", lambda: self.count("cmd", "delegations_released")
                  >= 1 + list(running).index(name))
        self.assertEqual(len(self.delegations("cmd")), 1)
        self.assertEqual(self.count("cmd", "delegations_expired"), 0)

    def test_ours_with_each_other_by_way_of_a_relay(self):
        self.host("maar")
        self.host("cmd")
        self.link("maar", "kcore", "cmd", "s0")
        self.ip("cmd", "addr", "add", "2001:db8:ca::1/64", "dev", "s0", "nodad")
        self.ip("cmd", "addr", "add", "2001:db8:d::1/128", "dev", "lo", "nodad")
        self.ip("cmd", "route", "add", "2001:db8:a::1/128", "via", "2001:db8:ca::2", "src", "2001:db8:d::1")
        self.ip("maar", "addr", "add", "2001:db8:a::1/128", "dev", "lo", "nodad")
        self.ip("maar", "addr", "add", "2001:db8:ca::2/64", "dev", "kcore", "nodad")
        self.ip("maar", "route", "add", "default", "via", "2001:db8:ca::1", "src", "2001:db8:a::1")
        cmd = self.ours("cmd", self.cmd([], 8))
        maar = self.ours("maar", self.maar('server = "2001:db8:d::1"\npools = 2'))
        until("two pools", lambda: len(self.delegations("maar")) == 2)
        pools = sorted(it["prefix"] for it in self.delegations("maar"))
        self.assertEqual(sorted(it["prefix"] for it in self.delegations("cmd")), pools)
        for process in (cmd, maar, cmd):
            process.kill()
            process.start()
            time.sleep(1)
        until("renewals", lambda: self.count("maar", "delegations_renewed") >= 4)
        self.assertEqual(sorted(it["prefix"] for it in self.delegations("cmd")), pools)
        self.assertEqual(sorted(it["prefix"] for it in self.delegations("maar")), pools)
        self.assertTrue(all(it["exclude"].endswith("/64") for it in self.delegations("maar")))


class WithDelegatedPools(Domain):
    """A domain in which no pool is configured: the CMD delegates them to its MAARs, which reach it by relaying."""

    def write_configurations(self):
        super().write_configurations()
        for index in MAARS:
            path = self.directory / f"maar{index}.toml"
            text = path.read_text().replace(f'prefix_pools = ["{topology.pool(index)}"]\n', "")
            path.write_text(text + f'\n[maar.delegation]\nserver = "{CMD}"\nlength = 48\n')
        path = self.directory / "cmd.toml"
        text = path.read_text()
        for index in MAARS:
            text = text.replace(f'"{topology.pool(index)}"', "")
        path.write_text(text + '\n[cmd.delegation]\n[[cmd.delegation.pool]]\nprefix = "2001:db8:5000::/36"\n'
                               "delegated_length = 48\n")

    def pool(self, index):
        """The pool of a MAAR, when it has one; the core then routes it there."""
        def bound():
            return [it["prefix"] for it in self.kedge(f"maar{index}", "show", "delegations", check=False) or []
                    if it["state"] == "bound"]
        self.wait(bound, 15, f"maar{index} has no pool")
        [prefix] = bound()
        self.ip("core", "route", "replace", prefix, "via", f"2001:db8:ca{index}::2")
        return ipaddress.ip_network(prefix)

    def address_of(self, prefix):
        """The node's preferred address of a pool."""
        def found():
            return [it for it, deprecated in self.node_addresses()
                    if not deprecated and ipaddress.ip_address(it) in prefix]
        self.wait(found, 15, f"the node has no address of {prefix}")
        return found()[0]


class ADomainWithDelegatedPools(unittest.TestCase):
    def test_nodes_get_prefixes_of_delegated_pools_and_keep_them(self):
        domain = WithDelegatedPools(prefix=f"kpd{os.getpid()}", binaries=BINARIES)
        self.addCleanup(domain.remove)
        domain.build()
        domain.start()
        pools = {index: domain.pool(index) for index in MAARS}
        self.assertEqual(len(set(pools.values())), 3)
        domain.plug(1)
        first = domain.address_of(pools[1])
        domain.on("mn", "ping", "-6", "-c3", "-i0.2", "-W1", "-I", first, CN)
        # The default of access.valid_lifetime is 7200 s; what is delegated is valid for 3600 s.
        shown = json.loads(domain.on("mn", "ip", "-j", "-6", "addr", "show", "dev", "eth0", "scope", "global"))
        addresses = [it for interface in shown for it in interface.get("addr_info", []) if it.get("local") == first]
        self.assertTrue(addresses and all(it["valid_life_time"] <= 3600 for it in addresses), shown)
        domain.plug(2)
        domain.address_of(pools[2])
        domain.on("mn", "ping", "-6", "-c3", "-i0.2", "-W1", "-I", first, CN)
        # The CMD is killed: it knows from its journal whose pool is whose, and so which registrations are right.
        cmd = domain.daemons["cmd-controlplane"]
        cmd.kill()
        cmd.start()
        domain.wait(lambda: domain.kedge("cmd", "show", "bindings", check=False), 10, "the CMD did not come back")
        domain.plug(3)
        third = domain.address_of(pools[3])
        for address in (first, third):
            domain.on("mn", "ping", "-6", "-c3", "-i0.2", "-W1", "-I", address, CN)

    def test_delegation_follows_a_relocation_and_comes_home(self):
        domain = WithDelegatedPools(prefix=f"kpd{os.getpid()}", binaries=BINARIES, routing=True)
        self.addCleanup(domain.remove)
        domain.build()
        domain.start()
        pools = {index: domain.pool(index) for index in MAARS}

        def named(index):
            return [it["prefix"] for it in domain.kedge(f"maar{index}", "show", "delegations")
                    if it["moved"] and it["state"] == "bound"]

        def at_the_server():
            return {it["prefix"]: it["peer"] for it in domain.kedge("cmd", "show", "delegations")}

        domain.plug(1)
        home = domain.address_of(pools[1])
        domain.plug(2)
        domain.address_of(pools[2])
        prefix = str(ipaddress.ip_network(f"{home}/64", strict=False))
        self.assertNotIn(prefix, at_the_server())
        domain.kedge("cmd", "relocate", prefix, "--to", topology.maar_address(2))
        domain.wait(lambda: named(2) == [prefix], 10, "the delegation did not follow")
        domain.on("mn", "ping", "-6", "-c3", "-i0.2", "-W1", "-I", home, CN)
        # It is out of the pool of MAAR1, which keeps that, and it is where MAAR2's pool is.
        holders = at_the_server()
        self.assertEqual(holders[prefix], holders[str(pools[2])])
        self.assertNotEqual(holders[prefix], holders[str(pools[1])])
        # The new anchor and the server forget nothing.
        for host in ("maar2", "cmd"):
            daemon = domain.daemons[f"{host}-controlplane"]
            daemon.kill()
            daemon.start()
        domain.wait(lambda: domain.kedge("cmd", "show", "info", check=False), 10, "the CMD did not come back")
        domain.wait(lambda: domain.kedge("maar2", "show", "delegations", check=False), 10, "maar2 did not come back")
        domain.wait(lambda: named(2) == [prefix], 10, "the delegation was forgotten")
        self.assertEqual(at_the_server(), holders)
        # The node goes home, and so does its prefix.
        domain.plug(1)
        domain.wait(lambda: domain.kedge("cmd", "relocate", prefix, "--to", topology.maar_address(1), check=False),
                    15, "the prefix cannot be relocated back")
        domain.wait(lambda: prefix not in at_the_server() and named(2) == [], 15, "the delegation did not come home")
        domain.on("mn", "ping", "-6", "-c3", "-i0.2", "-W1", "-I", home, CN)

    def relocated_with_kea(self, name, **options):
        """A domain in which Kea has the prefixes of each pool on every link, and the node's first one is at MAAR2, as the node is, and delegated to
        it. The domain, the node's address in the prefix, the prefix, and what is delegated by name to MAAR2."""
        domain = Domain(prefix=f"{name}{os.getpid()}", binaries=BINARIES, routing=True, kea="prefixes", **options)
        self.addCleanup(domain.remove)
        domain.build()
        domain.start()
        domain.plug(1)
        home = domain.preferred_address(1)
        domain.plug(2, announced=True)
        domain.preferred_address(2)
        prefix = str(ipaddress.ip_network(f"{home}/64", strict=False))
        held = lambda: [it["prefix"] for it in domain.kedge("maar2", "show", "delegations") if it["moved"] and it["state"] == "bound"]
        self.assertEqual(domain.kea_leases(), {})
        confirmed = lambda: domain.kedge("cmd", "show", "bindings")[0]["previous"][0]["state"] == "confirmed"
        domain.wait(confirmed, 5, "maar1 does not know where the node is")
        domain.kedge("cmd", "relocate", prefix, "--to", topology.maar_address(2))
        domain.wait(lambda: held() == [prefix], 15, "the delegation did not follow")
        return domain, home, prefix, held

    def test_kea_delegates_to_the_new_anchor_what_it_asks_for_by_name(self):
        # Pools are configured. Kea has the prefixes of each on every link: who takes one over asks for that very one, by a hint, and
        # gives it back when it yields it.
        domain, home, prefix, held = self.relocated_with_kea("kpd")
        said = lambda what: [line for line in domain.daemons["core-kea"].log.read_text().splitlines() if what in line]
        reached = lambda: domain.on("mn", "ping", "-6", "-c3", "-i0.2", "-W1", "-I", home, CN)
        # Four messages: what is asked for by name is leased when it is what was offered.
        self.assertEqual(list(domain.kea_leases()), [prefix])
        self.assertEqual([len(said(what)) for what in ("DHCP6_PD_LEASE_ADVERT", "DHCP6_PD_LEASE_ALLOC", "DHCP6_RELEASE_PD")], [1, 1, 0])
        reached()
        # Both are killed, and neither forgets.
        for name in ("core-kea", "maar2-controlplane"):
            domain.daemons[name].kill()
            domain.daemons[name].start()
        domain.wait(lambda: domain.kedge("maar2", "show", "delegations", check=False), 10, "maar2 did not come back")
        domain.wait(lambda: held() == [prefix] and said("DHCP6_PD_LEASE_R"), 15, "it was not renewed")
        self.assertEqual(list(domain.kea_leases()), [prefix])
        # The node goes home, and its prefix after it: Release, and Kea has nothing of it.
        domain.plug(1)
        domain.wait(lambda: domain.kedge("cmd", "relocate", prefix, "--to", topology.maar_address(1), check=False),
                    15, "the prefix cannot be relocated back")
        domain.wait(lambda: not held() and not domain.kea_leases(), 15, "it was not given back")
        self.assertEqual(len(said("DHCP6_RELEASE_PD")), 1)
        reached()

    def test_a_prefix_goes_home_when_its_delegation_times_out(self):
        domain, home, prefix, held = self.relocated_with_kea("kover", kea_valid=8)
        prefixes = lambda index: {it["prefix"] for node in domain.kedge(f"maar{index}", "show", "nodes") for it in node["prefixes"]}
        # It is in use, and renewed for longer than a lease is valid.
        ping = domain.popen("mn", "ping", "-6", "-i", "0.2", "-I", home, CN, stdout=subprocess.DEVNULL)
        time.sleep(10)
        self.assertIn(prefix, prefixes(2))
        self.assertEqual(domain.bgp_routes().get(prefix), "maar2")
        # Nobody renews it any more. Its anchor is killed, too, and remembers until when it was valid.
        domain.daemons.pop("core-kea").kill()
        domain.daemons["maar2-controlplane"].kill()
        domain.daemons["maar2-controlplane"].start()
        domain.wait(lambda: domain.kedge("maar2", "show", "nodes", check=False), 10, "maar2 did not come back")
        domain.wait(lambda: prefix not in prefixes(2), 20, "it was not given up")
        domain.wait(lambda: prefix not in domain.bgp_routes(), 5, "the route is still there")
        domain.wait(lambda: not prefixes(1), 15, "maar1 remembers the node")
        self.assertEqual(domain.kedge("cmd", "show", "bindings")[0]["previous"], [])
        said = domain.daemons["maar2-controlplane"].log.read_text()
        self.assertIn('kind="delegation_over"', said)
        self.assertEqual(len(prefixes(2)), 1)
        # The host was told, and goes on with the prefix that it has here.
        domain.wait(lambda: all(deprecated for it, deprecated in domain.node_addresses() if it == home), 5, "the host still prefers it")
        domain.on("mn", "ping", "-6", "-c3", "-i0.2", "-W1", "-I", domain.preferred_address(2), CN)
        ping.terminate()


if __name__ == "__main__":
    unittest.main(verbosity=2)
