"""What goes over the wire between instances that prefill and those that decode, and what became of
it.
"""

from __future__ import annotations

from typing import NamedTuple

from moesim.workload.routers.base import Router
from moesim.workload.schedule import Ints

SECOND = 10**9


class CachedLayer(NamedTuple):
    """What a GPU keeps of a request in a layer: ``token_bytes`` of each token, but no more than the
    last ``window`` of them (None: of all), and ``state_bytes`` whatever its length.
    """

    token_bytes: int
    window: int | None = None
    state_bytes: int = 0

    def bytes_of(self, first: int, last: int, tokens: int) -> int:
        """Of tokens first:last of a prompt of ``tokens``; a state goes with the last of them."""
        begin = 0 if self.window is None else max(0, tokens - self.window)
        state = self.state_bytes if last == tokens else 0
        return max(0, last - max(first, begin)) * self.token_bytes + state


class Wire(NamedTuple):
    """What joins instances: each GPU's network card sends, and receives, so many bytes a second,
    and ``latency_ns`` later they are there. ``layers``: what there is to send from a GPU;
    ``gpus``: that send a request's together.
    """

    bytes_per_second: int
    latency_ns: int
    layers: tuple[CachedLayer, ...]
    gpus: int = 1

    def busy_ns(self, amount: int) -> int:
        """For how long a card is busy with ``amount`` bytes."""
        return -(-amount * SECOND // self.bytes_per_second)


class Roles(NamedTuple):
    """So many instances that ``prefill``, and that ``decode``, the routers before them, and the
    seed of their draws. ``by_layer``: whether a layer's part is sent once it is computed, else all
    follows the prompt; ``again``: whether the first token is computed where it is decoded.
    """

    prefill: int
    decode: int
    routers: tuple[Router, Router]
    wire: Wire
    by_layer: bool = False
    again: bool = False
    seed: int = 0

    @property
    def instances(self) -> int:
        """How many engines there are."""
        return self.prefill + self.decode


class Sent(NamedTuple):
    """Of each request int64[n]: its ``prefill`` instance, when its prompt had ended there (the last
    GPU), when it had blocks where it is decoded, when its first byte left, when all was ``there``
    (-1: it never was), and the bytes that went over the wire.
    """

    prefill: Ints
    ended_ns: Ints
    blocks_ns: Ints
    begin_ns: Ints
    there_ns: Ints
    bytes: Ints
