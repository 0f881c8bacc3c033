"""Many nodes on one host: each is a node to the gateways, told of by `kedge attach`, with a prefix of its own.

The host of a `topology.Domain` has an address in the first prefix of each, by hand; the router it learns as ever.
"""

import os

from topology import NODE_MAC, Domain, maar_address

LINK_LOCAL = "fe80::ff:fe00:a01"


class Crowd:
    def __init__(self, domain, count, name="s"):
        self.domain, self.count, self.name = domain, count, name

    def identifier(self, number):
        return f"{self.name}{number}@example.net"

    def attach(self, index):
        """Every node attaches at that MAAR, as an access point tells it."""
        domain = self.domain
        kedge = f"{domain.binaries / 'kedge'} --run-directory {domain.run_directory(f'maar{index}')}"
        loop = (f"for i in $(seq {self.count}); do {kedge} attach {self.name}$i@example.net --port access "
                f"--link-layer-address {NODE_MAC} --link-local-address {LINK_LOCAL} > /dev/null || exit 1; done")
        domain.on(f"maar{index}", "bash", "-c", loop)
        served = lambda: sum(node["state"] == "attached" for node in self.known(index))
        domain.wait(lambda: served() == self.count, 30, f"maar{index} does not serve {self.count} nodes")

    def known(self, index):
        """What that MAAR knows of them."""
        return [node for node in self.domain.kedge(f"maar{index}", "show", "nodes") if self.is_one(node["identifier"])]

    def is_one(self, identifier):
        return identifier.startswith(self.name) and identifier.endswith("@example.net")

    def bindings(self):
        return [it for it in self.domain.kedge("cmd", "show", "bindings") if self.is_one(it["identifier"])]

    def prefixes(self):
        """Where the CMD says that the prefix of MAAR1's pool is anchored that each node has."""
        found = {}
        for binding in self.bindings():
            anchored = {prefix: binding["serving_maar"] for prefix in binding["prefixes"]}
            anchored |= {previous["prefix"]: previous["address"] for previous in binding["previous"]}
            found |= {prefix: anchor for prefix, anchor in anchored.items() if prefix.startswith("2001:db8:100:")}
        return found

    def addresses(self):
        """An address in each of these prefixes."""
        return [prefix.replace("::/64", "::1") for prefix in sorted(self.prefixes())]

    def move(self, index):
        """From MAAR1, with the host, whose the addresses are from now on; until their anchors know."""
        domain = self.domain
        batch = domain.directory / "addresses"
        batch.write_text("".join(f"addr add {address}/128 dev lo nodad\n" for address in self.addresses()))
        domain.ip("mn", "-batch", str(batch))
        domain.plug(index)
        self.attach(index)
        confirmed = lambda: all(it["state"] == "confirmed" for binding in self.bindings() for it in binding["previous"])
        domain.wait(confirmed, 60, "not every anchor has confirmed where its node is")
        assert set(self.prefixes().values()) == {maar_address(1)}


def give_domain(test, name, count, kind=Domain, **options):
    """Gives a class of tests a domain with GoBGP at each MAAR, BIRD at the core router and, unless told otherwise, Kea, of which each MAAR
    has its pool; its host is at MAAR1, and the crowd is there to come."""
    test.domain = domain = kind(prefix=f"{name}{os.getpid()}", routing=True, **{"kea": "pools"} | options)
    test.addClassCleanup(domain.remove)
    domain.build()
    # The prefixes of so many nodes are given to the host by hand; the router it learns as ever.
    domain.sysctl("mn", eth0__accept_ra_pinfo=0)
    domain.start()
    domain.plug(1)
    test.crowd = Crowd(domain, count)
