"""Broken traces and recordings: one clear line, exit code 2, never a traceback; nothing is written.

A row is a name, a function that writes the broken file into a folder and returns its path, and
words of the message. ``TRACES`` are read as traces, ``RECORDINGS`` imported. Add rows at will.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moesim.cli.main import main

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "traces" / "quickstart.parquet"
SAMPLES = ROOT / "tests" / "data" / "importers"


def written(name, content):
    def write(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return write


def trace_with(change):
    """The first rows of the shipped trace, with another table."""

    def write(folder):
        table = change(pq.read_table(QUICKSTART).slice(0, 40))
        pq.write_table(table, folder / "t.parquet")
        return folder / "t.parquet"

    return write


def metadata_with(**changes):
    def change(table):
        values = json.loads(table.schema.metadata[b"moesim"])
        values.update({k: v for k, v in changes.items() if v is not None})
        kept = {k: v for k, v in values.items() if changes.get(k, v) is not None}
        return table.replace_schema_metadata({b"moesim": json.dumps(kept).encode()})

    return trace_with(change)


def cell(column, row, edit):
    """The cell of ``column`` in ``row`` as an array, edited in place."""

    def change(table):
        rows = [bytearray(value) for value in table[column].to_pylist()]
        edit(np.frombuffer(rows[row], dtype=np.uint16).reshape(24, 4))
        array = pa.array([bytes(value) for value in rows], type=table[column].type)
        return table.set_column(table.schema.get_field_index(column), column, array)

    return trace_with(change)


def column(name, values, kind):
    return trace_with(
        lambda table: table.set_column(
            table.schema.get_field_index(name), name, pa.array(values, type=kind)
        )
    )


def put(array, place, value):
    array[place] = value


def narrow(table):
    rows = [value[:96] for value in table["gate_weights"].to_pylist()]
    return table.set_column(4, "gate_weights", pa.array(rows, type=pa.binary(96)))


WHOLE = QUICKSTART.read_bytes()

TRACES: dict[str, tuple[Any, ...]] = {
    "missing file": (lambda folder: folder / "none.parquet", "no such file"),
    "folder": (lambda folder: folder, "is a folder: name a trace file"),
    "empty file": (written("t.parquet", b""), "is empty (0 bytes)"),
    "text": (written("t.parquet", b"request,expert\n0,1\n"), "is not a Parquet file"),
    "npz named parquet": (
        written("t.parquet", (SAMPLES / "npz.npz").read_bytes()),
        "is not a Parquet file",
    ),
    "only the magic": (written("t.parquet", b"PAR1"), "not readable as Parquet"),
    "truncated": (written("t.parquet", WHOLE[: len(WHOLE) // 2]), "not readable as Parquet"),
    "footer cut": (written("t.parquet", WHOLE[:-20]), "not readable as Parquet"),
    "damaged page": (
        written("t.parquet", WHOLE[:90_000] + b"\0" * 500 + WHOLE[90_500:]),
        "not readable as Parquet",
    ),
    "damaged footer": (
        written("t.parquet", WHOLE[:-900] + b"\xff" * 400 + WHOLE[-500:]),
        "not readable as Parquet",
    ),
    "no metadata": (
        trace_with(lambda table: table.replace_schema_metadata({})),
        "without 'moesim' metadata",
    ),
    "metadata not JSON": (
        trace_with(lambda table: table.replace_schema_metadata({b"moesim": b"{oops"})),
        "metadata is not valid JSON",
    ),
    "metadata a list": (
        trace_with(lambda table: table.replace_schema_metadata({b"moesim": b"[1]"})),
        "metadata holds a list, no JSON object",
    ),
    "a later format": (metadata_with(format_version=2), "format_version 2", "update moesim"),
    "no experts": (metadata_with(experts=None), "has no 'experts'"),
    "experts as text": (metadata_with(experts="32"), "'experts' is '32'", "must be int"),
    "unknown key": (metadata_with(expert=3), "unknown key 'expert'", "did you mean 'experts'?"),
    "wrong k": (metadata_with(top_k=8), "expert_ids", "fixed_size_binary[384]", "top-8"),
    "top_k above experts": (metadata_with(top_k=33), "top_k = 33", "from 1 to experts = 32"),
    "wrong layers": (metadata_with(moe_layer_ids=[0, 1]), "2 layers x top-4"),
    "layers not rising": (metadata_with(moe_layer_ids=[3, 1]), "must rise"),
    "a column missing": (
        trace_with(lambda table: table.drop_columns(["position"])),
        "position: column missing",
    ),
    "a column misspelt": (
        trace_with(
            lambda table: table.rename_columns(
                [*table.column_names[:4], "gate_weigths"]
            ).replace_schema_metadata(table.schema.metadata)
        ),
        "gate_weigths: is not a column",
        "did you mean 'gate_weights'?",
    ),
    "ids as lists": (
        column("expert_ids", [[1, 2]] * 40, pa.list_(pa.int32())),
        "expert_ids: is list<",
        "must be fixed_size_binary[192]",
    ),
    "weights of another shape": (trace_with(narrow), "gate_weights", "fixed_size_binary[192]"),
    "positions as text": (column("position", ["1"] * 40, pa.string()), "position: is string"),
    "positions too large": (column("position", [2**40] * 40, pa.int64()), "1099511627776"),
    "an empty cell": (
        column("request_id", [0] * 39 + [None], pa.int32()),
        "request_id: has empty cells",
    ),
    "no rows": (trace_with(lambda table: table.slice(0, 0)), "has 0 tokens"),
    "an id out of range": (
        cell("expert_ids", 9, lambda ids: put(ids, (7, 2), 32)),
        "expert id 32 at row 9 (request 2), MoE layer 7: must be from 0 to 31",
    ),
    "an expert twice": (
        cell("expert_ids", 9, lambda ids: put(ids, (7, 1), ids[7, 0])),
        "expert_ids: experts",
        "must differ",
    ),
    "a weight that is no number": (
        cell("gate_weights", 3, lambda bits: put(bits, (0, 0), 0x7E00)),
        "gate_weights: weight nan at row 3",
    ),
    "requests torn apart": (
        column("request_id", [0, 1] * 20, pa.int32()),
        "request_id: torn apart",
        "must be together",
    ),
    "an unknown phase": (column("phase", [1] * 39 + [5], pa.uint8()), "phase 5 at row 39"),
    "positions backwards": (
        column("position", list(range(40, 0, -1)), pa.int32()),
        "position 39 at row 1",
        "must be larger",
    ),
}


BOTH_COLUMNS = ("wrong k", "wrong layers")  # ids and weights are each told


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return written("r.npz", buffer.getvalue())


def npy(array, name="r.npy"):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return written(name, buffer.getvalue())


def torch_file(folder):
    with zipfile.ZipFile(folder / "r.zip", "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02.")
    return folder / "r.zip"


IDS = np.tile(np.arange(4), (6, 2, 1))
OBJECTS = np.array([{"a": 1}, None], dtype=object)
META = b'{"type": "meta", "model_id": "m", "top_k": 2}\n'
ROUTE = b'{"type": "route", "req_id": "a", "token_idx": 0, "layer": 0, "topk_ids": [0, 1]}\n'

RECORDINGS: dict[str, tuple[Any, ...]] = {
    "missing file": (lambda folder: folder / "none.npz", "no such file"),
    "empty file": (written("r.npz", b""), "is empty (0 bytes)"),
    "a text": (
        written("r.txt", b"hello\n"),
        "not a known format",
        "moe-cache-lab, npz, route-trace",
    ),
    "an empty folder": (lambda folder: folder, "not a known format"),
    "a trace already": (written("r.parquet", WHOLE), "a trace already", "trace validate", "npz"),
    "a pickle by name": (written("r.pkl", pickle.dumps(1)), "never opened", "numpy.savez"),
    "a torch file": (written("r.pt", b"PK\3\4"), "never opened"),
    "a pickle by content": (written("r.dat", pickle.dumps([1])), "never opened"),
    "a torch file by content": (torch_file, "never opened"),
    "a truncated npz": (
        written("r.npz", (SAMPLES / "npz.npz").read_bytes()[:700]),
        "damaged npz file",
    ),
    "objects in npz": (npz(expert_ids=OBJECTS), "array 'expert_ids' is a pickle"),
    "objects in npy": (npy(OBJECTS), "is a pickle", "never opened"),
    "npz of other names": (npz(ids=np.zeros(3)), "holds ['ids'], not a known format"),
    "npy without a model": (npy(IDS), "name the model with --model"),
    "ids as floats": (npz(expert_ids=IDS * 1.0), "expert_ids: is float64", "must be integers"),
    "ids of two axes": (npz(expert_ids=IDS[0]), "has shape (2, 4)", "[tokens, moe_layers, top_k]"),
    "ids of no token": (npz(expert_ids=IDS[:0]), "has shape (0, 2, 4)"),
    "negative ids": (npz(expert_ids=IDS - 3), "expert_ids: holds -3"),
    "ids too large": (npz(expert_ids=IDS + 70000), "holds 70003"),
    "experts twice": (npz(expert_ids=IDS * 0), "must differ; 12 such in all"),
    "offsets not rising": (
        npz(expert_ids=IDS, offsets=np.array([0, 4, 3, 6])),
        "offsets: is [0, 4, 3, 6]: must rise from 0 to the 6 tokens",
    ),
    "offsets short": (npz(expert_ids=IDS, offsets=np.array([0, 5])), "offsets: is [0, 5]"),
    "offsets as floats": (npz(expert_ids=IDS, offsets=np.array([0.0, 6.0])), "must be integers"),
    "weights of another shape": (
        npz(expert_ids=IDS, gate_weights=np.zeros((6, 2, 3), np.float16)),
        "gate_weights: has shape (6, 2, 3): must be that of the expert ids, (6, 2, 4)",
    ),
    "weights as integers": (npz(expert_ids=IDS, gate_weights=IDS), "must be floating point"),
    "weights above 1": (npz(expert_ids=IDS, gate_weights=IDS * 1.0), "weight 2.0 at row 0"),
    "first positions of another number": (
        npz(expert_ids=IDS, first_position=np.array([1, 2])),
        "first_position: is int64[2]: must be integers [1]",
    ),
    "a log with an endless id": (
        written("r.jsonl", META + ROUTE.replace(b"[0, 1]", b"[0, 1%s]" % (b"0" * 30))),
        "line 2: topk_ids holds 1000",
        "no expert or weight is as large",
    ),
    "a log with an endless top_k": (
        written("r.jsonl", META.replace(b"2}", b"2%s}" % (b"0" * 30)) + ROUTE),
        "top_k: is 2000",
        "must be from 1 to 65534",
    ),
    "a header cut in a literal": (
        written("r.npy", b"\x93NUMPY\x01\x00\x76\x00{'descr': (" + b" " * 106 + b"\n"),
        "array 'r.npy' is not readable as numpy",
    ),
    "a first position beyond int32": (
        npz(expert_ids=IDS, first_position=np.array([1 << 40])),
        "first_position: holds 1099511627776: must be 1073741824 or less",
    ),
    "logits with a complex top_k": (
        npz(router_logits=np.zeros((2, 3, 4)), top_k=1j),
        "top_k: is 1j: must be from 1 to the 4 experts",
    ),
    "logits with no truth value": (
        npz(router_logits=np.zeros((2, 3, 4)), top_k=1, norm_topk_prob=np.zeros(0)),
        "norm_topk_prob: is float64[0]: must be true or false",
    ),
    "logits beyond float32": (
        npz(router_logits=np.full((2, 3, 4), 1e300), top_k=1),
        "is not finite in layer 0, token 0",
    ),
    "logits without top_k": (npz(router_logits=np.zeros((2, 3, 4))), "add --top-k or --model"),
    "logits with too large a top_k": (
        npz(router_logits=np.zeros((2, 3, 4)), top_k=5),
        "top_k: is 5: must be from 1 to the 4 experts",
    ),
    "logits of two axes": (
        npz(router_logits=np.zeros((2, 3)), top_k=1),
        "[moe_layers, tokens, exp",
    ),
    "logits not finite": (
        npz(router_logits=np.full((2, 3, 4), np.nan), top_k=1),
        "not finite in layer 0, token 0",
    ),
    "logits of unequal layers": (
        npz(layer_0=np.zeros((3, 4)), layer_1=np.zeros((2, 4)), top_k=1),
        "must be equal",
    ),
    "a log without routes": (written("r.jsonl", META), "has no route line"),
    "a log without top_k": (
        written("r.jsonl", b'{"type": "meta"}\n' + ROUTE),
        "top_k: is None in the meta line",
    ),
    "a log cut off": (
        written("r.jsonl", META + ROUTE[:-9]),
        "r.jsonl:2:73: is not valid JSON",
        "complete?",
    ),
    "a nested log": (written("r.jsonl", META + b"[" * 100_000), "r.jsonl:2:101: is nested"),
    "a log with too many ids": (
        written("r.jsonl", META + ROUTE.replace(b"[0, 1]", b"[0, 1, 2]")),
        "line 2: topk_ids has 3 values",
    ),
    "a log with ids as text": (
        written("r.jsonl", META + ROUTE.replace(b"[0, 1]", b'["0"]')),
        "must be a list of numbers",
    ),
    "a log with a layer missing": (
        written("r.jsonl", META + ROUTE + ROUTE.replace(b'"layer": 0', b'"layer": 1') + ROUTE),
        "line 4: this token has layers [0], the first one [0, 1]",
    ),
}


def assert_told(capsys, path, words, count=1):
    output = capsys.readouterr()
    assert output.out == ""
    lines = output.err.splitlines()
    assert len(lines) == count
    assert all(line.startswith(str(path)) for line in lines)
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("name", TRACES)
def test_broken_trace(name, tmp_path, capsys):
    write, *words = TRACES[name]
    path = write(tmp_path)
    assert main(["trace", "stats", str(path)]) == 2
    assert_told(capsys, path, words, 2 if name in BOTH_COLUMNS else 1)


@pytest.mark.parametrize("name", RECORDINGS)
def test_broken_recording(name, tmp_path, capsys):
    write, *words = RECORDINGS[name]
    path, out = write(tmp_path), tmp_path / "out.parquet"
    assert main(["trace", "import", str(path), "-o", str(out)]) == 2
    assert_told(capsys, path, words)
    assert not out.exists()


def test_a_pickle_is_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "opened",))

    (tmp_path / "r.pkl").write_bytes(pickle.dumps(Trap()))
    np.save(tmp_path / "r.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    for name in ("r.pkl", "r.npy"):
        main(["trace", "import", str(tmp_path / name), "-o", str(tmp_path / "out.parquet")])
    assert not (tmp_path / "opened").exists()


def test_an_experiment_refuses_a_broken_trace_too(tmp_path, capsys):
    path = TRACES["an id out of range"][0](tmp_path)
    (tmp_path / "e.yaml").write_text(f"model: gpt-oss-20b\nhardware: h100-sxm\ntrace: {path}\n")
    assert main(["check", str(tmp_path / "e.yaml")]) == 2
    assert "expert id 32" in capsys.readouterr().err


def test_an_importer_that_is_not_known_names_the_option(tmp_path, capsys):
    path = written("r.jsonl", META + ROUTE)(tmp_path)
    out = str(tmp_path / "out.parquet")
    assert main(["trace", "import", str(path), "-o", out, "--importer", "npx"]) == 2
    assert capsys.readouterr().err.startswith("--importer: 'npx' is not known; allowed: ")
