"""Links that transfers share, max-min fairly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import simpy

from moesim.engine.instants import SAME_NS

SECOND = 1_000_000_000
SAME = Fraction(SAME_NS)


@dataclass(eq=False)
class Transfer:
    """Bytes on their way; ``remaining`` is exact, ``rate`` in bytes a nanosecond."""

    links: frozenset[str]
    remaining: Fraction
    done: simpy.Event
    rate: Fraction = Fraction(0)


class FairLinks:
    """Links with capacities in bytes a second; each transfer gets its max-min fair share of them.

    Bytes and times are kept as fractions: a transfer frees its share at the very moment of its
    arrival, and only what is told to others is rounded up to a nanosecond, so that no drift builds
    up. What is closer than ``SAME_NS`` is one instant.
    """

    def __init__(self, env: simpy.Environment, capacity: Mapping[str, int]) -> None:
        self.env = env
        self.capacity = {link: Fraction(rate, SECOND) for link, rate in capacity.items()}
        self.transfers: list[Transfer] = []
        self._crowd: dict[frozenset[str], int] = {}
        """How many transfers go over the same links."""
        self._rates: dict[
            frozenset[tuple[frozenset[str], int]], dict[frozenset[str], Fraction]
        ] = {}
        self._since = Fraction(0)
        self._arrival: Fraction | None = None
        """When the next transfer arrives, which moves when what shares the links changes."""
        self._alarm: simpy.Event | None = None

    def transfer(self, amount: int, links: Iterable[str]) -> simpy.Event:
        """Start moving ``amount`` bytes over all of ``links``; the event fires when they have
        arrived.
        """
        transfer = Transfer(frozenset(links), Fraction(amount), self.env.event())
        self._advance()
        self.transfers.append(transfer)
        self._crowd[transfer.links] = self._crowd.get(transfer.links, 0) + 1
        self._share()
        self._set_alarm()
        return transfer.done

    def _advance(self) -> None:
        """Move every transfer to now, from arrival to arrival."""
        now = int(self.env.now)
        while self._arrival is not None and self._arrival <= now:
            self._move(self._arrival)
            self._share()
        if self._since != now:
            self._move(Fraction(now))

    def _move(self, until: Fraction) -> None:
        """Move every transfer at its rate, and end those that have arrived."""
        passed, self._since = until - self._since, until
        for transfer in self.transfers:
            transfer.remaining -= transfer.rate * passed
        for transfer in [t for t in self.transfers if t.remaining <= t.rate * SAME]:
            self.transfers.remove(transfer)
            self._crowd[transfer.links] -= 1
            transfer.done.succeed()

    def _share(self) -> None:
        """Give every transfer its rate; what shares alike was worked out before."""
        crowd = frozenset(self._crowd.items())
        if crowd not in self._rates:
            self._rates[crowd] = self._filled()
        rates = self._rates[crowd]
        for transfer in self.transfers:
            transfer.rate = rates[transfer.links]
        left = [transfer.remaining / transfer.rate for transfer in self.transfers]
        self._arrival = _instant(self._since + min(left)) if left else None

    def _filled(self) -> dict[frozenset[str], Fraction]:
        """Rates by links from progressive filling: the tightest link fixes the rate of its
        transfers, then the next.
        """
        left, waiting = dict(self.capacity), [transfer.links for transfer in self.transfers]
        rates: dict[frozenset[str], Fraction] = {}
        while waiting:
            users = {link: sum(link in links for links in waiting) for link in left}
            tight = min(
                (link for link in left if users[link]), key=lambda link: left[link] / users[link]
            )
            rate = left[tight] / users[tight]
            for links in [links for links in waiting if tight in links]:
                rates[links] = rate
                waiting.remove(links)
                for link in links:
                    left[link] -= rate
        return rates

    def _set_alarm(self) -> None:
        if self._arrival is None:
            return
        alarm = self._alarm = self.env.timeout(ceil(self._arrival) - int(self.env.now))

        def ring(_: simpy.Event) -> None:
            if self._alarm is alarm:
                self._advance()
                self._set_alarm()

        alarm.callbacks.append(ring)


def _instant(time: Fraction) -> Fraction:
    """``time``, or the whole nanosecond that it is hardly above."""
    whole = floor(time)
    return Fraction(whole) if time - whole <= SAME else time
