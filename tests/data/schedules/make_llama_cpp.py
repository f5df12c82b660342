"""Writes ``llama_cpp.json``: what llama.cpp's own server decides for small drawn workloads.

    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36    (and unpack it: DIR)
    cd DIR/vendor/llama.cpp && patch -p1 < llama_cpp.patch
    cmake -B build -DLLAMA_OPENSSL=OFF && cmake --build build --target llama-server
    python tests/data/schedules/make_llama_cpp.py DIR/vendor/llama.cpp    (needs numpy)

The server runs as it is, with models of one or two layers and random weights, one of them with
recurrent layers. ``llama_cpp.patch`` lets it say who is in which slot and what each pass has of
whom, wait at each batch until this script has posted what comes before it, and keep checkpoints as
for a model with a sliding window. A pass takes ``STEP`` ticks: real time has no part in it. Left
out are prefixes that a slot still has, requests that a slot cannot hold, and drafts.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

VERSION = "llama-cpp-python 0.3.36"
STEP, CONTEXT, PORT, WORDS = 10, 1 << 16, 18080, 41
SIZES = {"context": CONTEXT, "embedding": 32, "feed_forward": 64, "heads": 2, "tokens": 259 + WORDS}
Shapes = dict[str, tuple[int, ...]]
KEPT = 3
"""Tokens that a recurrent layer looks at."""
PATIENCE_S = 0.03
"""Until a request that was posted stands in the server's line."""


def write_models(sources: Path) -> None:
    """A llama of one layer, and an LFM2 of two, of which the first is recurrent."""
    wide, inner = SIZES["embedding"], SIZES["feed_forward"]
    head = wide // SIZES["heads"]
    network = {"ffn_norm": (wide,), "ffn_gate": (inner, wide), "ffn_up": (inner, wide),
               "ffn_down": (wide, inner), "attn_norm": (wide,)}  # fmt: skip
    attention = network | {f"attn_{name}": (wide, wide) for name in ("q", "k", "v", "output")}
    convolution = {"shortconv.conv": (wide, KEPT), "shortconv.in_proj": (3 * wide, wide),
                   "shortconv.out_proj": (wide, wide)}  # fmt: skip
    normed = attention | {"attn_q_norm": (head,), "attn_k_norm": (head,)}
    ends: Shapes = dict.fromkeys(("token_embd", "output"), (SIZES["tokens"], wide))
    write_model(sources, "llama", ends | {"output_norm": (wide,)}, [attention])
    layers = [network | convolution, normed]
    write_model(sources, "lfm2", ends | {"token_embd_norm": (wide,)}, layers)


def write_model(sources: Path, kind: str, ends: Shapes, layers: list[Shapes]) -> None:
    """A model with random weights."""
    sys.path.insert(0, str(sources / "gguf-py"))
    gguf = importlib.import_module("gguf")
    writer = gguf.GGUFWriter(sources / f"{kind}.gguf", kind)
    wide, heads = SIZES["embedding"], SIZES["heads"]
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(wide)
    writer.add_block_count(len(layers))
    writer.add_feed_forward_length(SIZES["feed_forward"])
    writer.add_head_count(heads)
    writer.add_head_count_kv([heads if "attn_q" in layer else 0 for layer in layers])
    writer.add_shortconv_l_cache(KEPT)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(wide // heads)
    writer.add_vocab_size(SIZES["tokens"])
    writer.add_tokenizer_model("llama")
    of_bytes = [f"<0x{byte:02X}>".encode() for byte in range(256)]
    words = [f"t{number}".encode() for number in range(WORDS)]
    writer.add_token_list([b"<unk>", b"<s>", b"</s>", *of_bytes, *words])
    writer.add_token_scores([0.0] * SIZES["tokens"])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * WORDS)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    drawn = np.random.default_rng(0)
    of_layers = {f"blk.{n}.{name}": shape for n, layer in enumerate(layers)
                 for name, shape in layer.items()}  # fmt: skip
    for name, shape in (ends | of_layers).items():
        values = drawn.standard_normal(shape) / 10
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Server:
    """One that serves a workload, and what it says."""

    def __init__(self, sources: Path, scheduler: dict[str, Any]) -> None:
        self.gate = sources / "gate"
        self.gate.write_text("0")
        model, keeps = sources / "llama.gguf", scheduler["checkpoints"]
        if scheduler["recurrent"]:
            model = sources / "lfm2.gguf"
        words = {"-m": model, "-c": CONTEXT, "-np": scheduler["max_num_seqs"],
                 "-b": scheduler["n_batch"], "-ub": scheduler["n_ubatch"], "-t": 1,
                 "--ctx-checkpoints": 32 if keeps else 0, "--port": PORT,
                 "--slot-prompt-similarity": 0, "--cache-ram": 0}  # fmt: skip
        unified = "--kv-unified" if scheduler["kv_unified"] else "--no-kv-unified"
        line = [str(one) for pair in words.items() for one in pair]
        asked = {"SCHEDULE_GATE": str(self.gate)}
        if keeps:
            asked["SCHEDULE_CHECKPOINTS"] = "1"
        self.process = subprocess.Popen(
            [sources / "build" / "bin" / "llama-server", *line, unified, "--no-warmup"],
            env=os.environ | asked, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.asking = list[threading.Thread]()
        self.said: SimpleQueue[list[str]] = SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        while not self._is_there():
            time.sleep(PATIENCE_S)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if match := re.search(r"schedule: (.*)", line):
                self.said.put(match[1].split())

    def _is_there(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def post(self, prompt: int, answer: int, number: int) -> None:
        """Ask for the answer to a prompt that begins as no other."""
        drawn = random.Random(number)
        tokens = [259 + number % WORDS, *(drawn.randrange(259, 259 + WORDS) for _ in range(prompt))]
        body = {"prompt": tokens[:prompt], "n_predict": answer, "ignore_eos": True,
                "cache_prompt": False, "temperature": 0}  # fmt: skip
        request = urllib.request.Request(
            f"http://127.0.0.1:{PORT}/completion", json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        asking = threading.Thread(target=lambda: urllib.request.urlopen(request).read())
        asking.start()
        self.asking.append(asking)
        time.sleep(PATIENCE_S)

    def close(self) -> None:
        """It serves no longer, once all answers are there."""
        for asking in self.asking:
            asking.join()
        self.process.kill()
        self.process.wait()


def steps_of(server: Server, asked: list[list[Any]]) -> list[list[Any]]:
    """Post what is ``asked``, [prompt, answer, batch before which it comes, ...], each prompt of
    another length; the tick at which it comes takes the place of its batch. What each pass has, as
    [tick, [[request, tokens]], preemptions].
    """
    number_of = {one[0]: number for number, one in enumerate(asked)}
    left = {number: one[0] + one[1] - 1 for number, one in enumerate(asked)}
    slots, steps, posted, tick, batch = dict[int, int](), list[list[Any]](), 0, 0, 0

    def post(until: int) -> None:
        nonlocal posted
        while posted < len(asked) and asked[posted][2] <= until:
            asked[posted][2] = tick
            server.post(asked[posted][0], asked[posted][1], posted)
            posted += 1

    while posted < len(asked):
        post(asked[posted][2])  # the server is idle
        while any(left[number] for number in range(posted)):
            what, *said = server.said.get(timeout=60)
            if what == "slot":
                slots[int(said[0])] = number_of[int(said[1])]
            elif what == "batch":
                batch = int(said[0])
                post(batch)
                server.gate.write_text(str(batch))
            elif batch:  # before, it has tried what its memory can do
                pairs = [map(int, one.split(":")) for one in said]
                took = [[slots[slot], count] for slot, count in pairs]
                for number, count in took:
                    left[number] -= count
                steps.append([tick, took, []])
                tick += STEP
        tick += STEP // 2
    return steps


def requests_of(drawn: random.Random, changes: dict[str, Any]) -> list[list[Any]]:
    """Prompts of different lengths, by the batch before which they come."""
    count, batch = changes.pop("count", 16), 1
    lengths = drawn.sample(range(1, changes.pop("longest", 60) + 1), count)
    answers, gap = changes.pop("answers", 20), changes.pop("gap", 0)
    found = list[list[Any]]()
    for length in lengths:
        batch += drawn.randrange(gap + 1)
        found.append([length, drawn.randint(1, answers), batch, 0, 0, None, 0])
    return found


CASES: dict[str, dict[str, Any]] = {
    "at once": {},
    "one slot": {"max_num_seqs": 1},
    "one slot, in time": {"max_num_seqs": 1, "gap": 30},
    "in time": {"gap": 6},
    "seldom": {"gap": 40},
    "long prompts": {"longest": 300, "gap": 8},
    "long prompts, one cache": {"longest": 300, "gap": 8, "kv_unified": True},
    "one cache": {"kv_unified": True},
    "one cache, in time": {"kv_unified": True, "gap": 5},
    "one cache, small passes": {"kv_unified": True, "n_ubatch": 8, "gap": 4},
    "small passes": {"n_ubatch": 8, "gap": 4},
    "a batch is a pass": {"n_batch": 16, "gap": 4},
    "large batches": {"n_batch": 256, "longest": 200},
    "large batches, one cache": {"n_batch": 256, "longest": 200, "kv_unified": True},
    "eight slots": {"max_num_seqs": 8, "gap": 3},
    "eight slots, one cache": {"max_num_seqs": 8, "gap": 3, "kv_unified": True},
    "sixteen slots": {"max_num_seqs": 16, "count": 40, "gap": 2},
    "short answers": {"answers": 2, "gap": 2, "max_num_seqs": 3},
    "answers of a token": {"answers": 1, "max_num_seqs": 3},
    "checkpoints": {"checkpoints": True, "gap": 5},
    "checkpoints of long prompts": {"checkpoints": True, "longest": 300, "gap": 8},
    "checkpoints, one cache": {"checkpoints": True, "kv_unified": True, "longest": 200, "gap": 5},
    "checkpoints, a batch is a pass": {"checkpoints": True, "n_batch": 16, "longest": 90, "gap": 4},
    "recurrent": {"recurrent": True, "gap": 5},
    "recurrent, one cache": {"recurrent": True, "kv_unified": True, "gap": 5},
    "recurrent, one cache, at once": {"recurrent": True, "kv_unified": True, "longest": 200},
    "recurrent, eight slots": {"recurrent": True, "kv_unified": True, "max_num_seqs": 8, "gap": 2},
    "recurrent, checkpoints": {
        "recurrent": True,
        "kv_unified": True,
        "checkpoints": True,
        "longest": 200,
        "gap": 5,
    },
    "checkpoints, one slot": {"checkpoints": True, "max_num_seqs": 1, "longest": 200},
}
USUAL = {"max_num_seqs": 4, "n_batch": 64, "n_ubatch": 16, "kv_unified": False,
         "recurrent": False, "checkpoints": False}  # fmt: skip


def main(sources: Path) -> None:
    """Write all cases."""
    folder = Path(__file__).parent
    write_models(sources)
    cases = list[dict[str, Any]]()
    for name, changes in CASES.items():
        asked = requests_of(random.Random(name), changes := dict(changes))
        scheduler = USUAL | changes
        with closing(Server(sources, scheduler)) as server:
            steps = steps_of(server, asked)
        cases.append({
            "name": name, "block_size": 1, "blocks": CONTEXT, "prefix_caching": False,
            "scheduler": scheduler, "requests": asked, "steps": steps,
        })  # fmt: skip
    told = {"llama.cpp": VERSION, "cases": cases}
    text = json.dumps(told, separators=(",", ":")) + "\n"
    (folder / "llama_cpp.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
