"""Plans with replicas: the engine against the judge where few random cases meet."""

from __future__ import annotations

from .judge import judge
from .judge_words import Config
from .prices import ToyPrices
from .scenes import scene
from .strategies import Case
from .test_des_against_judge import compare, run_des


def test_replicas_have_the_whole_gate_weight_of_their_expert() -> None:
    """Expert 0 has two replicas and 0.6, expert 1 has 0.4 and goes; with 0.3 it would be expert 0,
    which is then a hit.
    """
    trace, model = scene([[0], [1], [2], [0]], 3)
    trace["gate_weights"] = [[[weight]] for weight in (0.6, 0.4, 0.5, 0.5)]
    config = Config(
        slots=2,
        policy="gate_score",
        parameters={"decay": 0.1},
        placement="plan",
        plan=[[0, 2, 1, 0]],
    )
    case = Case(trace, model, config, ToyPrices())
    verdict = judge(case.trace, case.model, case.config, case.prices)
    assert [turn.hit for turn in verdict.turns] == [False, False, False, True]
    compare(verdict, run_des(case))
