from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.trace import parquet, read_trace, write_trace
from moesim.trace.importing import import_trace
from moesim.trace.parquet import load_trace
from moesim.trace.slicing import slice_trace
from moesim.trace.validate import findings

ARRAYS = ("expert_ids", "request_id", "position", "phase", "gate_weights", "predicted_ids")


def assert_same(one, other):
    assert one.metadata == other.metadata
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_round_trip(random_trace, tmp_path):
    write_trace(random_trace, tmp_path / "t.parquet")
    assert_same(read_trace(tmp_path / "t.parquet"), random_trace)


def test_round_trip_without_options(random_trace, tmp_path):
    bare = replace(random_trace, gate_weights=None, predicted_ids=None)
    write_trace(bare, tmp_path / "t.parquet")
    again = read_trace(tmp_path / "t.parquet")
    assert again.gate_weights is None
    assert again.predicted_ids is None


def test_a_look_ahead_over_several_distances_comes_back(random_trace, tmp_path):
    predicted = np.stack([random_trace.predicted_ids, random_trace.predicted_ids[::-1]], axis=1)
    trace = replace(random_trace, predicted_ids=np.ascontiguousarray(predicted))
    write_trace(trace, tmp_path / "t.parquet")
    again = read_trace(tmp_path / "t.parquet")
    np.testing.assert_array_equal(again.predicted_ids, predicted)
    np.testing.assert_array_equal(again.look_ahead[:, 1], random_trace.predicted_ids[::-1])
    np.testing.assert_array_equal(random_trace.look_ahead[:, 0], random_trace.predicted_ids)
    kept = slice_trace(trace, layers=slice(1, 2))
    np.testing.assert_array_equal(kept.predicted_ids, predicted[:, :, 1:2])


def test_a_wrong_id_over_a_distance_is_named(random_trace):
    predicted = np.stack([random_trace.predicted_ids] * 2, axis=1)
    predicted[3, 1, 0, 1] = random_trace.experts
    found = findings(replace(random_trace, predicted_ids=predicted))
    assert [(one.column, one.count) for one in found] == [("predicted_ids", 1)]
    assert f"expert id {random_trace.experts}" in found[0].what
    with pytest.raises(InputError, match="predicted_ids has shape"):
        replace(random_trace, predicted_ids=predicted[:, :, :-1])


def test_same_trace_same_bytes(random_trace, tmp_path):
    digests = set()
    for name in ("a", "b"):
        write_trace(random_trace, tmp_path / name)
        write_trace(read_trace(tmp_path / name), tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_the_columns_are_what_the_format_says(random_trace, tmp_path):
    # read back with pyarrow alone, by the words of the format
    write_trace(random_trace, tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    assert [str(t) for t in table.schema.types] == [
        "int32",
        "int32",
        "uint8",
        *["fixed_size_binary[18]"] * 3,
    ]
    row = table["expert_ids"][40].as_py()
    ids = np.frombuffer(row, dtype="<u2").reshape(3, 3)
    np.testing.assert_array_equal(ids, random_trace.expert_ids[40])
    weights = np.frombuffer(table["gate_weights"][40].as_py(), dtype="<f2").reshape(3, 3)
    np.testing.assert_array_equal(weights, random_trace.gate_weights[40])
    metadata = json.loads(table.schema.metadata[b"moesim"])
    assert metadata["format_version"] == 1
    assert metadata["moe_layer_ids"] == [0, 1, 2]


def test_row_groups_hold_whole_requests(random_trace, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_TOKENS", 21)
    write_trace(random_trace, tmp_path / "t.parquet")
    metadata = pq.ParquetFile(tmp_path / "t.parquet").metadata
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert groups == [21, 15, 10, 15]
    assert_same(read_trace(tmp_path / "t.parquet"), random_trace)


@pytest.mark.parametrize("rows", [1, 7, 61])
@pytest.mark.parametrize("batch", [1, 10, 8192])
def test_row_groups_of_any_size(random_trace, tmp_path, monkeypatch, rows, batch):
    monkeypatch.setattr(parquet, "BATCH_TOKENS", batch)
    write_trace(random_trace, tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    pq.write_table(table, tmp_path / "other.parquet", row_group_size=rows, compression="snappy")
    assert_same(read_trace(tmp_path / "other.parquet"), random_trace)


def test_wider_integers_are_taken_where_they_fit(random_trace, tmp_path):
    write_trace(random_trace, tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    wide = table.set_column(1, "position", table["position"].cast(pa.int64()))
    pq.write_table(wide, tmp_path / "wide.parquet")
    assert_same(read_trace(tmp_path / "wide.parquet"), random_trace)


def test_a_failed_write_leaves_the_old_file(random_trace, tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    write_trace(random_trace, path)
    before = path.read_bytes()

    def fail(offsets):
        yield 0, 20
        raise KeyboardInterrupt

    monkeypatch.setattr(parquet, "_row_groups", fail)
    with pytest.raises(KeyboardInterrupt):
        write_trace(random_trace, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


def test_every_flipped_byte_of_the_pages_is_noticed(random_trace, tmp_path):
    path = tmp_path / "t.parquet"
    write_trace(random_trace, path)
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    changed = 0
    for place in range(4, footer, 41):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            read = read_trace(path)
        except InputError as refused:
            changed += str(path) in str(refused)
        else:
            assert_same(read, random_trace)  # a byte that means nothing
    assert changed > 10


def test_reading_and_writing_import_no_pandas(quickstart, tmp_path):
    code = (
        "import sys; from moesim.trace import read_trace, write_trace;"
        f"assert 'pyarrow' not in sys.modules; t = read_trace({str(quickstart)!r});"
        f"write_trace(t, {str(tmp_path / 't')!r}); assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_shipped_trace(quickstart):
    trace = read_trace(quickstart)
    assert quickstart.stat().st_size < 1_000_000
    assert (trace.tokens, trace.requests, trace.moe_layers) == (5077, 20, 24)
    assert (trace.top_k, trace.experts) == (4, 32)
    assert trace.metadata.licence == "Apache-2.0"
    assert "AmanPriyanshu/GPT-OSS-MoE-ExpertFingerprinting" in trace.metadata.source
    digest = hashlib.sha256(trace.expert_ids.tobytes()).hexdigest()
    assert digest.startswith("3c3a529b964d307a")


def test_a_shipped_trace_is_found_by_the_path_that_experiments_have(tmp_path, monkeypatch):
    """In a folder of one's own ``moesim check experiments/quickstart.yaml`` had it, and
    ``moesim trace stats traces/quickstart.parquet`` not.
    """
    monkeypatch.chdir(tmp_path)
    assert read_trace("traces/quickstart.parquet").tokens == 5077
    with pytest.raises(InputError, match="no such file"):
        read_trace("traces/other.parquet")


def test_the_shipped_trace_is_every_eighth_request(quickstart, recorded):
    shipped = read_trace(quickstart)
    whole = import_trace(recorded)
    excerpt = slice_trace(whole, slice(2, 160, 8))
    for name in ("expert_ids", "gate_weights", "position", "request_id"):
        np.testing.assert_array_equal(getattr(shipped, name), getattr(excerpt, name))


def test_a_folder_in_the_place_of_the_file_to_write(random_trace, tmp_path):
    with pytest.raises(InputError, match="is a folder; name the file to write"):
        write_trace(random_trace, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.yaml", "t.npz"])
def test_a_name_of_another_format_is_not_written_to(random_trace, tmp_path, name):
    with pytest.raises(InputError, match=r"is written as \.parquet.* write '.*t\.parquet'"):
        write_trace(random_trace, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_parameters_are_not_written_under_the_name_of_a_trace(quickstart, tmp_path, capsys):
    assert main(["trace", "fit", str(quickstart), "--out", str(tmp_path / "t.parquet")]) == 2
    assert "is written as .yaml" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(random_trace):
    with pytest.raises(InputError, match=r"--out: '/proc/t\.parquet' cannot be written"):
        write_trace(random_trace, "/proc/t.parquet")


def test_a_pipe_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet: is a pipe; name the trace file"):
        load_trace(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet: is a pipe; name the recording"):
        import_trace(tmp_path / "t.parquet")


@pytest.mark.parametrize(("claimed", "words"), [(62, "61"), (60, "more than 60")])
def test_a_footer_that_claims_other_rows_is_refused(random_trace, tmp_path, claimed, words):
    """Thrift's compact form: an i64 (0x16) of twice the number, then the list of row groups."""
    path = tmp_path / "t.parquet"
    write_trace(random_trace, path)
    content = path.read_bytes()
    place = content.rindex(bytes([0x16, 2 * random_trace.tokens, 0x19]))
    path.write_bytes(content[: place + 1] + bytes([2 * claimed]) + content[place + 2 :])
    with pytest.raises(InputError, match=f"its footer claims {claimed} rows, there are {words}:"):
        load_trace(path)
