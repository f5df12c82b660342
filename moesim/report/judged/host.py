"""What a host's fit says in words."""

from __future__ import annotations

from collections.abc import Iterator

from moesim.calibrate.host.fit import LEAST, MOST, NEAR, HostFit
from moesim.config.counted import counted
from moesim.hardware.operations.kernels.cpu_expert import REACHED


def lines(fit: HostFit) -> Iterator[str]:
    """What was found, how far it depends on the measured speed, and what it rests on."""
    peak = fit.host.expert_peak
    speed, reached = fit.measured.tokens_per_s, fit.share * peak / 1e9
    yield (
        f"experts on the CPU reach {fit.share:.1%} of the DRAM peak: {reached:.1f} of"
        f" {peak / 1e9:.1f} GB/s ({speed:g} tokens/s measured)"
    )
    count = counted(fit.experts_per_token, "expert")
    yield f"  the run's routing: trace '{fit.trace}', {count} a token"
    for factor, share in zip(NEAR, fit.near, strict=True):
        told = f"none from {LEAST:.0%} to {MOST:.0%}" if share is None else f"{share:.1%}"
        yield f"  at {factor - 1:+.0%} of that speed ({factor * speed:.4g} tokens/s): {told}"
    yield f"  {fit.waiting:.0%} of the run's time waits for the CPU; all else is a price of moesim,"
    yield "  and its errors are in the share"
    yield from _doubts(fit)
    yield "this run is fitted, not judged: only other runs of this host can judge the share"


def _doubts(fit: HostFit) -> Iterator[str]:
    """What else may be in the share: other threads than the run's, and what a share beyond those of
    real runs may be instead.
    """
    host, threads = fit.host, fit.measured.threads
    if threads and min(threads, host.cores.value) != (own := round(host.expert_threads)):
        yield f"warning: the run had {threads} threads, the host {own}: write host.threads"
    least, _ = REACHED
    most = host.memory_fraction.value
    if fit.share > most:
        yield (
            f"warning: that is more than the {most:.0%} that copies reach: the DRAM is faster than"
            " said, or moesim's other prices of this run are too high"
        )
    elif fit.share < least:
        yield (
            f"warning: real runs reached {least:.0%} or more: are experts read from disk, are"
            " threads few, or do experts lie on another NUMA node?"
        )
