"""What requests of a trace are about: by their ids, in files and slices, and from a list."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.testing.traces import toy_trace
from moesim.trace import RoutingTrace, read_trace, write_trace
from moesim.trace.domains import Domain, domain_of, domains_of
from moesim.trace.labelling import read_names, with_domains
from moesim.trace.metadata import decode_metadata, encode_metadata
from moesim.trace.slicing import slice_trace
from moesim.trace.statistics import statistics
from moesim.trace.synthesis import SyntheticTrace, synthesize

NAMES = ["prose", "code", "code"]


def labelled() -> RoutingTrace:
    return with_domains(toy_trace([(3, 4), (6, 2), (2, 9)]), NAMES)


@given(st.dictionaries(st.integers(-9, 40), st.sampled_from("abc"), min_size=1))
def test_each_request_is_of_its_domain(names: dict[int, str]) -> None:
    ids = np.array(list(names))
    domains = domains_of(list(names.values()), ids)
    assert [domains[n].name for n in domain_of(domains, ids)] == list(names.values())
    others = np.setdiff1d(np.arange(-12, 45), ids)
    assert (domain_of(domains, others) == -1).all()


def test_neighbours_are_a_run() -> None:
    assert domains_of(["a"] * 5, np.array([4, 5, 9, 6, 11])) == (
        Domain("a", ((4, 6), (9, 9), (11, 11))),
    )


def test_a_file_keeps_them(tmp_path: Path) -> None:
    write_trace(labelled(), tmp_path / "x.parquet")
    found = read_trace(tmp_path / "x.parquet").metadata
    assert found == labelled().metadata
    assert b"domains" not in encode_metadata(replace(found, domains=()))


@pytest.mark.parametrize("wrong", [[], {"a": [[1, 2, 3]]}, {"a": [1, 2]}, {"a": [[0, "1"]]}])
def test_others_are_an_error(wrong: Any) -> None:
    values = json.loads(encode_metadata(labelled().metadata))
    with pytest.raises(InputError, match=r"'domains' is .* must be runs of request ids by name"):
        decode_metadata(json.dumps({**values, "domains": wrong}).encode())


def test_a_slice_keeps_those_of_its_requests() -> None:
    part = slice_trace(labelled(), slice(1, 3))
    assert statistics(part)["domains"] == {"code": 2, "prose": 0}


def test_a_trace_that_is_drawn_says_them() -> None:
    values: Any = {
        "title": "t", "experts": 4, "top_k": 1, "moe_layer_ids": (0,),
        "requests": {"count": 30, "decode_tokens": {"kind": "fixed", "tokens": 2}},
        "domains": {"names": ("x", "y"), "shares": (1.0, 1.0)},
        "parts": ({"phases": ("decode",), "layers": 1,
                   "popularity": {"kind": "zipf", "exponent": (0.0,)}},),
    }  # fmt: skip
    drawn = statistics(synthesize(SyntheticTrace(**values)))["domains"]
    assert sum(drawn.values()) == len(values["requests"]) * 15
    assert min(drawn.values()) > 0
    assert statistics(synthesize(SyntheticTrace(**values), domain="y"))["domains"] == {"y": 30}
    one = {**values, "domains": {"names": ("x",), "shares": (1.0,)}}
    assert not synthesize(SyntheticTrace(**one)).metadata.domains


def test_a_list_labels_a_trace(tmp_path: Path, capsys: Any) -> None:
    trace, names, out = (tmp_path / name for name in ("a.parquet", "names.txt", "b.parquet"))
    write_trace(toy_trace([(3, 4), (6, 2), (2, 9)]), trace)
    names.write_text("prose\ncode\ncode\n")
    assert main(["trace", "label", str(trace), str(names), "-o", str(out)]) == 0
    assert "requests: 2 code, 1 prose" in capsys.readouterr().out
    assert read_trace(out).metadata == labelled().metadata
    assert main(["trace", "label", str(trace), str(names), "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["domains"] == {"code": 2, "prose": 1}
    assert main(["trace", "stats", str(out)]) == 0
    assert "2 code, 1 prose" in capsys.readouterr().out
    names.write_text("prose\n")
    assert main(["trace", "label", str(trace), str(names), "-o", str(out)]) == 2
    assert "1 name, and the trace has 3 requests" in capsys.readouterr().err


def test_an_empty_line_is_told(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("a\n\nb\n")
    with pytest.raises(InputError, match=r"names:2: has no name"):
        read_names(tmp_path / "names")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("fran\xe7ais\nfran\xe8ais\n".encode("latin-1"), "1:5: the byte 0xE7 is not UTF-8 text"),
        ("a\nb".encode("utf-16-le"), r"1: is 'a\\x00', no text"),
        (b"a\n\x1b[31m", r"2: is '\\x1b\[31m', no text"),
    ],
)
def test_names_that_are_no_text_are_told(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "names").write_bytes(content)
    with pytest.raises(InputError, match=f"names:{told}"):
        read_names(tmp_path / "names")


def test_names_are_as_editors_save_them(tmp_path: Path) -> None:
    (tmp_path / "names").write_bytes("\ufeff日本語\r\nmy  domain\u2028x \r\n".encode())
    assert read_names(tmp_path / "names") == ["日本語", "my  domain\u2028x"]
