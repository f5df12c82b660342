"""What the points of the tests' sweeps do instead of simulating (picklable)."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moesim.results import Result
from moesim.results.store import PACKS


@dataclass(frozen=True)
class Counted:
    """Gives a small result; leaves a line in ``markers`` when it starts each experiment."""

    markers: Path
    seconds: float = 0.0

    def __call__(self, experiment: dict[str, Any]) -> Result:
        n = int(experiment["n"])
        with (self.markers / str(n)).open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        self.behave(experiment.get("behaviour"))
        time.sleep(self.seconds)
        return Result(summary_of(n, experiment), experiment)

    def behave(self, behaviour: str | None) -> None:
        if behaviour == "raise":
            raise ValueError("no such\nthing")
        if behaviour == "unwritable":
            out = self.markers.parent / "out"
            (out / PACKS).rename(out / "elsewhere")
        if behaviour == "die":
            os.kill(os.getpid(), signal.SIGKILL)


def summary_of(n: int, experiment: dict[str, Any]) -> dict[str, Any]:
    if experiment.get("behaviour") == "out_of_memory":
        return {"status": "out_of_memory", "reason": "weights do not fit", "hits": None}
    share = {"experts": 1 / (n + 1)}
    return {"status": "ok", "hits": n * n, "hit_ratio": 1 / (n + 3), "time_share": share}


def points(count: int, **behaviour: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """``count`` points over the axis ``n``; ``behaviour`` by number as ``n3='raise'``."""
    return [
        ({"n": n}, {"name": "toy", "n": n, "behaviour": behaviour.get(f"n{n}")})
        for n in range(count)
    ]


EXPERIMENT = {"name": "toy", "seed": 1}
