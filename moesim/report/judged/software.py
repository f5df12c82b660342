"""The terminal's table of a fitted software profile, and what it says in words."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from moesim.calibrate.software.fit import SoftwareFit

HEADINGS = (
    "slots", "hits\n%", "measured\ntokens/s", "hardware\nms", "software\nms",
    "predicted\ntokens/s", "error\n%", "",
)  # fmt: skip


def rows_table(fit: SoftwareFit, trace_hits: dict[str, float] | None = None) -> Table:
    """A row a run; ``trace_hits``: the hit ratio of a trace with its slots, where known."""
    table = Table(title="a token of batch 1", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in (*HEADINGS, *(["hits of\ntrace %"] if trace_hits else [])):
        table.add_column(heading, justify="right" if heading else "left")
    for row in fit.table.to_dict("records"):
        speed, hardware = float(row["predicted_tokens_per_s"]), float(row["hardware_ms"])
        cells = [row["slots"], f"{100 * row['hits']:.1f}", f"{row['tokens_per_s']:g}"]
        cells += [f"{hardware:.2f}", f"{1e3 / speed - hardware:z.2f}", f"{speed:.1f}"]
        cells += [f"{row['error_percent']:+z.1f}", "fitted" if row["fitted"] else "predicted"]
        if trace_hits:
            known = trace_hits.get(row["slots"])
            cells.append("-" if known is None else f"{100 * known:.1f}")
        table.add_row(*cells)
    return table


def trace_line(fit: SoftwareFit, trace_hits: dict[str, float]) -> str:
    """How far the hits of a trace are off those of the rows, which the fit takes."""
    rows = zip(fit.table["slots"], fit.table["hits"], strict=True)
    off = max(abs(trace_hits[slots] - hits) for slots, hits in rows if slots in trace_hits)
    return f"the trace's hits are up to {100 * off:.1f} points off the rows', which are used here"


def lines(fit: SoftwareFit, price_ns: float) -> list[str]:
    """What was found; ``price_ns``: moesim's price of a token with all experts on the GPU."""
    terms, told = fit.terms, []
    told.append(f"a layer: {fit.per_layer_ns / 1e3:.1f} us ({terms.layers} a token)")
    told.append(
        f"a copy: {fit.per_copy_ns / 1e3:.1f} us ({terms.copies} an expert, whose bytes take"
        f" {terms.link_ns / 1e3:.1f} us over the link)"
    )
    own = f"moesim's price of the resident token is {1e9 / price_ns:.1f} tokens/s"
    if terms.resident_ns == price_ns:
        told.append(f"{own}; no row (slots 'all') measured it")
    else:
        off = 100 * (terms.resident_ns / price_ns - 1)
        told.append(
            f"{own}, {off:+.1f} % off the measured {1e9 / terms.resident_ns:.1f}, used here"
        )
    for name, value in (("layer", fit.per_layer_ns), ("copy", fit.per_copy_ns)):
        if value == 0:
            told.append(
                f"warning: the time a {name} is at its bound, 0: the rows leave none for it;"
                " is the link (--link), or the size of an expert (--bits), right?"
            )
    return told
