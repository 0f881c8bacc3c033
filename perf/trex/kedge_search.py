"""The search for the highest rate without loss. It knows no generator: `measure(rate)` is all it is told.

RFC 2544 section 26.1 looks for the highest rate at which nothing is lost. One trial at a rate says little on a machine
whose rare hiccups drop a packet at any rate, so a rate may be tried several times (MLRsearch calls the share of trials
that may fail the exceed ratio). One trial of 60 seconds, none of which may fail, is RFC 2544 by the letter.
"""

import math
from dataclasses import dataclass

# A generator that sends less than this share of what it was told is what is being measured.
ENOUGH_SENT = 0.98


class GeneratorTooSlow(Exception):
    """The rate was not sent, so nothing is known about it."""


@dataclass(frozen=True)
class Goal:
    """When a rate counts as carried, and how narrow the answer is to be."""

    loss: float = 0.0
    trials: int = 21
    exceed: float = 0.5
    width: float = 0.005

    def __post_init__(self):
        if not 0 <= self.loss < 1:
            raise ValueError(f"the loss ratio must be at least 0 and less than 1, not {self.loss}")
        if self.trials < 1:
            raise ValueError(f"there must be at least 1 trial, not {self.trials}")
        if not 0 <= self.exceed < 1:
            raise ValueError(f"the exceed ratio must be at least 0 and less than 1, not {self.exceed}")
        if not 0 < self.width < 1:
            raise ValueError(f"the width must be more than 0 and less than 1, not {self.width}")


@dataclass(frozen=True)
class Count:
    """Of one direction in one trial. `intended` is what the generator was told to send."""

    intended: float
    sent: int
    received: int

    def loss(self):
        # More than was sent came back: something else talks on the link. It may hide loss, but is none.
        return max(0, self.sent - self.received) / self.sent


@dataclass(frozen=True)
class Answer:
    """The highest rate that was carried (0: none was), and the lowest that was not (None: all were)."""

    lower: float
    upper: float
    trials: int


def carries(measure, rate, goal):
    """Whether a rate is carried, and after how many trials that was clear."""
    may_fail = math.floor(goal.exceed * goal.trials)
    good = bad = 0
    while good < goal.trials - may_fail and bad <= may_fail:
        if _loss(measure(rate), rate) > goal.loss:
            bad += 1
        else:
            good += 1
    return bad <= may_fail, good + bad


def search(measure, lowest, highest, goal):
    """Halves the interval, by ratio as the width is one, until its ends are `goal.width` apart."""
    if not 0 < lowest < highest:
        raise ValueError(f"the lowest rate must be more than 0 and less than the highest, not {lowest} and {highest}")
    fine, trials = carries(measure, highest, goal)
    if fine:
        return Answer(highest, None, trials)
    fine, more = carries(measure, lowest, goal)
    trials += more
    if not fine:
        return Answer(0, lowest, trials)
    lower, upper = lowest, highest
    while (upper - lower) / upper > goal.width:
        middle = math.sqrt(lower * upper)
        fine, more = carries(measure, middle, goal)
        trials += more
        if fine:
            lower = middle
        else:
            upper = middle
    return Answer(lower, upper, trials)


def _loss(counts, rate):
    """Of the worst direction: the sum of two would let a good one hide a bad one."""
    for count in counts:
        if count.sent < ENOUGH_SENT * count.intended or count.sent == 0:
            raise GeneratorTooSlow(
                f"told to send {rate:.0f} packets/s the generator sent {count.sent} packets "
                f"instead of {count.intended:.0f}: search below that, or give it more cores"
            )
    return max(count.loss() for count in counts)
