"""Mistakes that only show when a trace is read: each line names a file, a line or an option."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.cli.main import main
from moesim.trace import NO_EXPERT, Phase, RoutingTrace, TraceMetadata, write_trace

YAML = """\
model: gpt-oss-20b
hardware: rtx-4060-8gb
trace: prompts.parquet
experts: {capacity: 8 slots/layer}
sweep: {seed: [0, 1]}
"""


def trace_of(phase: Phase, layers: int = 24, fill: int | None = None) -> RoutingTrace:
    """Three tokens of a request that choose experts 0 to 3, or ``fill`` alone."""
    choices = np.arange(4) if fill is None else np.full(4, fill)
    ids = np.ascontiguousarray(np.broadcast_to(choices, (3, layers, 4)), np.uint16)
    return RoutingTrace(
        expert_ids=ids,
        request_id=np.zeros(3, np.int32),
        position=np.arange(3, dtype=np.int32),
        phase=np.full(3, phase, np.uint8),
        gate_weights=None,
        predicted_ids=None,
        metadata=TraceMetadata(
            model=None,
            experts=32,
            top_k=4,
            moe_layer_ids=tuple(range(layers)),
            recorder="hand",
            source="made",
            licence="Apache-2.0",
        ),
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_trace(trace_of(Phase.PREFILL), "prompts.parquet")
    write_trace(trace_of(Phase.DECODE), "answers.parquet")
    write_trace(trace_of(Phase.DECODE, fill=NO_EXPERT), "dense.parquet")
    write_trace(trace_of(Phase.DECODE, layers=1), "flat.parquet")
    (tmp_path / "e.yaml").write_text(YAML)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "kept").touch()
    return tmp_path


PHASE = "workload.phase: the trace has no token in phase"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run e.yaml -o out", f"e.yaml: {PHASE} 'decode'; it has prefill"),
        ("place e.yaml", f"e.yaml: {PHASE} 'decode'"),
        ("fit e.yaml", f"e.yaml: {PHASE} 'decode'"),
        ("advise e.yaml -o out", f"e.yaml: {PHASE} 'decode'"),
        ("run e.yaml -o out --set trace=answers.parquet --set workload.phase=prefill",
         f"--set: {PHASE}"),
        ("check e.yaml --set model=qwen3-30b-a3b", "e.yaml:3: trace: the trace (recorded from"),
        ("sweep e.yaml -o out --set model=qwen3-30b-a3b", "e.yaml:3: trace: the trace (rec"),
        ("check e.yaml --set trace=flat.parquet", "--set: trace: the trace"),
        ("trace curve prompts.parquet -o out.parquet", "--phase: the trace has no token in phase"),
        ("trace curve dense.parquet -o out.parquet", "dense.parquet: the trace uses no expert"),
        ("trace fit dense.parquet -o out.yaml", "dense.parquet: the trace uses no expert"),
        ("trace slice flat.parquet -o out.parquet --requests 3:4",
         "flat.parquet: the slice is empty: the trace has 1 request and 1 MoE layer;"),
        ("trace distance answers.parquet dense.parquet", "the second trace has no decode tokens"),
        ("trace distance flat.parquet answers.parquet", "the first trace has 1 MoE layer here"),
        ("advise e.yaml -o out --capacity 8", "--capacity: '8' has no unit"),
        ("advise e.yaml -o run", "--out: 'run' holds files"),
        ("trace curve answers.parquet -o out.parquet --figure e.yaml/x.png",
         "--figure: 'e.yaml/x.png' cannot be written"),
    ],
)  # fmt: skip
def test_every_mistake_has_a_place(here, capsys, command, said):
    assert main(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
    assert not list(here.glob("out/*.json"))
