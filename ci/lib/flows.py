"""Numbered datagrams both ways between the correspondent host and addresses of the node: what is lost, and what overtakes."""

import time

from namespaces import last_report
from topology import CN


class Flows:
    """One flow to each address and one from it, from the moment that this is made until `end`; `rate` datagrams a second each way, over all."""

    def __init__(self, domain, addresses, rate, port=4001):
        self.addresses = list(addresses)
        file = domain.directory / f"flows-{port}"
        file.write_text("\n".join(self.addresses))
        self.receivers = {"down": domain.traffic("mn", "fan-receive", "::", str(port)),
                          "up": domain.traffic("cn", "fan-receive", "::", str(port + 1))}
        for receiver in self.receivers.values():
            receiver.stdout.readline()
        self.senders = {"down": domain.traffic("cn", "fan-send", "down", str(file), CN, str(port), str(rate)),
                        "up": domain.traffic("mn", "fan-send", "up", str(file), CN, str(port + 1), str(rate))}

    def end(self):
        """What became of them, by way and address: how many were sent, lost, reordered and duplicated; how many are missing in each place of
        the row where some are; the longest silence in ms."""
        sent = {way: last_report(sender) for way, sender in self.senders.items()}
        # What still waits somewhere comes.
        time.sleep(0.5)
        found = {}
        for way, receiver in self.receivers.items():
            received = last_report(receiver)
            for flow, (address, count) in enumerate(zip(self.addresses, sent[way])):
                none = {"received": 0, "reordered": 0, "duplicated": 0, "gaps": [], "highest": -1, "silence_ms": 0}
                it = received.get(str(flow), none)
                after = count - it.pop("highest") - 1
                lost = count - it.pop("received")
                found[way, address] = it | {"sent": count, "lost": lost, "gaps": it["gaps"] + [after] * (after > 0)}
        return found


def total(flows, key):
    return sum(flow[key] for flow in flows)
