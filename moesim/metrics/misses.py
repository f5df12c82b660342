"""How misses were served, as the keys of a summary."""

from __future__ import annotations

from collections.abc import Sequence

from moesim.engine.counts import Counts
from moesim.memory.forms import LOADED, NAMED, Form


def form_keys(forms: Sequence[Form]) -> dict[str, Form]:
    """The forms whose misses are counted in a run with ``forms``, by key: all but loads, which are
    the rest.
    """
    return {f"misses_{form.counted}": form for form in (*NAMED, *forms) if form != LOADED}


def misses_by_form(counts: Counts, span: slice) -> dict[str, int]:
    """The misses of passes ``span`` in each form of ``form_keys``."""
    keys = form_keys(counts.forms)
    return {key: int(counts.missed_as(form)[span].sum()) for key, form in keys.items()}
