"""What the reference study does not state: named assumptions, each with a range and a source.

Nothing here is fitted to a result of the study. Most defaults are in the middle of what is known of
the machine and the code; ``half_efficient_rows`` and ``recorded_batches`` are at the lower end of
their range, ``expert_passes`` near it, and ``elementwise_gbps`` near the upper one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from moesim.config.errors import InputError, Problem, nearest
from moesim.config.strict_yaml.overrides import parse_override

Value = float | str
ALL = ("lm", "mt_encoder", "mt_decoder")
DECODER, MT = ("mt_decoder",), ("mt_encoder", "mt_decoder")
WHOLE = ("lm", "mt_encoder")
TIMES = ("speed", "buffering", "balancing")
EVERYTHING = (*TIMES, "memory")
"""Families of answers (``measures.answers``): those about time, and all."""


@dataclass(frozen=True)
class Parameter:
    """An assumption: its ``default``, the ``others`` that span its range, and the ``tasks`` that
    it can move; ``moves`` the families of answers. Words are choices; numbers may have any value
    within ``bounds``. Where ``memory`` is set, other batches may fit.
    """

    name: str
    default: Value
    others: tuple[Value, ...]
    unit: str
    source: str
    tasks: tuple[str, ...] = ALL
    moves: tuple[str, ...] = TIMES
    memory: bool = False
    bounds: tuple[float, float] = (1e-6, 1e6)

    def read(self, given: object, where: str) -> Value:
        """``given`` as a value of the parameter; InputError where it is none."""
        if isinstance(self.default, str):
            known = (self.default, *map(str, self.others))
            if str(given) in known:
                return str(given)
            raise InputError([Problem(where, self.name, f"must be one of {', '.join(known)}")])
        least, most = self.bounds
        if (
            isinstance(given, int | float)
            and not isinstance(given, bool)
            and least <= given <= most
        ):
            return float(given)
        unit = f" {self.unit}" if self.unit else ""
        what = f"must be a number from {least:g} to {most:g}{unit}; its range is {self.range}"
        raise InputError([Problem(where, self.name, what)])

    @property
    def range(self) -> str:
        """The range in words."""
        values = (self.default, *self.others)
        if isinstance(self.default, str):
            return " or ".join(map(str, values))
        return f"{min(map(float, values)):g} to {max(map(float, values)):g}"


PARAMETERS = (
    Parameter(
        "domain", "up_to", ("mild", "middle", "strong"), "",
        "ratios are 'up to': the largest over three synthetic domains (languages), whose busiest "
        "of 8 GPUs has .3 to .6 (LM) or .42 to .85 (encoder) of a batch",
        moves=EVERYTHING,
    ),
    Parameter(
        "mt_tokens", 28, (24, 36), "tokens a sentence",
        "about 21 English words x 1.25 pieces + 2; batches hold sentences of one length", MT,
        moves=EVERYTHING, memory=True, bounds=(1, 512),
    ),
    Parameter(
        "persistence", 0.7, (0.5, 0.9), "",
        "share of a decoder step's experts that the next step uses, before chance", DECODER,
        bounds=(0, 1),
    ),
    Parameter(
        "language_experts", 0.5, (0.75, 1), "",
        "of all experts, those that a language's decoder uses at some step, a quarter of all at a "
        "time; not stated", DECODER, bounds=(0.5, 1),
    ),
    Parameter(
        "launch_us", 25, (15, 35), "us", "a kernel called from fairseq's Python, 2.2 GHz Xeon"
    ),
    Parameter(
        "count_read_us", 65, (30, 100), "us", "a blocking read of counts to the host; two a layer"
    ),
    Parameter(
        "dynamic_gate_kernels", 80, (60, 100), "kernels", "counted in the gate's code, approximate"
    ),
    Parameter(
        "encoder_layer_kernels", 32, (30, 33), "kernels",
        "counted in fairseq's layers over whole sequences, approximate", WHOLE,
    ),
    Parameter(
        "empty_experts", "called", ("skipped",), "",
        "fairseq calls every local expert, be it empty; buffered layers call those that have rows",
    ),
    Parameter(
        "kernel_start_us", 4, (2, 5), "us",
        "a kernel that does nothing, on the GPU: a fifth of the 20 us from which fits of grouped "
        "experts' five kernels start; 2 to 5 between kernels of a stream; three an expert",
    ),
    Parameter(
        "mask_traffic_bytes", 40, (38, 45), "bytes an element",
        "three fp32 tensors written and read, a boolean one, two in fp16", moves=("speed",),
    ),
    Parameter(
        "position_traffic_bytes", 130, (98, 156), "bytes an element and choice",
        "static gating's positions, tokens x experts: 98 are one-hot integers, running counts, "
        "comparison and sums of 8 bytes each; 156 with the products and means of the gate's "
        "weights; counted in fairseq's gate, approximate", moves=("speed",),
    ),
    Parameter("gemm_tflops", 75, (60, 95), "TFLOP/s", "plateau of large fp16 products on a V100"),
    Parameter(
        "half_efficient_rows", 128, (330,), "rows", "a product reaches rows / (rows + this) of it"
    ),
    Parameter(
        "elementwise_gbps", 750, (450, 800), "GB/s",
        "streaming kernels reach what products reach of 900 GB/s; the card's own prior is 450",
    ),
    Parameter(
        "elementwise_passes", 30, (24, 36), "passes",
        "reads and writes of the hidden rows a dense layer, unfused kernels, approximate",
    ),
    Parameter(
        "expert_passes", 10, (8, 20), "passes",
        "reads and writes of the hidden rows of a routed expert beside its products: 8 of ReLU, 2 "
        "that gather its rows and its results; 20 if what the products read and write were not in "
        "their rate",
    ),
    Parameter(
        "score_bytes", 16, (8, 20), "bytes a score",
        "fp16 written, fp32 softmax, fp16 read; 8 if softmax is one kernel, 20 with a mask added",
    ),
    Parameter(
        "logit_traffic_bytes", 8, (6, 16), "bytes a logit",
        "fp16 written and read, fp32 written; more where the softmax is several kernels",
        ("lm", "mt_decoder"),
    ),
    Parameter(
        "all_to_all_gbps", 40, (15, 80), "GB/s a GPU",
        "hybrid cube mesh: three of a GPU's seven peers have no direct link",
    ),
    Parameter(
        "all_to_all_latency_us", 90, (60, 135), "us",
        "an all-to-all of 8 GPUs; 180 and 375 of 16 and 32, in proportion",
    ),
    Parameter(
        "network_gbps", 10, (4, 40), "GB/s a node", "100 Gb/s InfiniBand a node, not stated",
        moves=("speed", "buffering"),
    ),
    Parameter(
        "pcie", "pair", ("gpu",), "",
        "two GPUs share a PCIe switch: whether 12 GB/s are a pair's or each GPU's", DECODER,
        moves=("buffering",),
    ),
    Parameter(
        "slots", "per_gpu", ("total",), "",
        "10 slots a GPU, or 80 of a layer in total (10, 5, 2 a GPU on 1, 2, 4 nodes)", DECODER,
        moves=("buffering",),
    ),
    Parameter(
        "sentences", "own", ("same",), "",
        "every GPU sends rows of its own sentences, or all GPUs run one batch (the author's fork "
        "of fairseq can): the same sentences on each", moves=EVERYTHING, memory=True,
    ),
    Parameter(
        "balancing_batch", "same", ("half", "double"), "",
        "sentences a GPU when load balancing was measured: those of the latencies (LM 8, MT 48)",
        moves=("balancing",),
    ),
    Parameter(
        "recorded_batches", 8, (32,), "batches",
        "from the first half of them placements are planned, on the second they are judged; how "
        "many is not stated; the decoder's are half as many, 28 steps each",
        moves=("balancing",), bounds=(4, 64),
    ),
    Parameter(
        "cuda_context_gib", 0.5, (0.3, 0.6), "GiB", "driver, CUDA context and loaded kernels",
        moves=EVERYTHING, memory=True,
    ),
    Parameter(
        "ledger", "software", ("tensors",), "",
        "whether the ledger has what the software holds (positions of choices, scores, tables, "
        "blocks of PyTorch's allocator, NCCL's buffers), or weights, caches and rows alone",
        moves=EVERYTHING, memory=True,
    ),
    Parameter(
        "nccl_channels", 12, (6, 24), "channels",
        "of collectives, each with buffers of a ring and a tree; NCCL's logs on a DGX-1 have 12, "
        "from memory", moves=EVERYTHING, memory=True, bounds=(1, 32),
    ),
)  # fmt: skip
BY_NAME: Mapping[str, Parameter] = MappingProxyType({one.name: one for one in PARAMETERS})
Assumptions = Mapping[str, Value]


def defaults() -> dict[str, Value]:
    """Every parameter at its default."""
    return {one.name: one.default for one in PARAMETERS}


def assumptions(settings: Iterable[str]) -> dict[str, Value]:
    """The defaults with ``settings``, each ``name=value``; InputError for what is unknown."""
    values = defaults()
    for text in settings:
        steps, given, mark = parse_override(text)
        name = ".".join(map(str, steps))
        if name not in BY_NAME:
            what = f"is no assumption of the study; {nearest(name, BY_NAME)}"
            raise InputError([Problem(str(mark), name, what)])
        values[name] = BY_NAME[name].read(given, str(mark))
    return values


def number(values: Assumptions, name: str) -> float:
    """A parameter that is a number."""
    return float(values[name])
