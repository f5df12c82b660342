"""Placement plans side by side for the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from moesim.config.counted import counted
from moesim.experiment.questions.place import Judged, Judgement
from moesim.report.amounts import number, percent

COLUMNS = ("max_load", "average_max_load", "balancedness")
HEADINGS = (
    "planned\nmax load", "max\nload", "average\nmax load", "balanced-\nness", "stays\non GPU", "s",
)  # fmt: skip


def placement_table(judgement: Judgement) -> Table:
    """A row a plan: its balance on the planning part and on the rest; ``--json`` has the whole."""
    table = Table(
        title=f"largest share of one of {counted(judgement.gpus, 'GPU')}, planned on"
        f" {judgement.planned} of {judgement.passes} pass{'' if judgement.passes == 1 else 'es'}",
        caption=_caption(judgement),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        caption_justify="left",
    )
    table.add_column("planner", overflow="fold")
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for judged in judgement.plans:
        table.add_row(*_cells(judged))
    return table


def _cells(judged: Judged) -> list[str]:
    planned, rest = judged.balance["planned"], judged.balance["rest"]
    return [
        judged.name,
        number(planned["max_load"], 3),
        *(number(rest[column], 3) for column in COLUMNS),
        percent(judged.stays),
        number(judged.seconds, 2),
    ]


def _caption(judgement: Judgement) -> str:
    """What the columns are of, and the bounds: the tightest of the plans without replicas."""
    plans = [judged.plan for judged in judgement.plans]
    bounds = [
        plan.lower_bound
        for plan in plans
        if plan.lower_bound is not None
        and plan.physical_to_logical.shape[1] == plan.physical_to_logical.max() + 1
    ]
    told = "all but the first column: on the passes after those"
    if bounds:
        told += f"; no plan without replicas has a planned max load below {max(bounds):.4f}"
    return "\n".join([told, *(plan.note for plan in plans if plan.note)])
