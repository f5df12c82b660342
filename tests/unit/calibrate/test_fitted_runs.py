"""No run of a pack is one that a price of its prediction was fitted to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml

from moesim.calibrate.published.pack import PublishedRun, pack_folder, read_pack, shipped_packs
from moesim.experiment.loading.names import needed
from moesim.experiment.loading.resolve import load_experiment
from moesim.hardware.load import gpu_names, load_hardware, load_software

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PROFILES = Path(__file__).parents[3] / "hardware_profiles"
RUNS = {pack: read_pack(pack_folder(pack)) for pack in shipped_packs()}
EVERY = [run for runs in RUNS.values() for run in runs]
FITTED, SPEED = re.compile(r"(^|is )fitted to one run\b"), re.compile(r"([\d.]+) tokens/s")
NAMED = re.compile(r"fitted to one run: (\w+),")


def fitted_runs(sources: Iterable[str], runs: Iterable[PublishedRun]) -> Iterator[str]:
    """Those of ``runs`` that a source names, or whose engine and speed it has."""
    for source in sources:
        if FITTED.search(source):
            named, speeds = NAMED.findall(source), [float(one) for one in SPEED.findall(source)]
            assert named or speeds, f"names no run: {source}"
            words = source.replace(",", " ").split()
            for run in runs:
                same = run.measured_tokens_per_s in speeds and run.family in words
                if run.run in named or (same and not run.of):
                    yield run.run


def shipped_sources() -> Iterator[str]:
    """Of every profile but hosts, which are fitted to runs of packs and may not price them."""
    for path in PROFILES.rglob("*.yaml"):
        if path.parent.name != "hosts":
            content = yaml.load(path.read_text(), Loader=LOADER)
            yield from map(str, (content.get("sources") or {}).values())


def test_no_shipped_software_or_card_is_fitted_to_a_run_of_a_pack() -> None:
    """Two were, which two pages said, below the sentence that none is."""
    sources = [*shipped_sources()]
    assert sum(1 for one in sources if FITTED.search(one)) >= 5
    assert list(fitted_runs(sources, EVERY)) == []


@pytest.mark.parametrize("pack", shipped_packs())
def test_no_run_of_a_pack_is_priced_by_a_fit_to_one_of_it(pack: str) -> None:
    """Its experiments' own machines and hosts among what is looked at."""
    for file in {run.file for run in RUNS[pack]}:
        asked = load_experiment(file, alone=True).experiment
        names = {"hardware": asked.hardware, "software": asked.software}
        parts = [needed(key, name, asked.folders) for key, name in names.items()]
        sources = [source for part in parts for source in part.sources.values()]
        assert list(fitted_runs(sources, RUNS[pack])) == [], file.name


def test_a_run_is_found_by_its_speed_and_its_name() -> None:
    """That of GB10 as it stood in the pack, and a host that its own run was fitted to."""
    one = RUNS["published"][2]
    by_speed = f"fitted to one run: {one.measured_tokens_per_s:g} tokens/s, {one.family}, somewhere"
    assert list(fitted_runs([by_speed], EVERY)) == ["r01"]
    assert list(fitted_runs(["fitted to one run: c2000_l4, on a phone"], EVERY)) == ["c2000_l4"]
    assert list(fitted_runs([by_speed.replace("fitted to", "judged by")], EVERY)) == []
    with pytest.raises(AssertionError, match="names no run"):
        list(fitted_runs(["fitted to one run on a GB10"], EVERY))


def test_no_run_of_llama_cpp_rests_on_both_runs_of_its_profile() -> None:
    """One is of the rate at which Metal reads keys from caches, the other of all else's."""
    software = load_software("llama.cpp")
    for card in (name for name in gpu_names() if load_hardware(name).datasheet.maker):
        on_card = software.on_card(load_hardware(card).datasheet)
        assert (on_card.cache_bandwidth < 1) != (on_card.head_reads is not None), card
