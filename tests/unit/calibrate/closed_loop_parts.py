"""A decoder small enough to run in a test, and recordings made by hand."""

import json

import numpy as np

from moesim.calibrate.closed_loop.clock import HEAD, PARTS
from moesim.calibrate.closed_loop.recording import Recording, Setting
from moesim.calibrate.closed_loop.replay import CHARGES, Replay

CONFIG = {
    "model_type": "mixtral",
    "torch_dtype": "float32",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 6,
    "num_experts_per_tok": 2,
    "vocab_size": 60,
}


def write_config(folder, **changes):
    path = folder / "tiny.json"
    path.write_text(json.dumps(CONFIG | changes), encoding="utf-8")
    return path


def recording(times_ns, *, batch=1, hits=((1,),), activations=((2,),)):
    """One step of one layer; ``times_ns`` [rounds, parts]."""
    times = np.array(times_ns)
    return Recording(
        setting=Setting(50, 4, batch),
        ids=np.zeros((1, batch, 1, 2), np.uint16),
        activations=np.array(activations),
        hits=np.array(hits),
        layers=np.where(np.arange(len(PARTS)) == HEAD, -1, 0),
        parts=np.arange(len(PARTS)),
        times_ns=times,
        wall_ns=times.sum(axis=1, keepdims=True),
    )


def replayed(duration_ns, *, hits=((1,),), activations=((2,),), **parts_ns):
    return Replay(
        activations=np.array(activations),
        hits=np.array(hits),
        duration_ns=duration_ns,
        parts_ns=dict.fromkeys(CHARGES, 0) | parts_ns,
        layers_ns=np.array([duration_ns - 2_000_000]),
    )
