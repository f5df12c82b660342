"""The batches that Vidur (0.0.26) forms. Run by an interpreter that has it, as a program: it reads
a workload a line, and writes for each its batches and the processor seconds that they took.

All is Vidur's but three things: steps take one constant time, requests are those of the line, and
its metrics are off. A request that it restarts forgets what its stages had computed, where 0.0.26
keeps the count and stops at an assertion some tokens later.
"""

# ruff: noqa: SLF001 (Vidur has no other way in)

from __future__ import annotations

import importlib
import json
import logging
import sys
import time
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

TICKS = 512
"""Of a second, so that instants are exact in binary fractions and in whole nanoseconds alike."""
KINDS = {
    "sarathi": ("SarathiSchedulerConfig", "chunk_size"),
    "vllm": ("VllmSchedulerConfig", "max_tokens_in_batch"),
}
"""A scheduler's settings, and its budget of tokens in them."""
VIDUR: Any = SimpleNamespace()


def load() -> None:
    """Vidur's modules."""
    for name in ("entities", "execution_time_predictor", "request_generator", "simulator", "types"):
        setattr(VIDUR, name, importlib.import_module(f"vidur.{name}"))
    VIDUR.config = importlib.import_module("vidur.config.config")
    logging.getLogger("vidur").setLevel(logging.ERROR)


def configuration(case: dict[str, Any], folder: str) -> Any:
    """One replica on one GPU, with the case's blocks and limits."""
    config, (kind, budget) = VIDUR.config, KINDS[case["kind"]]
    limits = {"batch_size_cap": case["most"], budget: case["budget"]}
    cluster = config.ClusterConfig(
        replica_config=config.ReplicaConfig(num_pipeline_stages=1, tensor_parallel_size=1),
        cache_config=config.CacheConfig(
            block_size=case["size"],
            num_blocks=case["blocks"],
            watermark_blocks_fraction=case["watermark"],
        ),
        replica_scheduler_config=getattr(config, kind)(**limits),
    )
    quiet = {"write_metrics": False, "enable_chrome_trace": False, "store_plots": False}
    metrics = config.MetricsConfig(**quiet, output_dir=folder)
    return config.SimulationConfig(cluster_config=cluster, metrics_config=metrics)


def given(case: dict[str, Any]) -> None:
    """The case's requests and the time of its steps, where Vidur looks for its own."""
    VIDUR.entities.Request._id = VIDUR.entities.Replica._id = -1
    took = SimpleNamespace(total_time=case["step"] / TICKS, model_time=case["step"] / TICKS)
    constant = SimpleNamespace(get_execution_time=lambda *_: took)
    requests = [VIDUR.entities.Request(at / TICKS, p, a) for p, a, at in case["requests"]]
    drawn = SimpleNamespace(generate=lambda: requests)
    predictors = VIDUR.execution_time_predictor.ExecutionTimePredictorRegistry
    generators = VIDUR.request_generator.RequestGeneratorRegistry
    predictors._registry[VIDUR.types.ExecutionTimePredictorType.RANDOM_FORREST] = lambda **_: (
        constant
    )
    generators._registry[VIDUR.types.RequestGeneratorType.SYNTHETIC] = lambda _: drawn


class Told:
    """Batches of ``scheduler``: instant (ticks), [request, tokens] of each, who was restarted."""

    def __init__(self, scheduler: Any, case: dict[str, Any]) -> None:
        self.steps: list[Any] = []
        self.gone: list[int] = []
        self.scheduler, self.size = scheduler, case["size"]
        self.decide, self.fits = scheduler.on_schedule, scheduler._can_allocate_request
        self.restart = VIDUR.entities.Request.restart
        scheduler.on_schedule = self.on_schedule
        if case["as_v1"]:
            scheduler._can_allocate_request = self.as_v1
        VIDUR.entities.Request.restart = lambda request: self.restarted(request)  # noqa: PLW0108 (bound by the class)

    def on_schedule(self, now: float) -> Any:
        """Vidur's batch, which is told."""
        self.gone = []
        if batch := self.decide(now):
            entries = zip(batch.requests, batch.num_q_tokens, strict=True)
            told = [[one.id, int(count)] for one, count in entries]
            self.steps.append([round(now * TICKS), told, self.gone])
        return batch

    def as_v1(self, request: Any) -> bool:
        """Who runs needs a block only where its own are full; nobody comes in a step that
        preempts.
        """
        held = self.scheduler._allocation_map.get(request.id)
        if held is None:
            return not self.gone and bool(self.fits(request))
        return request.num_processed_tokens <= held * self.size or bool(self.fits(request))

    def restarted(self, request: Any) -> None:
        """Vidur's restart, and the count that it keeps."""
        self.gone.append(request.id)
        self.restart(request)
        request._num_stage_processed_tokens, request._is_prefill_stage_complete = 0, False


def played(case: dict[str, Any]) -> dict[str, Any]:
    """``steps`` of ``case``, and ``seconds`` of the simulation itself."""
    with TemporaryDirectory() as folder:
        given(case)
        simulator = VIDUR.simulator.Simulator(configuration(case, folder))
        (scheduler,) = simulator.scheduler._replica_schedulers.values()
        told = Told(scheduler, case)
        begun = time.process_time()
        try:
            simulator.run()
        finally:
            VIDUR.entities.Request.restart = told.restart
        return {"steps": told.steps, "seconds": time.process_time() - begun}


def main() -> None:
    """Answer each line."""
    load()
    for line in sys.stdin:
        print(json.dumps(played(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
