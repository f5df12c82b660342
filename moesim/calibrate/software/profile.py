"""A fitted software profile as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator

from moesim.calibrate.software.fit import SoftwareFit
from moesim.config.amounts.dimensions import format_duration
from moesim.config.strict_yaml.yaml import with_end_mark
from moesim.hardware.described.kernel_counts import SourcedKernelCounts
from moesim.hardware.described.software import SoftwareProfile

FORM = (
    "of the formula: the host waits for the counts of a layer with offloaded experts, and for"
    " each copy; launches are in the wait"
)


def software_text(fit: SoftwareFit, software: SoftwareProfile, title: str, source: str) -> str:
    """The file of ``software`` with the fitted numbers; ``source`` says what the rows are.

    The fitted time of a layer is that of its one wait, which runs without offloading do not have.
    """
    values = {
        "copied": f"{{value: {software.copied}, source: said}}",
        "pinned": f"{{value: {str(software.pinned).lower()}, source: said}}",
        "blocking": "{value: true, source: form}",
        "synchronisations": "{value: 0, source: form}",
    }
    lines = [
        *(f"# {line}" for line in comment(fit)),
        f"title: {json.dumps(title)}",
        "sources:",
        f"  rows: {json.dumps(f'fitted to {source}')}",
        '  said: "as said to moesim calibrate software, not measured"',
        f"  form: {json.dumps(FORM)}",
        "launch: {value: 0 us, source: form}",
        "kernels:",
        *(f"  {part}: {{value: 0, source: form}}" for part in _kernels()),
        "host_per_layer: {value: 0 us, source: form}",
        f"host_per_copy: {{value: {_duration(fit.per_copy_ns)}, source: rows}}",
        *(f"{key}: {value}" for key, value in values.items()),
        f"synchronisation: {{value: {_duration(fit.per_layer_ns)}, source: rows}}",
    ]
    return with_end_mark("\n".join(lines))


def comment(fit: SoftwareFit) -> Iterator[str]:
    """What was fitted and how far off it is, row by row."""
    yield "Made by moesim calibrate software. Tokens/s measured, and with this profile:"
    for row in fit.table.to_dict("records"):
        kind = "fitted" if row["fitted"] else "predicted"
        speeds = f"{row['tokens_per_s']:g}, {kind} {row['predicted_tokens_per_s']:.1f}"
        yield f"slots {row['slots']}: {speeds} ({row['error_percent']:+.1f} %)"


def _duration(time_ns: float) -> str:
    return format_duration(round(time_ns))


def _kernels() -> list[str]:
    """The parts of a forward pass whose launches a file must give."""
    fields = SourcedKernelCounts.model_fields.items()
    return [part for part, field in fields if field.is_required()]
