"""Energy, cost and quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.errors import InputError
from moesim.experiment.loading.quality import read_quality
from moesim.experiment.loading.rules.rule import Conflict, Rule
from moesim.experiment.schema.experiment import Experiment

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def prices_that_say_something(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A list has a price, one of each thing, and what is bought has a life."""
    del model
    energy, cost = experiment.energy, experiment.cost
    if energy is not None and energy.embodied is not None and not energy.life:
        what = "is spread over the hours in use; write energy.life too, as in '4 years'"
        return Conflict(("energy.embodied",), what)
    if cost is None:
        return None
    if (cost.card is not None or cost.host is not None) and not cost.life:
        what = (
            "what is bought is spread over the hours in use; write cost.life too, as in '3 years'"
        )
        return Conflict(("cost.card", "cost.host"), what)
    if cost.gpu is not None and cost.card is not None:
        what = "a GPU is rented or bought; write one of gpu and card"
        return Conflict(("cost.card", "cost.gpu"), what)
    if (cost.gpu, cost.card, cost.host, cost.electricity) == (None,) * 4:
        return Conflict(("cost",), "names no price; write one, as in {gpu: 2.5 $/h}")
    return None


def energy_of_whole_layers(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Which part works while the host runs whole layers is not told apart."""
    del model
    asked = experiment.energy or (experiment.cost and experiment.cost.electricity)
    if not experiment.host_layers or asked is None:
        return None
    what = "what the CPU draws for whole layers is not counted yet; write host_layers: 0"
    return Conflict(("energy", "cost.electricity", "host_layers"), what)


def quality_is_a_table(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """The table of answers' quality can be read."""
    del model
    try:
        read_quality(experiment)
    except InputError as error:
        return Conflict(("quality.table", "quality"), "; ".join(map(str, error.problems)))
    return None


RULES: tuple[Rule, ...] = (
    quality_is_a_table,
    prices_that_say_something,
    energy_of_whole_layers,
)
