"""The operations of a run, by their names in ``operations.parquet``, and what each is asked by.

One row an operation: the arguments of its ``parts``, in order, which are columns of the table or
made of some (``MADE_OF``). Those in brackets may be left out, from the last one on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

MODEL, EXPERIMENT, MACHINE = "model", "experiment", "machine"
"""Who knows what else decides a price: a model, an experiment, or the machine alone does."""


class Asked(NamedTuple):
    """The ``arguments`` of an operation, those that may be left out (``more``), and who ``knows``
    the rest.
    """

    arguments: tuple[str, ...]
    more: tuple[str, ...] = ()
    knows: str = MODEL
    part: str = ""
    """The part of a layer without which a layer has no such operation."""


def _asked(text: str, knows: str = MODEL, part: str = "") -> Asked:
    needed, _, rest = text.partition("[")
    return Asked(tuple(needed.split()), tuple(rest.strip("]").split()), knows, part)


_SERVED = "[served_tokens served_context_tokens served_kv_tokens padding longest]"
ASKED: Mapping[str, Asked] = {
    "all_reduce": _asked("gpus bytes", MACHINE),
    "all_to_all": _asked("sent", MACHINE),
    "attention": _asked(f"layer tokens context_tokens kv_tokens {_SERVED}"),
    "combine_product": _asked("layer tokens experts capacity"),
    "copy": _asked("bytes direction [pinned copies gpus]", MACHINE),
    "cpu_expert": _asked("layer tokens", part="moe"),
    "cpu_layer": _asked("layer tokens context_tokens kv_tokens"),
    "cross_attention": _asked(
        "layer context_tokens kv_tokens projected_tokens", part="cross_attention"
    ),
    "decide": _asked("", MACHINE),
    "dense": _asked("layer tokens", part="dense"),
    "drafting": _asked(
        "drafter tokens group_tokens every_token requests group_requests every_request *sums",
        EXPERIMENT,
    ),
    "encode": _asked("layer tokens experts capacity kept"),
    "experts": _asked("layer rows starts [tokens]", part="moe"),
    "gate": _asked("layer tokens", part="moe"),
    "gather_logits": _asked("gpus tokens"),
    "head": _asked("tokens"),
    "joining": _asked("joining tokens"),
    "layer_copy": _asked("layer tokens [pinned]"),
    "masks": _asked("layer tokens experts capacity"),
    "near_expert": _asked("layer tokens", part="moe"),
    "permute": _asked("layer tokens", part="moe"),
    "prediction": _asked("stated_ns", MACHINE),
    "read_logits": _asked("tokens wait_ns"),
    "sampling": _asked("tokens"),
    "send_recv": _asked("stages bytes", MACHINE),
    "shared": _asked("layer tokens", part="moe.shared"),
    "step_inputs": _asked("tokens copies"),
    "storage_read": _asked("bytes [reads mapped queued]", MACHINE),
    "unpacking": _asked("layer experts", part="moe"),
}
"""By the name of the operation."""

MADE_OF: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "layer": ((),),
    "starts": ((),),
    "drafter": ((),),
    "joining": (("elements", "bytes"),),
    "rows": (("rows",), ("tokens",)),
    "sent": (("sent",), ("bytes", "gpus")),
    "*sums": (("sums",),),
}
"""Of arguments that are no column of their name: the columns that make one, or instead of these the
next ones.
"""

MEANINGS: Mapping[str, str] = {
    "layer": "the number of the layer, from 0 [the first that has the operation]",
    "variant": "of operations with a layer: the name of the variant of its experts, of an "
    "experiment with some [the first]",
    "tokens": "tokens of the pass; of one expert or a reordering its rows, of a head those whose "
    "logits are made",
    "context_tokens": "the sum over new tokens of the keys that each attends to",
    "kv_tokens": "cached tokens, each read once",
    "projected_tokens": "source tokens whose keys and values are made",
    "served_tokens": "of the three those of answers beside prompts, as are "
    "`served_context_tokens` and `served_kv_tokens`",
    "padding": "tokens of the pass that are padding",
    "longest": "the most keys that a token of these answers attends to",
    "experts": "experts of the masks; of unpacking those that are unpacked",
    "capacity": "rows that each expert has room for",
    "kept": "rows that have a place",
    "rows": "rows of each expert of the launch, a list [those of `tokens`, spread evenly]",
    "sent": "bytes from GPU to GPU, a list of gpus x gpus numbers, by sender [`bytes` of each of "
    "`gpus`, spread evenly]",
    "bytes": "of a copy, a read or a product's weights; of a collective what one GPU holds",
    "gpus": "GPUs that take part",
    "direction": "`h2d`, `d2h` or `p2p`",
    "pinned": "whether memory of the host is pinned",
    "copies": "equal copies, one after another",
    "stages": "GPUs that the layers are divided over",
    "wait_ns": "what the host's wait takes",
    "stated_ns": "what the experiment says",
    "elements": "weights of the product",
    "reads": "equal requests, or places of a mapped file",
    "mapped": "whether page faults read",
    "queued": "how long the drive is kept busy, not how long the read takes",
    "requests": "requests of the GPU, as `tokens` are; `group_...`: of the GPUs that share "
    "attention; `every_...`: of all",
    "sums": "context and cached tokens of the drafter, for each of its windows; then what of them "
    "is served",
}
"""Of columns; those that are told with another have none."""


def _columns() -> Iterator[str]:
    for asked in ASKED.values():
        for name in (*asked.arguments, *asked.more):
            for way in MADE_OF.get(name, ((name,),)):
                yield from way


COLUMNS = ("layer", "variant", *dict.fromkeys(_columns()))
"""All that an operation is asked by."""
