"""Print how the reference study's synthetic traces use their experts, by domain.

``python benchmarks/reference_traces.py``; docs/synthetic_traces.md holds its table, and must hold
the lines that it prints.
"""

from __future__ import annotations

from pathlib import Path

from moesim.trace import Phase
from moesim.trace.statistics.patterns import activation_pattern
from moesim.trace.synthesis import load_parameters, synthesize

PAGE = Path(__file__).parents[1] / "docs" / "synthetic_traces.md"
GPUS = 8
BATCHES = (("lm", Phase.PREFILL, 8), ("mt", Phase.ENCODE, 48), ("mt", Phase.DECODE, 96))
GROUPS = 4


def main() -> None:
    """Four batches of each domain."""
    print(
        "| trace | domain | batch | active experts | busiest of 8 GPUs | busiest expert | persist |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, phase, size in BATCHES:
        parameters = load_parameters(f"experiments/reference_study/{name}.yaml")
        for domain in parameters.domains.names:
            trace = synthesize(parameters, requests=GROUPS * size, domain=domain)
            found = activation_pattern(trace, phase, size, GPUS)
            shares = found.active_share, found.busiest_gpu_share, found.busiest_expert_share
            cells = [f"{share:.2f}" for share in shares]
            cells.append("" if found.persistence is None else f"{found.persistence:.2f}")
            title = f"{name} {phase.name.lower()}"
            line = f"| {title} | {domain} | {size} | {' | '.join(cells)} |"
            print(line)
            if line not in PAGE.read_text(encoding="utf-8").splitlines():
                message = f"not in {PAGE}: {line}"
                raise AssertionError(message)


if __name__ == "__main__":
    main()
