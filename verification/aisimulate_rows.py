"""What AISimulate says of closed loops. Run by an interpreter that has it, as a program: it reads a
configuration a line, and writes for each what AISimulate predicts and how long that took it.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

NAMES = ("mean_ttft_ms", "mean_tpot_ms")


def predictor() -> Any:
    """Of a configuration, AISimulate's summary, without its command line."""
    config: Any = importlib.import_module("aisimulate.config.cli")
    predict: Any = importlib.import_module("aisimulate.predict")
    stack: Any = importlib.import_module("aisimulate.stack")

    def predicted(asked: dict[str, Any]) -> dict[str, Any]:
        one = config.CorePredictionConfig.model_validate(asked)
        factory = stack.resolve_runner_factory("engine")
        told = predict.run_prediction(one, stack="engine", runner_factory=factory)
        return {**told.summary}

    return predicted


def main() -> None:
    """Answer each line; processor seconds of the first hold what it loads."""
    begun = time.process_time()
    predicted = predictor()
    for line in sys.stdin:
        summary = predicted(json.loads(line))
        ended = time.process_time()
        found = {name: summary.get(name) for name in NAMES} | {"seconds": ended - begun}
        print(json.dumps(found), flush=True)
        begun = ended


if __name__ == "__main__":
    main()
