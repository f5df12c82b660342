from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.trace.mapped import map_arrays, write_arrays
from moesim.trace.slicing import slice_trace

ARRAYS = ("expert_ids", "request_id", "position", "phase", "gate_weights", "predicted_ids")


@pytest.mark.parametrize("bare", [False, True])
def test_a_mapped_trace_is_the_trace(random_trace, tmp_path, bare):
    trace = replace(random_trace, gate_weights=None, predicted_ids=None) if bare else random_trace
    write_arrays(trace, tmp_path / "arrays")
    mapped = map_arrays(tmp_path / "arrays")
    assert mapped.metadata == trace.metadata
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(mapped, name), getattr(trace, name), err_msg=name)
    assert slice_trace(mapped, slice(1)).tokens == slice_trace(trace, slice(1)).tokens


def test_the_arrays_are_mapped_and_a_write_reaches_no_other_process(random_trace, tmp_path):
    write_arrays(random_trace, tmp_path / "arrays")
    mapped = map_arrays(tmp_path / "arrays")
    assert isinstance(mapped.expert_ids.base, np.memmap)
    mapped.expert_ids[0] = 0
    again = map_arrays(tmp_path / "arrays")
    np.testing.assert_array_equal(again.expert_ids, random_trace.expert_ids)


def test_a_folder_that_cannot_be_written_is_named(random_trace, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="arrays: cannot be written"):
        write_arrays(random_trace, tmp_path / "file" / "arrays")
    write_arrays(random_trace, tmp_path / "whole")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
