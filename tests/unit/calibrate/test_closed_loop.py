"""The real decode with expert slots against moesim's replay of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from moesim.calibrate.closed_loop.clock import HostClock  # noqa: E402
from moesim.calibrate.closed_loop.forward import Decode, feed_forward  # noqa: E402
from moesim.calibrate.closed_loop.measure import Machine, measure  # noqa: E402
from moesim.calibrate.closed_loop.model import Decoder, sticky_tokens  # noqa: E402
from moesim.calibrate.closed_loop.pool import Activation, LruSlots, Pool, StreamPool  # noqa: E402
from moesim.calibrate.closed_loop.recording import Setting  # noqa: E402
from moesim.calibrate.closed_loop.replay import Simulated, replay  # noqa: E402
from moesim.calibrate.closed_loop.sizes import Sizes, check_memory, sizes_of  # noqa: E402
from moesim.config.errors import InputError  # noqa: E402
from moesim.hardware import load_software  # noqa: E402
from moesim.memory.activations import ActiveExperts  # noqa: E402
from moesim.memory.policies.lru import Lru  # noqa: E402
from moesim.memory.slots.residency import LayerCache  # noqa: E402
from moesim.model import load_model  # noqa: E402
from tests.unit.calibrate.closed_loop_parts import write_config  # noqa: E402

STEPS = 12


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def sizes(config):
    return sizes_of(load_model(str(config)))


def decoded(sizes, slots, batch, steps=STEPS):
    """Logits of every step, the routing, and the pool afterwards."""
    machine = Machine(sizes, "cpu")
    machine.pool.reset(slots)
    decode = Decode(machine.decoder, batch, 3, steps)
    tokens = sticky_tokens(sizes.vocabulary, batch, steps, 1)
    done = [decode.step(row, machine.pool, machine.clock) for row in tokens]
    return torch.stack([step.logits for step in done]), done, machine.pool


def test_sizes_are_those_of_the_priced_model(sizes):
    assert sizes == Sizes(
        layers=2, hidden=16, heads=4, kv_heads=2, head=4, experts=6, top_k=2, inter=24,
        vocabulary=60, dtype="fp32",
    )  # fmt: skip
    assert sizes.store_bytes == 2 * 6 * 3 * 16 * 24 * 4


@pytest.mark.parametrize("batch", [1, 4])
def test_hits_and_misses_are_those_of_the_replay(sizes, config, tmp_path, batch):
    """Also with fewer slots than a step needs, and with room for all."""
    settings = [Setting(0, slots, batch) for slots in (1, 2, 3, 5, 6)]
    found = measure(sizes, settings, "cpu", steps=STEPS, rounds=2)
    misses = [int((one.activations - one.hits).sum()) for one in found]
    assert misses == sorted(misses, reverse=True)
    assert misses[0] > misses[2] > misses[-1] == 0
    for one in found:
        simulated = replay(
            one, sizes, Simulated(str(config), "rtx-3060-12gb", "synchronous"), tmp_path
        )
        np.testing.assert_array_equal(one.activations, simulated.activations)
        np.testing.assert_array_equal(one.hits, simulated.hits)
        assert sum(simulated.parts_ns.values()) == simulated.duration_ns


active = st.lists(st.sets(st.integers(0, 7), min_size=1).map(sorted), min_size=1, max_size=30)


@given(steps=active, slots=st.integers(1, 7))
def test_slots_are_those_of_moesim(steps, slots):
    """Two programs, one from the other's description: hits, and what each copy waits for."""
    offsets = np.concatenate(([0], np.cumsum([len(step) for step in steps])))
    wanted = ActiveExperts(offsets, np.concatenate(steps).astype(np.int64))
    cache = LayerCache(Lru(), slots, np.zeros(8, np.int64), serial=True, resident_first=False)
    theirs = cache.decide(wanted, None)
    own = LruSlots(slots, 8)
    mine = [activation for step in steps for activation in own.activations(step)]
    assert [activation.expert for activation in mine] == theirs.expert.tolist()
    assert [activation.hit for activation in mine] == theirs.hit.astype(bool).tolist()
    assert [
        -1 if activation.after is None else activation.after for activation in mine
    ] == theirs.wait.tolist()


@pytest.mark.parametrize(("batch", "dtype"), [(1, "fp32"), (4, "fp32"), (2, "bf16")])
def test_slots_change_no_number(sizes, batch, dtype):
    sizes = replace(sizes, dtype=dtype)
    whole, _, _ = decoded(sizes, sizes.experts, batch)
    for slots in (1, 3):
        few, _, pool = decoded(sizes, slots, batch)
        assert torch.equal(few, whole)
        for layer, held in enumerate(pool.layers):
            assert len(held.slot_of) == slots
            for expert, slot in held.slot_of.items():
                assert torch.equal(pool.buffers[layer][slot], pool.store[layer][expert])


def test_the_mixture_is_the_weighted_sum_of_its_experts(sizes):
    decoder = Decoder(sizes, "cpu", 0)
    pool = Pool(decoder.store(), "cpu")
    pool.reset(2)
    normed = torch.randn(5, sizes.hidden, generator=torch.Generator().manual_seed(0))
    clock, decode = HostClock(), Decode(decoder, 5, 1, 1)
    clock.start()
    step = decode.step(torch.arange(5), pool, clock)
    hidden = torch.zeros_like(normed)
    mixed = decode._mixture(0, hidden, normed, pool, clock, step)
    logits = normed @ decoder.layers[0].router.T
    for token, row in enumerate(normed):
        best, ids = logits[token].topk(sizes.top_k)
        parts = zip(best.softmax(0), ids.tolist(), strict=True)
        expected = sum(w * feed_forward(sizes, pool.store[0][e], row[None])[0] for w, e in parts)
        torch.testing.assert_close(mixed[token], expected, rtol=1e-4, atol=1e-5)


def test_a_recording_is_a_valid_trace(sizes):
    (found,) = measure(sizes, [Setting(50, 3, 4)], "cpu", steps=STEPS, rounds=1)
    trace = found.trace(sizes, "tiny")
    assert (trace.requests, trace.tokens, trace.moe_layers) == (4, 4 * STEPS, 2)
    third = slice(2 * STEPS, 3 * STEPS)
    np.testing.assert_array_equal(trace.expert_ids[third], found.ids[:, 2])
    assert (np.diff(trace.position[third]) == 1).all()
    assert set(found.layers.tolist()) == {-1, 0, 1}
    assert (found.times_ns >= 0).all()


def test_requests_keep_to_a_topic():
    tokens = sticky_tokens(600, 3, 400, seed=2)
    assert tokens.shape == (400, 3)
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < 600
    same = (tokens[1:] % 6 == tokens[:-1] % 6).float().mean()
    assert 0.75 < same < 0.95


def test_without_overlap_a_copy_runs_alone(sizes, config, tmp_path):
    """Charges add up where nothing overlaps; the same copies beside kernels take less."""
    (found,) = measure(sizes, [Setting(50, 3, 4)], "cpu", steps=STEPS, rounds=1)
    alone, beside = (
        replay(found, sizes, Simulated(str(config), "rtx-3060-12gb", software), tmp_path)
        for software in ("synchronous", "ideal")
    )
    assert not load_software("synchronous").overlap
    assert load_software("ideal").overlap
    assert alone.parts_ns["experts"] == beside.parts_ns["experts"]
    assert alone.parts_ns["weights"] > beside.parts_ns["weights"]


class Event:
    """An event of the stand-in streams: what was done before it."""

    def __init__(self, done):
        self.done = frozenset(done)


class Stream:
    """A stand-in for a stream that notes what it has waited for."""

    def __init__(self):
        self.done = set()

    def wait_event(self, event):
        self.done |= event.done

    def record_event(self):
        return Event(self.done)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


class Slot:
    """A slot that notes copies in the stream's order."""

    def __init__(self, stream, number, copies):
        self.stream, self.number, self.copies = stream, number, copies

    def copy_(self, source, non_blocking):
        assert non_blocking
        self.copies.append((source, self.number, frozenset(self.stream.done)))
        self.stream.done.add(f"copy {source}")


class Cuda:
    """A stand-in for ``torch.cuda`` with one compute stream."""

    def __init__(self):
        self.compute = Stream()

    def current_stream(self):
        return self.compute

    def stream(self, stream):
        return stream


def test_copies_of_a_stream_wait_for_their_victims():
    pool = StreamPool.__new__(StreamPool)
    copies: list[Any] = []
    pool.cuda, pool.stream = Cuda(), Stream()
    pool.store = [list(range(6))]
    pool.buffers = [[Slot(pool.stream, slot, copies) for slot in range(2)]]
    pool.layers = [LruSlots(2, 6)]
    activations = pool.begin(0, [0, 1, 2, 5])
    assert [activation.after for activation in activations] == [None, None, 0, 1]
    assert [source for source, _, _ in copies] == [0, 1]
    for activation in activations:
        pool.ready(0, activation)
        assert f"copy {activation.expert}" in pool.cuda.compute.done
        pool.cuda.compute.done.add(f"ran {activation.expert}")
        pool.ran()
    waited = {source: before for source, _, before in copies}
    assert "ran 0" in waited[2]
    assert "ran 1" in waited[5]
    assert [slot for _, slot, _ in copies] == [0, 1, 0, 1]
    assert pool.begin(0, [2]) == [Activation(2, 0, hit=True)]


@pytest.mark.parametrize("model", ["gpt-oss-20b", "deepseek-v2-lite", "llama-3.1-8b", "t"])
def test_a_model_that_the_decoder_is_not_is_told(model):
    with pytest.raises(InputError, match=f"{model}"):
        sizes_of(load_model(model))


def test_a_model_larger_than_the_memory_is_told(sizes):
    check_memory(sizes, "cpu")
    with pytest.raises(InputError, match="smaller model"):
        check_memory(sizes_of(load_model("mixtral-8x7b")), "cpu")
