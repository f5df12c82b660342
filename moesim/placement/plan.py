"""A plan from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem
from moesim.config.files.inputs import files_read, tell
from moesim.config.files.paths import find
from moesim.config.json_text import read_object
from moesim.placement.base import Ints, Planner
from moesim.placement.task import Folders, Task

MAP = "physical_to_logical_map"


class PlanFile(Planner):
    """What 'moesim place' wrote, or any file with a ``physical_to_logical_map`` and ``gpus``."""

    kind: Literal["plan"] = "plan"
    file: str = Field(min_length=1, description="The path of the plan (JSON).")

    def place(self, task: Task) -> Ints:
        """The plan in the file; an InputError where it does not fit."""
        path = find(self.file, task.folders)
        with files_read() as files:
            plan = read_plan(path, (task.layers, task.experts), task.gpus)
        tell("plan", self.file, files)
        return plan

    def spare(self, experts: int, folders: Folders = ()) -> int:
        """What the file's map has beyond ``experts``; 0 where it is no plan."""
        try:
            with files_read() as files:
                rows = _opened(find(self.file, folders)).get(MAP)
        except InputError:
            return 0
        tell("plan", self.file, files)
        return len(rows[0]) - experts if _is_table(rows) and rows else 0


def read_plan(path: Path, shape: tuple[int, int], gpus: int) -> Ints:
    """The map int64[MoE layers, physical] in ``path``; an InputError unless it is for as many MoE
    layers and experts as ``shape`` says, and for ``gpus``.
    """
    plan = _opened(path)
    if what := _wrong(plan, shape, gpus):
        raise InputError([Problem(str(path), "", what)])
    return np.array(plan[MAP], np.int64)


def _opened(path: Path) -> dict[str, Any]:
    plan = read_object(path, "plan that moesim place wrote")
    if MAP not in plan:
        what = f"is no plan: it has no '{MAP}'; write one with moesim place"
        raise InputError([Problem(str(path), "", what)])
    return plan


def _wrong(plan: dict[str, Any], shape: tuple[int, int], gpus: int) -> str | None:
    if (planned := plan.get("gpus")) != gpus:
        has = "does not say its 'gpus'" if planned is None else f"is a plan for {planned!r} GPUs"
        return f"{has}, not {gpus}; plan again, or set parallelism.expert"
    rows = plan[MAP]
    if not _is_table(rows):
        return f"'{MAP}' must be a list of lists of expert ids, all as long"
    layers, experts = shape
    if len(rows) != layers:
        has = counted(len(rows), "MoE layer")
        return f"'{MAP}' has {has}, the model {layers}; plan for this model"
    if (held := len(rows[0])) > experts * gpus:
        most = f"{experts} experts once on each GPU make {experts * gpus}"
        return f"'{MAP}' has {held} entries a layer; {most}, the most"
    for number, row in enumerate(rows):
        if set(row) != set(range(experts)):
            rule = f"each of the experts 0 to {experts - 1} must be there, and no other"
            return f"'{MAP}' is wrong in MoE layer {number}: {rule}"
    return None


def _is_table(rows: Any) -> bool:
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return False
    return len({len(row) for row in rows}) == 1 and all(
        type(expert) is int for row in rows for expert in row
    )


def plan_maps(physical_to_logical: Ints, gpus: int) -> dict[str, Any]:
    """EPLB's three maps as plain lists, and the number of ``gpus``.

    ``logical_to_physical_map`` [MoE layers, experts, most replicas] ends in -1 where an expert has
    fewer; ``expert_count`` [MoE layers, experts] are its replicas.
    """
    experts = int(physical_to_logical.max()) + 1
    held = [[np.flatnonzero(row == e).tolist() for e in range(experts)]
            for row in physical_to_logical]  # fmt: skip
    most = max(len(places) for layer in held for places in layer)
    return {
        MAP: physical_to_logical.tolist(),
        "logical_to_physical_map": [
            [places + [-1] * (most - len(places)) for places in layer] for layer in held
        ],
        "expert_count": [[len(places) for places in layer] for layer in held],
        "gpus": gpus,
    }
