"""What an engine takes where an experiment of served requests leaves it open: by its scheduler, and
by the card.
"""

from __future__ import annotations

from moesim.config.amounts.sizes import GIB
from moesim.config.registry import kind_of
from moesim.experiment.loading.names import needed
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.serving import Memory
from moesim.workload.batching.continuous import Continuous

SCHEDULER = "workload.batching.scheduler"


def of_card(experiment: Experiment) -> Experiment:
    """``experiment`` with a scheduler that says what its engine takes of these GPUs."""
    workload = experiment.workload
    if not isinstance(workload.batching, Continuous):
        return experiment
    hardware = needed("hardware", experiment.hardware, experiment.folders)
    named = f"{hardware.name} {hardware.title}"
    scheduler = workload.batching.scheduler.on_card(hardware.memory_bytes, named)
    batching = workload.batching.model_copy(update={"scheduler": scheduler})
    workload = workload.model_copy(update={"batching": batching})
    return experiment.model_copy(update={"workload": workload})


def block_size_of(experiment: Experiment) -> int:
    """Tokens of a block of ``experiment``, whose requests are served."""
    asked, batching = experiment.memory, experiment.workload.batching
    assert isinstance(batching, Continuous), "requests are served"
    return (asked and asked.block_size) or batching.scheduler.usual_block


def said_of_card(experiment: Experiment) -> tuple[Experiment, dict[str, str]]:
    """As ``of_card``, with its block of keys and values, and where each value that was open is
    from, by dotted path.
    """
    batching = experiment.workload.batching
    if not isinstance(batching, Continuous):
        return experiment, {}
    said, of = of_card(experiment), f"from scheduler {kind_of(type(batching.scheduler))}"
    hardware = needed("hardware", experiment.hardware, experiment.folders)
    card = f"{of}: a card of {hardware.memory_bytes / GIB:.1f} GiB"
    before = batching.scheduler.model_dump()
    after = said.workload.batching.model_dump()["scheduler"]
    if after != batching.scheduler.on_card(hardware.memory_bytes, "").model_dump():
        card += ", which by its name counts as small"
    origins = {f"{SCHEDULER}.{key}": card for key in after if after[key] != before[key]}
    memory = experiment.memory or Memory()
    if memory.block_size is None:
        origins["memory.block_size"] = of
        memory = memory.model_copy(update={"block_size": block_size_of(experiment)})
    return said.model_copy(update={"memory": memory}), origins
