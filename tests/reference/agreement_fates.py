"""What became of choices and gate weight: of the engines, and plainly from activations."""

from __future__ import annotations

from collections.abc import Iterator

from moesim.engine.case import Case as EngineCase
from moesim.engine.outcome import Outcome

from .reference_batches import Part, Pass, whole_run
from .reference_gating import beyond, route
from .reference_misses import SKIP
from .reference_placement import dealt
from .reference_words import NO_EXPERT, Verdict
from .strategies import Case

Sums = dict[tuple[str, int, int], tuple[int, int]]
"""Choices and gate weight by ("layer" or "request", its number or name, fate)."""


def fates_of(case: EngineCase, outcome: Outcome) -> Sums:
    fates, schedule = outcome.fates, case.schedule
    assert fates is not None
    names = dict(
        zip(schedule.request.tolist(), case.trace.request_id[schedule.rows].tolist(), strict=True)
    )
    found = {}
    for of, sums in (("layer", fates.by_layer), ("request", fates.by_request)):
        for place in range(sums.shape[1]):
            for fate in range(sums.shape[2]):
                choices, weight = sums[:, place, fate].tolist()
                if choices:
                    name = names[place] if of == "request" else place
                    found[of, name, fate] = (choices, weight)
    return found


def plain_fates(case: Case, verdict: Verdict) -> Sums:
    """Each choice has the fate of its expert's activation, or is beyond the capacity."""
    served = {}
    for one in verdict.activations:
        out = one.variant if case.config.variants else int(one.place == SKIP)
        served[one.step, one.layer, one.expert] = out
    ran = {(row["step"], row["layer"]) for row in verdict.layers}
    dropped, found = 1 + int(case.config.may_skip), Sums()
    for each in next(whole_run(case.trace, case.config)):
        for layer in range(len(case.model.moe_layers)):
            if (each.step, layer) not in ran:
                continue
            for part, row, rank, expert, lost in told(case, each, layer):
                weight = case.trace["gate_weights"][row][layer][rank]
                fate = dropped if lost else served[each.step, layer, expert]
                for key in (("layer", layer, fate), ("request", part.request.request_id, fate)):
                    number, so_far = found.get(key, (0, 0))
                    found[key] = (number + 1, so_far + int(weight * 2**24))
    return found


def told(case: Case, each: Pass, layer: int) -> Iterator[tuple[Part, int, int, int, bool]]:
    """Of every choice what ``dealt`` says, and whether it is dropped."""
    trace, model, config = case.trace, case.model, case.config
    gone = beyond(each, layer, trace, config, route(each, layer, trace, model, config).capacity)
    ids = [trace["expert_ids"][row][layer] for part in each.parts for row in part.rows]
    where = [(at, rank) for at, of in enumerate(ids) for rank, e in enumerate(of) if e != NO_EXPERT]
    for one, place in zip(dealt(each, layer, trace, model, config), where, strict=True):
        yield *one, place in gone
