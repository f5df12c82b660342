"""The page of an advice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moesim.config.strict_yaml.yaml import read_document
from moesim.report.advice.ends import ended
from moesim.report.advice.figure import read_advice, setting_of
from moesim.report.amounts import in_unit, number, percent
from moesim.report.page.content import Board, Column, Page
from moesim.report.page.parts import command, made, pictures, shares, unique
from moesim.sweep.point import point_folder
from moesim.sweep.speeds import TOGETHER

SETTINGS = ("miss", "policy", "prefetch", "capacity", "layers_on_cpu")
NUMBERS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "throughput_tokens_per_s": (TOGETHER, number),
    "mean_tpot_ms": ("TPOT ms", number),
    "hit_ratio_per_expert": ("hits %", lambda x: percent(x).removesuffix(" %")),
}


def page_of_advice(folder: Path) -> Page:
    """What the advice in ``folder`` says: the answer, the choices that ran, what upgrades bring."""
    advice = read_advice(folder)
    file = folder / "experiment.yaml"
    experiment = file.read_text(encoding="utf-8") if file.is_file() else ""
    told = advice.get("told") or []
    return Page(
        kind="advice",
        title=str(advice.get("name") or folder.name),
        setting=setting_of(advice),
        verdict=unique([str(line) for line in told]) or [_best(advice)],
        command=command(read_document(file).data, advice.get("engine")) if experiment else [],
        board=board_of(advice),
        pictures=pictures(folder),
        shares=shares(advice["best"]),
        ledger=_memory(advice.get("memory_bytes") or {}),
        ledger_of="Everything on the GPU",
        helps=["Tried by playing the same requests again with one thing changed."],
        upgrades=_upgrades(advice),
        trust=unique([*(f"assumed: {one}" for one in advice.get("assumed", ())),
                      *(advice.get("trust") or advice.get("notes") or ())]),
        experiment=experiment,
        made=made(point_folder(folder / "choices", 0)),
    )  # fmt: skip


def _best(advice: Mapping[str, Any]) -> str:
    best = advice["best"]
    return (
        f"{best['miss']} is the fastest: {number(best['throughput_tokens_per_s'])} {_unit(advice)}."
    )


def _unit(advice: Mapping[str, Any]) -> str:
    return str(advice.get("unit", TOGETHER))


def board_of(advice: Mapping[str, Any]) -> Board:
    """A row a choice that was tried."""
    choices = list(advice["choices"])
    columns = [
        Column(name.replace("_", " "), [_text(one.get(name)) for one in choices], axis=name)
        for name in SETTINGS
        if len({_text(one.get(name)) for one in choices}) > 1
    ]
    for name, (title, form) in NUMBERS.items():
        values = [one.get(name) for one in choices]
        numbers = [in_unit(value, title) for value in values]
        shown = _unit(advice) if title == TOGETHER else title
        columns.append(Column(shown, [form(value) for value in values], numbers))
    columns.append(Column("status", [_state(one) for one in choices]))
    best = choices.index(advice["best"]) if advice["best"] in choices else None
    return Board(columns, best, best_is=_star(advice))


def _star(advice: Mapping[str, Any]) -> str:
    """What the best choice is: others may be faster, but nobody has them yet, or ever."""
    speed = advice["best"].get("throughput_tokens_per_s") or 0.0
    faster = [
        one for one in advice["choices"]
        if (one.get("throughput_tokens_per_s") or 0.0) > speed and not one.get("offline")
    ]  # fmt: skip
    engine = advice.get("engine")
    return f"{engine}'s best" if faster and engine else "the best"


def _text(value: Any) -> str:
    return "-" if value in (None, "none") else str(value)


def _state(choice: Mapping[str, Any]) -> str:
    state = str(choice.get("status")).replace("_", " ")
    if choice.get("offline"):
        state += "; knows the future"
    return f"{state}: {choice['reason']}" if choice.get("reason") else state


def _memory(parts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The GPU's bytes with everything on it, and what it has."""
    names = {
        "weights": "all weights", "experts": "of them experts", "kv": "KV cache",
        "work": "work space", "limit": "what the GPU has", "host": "what the host has",
    }  # fmt: skip
    return [(name, f"{parts[key] / 1e9:,.4g} GB") for key, name in names.items() if parts.get(key)]


def _ratio(one: Mapping[str, Any]) -> str:
    return f"x {one['ratio']:.2f}{ended(one.get('ratio_ends'))}"


def _upgrades(advice: Mapping[str, Any]) -> Board | None:
    """What one changed thing makes of the best choice, the one that helps most first."""
    ran = [one for one in advice.get("upgrades", ()) if one.get("ratio")]
    speeds, ratios = ([one[key] for one in ran] for key in ("throughput_tokens_per_s", "ratio"))
    layers = [one.get("layers_on_cpu") for one in ran]
    ways = [
        one["miss"] + (f", {n} layers" if n else "") for one, n in zip(ran, layers, strict=True)
    ]
    columns = [
        Column("changed", [one["upgrade"] for one in ran]),
        Column("choice", ways),
        Column(_unit(advice), [number(speed) for speed in speeds], speeds),
        Column("times as fast", [_ratio(one) for one in ran], ratios),
    ]
    return Board(columns) if ran else None
