"""A host with its fitted share as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from moesim.calibrate.host.fit import HostFit
from moesim.config.strict_yaml.yaml import with_end_mark
from moesim.hardware.layers import GIVEN
from moesim.hardware.operations.kernels.cpu_expert import FITTED


def host_text(fit: HostFit, title: str, source: str) -> str:
    """The file of the host of ``fit``, with all its numbers; ``source`` says what the run was."""
    numbers = fit.host.model_dump(mode="json", exclude_none=True)
    used = dict.fromkeys(number["source"] for number in numbers.values())
    texts = {key: fit.profile.sources.get(key, key) for key in used}
    texts["run"] = f"{FITTED}: {fit.measured.tokens_per_s:g} tokens/s, {source}"
    short = _short(texts)
    if GIVEN in texts:
        texts[GIVEN] = f"{GIVEN} {fit.name}"
    lines = [
        f"title: {json.dumps(title)}",
        "sources:",
        *(f"  {short[key]}: {json.dumps(text)}" for key, text in texts.items()),
        *(
            f"{key}: {{{_pairs({**number, 'source': short[number['source']]})}}}"
            for key, number in numbers.items()
        ),
    ]
    return with_end_mark("\n".join(lines))


def _pairs(number: Mapping[str, Any]) -> str:
    """The keys of a number as YAML; a trace may have a name of any signs."""
    texts = {**number, **({"trace": json.dumps(number["trace"])} if "trace" in number else {})}
    return ", ".join(f"{key}: {text}" for key, text in texts.items())


def _short(texts: Mapping[str, str]) -> dict[str, str]:
    """A key for each source: the last word of its key, numbered where there are several; of one
    that is its own text, ``given``.
    """
    found: dict[str, str] = {}
    for key, text in texts.items():
        word = "given" if key == text else key.rsplit(" ", 1)[-1]
        same = sum(other.rsplit("-", 1)[0] == word or other == word for other in found.values())
        found[key] = f"{word}-{same + 1}" if same else word
    return found
