"""What became of choices and gate weight: of the engines, and plainly from activations."""

from __future__ import annotations

from moesim.engine.case import Case as EngineCase
from moesim.engine.outcome import Outcome

from .reference_batches import whole_run
from .reference_placement import dealt
from .reference_words import Verdict
from .strategies import Case

Sums = dict[tuple[str, int, int], tuple[int, int]]
"""Choices and gate weight by ("layer" or "request", its number or name, variant)."""


def fates_of(case: EngineCase, outcome: Outcome) -> Sums:
    fates, schedule = outcome.fates, case.schedule
    assert fates is not None
    names = dict(
        zip(schedule.request.tolist(), case.trace.request_id[schedule.rows].tolist(), strict=True)
    )
    found = {}
    for of, sums in (("layer", fates.by_layer), ("request", fates.by_request)):
        for place in range(sums.shape[1]):
            for variant in range(sums.shape[2]):
                choices, weight = sums[:, place, variant].tolist()
                if choices:
                    name = names[place] if of == "request" else place
                    found[of, name, variant] = (choices, weight)
    return found


def plain_fates(case: Case, verdict: Verdict) -> Sums:
    """Each choice has the variant of its expert's activation."""
    served = {}
    for one in verdict.activations:
        served[one.step, one.layer, one.expert] = one.variant
    found: Sums = {}
    for each in next(whole_run(case.trace, case.config)):
        for layer in range(len(case.model.moe_layers)):
            choices = dealt(each, layer, case.trace, case.model, case.config)
            for part, row, rank, expert in choices:
                weight = case.trace["gate_weights"][row][layer][rank]
                variant = served[each.step, layer, expert]
                for key in (
                    ("layer", layer, variant),
                    ("request", part.request.request_id, variant),
                ):
                    number, so_far = found.get(key, (0, 0))
                    found[key] = (number + 1, so_far + int(weight * 2**24))
    return found
