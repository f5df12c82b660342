"""The share of the DRAM peak at which a simulated run is as fast as the measured one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scipy.optimize import brentq

from moesim.calibrate.host.measured import OPTION, Measured
from moesim.calibrate.host.same import check_same
from moesim.config.amounts.dimensions import format_percent
from moesim.config.errors import InputError, Problem
from moesim.engine.replay.log import DecisionLog
from moesim.experiment.building.build import build, with_layers_fitted
from moesim.experiment.building.built import Built
from moesim.experiment.running.run import simulate
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware.choice import choice_in, is_choice, text_of
from moesim.hardware.described.host import ExpertShare, Host
from moesim.hardware.operations.kernels.cpu_expert import CpuExpert
from moesim.hardware.operations.kernels.work import kernel_fit_for
from moesim.hardware.profile import HardwareProfile

LEAST, MOST = 0.05, 1.0
"""Shares of the DRAM peak that are looked at."""
NEAR = (0.9, 1.1)
"""Of the measured speed: how far the share depends on it."""
_CLOSE = 1e-5
_DIGITS = 4


@dataclass(frozen=True)
class HostFit:
    """``share`` of the DRAM peak, found by the experiment ``name``; ``near``: the shares at
    ``NEAR`` of the measured speed, None where no share gives that; ``waiting``: the share of the
    run's time that waits for the CPU; ``trace``: what stood for the run's routing, with its
    ``experts_per_token``.
    """

    name: str
    measured: Measured
    profile: HardwareProfile
    share: float
    near: tuple[float | None, ...]
    waiting: float
    trace: str
    experts_per_token: int

    @property
    def host(self) -> Host:
        """The host with the fitted share."""
        count = self.experts_per_token
        share = ExpertShare.of(self.share, "run", trace=self.trace, experts_per_token=count)
        return self.profile.host.model_copy(update={"expert_fraction": share})


def fit_host(experiment: Experiment, measured: Measured) -> HostFit:
    """The share at which ``experiment``, the measured run, makes its output throughput.

    InputError where no expert runs on the CPU, where the machine has measurements of such experts,
    where the run does not fit in memory, where the measured one had other layers on the CPU, and
    where no share makes that speed.
    """
    if measured.times:
        what = "a host is fitted to the speed of a run that only decodes, not to times of requests"
        raise InputError([Problem(OPTION, "", what)])
    experiment = with_layers_fitted(experiment)
    built = build(experiment)
    _check(built)
    check_same(experiment, built.case.model, measured)
    speeds = _Speeds(experiment)
    share = speeds.share_of(measured.tokens_per_s)
    if share is None:
        raise InputError([Problem(OPTION, "", _why_not(speeds, built, measured))])
    near = tuple(speeds.share_of(factor * measured.tokens_per_s) for factor in NEAR)
    waiting = speeds.waiting(share)
    used = (experiment.trace, built.case.trace.top_k)
    return HostFit(experiment.name, measured, built.hardware, share, near, waiting, *used)


def _check(built: Built) -> None:
    case, what = built.case, None
    if not (case.miss.uses_host and case.offloaded):
        what = "experts.on_cpu.layers: no expert of this run is computed on the CPU, so it says"
        what += " nothing about the host; write on_cpu, or miss: cpu with fewer slots"
    elif kernel_fit_for(built.hardware, CpuExpert.kind) is not None:
        what = "hardware: has measurements of experts on the CPU (cpu_expert), which price them"
        what += "; a share of the DRAM peak would not count"
    elif (reason := built.out_of_memory) is not None:
        what = f"the run does not fit in memory, so it is not the measured one: {reason}"
    if what is not None:
        raise InputError(what)


class _Speeds:
    """Simulated tokens/s by share, each run once."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment, self._log = experiment, DecisionLog(decisions=True)
        self._runs: dict[float, tuple[float, float]] = {}

    def at(self, share: float) -> float:
        return self._run(share)[0]

    def waiting(self, share: float) -> float:
        """The share of the time that waits for the CPU."""
        return self._run(share)[1]

    def share_of(self, tokens_per_s: float) -> float | None:
        """Where the run makes that speed; None where the ends do not enclose it.

        A token takes about a straight line in one over the share, so few runs find it.
        """
        if not self.at(LEAST) < tokens_per_s <= self.at(MOST):
            return None
        error: Callable[[float], float] = lambda inverse: (  # noqa: E731
            tokens_per_s / self.at(1 / inverse) - 1
        )
        inverse = brentq(error, 1 / MOST, 1 / LEAST, xtol=_CLOSE, rtol=_CLOSE)
        return round(float(1 / inverse), _DIGITS)

    def _run(self, share: float) -> tuple[float, float]:
        if share not in self._runs:
            hardware = with_share(self._experiment.hardware, share)
            changed = self._experiment.model_copy(update={"hardware": hardware})
            found = simulate(changed, log=self._log).summary
            waits = found["time_share"].get(CpuExpert.category, 0.0)
            self._runs[share] = float(found["output_throughput"]), float(waits)
        return self._runs[share]


def with_share(hardware: str, share: float) -> str:
    """The machine ``hardware`` whose experts on the CPU reach ``share`` of the DRAM peak."""
    parts = dict(choice_in(hardware).data) if is_choice(hardware) else {"base": hardware}
    host = parts.get("host") or {}
    host = dict(host) if isinstance(host, dict) else {"base": host}
    return text_of({**parts, "host": {**host, "expert_fraction": format_percent(share)}})


def _why_not(speeds: _Speeds, built: Built, measured: Measured) -> str:
    """Which way the measured speed is off, and what else may be wrong."""
    host, speed = built.hardware.host, measured.tokens_per_s
    peak = host.expert_peak / 1e9
    if speed > (best := speeds.at(MOST)):
        return (
            f"{speed:g} tokens/s is too fast for this experiment: with experts on the CPU at 100 %"
            f" of the DRAM peak ({peak:g} GB/s) it makes {best:.4g}. The DRAM is faster"
            " (host.memory_bandwidth), fewer bytes are read (model.format, experts.on_cpu, the"
            " trace's experts a token), threads read or compute faster (host.threads,"
            " host.thread_bandwidth, host.core_rate), or the software costs less"
        )
    memory = built.footprint.host / 1e9
    return (
        f"{speed:g} tokens/s is too slow for this experiment: with experts on the CPU at"
        f" {LEAST:.0%} of the DRAM peak ({peak:g} GB/s) it still makes {speeds.at(LEAST):.4g}."
        f" Something else takes the time: experts read from disk (the run needs {memory:.3g} GB of"
        " host memory), few threads, more layers on the CPU, or the software"
    )
