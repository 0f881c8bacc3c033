"""`ci/demo --switch hierarchy`: a node moves between the forwarding switches below an access router, and to one below another.

First between two DPNs of one DPA: its address and its anchor stay, the DPA tunnels to another switch. Then to a DPN of another DPA:
what is new gets an address there, what is older comes through two tunnels in a row. Then the anchor follows, and one tunnel is left.
"""

import ipaddress
import json
import time

import topology
from demo import COLOURS, NAMES, Demo
from hierarchy import DPNS, dpn_address
from topology import NODE

NAMES |= {dpn_address(index): f"dpn{index}" for index in DPNS}
COLOURS |= {"dpn1": 96, "dpn2": 94, "dpn3": 93}
# The DPNs that the node is at, one after the other.
ROUTE = (1, 2, 3)


class HierarchyDemo(Demo):
    gateways = tuple(f"maar{index}" for index in sorted(set(DPNS.values()))) + tuple(f"dpn{index}" for index in DPNS)
    BRIDGE = "dbr2"
    OUTCOME = "Connections lived on: below one access router by another tunnel, below another one by two, until the anchor followed"

    def run(self, domain):
        self.domain = domain
        below = ", ".join(f"DPN{dpn} below MAAR{dpa}" for dpn, dpa in DPNS.items())
        self.timeline.heading(f"A domain: correspondent host, core router, {below}, CMD, one mobile node; tunnels {domain.tunnel}")
        self.start_domain()
        self.timeline.heading("The node appears at DPN1, below MAAR1")
        domain.plug_dpn(1)
        self.home = domain.preferred_address(1)
        self.say(f"the node took {self.home}; it is a plain Linux host with SLAAC")
        self.ping(self.home)
        self.start_traffic()
        time.sleep(1)
        self.table()
        for here, there in zip(ROUTE, ROUTE[1:]):
            self.step(here, there)
        self.finish()
        return self.report()

    def step(self, here, there):
        """One move, and the anchor after it where that is another's now."""
        before, dpa = DPNS[here], DPNS[there]
        where = f"both below MAAR{dpa}" if before == dpa else f"from MAAR{before} to MAAR{dpa}"
        self.timeline.heading(f"Move {len(self.moves) + 1}: DPN{here} -> DPN{there}, {where}")
        began_monotonic, began = time.monotonic(), time.time()
        self.say(f"the access point that it leaves tells DPN{here}: kedge detach; then the node solicits a router")
        self.domain.plug_dpn(there, announced=True)
        self.moves.append({"from": f"dpn{here}", "to": f"dpn{there}", "began": began_monotonic, "began_unix": began})
        new = self.domain.preferred_address(dpa)
        # Two gateways of the new path have to know of it.
        at = lambda: (self.domain.node_at(f"maar{dpa}") or {}).get("port") == f"DPN {dpn_address(there)}"
        self.domain.wait(at, 10, f"maar{dpa} did not hear that the node is at dpn{there}")
        time.sleep(0.5)
        self.table()
        self.check_paths(there, new)
        if before != dpa:
            self.relocate(dpa)
            # The same flows by one tunnel instead of three.
            self.old_flows(there, dpa)
        alive = self.long_lived.poll() is None
        self.moves[-1]["tcp_running"] = alive
        time.sleep(max(0.0, self.arguments.seconds_per_stay - (time.monotonic() - began_monotonic)))
        self.say("the long-lived TCP connection " + ("goes on" if alive else "HAS ENDED"))
        self.moves[-1]["attach_to_delivery_ms"] = self.attach_to_delivery(f"dpn{there}", began, began_monotonic)

    def table(self):
        super().table()
        for dpn in DPNS:
            node = self.domain.node_at(f"dpn{dpn}")
            if node and node["state"] == "attached":
                self.say(f"    {NODE} is at dpn{dpn}, below {NAMES[node['serving_maar']]}")

    def check_paths(self, there, new):
        """A new connection goes by the tunnel of its own DPA alone, old ones by way of their anchor: by the gateways' own counters."""
        dpn, dpa = f"dpn{there}", f"maar{DPNS[there]}"
        _, before = self.counters()
        client = self.connect("-", 20_000, 1)
        report = json.loads(client.communicate(timeout=60)[0].strip().splitlines()[-1])
        _, after = self.counters()
        source = report["source"] or ""
        self.say(f"a new TCP connection: from {source}, {report['octets']} octets there and back" + ("" if report["ok"] else f", FAILED: {report['error']}"))
        own = str(ipaddress.ip_network(f"{new}/64", strict=False))
        to, back = self.grown(before, after, (dpn, own))
        elsewhere = [host for (host, prefix) in after if prefix == own and host not in (dpn, dpa)]
        direct = report["ok"] and source == new and to > 0 and back > 0 and not elsewhere
        self.direct.append(direct)
        self.say(f"    {dpn} delivered {to} packets to {own} and took {back} from it, for {dpa}; no other gateway knows of it" if direct
                 else f"    NOT BY ITS OWN DPA ALONE: source {source}, {to} and {back} packets, known also at {elsewhere}")
        self.old_flows(there, int(self.anchor().removeprefix("maar")))

    def anchor(self):
        """The MAAR that anchors the oldest prefix."""
        prefix = str(ipaddress.ip_network(f"{self.home}/64", strict=False))
        binding = topology.first(self.domain.kedge("cmd", "show", "bindings"))
        return NAMES[next((it["address"] for it in binding["previous"] if it["prefix"] == prefix), binding["serving_maar"])]

    def old_flows(self, there, anchor):
        """By which tunnels the oldest flows go, both ways."""
        way = [f"maar{index}" for index in dict.fromkeys((anchor, DPNS[there]))] + [f"dpn{there}"]
        hops = list(zip(way, way[1:]))
        before, _ = self.counters()
        time.sleep(1)
        after, _ = self.counters()
        out = [self.grown(before, after, hop)[0] for hop in hops]
        back = [self.grown(before, after, hop[::-1])[0] for hop in hops]
        # Whatever else there is carries nothing.
        others = [pair for pair in after if pair not in hops and pair[::-1] not in hops and any(self.grown(before, after, pair))]
        right = min(out + back) > 0 and not others
        self.tunnelled.append(right)
        said = ", ".join(f"{one} -> {other} {down}, back {up}" for (one, other), down, up in zip(hops, out, back))
        self.say(f"    in one second by {'the tunnel' if len(hops) == 1 else f'{len(hops)} tunnels in a row'}: {said} packets"
                 + ("" if right else f"  NOT AS IT SHOULD BE, also by {others}"))
