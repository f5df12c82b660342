"""What an engine takes where an experiment of served requests leaves it open: by its scheduler, by
the card, and by the software and the model.
"""

from __future__ import annotations

from moesim.config.amounts.sizes import GIB
from moesim.config.registry import kind_of
from moesim.experiment.loading.names import needed
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.serving import Memory
from moesim.workload.batching.continuous import Continuous
from moesim.workload.serving.base import RequestScheduler

SCHEDULER = "workload.batching.scheduler"


def of_card(experiment: Experiment, engine: str | None = None) -> Experiment:
    """``experiment`` with a scheduler that says what its engine takes of these GPUs, and what
    ``engine`` (by default the software) does with this model.
    """
    workload = experiment.workload
    if not isinstance(workload.batching, Continuous):
        return experiment
    model = needed("model", experiment.model, experiment.folders)
    carded = _on_card(workload.batching.scheduler, experiment)
    scheduler = carded.served_by(engine or experiment.software, model)
    batching = workload.batching.model_copy(update={"scheduler": scheduler})
    workload = workload.model_copy(update={"batching": batching})
    return experiment.model_copy(update={"workload": workload})


def _on_card(scheduler: RequestScheduler, experiment: Experiment) -> RequestScheduler:
    hardware = needed("hardware", experiment.hardware, experiment.folders)
    return scheduler.on_card(hardware.memory_bytes, f"{hardware.name} {hardware.title}")


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
    carded = _on_card(batching.scheduler, experiment).model_dump()
    after = said.workload.batching.model_dump()["scheduler"]
    if carded != batching.scheduler.on_card(hardware.memory_bytes, "").model_dump():
        card += ", which by its name counts as small"
    served = f"{of}: as {experiment.software} serves {experiment.named.model}"
    origins = {f"{SCHEDULER}.{key}": served for key in after if after[key] != carded[key]}
    origins |= {f"{SCHEDULER}.{key}": card for key in after if carded[key] != before[key]}
    memory = experiment.memory or Memory()
    if memory.block_size is None:
        origins["memory.block_size"] = of
        memory = memory.model_copy(update={"block_size": block_size_of(experiment)})
    return said.model_copy(update={"memory": memory}), origins
