"""A domain in network namespaces: hosts of the kernel, and Kedge's real daemons between them.

    cn ── core ──┬── maar1 ──┐
         (kernel │── maar2 ──┤ radio (three bridges) ┄┄ mn
         router) │── maar3 ──┘
                 └── cmd

With `routing` the core router hears by BGP where each home network prefix is anchored: BIRD there, GoBGP at each
MAAR. Without it the router has a static route to each pool.

A move is what a radio does: the mobile node's link goes down, its far end is
plugged into another bridge, and the link comes up. The node's kernel does the rest.
"""

import csv
import json
import os
import pathlib
import subprocess

from namespaces import Daemon, Failure, Namespaces

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
MAARS = (1, 2, 3)
ROUTER_MAC = "00:00:5e:00:52:13"
NODE_MAC = "02:00:00:00:0a:01"
NODE = "mn1@example.net"
CN = "2001:db8:cc::2"
CN_IPV4 = "203.0.113.2"
CMD = "2001:db8:d::1"
# Between gateways, as in `maar.tunnel` and `cmd.tunnel`; the first is the default.
# With "-ipv4", over IPv4: the gateways have an address for that.
TUNNELS = ("ipv6-in-ipv6", "gtpu", "gtpu-ipv4", "gre")


def maar_address(index):
    return f"2001:db8:{'abc'[index - 1]}::1"


def maar_ipv4_address(index):
    return f"198.51.100.{index}"


def role(host):
    return host.rstrip("0123456789")


def pool(index):
    return f"2001:db8:{index}00::/48"


ROUTER_BIRD = """
router id 10.0.0.1;
log "{directory}/core-bird.log" all;
protocol device {{ scan time 60; }}
protocol direct {{ ipv6; interface "to-maar*"; }}
protocol kernel {{ ipv6 {{ import none; export where source = RTS_BGP; }}; }}
template bgp maar {{
  local as 65000;
  connect retry time 1; connect delay time 1; error wait time 1, 1; hold time 9;
  ipv6 {{ import all; export none; }};
}}
{sessions}
"""

MAAR_GOBGP = """
[global.config]
as = {number}
router-id = "10.0.{index}.1"
local-address-list = ["{net}::2"]
[[neighbors]]
[neighbors.config]
neighbor-address = "{net}::1"
peer-as = 65000
[neighbors.timers.config]
connect-retry = 1
hold-time = 9
keepalive-interval = 3
[neighbors.graceful-restart.config]
enabled = true
restart-time = 30
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv6-unicast"
[neighbors.afi-safis.mp-graceful-restart.config]
enabled = true
"""


ANNOUNCE = """
[announce]
daemon = "gobgp"
what = "prefixes"
# What two routers in one machine need.
propagation_ms = 10

[timers]
route_settle_ms = 15
"""


# Of much, and of little.
METERS = """
[[meter]]
name = "gold"
cir_bits_per_second = 100000000
cbs_bytes = 1000000
pir_bits_per_second = 200000000
pbs_bytes = 1000000

[[meter]]
name = "thin"
cir_bits_per_second = 80000
cbs_bytes = 200000
pir_bits_per_second = 200000000
pbs_bytes = 1000000
"""


def router_sessions(maars=MAARS):
    """Of the core router's BIRD, one with each MAAR."""
    return "".join(f"protocol bgp maar{index} from maar {{ neighbor 2001:db8:ca{index}::2 as {65000 + index}; }}\n" for index in maars)


class Domain(Namespaces):
    """The namespaces, the configurations and the daemons."""

    def __init__(self, prefix=None, binaries=None, log_level="info", tunnel=TUNNELS[0], narrow=None, routing=False, maar="",
                 kea=None, kea_valid=90, dataplane="", maars=MAARS):
        super().__init__(prefix or f"kedge{os.getpid()}")
        self.binaries = pathlib.Path(binaries or REPOSITORY / "target" / "release")
        self.log_level = log_level
        self.tunnel = tunnel.removesuffix("-ipv4")
        self.over_ipv4 = tunnel.endswith("-ipv4")
        # MAAR2 is behind one more router then, by a link that takes packets of so many octets.
        self.narrow = narrow
        self.routing = routing
        # What Kea at the core router delegates: each MAAR its "pools", or, where they are configured, the single "prefixes" that it takes over.
        self.kea = kea
        # For so many seconds.
        self.kea_valid = kea_valid
        # More keys of [maar], and tables below [dataplane].
        self.maar = maar
        self.dataplane = dataplane
        self.maars = maars
        self.at = None

    def build(self):
        for host in ["cn", "core", "radio", "mn", "cmd"] + [f"maar{index}" for index in self.maars]:
            self.namespace(host)
        self.on("core", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", f"net.ipv4.ip_forward={int(self.over_ipv4)}")
        self.attach_host("cn", "2001:db8:cc", CN)
        if self.over_ipv4:
            self.ip("core", "addr", "add", "203.0.113.1/24", "dev", "to-cn")
            self.ip("cn", "addr", "add", f"{CN_IPV4}/24", "dev", "eth0")
            self.ip("cn", "route", "add", "default", "via", "203.0.113.1")
        self.attach_host("cmd", "2001:db8:cd", "2001:db8:cd::2")
        self.ip("cmd", "addr", "add", f"{CMD}/128", "dev", "lo", "nodad")
        self.ip("cmd", "route", "replace", "default", "via", "2001:db8:cd::1", "src", CMD)
        self.ip("core", "route", "add", f"{CMD}/128", "via", "2001:db8:cd::2")
        if self.narrow:
            self.build_edge()
        for index in self.maars:
            self.build_maar(index)
        self.build_node()

    def build_edge(self):
        self.namespace("edge")
        self.on("edge", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", f"net.ipv4.ip_forward={int(self.over_ipv4)}")
        self.link("core", "to-edge", "edge", "to-core")
        for host, device, address in (("core", "to-edge", "2001:db8:ce::1/64"), ("edge", "to-core", "2001:db8:ce::2/64")):
            self.ip(host, "link", "set", device, "mtu", str(self.narrow))
            self.ip(host, "addr", "add", address, "dev", device, "nodad")
            self.ip(host, "link", "set", device, "up")
        self.ip("edge", "route", "add", "default", "via", "2001:db8:ce::1")
        if self.over_ipv4:
            self.ip("core", "addr", "add", "192.0.2.129/30", "dev", "to-edge")
            self.ip("edge", "addr", "add", "192.0.2.130/30", "dev", "to-core")
            self.ip("edge", "route", "add", "default", "via", "192.0.2.129")

    def attach_host(self, host, net, address):
        self.link(host, "eth0", "core", f"to-{host}")
        self.ip("core", "addr", "add", f"{net}::1/64", "dev", f"to-{host}", "nodad")
        self.ip("core", "link", "set", f"to-{host}", "up")
        self.ip(host, "addr", "add", f"{address}/64", "dev", "eth0", "nodad")
        self.ip(host, "link", "set", "eth0", "up")
        self.ip(host, "route", "add", "default", "via", f"{net}::1")

    def build_maar(self, index):
        host, net = f"maar{index}", f"2001:db8:ca{index}"
        router = "edge" if self.narrow and index == 2 else "core"
        self.attach_gateway(host, net, router, access=f"acc{index}", bridge=f"br{index}")
        # With routing the pools are heard of by BGP.
        for target in ([] if self.routing else [pool(index)]) + [f"{maar_address(index)}/128"]:
            self.ip(router, "route", "add", target, "via", f"{net}::2")
        if router == "edge":
            for target in (pool(index), f"{maar_address(index)}/128", f"{net}::/64"):
                self.ip("core", "route", "add", target, "via", "2001:db8:ce::2")
        if self.over_ipv4:
            self.ip(router, "addr", "add", f"192.0.2.{16 * index + 1}/28", "dev", f"to-{host}")
            self.ip(router, "route", "add", f"{maar_ipv4_address(index)}/32", "via", f"192.0.2.{16 * index + 2}")
            if router == "edge":
                for target in (f"{maar_ipv4_address(index)}/32", f"192.0.2.{16 * index}/28"):
                    self.ip("core", "route", "add", target, "via", "192.0.2.130")

    def attach_gateway(self, host, net, router, access, bridge):
        """Gives a gateway its link to a router of the core, and its access link, which is a bridge at the radio."""
        # The kernel keeps off the interfaces that DPDK reads; it has the exception interfaces.
        self.sysctl(host, default__disable_ipv6=1)
        self.link(host, "core0", router, f"to-{host}")
        self.link(host, "acc0", "radio", access)
        for device in ("core0", "acc0"):
            self.ip(host, "link", "set", device, "up")
        self.sysctl(host, default__disable_ipv6=0)
        self.ip(router, "addr", "add", f"{net}::1/64", "dev", f"to-{host}", "nodad")
        self.ip(router, "link", "set", f"to-{host}", "up")
        self.ip("radio", "link", "add", bridge, "type", "bridge", "mcast_snooping", "0", "stp_state", "0")
        self.sysctl("radio", **{f"{bridge}__disable_ipv6": 1, f"{access}__disable_ipv6": 1})
        for device in (bridge, access):
            self.ip("radio", "link", "set", device, "up")
        self.ip("radio", "link", "set", access, "master", bridge)

    def build_node(self):
        self.link("mn", "eth0", "radio", "air")
        self.sysctl("radio", air__disable_ipv6=1)
        self.one_processor("mn", "eth0")
        self.ip("mn", "link", "set", "eth0", "address", NODE_MAC)
        # The node is a plain host with SLAAC. It may use an address at once after its link came
        # back, which radios with optimistic or no duplicate address detection allow.
        self.sysctl("mn", eth0__accept_dad=0, eth0__dad_transmits=0, eth0__router_solicitation_delay=0,
                    eth0__addr_gen_mode=0)
        self.ip("mn", "link", "set", "eth0", "up")

    # Configurations and daemons

    def write_configurations(self):
        policy = self.directory / "policy.toml"
        policy.write_text(f'[[node]]\nidentifier = "{NODE}"\nlink_layer_address = "{NODE_MAC}"\n')
        for index in self.maars:
            net = f"2001:db8:ca{index}"
            addresses, route, tunnel = f'"{net}::2/64"', "", f'tunnel = "{self.tunnel}"'
            pools, delegation = f'prefix_pools = ["{pool(index)}"]', ""
            if self.kea == "pools":
                pools, delegation = "", '[maar.delegation]\nport = "core"\nlength = 48'
            elif self.kea == "prefixes":
                delegation = '[maar.delegation]\nport = "core"\npools = 0'
            if self.over_ipv4:
                addresses += f', "192.0.2.{16 * index + 2}/28"'
                route = f'[[route]]\nprefix = "0.0.0.0/0"\nport = "core"\ngateway = "192.0.2.{16 * index + 1}"'
                tunnel += f'\ngtpu_ipv4_address = "{maar_ipv4_address(index)}"'
            gateway = self.gateway(f"maar{index}", maar_address(index), net, index, addresses, self.dataplane)
            (self.directory / f"maar{index}.toml").write_text(f"""{gateway}
{route}

[maar]
cmd = ["{CMD}"]
{pools}
{tunnel}
{self.maar_keys(index)}

{delegation}

[access]
policy_file = "{policy}"
{ANNOUNCE if self.routing else ""}""")
        known = "".join(
            f'\n[[cmd.known_maar]]\naddress = "{maar_address(index)}"\nprefix_pools = ["{pool(index)}"]\n' for index in self.maars
        )
        (self.directory / "cmd.toml").write_text(f"""{self.node("cmd", CMD)}
[cmd]
mode = "proxy"
tunnel = "{self.tunnel}"
{known}""")

    def node(self, host, address):
        """[node]; the name of a host is its role, and a number if there are several."""
        return f"""
[node]
name = "{host}"
role = "{role(host)}"
address = "{address}"
run_directory = "{self.run_directory(host)}"
state_directory = "{self.directory / f'{host}.state'}"
metrics = "[::1]:9110"
"""

    def gateway(self, host, address, net, index, addresses=None, dataplane=""):
        """[node] and all of the data plane of a gateway: its ports, and its way to the core."""
        return f"""{self.node(host, address)}
[dataplane]
workers = [{index % (os.cpu_count() or 1)}]
poll = "adaptive"
huge_pages = "never"
memory_mib = 64
packet_buffers = 8192
metrics = "[::1]:9111"
# All gateways and their traffic share the cores of a machine that may do other work: its scheduler alone can keep the
# word that an old way has ended for longer than the 100 ms of the default, and the packets would not come in order.
hold.path_end_ms = 1000
{dataplane}

[[port]]
name = "core"
device = "net_af_packet0,iface=core0"
side = "core"
exception = "kcore"
addresses = [{addresses or f'"{net}::2/64"'}]

[[port]]
name = "access"
device = "net_af_packet1,iface=acc0"
side = "access"
exception = "kacc"

[[route]]
prefix = "::/0"
port = "core"
gateway = "{net}::1"
"""

    def maar_keys(self, index):
        """More keys of [maar], and tables below it."""
        return self.maar

    def run_directory(self, host):
        return self.directory / f"{host}.run"

    def daemon(self, host, program):
        name = f"{host}-{program.removeprefix('kedge-')}"
        command = [*self.inside(host), str(self.binaries / program), "--config", str(self.directory / f"{host}.toml"),
                   "--log", self.log_level]
        self.daemons[name] = Daemon(name, role(host), command, self.directory / f"{name}.log")
        return self.daemons[name]

    def start(self):
        """Starts all daemons and waits until each MAAR's control plane has its data plane."""
        self.write_configurations()
        self.daemon("cmd", "kedge-controlplane").start()
        if self.kea:
            self.start_kea()
        for index in self.maars:
            self.daemon(f"maar{index}", "kedge-dataplane").start()
            self.daemon(f"maar{index}", "kedge-controlplane").start()
        for index in self.maars:
            self.wait_ready(index)
        if self.routing:
            self.start_routing()
        held = lambda index: [it["prefix"] for it in self.kedge(f"maar{index}", "show", "delegations") if it["state"] == "bound"]
        for index in self.maars if self.kea == "pools" else []:
            self.wait(lambda: pool(index) in held(index), 20, f"maar{index} was not delegated its pool")

    def start_kea(self):
        """A DHCPv6 server at the core router, with one pool on the link of each MAAR, or with the prefixes of all of them on each."""
        whole = lambda index: [{"prefix": pool(index).split("/")[0], "prefix-len": 48, "delegated-len": 48}]
        single = [it | {"delegated-len": 64} for index in self.maars for it in whole(index)]
        config = {"Dhcp6": {
            "interfaces-config": {"interfaces": [f"to-maar{index}" for index in self.maars]},
            "lease-database": {"type": "memfile", "persist": True, "name": str(self.directory / "leases.csv"), "lfc-interval": 0},
            "server-id": {"type": "LL", "persist": False, "identifier": "0200000000fe", "htype": 1},
            # Short, so that renewals go on while anchors move.
            "preferred-lifetime": self.kea_valid * 2 // 3, "valid-lifetime": self.kea_valid,
            "renew-timer": min(3, self.kea_valid // 4), "rebind-timer": min(6, self.kea_valid // 2),
            "subnet6": [{"id": index, "subnet": f"2001:db8:ca{index}::/64", "interface": f"to-maar{index}", "rapid-commit": True,
                         "pd-pools": whole(index) if self.kea == "pools" else single} for index in self.maars],
            "loggers": [{"name": "kea-dhcp6", "severity": "INFO", "output_options": [{"output": "stdout"}]}]}}
        path = self.directory / "kea.json"
        path.write_text(json.dumps(config))
        # Kea writes where the machine's own would; that is gone with its mount namespace.
        shell = ('for it in /run /var/lib/kea /var/log/kea; do [ ! -d $it ] || mount -t tmpfs none $it; done; mkdir -p /run/kea; exec "$@"')
        self.other_daemon("core", "kea", "unshare", "-m", "sh", "-c", shell, "sh", "env", f"KEA_PIDFILE_DIR={self.directory}",
                          f"KEA_LOCKFILE_DIR={self.directory}", "kea-dhcp6", "-c", str(path))

    def kea_leases(self):
        """Of Kea's file, which grows: the last word on each prefix, by prefix its DUID."""
        with open(self.directory / "leases.csv") as file:
            last = {f"{line['address']}/{line['prefix_len']}": line for line in csv.DictReader(file)}
        return {prefix: line["duid"] for prefix, line in last.items() if line["state"] == "0" and int(line["valid_lifetime"])}

    def start_routing(self):
        """BIRD at the core router, which puts what it hears into its kernel's table, and GoBGP at each MAAR."""
        conf = self.directory / "core-bird.conf"
        conf.write_text(ROUTER_BIRD.format(directory=self.directory, sessions=router_sessions(self.maars)))
        self.other_daemon("core", "bird", "bird", "-f", "-c", str(conf), "-s", str(self.bird_socket()))
        for index in self.maars:
            self.start_gobgp(index)
        self.wait(lambda: self.bgp_sessions() == len(self.maars), 20, "the BGP sessions did not come up")
        connected = lambda index: self.kedge(f"maar{index}", "show", "routes")["connected"]
        for index in self.maars:
            self.wait(lambda: connected(index), 20, f"maar{index} did not find its routing daemon")

    def start_gobgp(self, index):
        conf = self.directory / f"maar{index}-gobgp.toml"
        conf.write_text(MAAR_GOBGP.format(number=65000 + index, index=index, net=f"2001:db8:ca{index}"))
        self.other_daemon(f"maar{index}", "gobgpd", "gobgpd", "-r", "-f", str(conf), "--api-hosts", "127.0.0.1:50051", "--pprof-disable")

    def other_daemon(self, host, name, *command):
        """A daemon that is not Kedge's. It ends with the domain."""
        name = f"{host}-{name}"
        self.daemons[name] = Daemon(name, "routing", [*self.inside(host), *command], self.directory / f"{name}.log")
        self.daemons[name].start()

    def bird_socket(self):
        return self.directory / "core-bird.ctl"

    def bgp_sessions(self):
        return self.on("core", "birdc", "-s", str(self.bird_socket()), "show", "protocols", check=False).count("Established")

    def bgp_routes(self):
        """What the core router's kernel knows of home network prefixes: the MAAR that each route leads to."""
        found = json.loads(self.on("core", "ip", "-j", "-6", "route", "show", "proto", "bird"))
        by_gateway = {f"2001:db8:ca{index}::2": f"maar{index}" for index in self.maars}
        return {route["dst"]: by_gateway[route["gateway"]] for route in found if route.get("gateway") in by_gateway}

    def wait_ready(self, index, seconds=30):
        def ready():
            info = self.kedge(f"maar{index}", "show", "info", check=False)
            # Null until the control plane answers; the data plane may be first.
            control = (info or {}).get("controlplane") or {}
            return control.get("dataplane_connected") and self.resolved(index)
        self.wait(ready, seconds, f"maar{index} did not become ready")

    def resolved(self, index):
        """Whether the gateway can reach the core: its own ping goes through its data plane."""
        return self.on(f"maar{index}", "ping", "-6", "-c1", "-W1", "-I", maar_address(index), CMD, check=False).find("1 received") >= 0

    def kedge(self, host, *arguments, check=True):
        """What `kedge --json` says on a node, as values; None where it fails and `check` is off."""
        command = [str(self.binaries / "kedge"), "--run-directory", str(self.run_directory(host)), "--json", *arguments]
        result = subprocess.run([*self.inside(host), *command], text=True, capture_output=True)
        if result.returncode != 0:
            if check:
                raise Failure(f"{' '.join(command)}: {result.stderr.strip()}")
            return None
        return json.loads(result.stdout) if result.stdout.strip() else None

    # The node

    def plug(self, index, trigger="solicitation", announced=False):
        """Moves the node's link to the access link of a MAAR.

        When a link comes back, the kernel of the node sends MLD reports but no Router Solicitation;
        network managers send it. So does rdisc6 here, at the first plugging the kernel itself. With the
        trigger "operator" nobody solicits: the MAAR is told by `kedge attach`, as an access point would.
        Announced: the access point that the node leaves has told its MAAR so, a moment before.
        """
        if announced and self.at is not None:
            self.kedge(f"maar{self.at}", "detach", NODE)
            # The data plane is told a moment after the answer.
            self.wait(lambda: self.kedge(f"maar{self.at}", "show", "holds")["prefixes"], 5, "nothing is on hold")
        roaming = self.replug(f"br{index}")
        self.at = index
        if trigger == "operator":
            self.kedge(f"maar{index}", "attach", NODE, "--port", "access", "--link-layer-address", NODE_MAC)
        elif roaming:
            self.solicit()

    def replug(self, bridge):
        """Moves the node's link to the bridge of another access link; whether it was plugged in before."""
        roaming = self.at is not None
        if roaming:
            self.ip("radio", "link", "set", "air", "down")
        self.ip("radio", "link", "set", "air", "master", bridge)
        self.ip("radio", "link", "set", "air", "up")
        return roaming

    def solicit(self):
        # Its output is of no interest; that it is silent is.
        self.popen("mn", "rdisc6", "-q", "-1", "-r", "10", "-w", "300", "eth0", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def unplug(self):
        self.ip("radio", "link", "set", "air", "down")

    def node_addresses(self):
        """The node's global addresses: (address, deprecated)."""
        interfaces = json.loads(self.on("mn", "ip", "-j", "-6", "addr", "show", "dev", "eth0", "scope", "global"))
        found = [info for interface in interfaces for info in interface.get("addr_info", []) if info.get("local")]
        return [(info["local"], bool(info.get("deprecated"))) for info in found]

    def preferred_address(self, index, seconds=10):
        """Waits until the node prefers an address of a MAAR's pool."""
        wanted = f"2001:db8:{index}00:"
        match = lambda: [it for it, deprecated in self.node_addresses() if it.startswith(wanted) and not deprecated]
        self.wait(match, seconds, f"the node got no address from maar{index}")
        return match()[0]


def first(answer):
    return answer[0] if isinstance(answer, list) else answer


class MeterAtOne(Domain):
    """MAAR1 alone has meters."""

    def write_configurations(self):
        super().write_configurations()
        path = self.directory / "maar1.toml"
        path.write_text(path.read_text() + METERS)
