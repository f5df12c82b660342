"""What routers predict for the layers ahead, of a model that needs no torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.trace import NO_EXPERT
from moesim.trace.record import RecordedRequest, Routers
from moesim.trace.record.generate import request_of

EXPERTS, TOP_K, WIDTH = 6, 2, 4
PASSES = (3, 1, 1)


class Tensor(np.ndarray):
    """An array with what recording asks of torch's tensors."""

    def dim(self) -> int:
        return self.ndim

    def is_floating_point(self) -> bool:
        return self.dtype.kind == "f"

    def detach(self) -> Tensor:
        return self

    def float(self) -> Tensor:
        return self.astype(np.float32).view(Tensor)

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


class Gate:
    """A router that chooses by its own ``matrix``, and calls hooks only where it is called."""

    routed_scaling_factor = 2.0

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix, self.hooks = matrix, list[Callable[..., None]]()

    def register_forward_hook(self, hook: Callable[..., None], *, with_kwargs: bool) -> Gate:
        assert with_kwargs
        self.hooks.append(hook)
        return self

    def remove(self) -> None:
        self.hooks.clear()

    def chosen(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids, the least score first, and scores."""
        scores = hidden @ self.matrix
        ids = np.argsort(scores, axis=1)[:, -TOP_K:]
        return ids, np.take_along_axis(scores, ids, axis=1)

    def forward(self, hidden: np.ndarray, *, scale: float) -> tuple[Tensor, Tensor]:
        ids, scores = self.chosen(hidden * scale)
        return ids.view(Tensor), (2 * scores).astype(np.float32).view(Tensor)

    def __call__(self, hidden: np.ndarray, *, scale: float) -> None:
        output = self.forward(hidden, scale=scale)
        for hook in self.hooks:
            hook(self, (hidden,), {"scale": scale}, output)


def recorded(layers: int, look_ahead: int) -> tuple[RecordedRequest, list[Gate], np.ndarray]:
    """A request of one prefill and two decode passes, its gates and what each was given."""
    random = np.random.default_rng(3)
    gates = [Gate(random.random((WIDTH, EXPERTS))) for _ in range(layers)]
    hidden = random.random((layers, sum(PASSES), WIDTH))
    routers = Routers(tuple(gates), tuple(range(layers)), EXPERTS, TOP_K)
    with routers.listening(look_ahead) as heard:
        for first, last in zip(np.cumsum((0, *PASSES)), np.cumsum(PASSES), strict=False):
            for gate, of_layer in zip(gates, hidden, strict=True):
                gate(of_layer[first:last], scale=1.0)
    assert not any(gate.hooks for gate in gates)
    return request_of(heard, PASSES[0]), gates, hidden


@pytest.mark.parametrize("look_ahead", [1, 2, 3])
def test_a_layers_router_predicts_from_what_one_before_was_given(look_ahead: int) -> None:
    request, gates, hidden = recorded(4, look_ahead)
    assert request.predicted is not None
    assert request.predicted.shape == (sum(PASSES), look_ahead, 4, TOP_K)
    for distance in range(1, look_ahead + 1):
        found = request.predicted[:, distance - 1]
        assert (found[:, :distance] == NO_EXPERT).all()
        for layer in range(distance, 4):
            ids, _ = gates[layer].chosen(hidden[layer - distance])
            assert (found[:, layer] == ids[:, ::-1]).all()  # the largest weight first


def test_predictions_change_nothing_of_what_is_recorded() -> None:
    (without, gates, hidden), (request, *_) = recorded(3, 0), recorded(3, 2)
    assert without.predicted is None
    for name in ("ids", "weights"):
        assert np.array_equal(getattr(without, name), getattr(request, name))
    ids, scores = gates[1].chosen(hidden[1])
    assert (without.ids[:, 1] == ids[:, ::-1]).all()
    assert without.weights[:, 1] == pytest.approx(scores[:, ::-1])  # without the gate's scale


def test_no_farther_than_there_are_layers() -> None:
    routers = Routers((None,) * 3, (0, 1, 2), EXPERTS, TOP_K)
    routers.check_look_ahead(2)
    with pytest.raises(InputError, match="3 is more than the 2 MoE layers behind the first"):
        routers.check_look_ahead(3)
