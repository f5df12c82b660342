"""Which instance of a service a forward pass was of."""

from __future__ import annotations

from moesim.engine.case import Case, Ints


def instance_of_passes(case: Case) -> Ints | None:
    """Of each pass of ``case``, as it was played; None where there is one instance."""
    if case.serving is None or case.serving.routed is None:
        return None
    engine = case.gpus // case.serving.routed.instances
    return case.schedule.gpu[case.schedule.offsets[:-1]] // engine
