"""Several small areas, one below the other, in the place of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def panels(axes: Axes, names: list[str], gap: float = 0.09) -> list[Axes]:
    """An area for each of ``names``, which stand beside them, in the place of ``axes``, which keeps
    its title and what is across.
    """
    height = (1 - gap * (len(names) - 1)) / len(names)
    axes.set_yticks([])
    axes.set_xticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    made = []
    for number, name in enumerate(names):
        below = 1 - (number + 1) * height - number * gap
        one = axes.inset_axes((0.0, below, 1.0, height))
        one.set_ylabel(name)
        if number < len(names) - 1:
            one.tick_params(labelbottom=False)
        made.append(one)
    axes.xaxis.labelpad = 18
    return made
