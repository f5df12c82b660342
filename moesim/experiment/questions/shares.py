"""What servers take of a GPU's memory."""

from __future__ import annotations

from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.serving import Memory
from moesim.hardware import HardwareProfile
from moesim.hardware.load import load_software

MEMORY_SHARES = {"vllm": "--gpu-memory-utilization", "sglang": "--mem-fraction-static"}
"""Servers, and their option for the share that they take."""

GIVEN = {
    "Apple": (0.75, "macOS gives a GPU about 3/4 of it, sysctl iogpu.wired_limit_mb more"),
    "AMD": (0.5, "Linux gives a GPU 1/2 of it, ttm.pages_limit or the BIOS more"),
}
"""By maker: the share of one memory that a system leaves to a GPU by itself, and where more is set.
Unverified, from memory of reports of 2024 and 2025.
"""
OF_OTHERS = (0.9, "the system and all programs are in it, too")


def one_memory_notes(hardware: HardwareProfile, needed: int) -> list[str]:
    """That a GPU is not given all that it shares with its CPU, where ``needed`` bytes are more."""
    share, why = GIVEN.get(hardware.datasheet.maker or "", OF_OTHERS)
    if not hardware.unified or needed <= share * hardware.datasheet.memory.value:
        return []
    return [f"{needed / 1e9:.3g} GB of the one memory may not load: {why}"]


def own_buffers(program: str, reserved_tokens: int) -> str:
    """What is left out of the memory of a ``program`` without such a share, which reserves that of
    a pass of so many tokens.
    """
    if not reserved_tokens:
        return "the software's own buffers (some hundred MB) are not counted"
    counted = f"the one to compute {reserved_tokens} tokens is counted"
    return f"of {program}'s own buffers {counted}, others not"


def share_of(program: str) -> float:
    """Of a GPU's memory what ``program`` takes in a run that does not say: vLLM's default, which
    also stands for SGLang's, whose own depends on the card.
    """
    return Memory().gpu_memory_utilization if program in MEMORY_SHARES else 1.0


def share_notes(experiment: Experiment) -> list[str]:
    """What is left out: of software its own buffers, of a server whose batches are formed without
    its scheduler what it does not take.
    """
    program = str(experiment.software).partition("@")[0].partition("-")[0]
    flag = MEMORY_SHARES.get(program)
    if experiment.workload.batching.serves or program == "ideal":
        return []
    if flag is None:
        reserves = load_software(experiment.software, experiment.folders).memory.reserved_tokens
        return [f"{own_buffers(program, reserves)}: what leaves little free may not load"]
    taken = f"all of a GPU's memory is counted, of which {program} takes {share_of(program):.0%}"
    remedy = "workload.batching: {kind: continuous} counts that"
    return [f"{taken} at its default ({flag}); {remedy}"]
