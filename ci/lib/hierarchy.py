"""The hierarchical network of RFC 8818 sections 4.2.2 and 4.2.3, in network namespaces.

    cn ── core ──┬── maar1 (DPA)     below it dpn1, dpn2 ──┐
         (kernel │── maar2 (DPA)     below it dpn3 ────────┤ radio (a bridge for each) ┄┄ mn
         router) │── dpn1, dpn2, dpn3
                 └── cmd

That a DPN is below its DPA is a matter of tunnels: all are at the core router.
"""

import time

from topology import NODE, Domain, maar_address

# Each DPN with its DPA.
DPNS = {1: 1, 2: 1, 3: 2}


def dpn_address(index):
    return f"2001:db8:e{index}::1"


class Hierarchy(Domain):
    def __init__(self, **options):
        super().__init__(maars=(1, 2), **options)

    def build(self):
        super().build()
        for index in DPNS:
            self.build_dpn(index)

    def build_dpn(self, index):
        host, net = f"dpn{index}", f"2001:db8:cb{index}"
        self.namespace(host)
        self.attach_gateway(host, net, "core", access=f"dacc{index}", bridge=f"dbr{index}")
        self.ip("core", "route", "add", f"{dpn_address(index)}/128", "via", f"{net}::2")

    def maar_keys(self, index):
        its = "".join(f'[[maar.dpn]]\naddress = "{dpn_address(dpn)}"\n' for dpn, dpa in DPNS.items() if dpa == index)
        return f"{super().maar_keys(index)}\n{its}"

    def write_configurations(self):
        super().write_configurations()
        for index, dpa in DPNS.items():
            gateway = self.gateway(f"dpn{index}", dpn_address(index), f"2001:db8:cb{index}", index)
            (self.directory / f"dpn{index}.toml").write_text(f"""{gateway}
[dpn]
dpa = "{maar_address(dpa)}"
tunnel = "{self.tunnel}"

[access]
policy_file = "{self.directory / 'policy.toml'}"
""")

    def start(self):
        super().start()
        for index in DPNS:
            self.daemon(f"dpn{index}", "kedge-dataplane").start()
            self.daemon(f"dpn{index}", "kedge-controlplane").start()
        for index, dpa in DPNS.items():
            host = f"dpn{index}"

            def ready():
                info = (self.kedge(host, "show", "info", check=False) or {}).get("controlplane") or {}
                ping = ("ping", "-6", "-c1", "-W1", "-I", dpn_address(index), maar_address(dpa))
                return info.get("dataplane_connected") and self.on(host, *ping, check=False).find("1 received") >= 0

            self.wait(ready, 30, f"{host} did not become ready")

    def plug_dpn(self, index, announced=False):
        """Moves the node's link to the access link of a DPN; the node solicits its router. Announced: the access point that it
        leaves has told its DPN so, a moment before."""
        if announced and self.at is not None:
            self.kedge(f"dpn{self.at}", "detach", NODE)
            # The data plane of its DPA is told a moment after the answer.
            dpa = f"maar{DPNS[self.at]}"
            self.wait(lambda: self.kedge(dpa, "show", "holds")["prefixes"], 5, "nothing is on hold")
            # What had left it before is on the way to the DPN, and to the node.
            time.sleep(0.05)
        roaming = self.replug(f"dbr{index}")
        self.at = index
        if roaming:
            self.solicit()

    def node_at(self, host):
        """What a gateway says of the node."""
        nodes = self.kedge(host, "show", "nodes") or []
        return next((node for node in nodes if node["identifier"] == NODE), None)
