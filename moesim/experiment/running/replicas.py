"""What has become of a run: of one engine, or of its replicas together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from moesim.engine.case import Case
from moesim.engine.outcome import Outcome
from moesim.engine.progress import Progress
from moesim.experiment.building.built import Built


def outcome_of(
    built: Built, play: Callable[[Case], Outcome], progress: Progress | None = None
) -> tuple[Built, Case, Outcome, Outcome]:
    """What was built, with the memory of its passes; case and outcome, of all replicas where there
    are some; and the outcome of which memory is told: of the replica that takes most. ``progress``
    is told of replicas; one engine's ``play`` tells its own.
    """
    serving = built.case.serving
    if serving is None or serving.routed is None:
        outcome = play(built.case)
        built = built.played(outcome)
        built.footprint.in_flight(outcome.largest_copy(built.case))
        return built, built.case, outcome, outcome
    from moesim.engine.merged import merged
    from moesim.engine.replicas import play_replicas

    outcomes, turns, case = play_replicas(built.case, play, progress)
    every = [(built.played(one), one) for one in outcomes if one is not None]
    for of_one, outcome in every:
        of_one.footprint.in_flight(outcome.largest_copy(of_one.case))
    fullest, memory = max(every, key=lambda one: int(one[0].footprint.total.max()))
    whole, outcome = merged(case, outcomes, turns)
    alone = replace(fullest.case, serving=whole.serving)
    return replace(fullest, case=alone), whole, outcome, memory
