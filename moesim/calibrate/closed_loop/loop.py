"""The closed loop from end to end: measure prices and decodes in turn, replay, compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from moesim.calibrate.closed_loop.compare import by_layer, comparison, parts
from moesim.calibrate.closed_loop.measure import measure
from moesim.calibrate.closed_loop.prices import OwnPrices
from moesim.calibrate.closed_loop.replay import Simulated, replay
from moesim.calibrate.closed_loop.request import SOFTWARE, Request, settings_of
from moesim.calibrate.closed_loop.sizes import Sizes, check_memory, sizes_of
from moesim.config.errors import InputError
from moesim.config.files.files import write_whole
from moesim.hardware import load_hardware
from moesim.model import load_model
from moesim.model.loader import CARDS

SMALL = Path(__file__).with_name("small.json")
"""A model whose experts are larger than a CPU's caches and take most of its time."""
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """The tables of ``compare``, the profile that gave the prices, and notes on it."""

    compared: pd.DataFrame
    parts: pd.DataFrame
    profile: str
    notes: list[str] = field(default_factory=list)


def closed_loop(request: Request, progress: Progress = lambda _: None) -> Found:
    """Run it; tables and traces go to ``request.out``. InputError for bad requests."""
    model = request.model or str(SMALL)
    sizes = sizes_of(load_model(model))
    if request.profile is not None:
        load_hardware(request.profile)
    settings = settings_of(request, sizes)
    _check_device(request.device)
    check_memory(sizes, request.device)
    _make(request.out)
    own = _own_prices(request, model, sizes)

    def between() -> None:
        if own is not None:
            minutes = request.minutes / (request.rounds * len(settings))
            own.measure(minutes, lambda op: progress(f"measuring prices: {op}"))

    recordings = measure(
        sizes, settings, request.device,
        steps=request.steps, rounds=request.rounds, between=between, progress=progress,
    )  # fmt: skip
    progress("fitting and replaying")
    profile = request.profile if own is None else str(own.profile())
    simulated = Simulated(_absolute(model), str(profile), SOFTWARE[request.device])
    replays = [replay(one, sizes, simulated, request.out) for one in recordings]
    found = Found(
        comparison(recordings, replays), parts(recordings, replays), str(profile),
        [] if own is None else own.notes,
    )  # fmt: skip
    layers = by_layer(recordings, replays)
    tables = {"comparison": found.compared, "parts": found.parts, "layers": layers}
    for name, table in tables.items():
        write_whole(request.out / f"{name}.csv", table.to_csv(index=False))
    return found


def _check_device(device: str) -> None:
    from moesim.calibrate.collect.device import torch_library

    if device == "cuda" and not torch_library().cuda.is_available():
        raise InputError("--device cuda: torch finds no GPU here; use --device cpu")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out '{folder}' cannot be made: {error.strerror}") from None


def _absolute(model: str) -> str:
    card = CARDS / f"{model.lower()}.json"
    return model if card.is_file() else str(Path(model).resolve())


def _own_prices(request: Request, model: str, sizes: Sizes) -> OwnPrices | None:
    if request.profile is not None:
        return None
    return OwnPrices(model, request.device, sizes.dtype, request.out)
