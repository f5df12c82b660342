"""A machine chosen by its parts: what may be written, and the one text that stands for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from moesim.config.checking.shape import WrittenAs
from moesim.config.document import Document, Mark
from moesim.config.params import Params
from moesim.config.strict_yaml.yaml import parse_value
from moesim.hardware.described.datasheet import GpuNumbers
from moesim.hardware.described.host import Host
from moesim.hardware.described.near_memory import NearMemory
from moesim.hardware.described.sheets import Link
from moesim.hardware.described.storage import Storage

PARTS = ("gpu", "host", "link", "near_memory", "storage")


class ChosenGpu(GpuNumbers):
    """A GPU by name, with numbers of its own."""

    base: str = Field(description="A GPU ('moesim list gpus').")


class ChosenHost(Host):
    """A host by name, with numbers of its own."""

    base: str = Field(description="A host ('moesim list hosts').")


class ChosenLink(Link):
    """A link by name, with numbers of its own."""

    base: str = Field(description="A link ('moesim list links').")


class ChosenNearMemory(NearMemory):
    """A near-memory device by name, with numbers of its own."""

    base: str = Field(description="A device ('moesim list near_memory').")


class ChosenStorage(Storage):
    """A drive by name, with numbers of its own."""

    base: str = Field(description="A drive ('moesim list storage').")


class Choice(Params):
    """The keys of ``hardware``: a whole machine, or its parts; a part is a name, or the numbers
    that differ from ``base``, from the whole machine's part where there is no ``base``.
    """

    base: str | None = Field(None, description="A whole machine ('moesim list hardware').")
    gpu: Annotated[str | None, WrittenAs(ChosenGpu)] = None
    host: Annotated[str | None, WrittenAs(ChosenHost)] = None
    link: Annotated[str | None, WrittenAs(ChosenLink)] = None
    storage: Annotated[str | None, WrittenAs(ChosenStorage)] = None
    near_memory: Annotated[str | None, WrittenAs(ChosenNearMemory)] = None
    peers: Literal["nvlink", "pcie"] | None = Field(
        None, description="How GPUs are joined, where cards take a bridge: pcie, if left out."
    )


def text_of(choice: Mapping[str, Any]) -> str:
    """``choice`` as the one text that stands for it: YAML on one line, in the order of the keys."""
    order = [*Choice.model_fields, *choice]
    keys = sorted(choice, key=order.index)
    plain = {key: choice[key] for key in keys if choice[key] is not None}
    return yaml.safe_dump(
        plain, default_flow_style=True, sort_keys=False, width=1 << 20, allow_unicode=True
    ).strip()


def is_choice(text: str) -> bool:
    """Whether ``text`` stands for a machine chosen by its parts."""
    return text.lstrip().startswith("{")


def choice_in(text: str) -> Document:
    """The mapping that ``text`` stands for; InputError where it is none."""
    return Document(parse_value(text, ""), Mark(""))


def words(text: str, without: Collection[str] = ()) -> str:
    """``text`` as short as it can be told: the parts' names, and how many numbers were given; but
    for those of the keys ``without``, as in ``storage`` and ``host.cores``.
    """
    parts = choice_in(text).data.items()
    told = (_part_words(key, part, without) for key, part in parts if key not in without)
    return " + ".join(filter(None, told))


def _part_words(name: str, part: Any, without: Collection[str]) -> str:
    if not isinstance(part, Mapping):
        return str(part)
    hidden = {"base", *(key.removeprefix(f"{name}.") for key in without)}
    given = ", ".join(f"{key} {_number(value)}" for key, value in part.items() if key not in hidden)
    return " with ".join(filter(None, (str(part.get("base", "")), given)))


def _number(value: Any) -> Any:
    return value.get("value", "given") if isinstance(value, Mapping) else value


def gpu_and_host(text: str) -> tuple[str, str | None]:
    """The names of the GPU (of the whole machine, where it is one) and the host in ``hardware``."""
    if not is_choice(text):
        return text, None
    parts = choice_in(text).data
    gpu, host = (_base(parts.get(part)) for part in ("gpu", "host"))
    return gpu or str(parts.get("base", "")), host


def _base(part: Any) -> str | None:
    name = part.get("base") if isinstance(part, Mapping) else part
    return None if name is None else str(name)
