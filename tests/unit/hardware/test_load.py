"""Profiles by name and by path, and parts taken from other profiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from moesim.config.errors import InputError
from moesim.config.files.paths import shipped_folder
from moesim.hardware import hardware_names, load_hardware, load_software, software_names
from moesim.hardware.described.software import SoftwareProfile
from moesim.model import load_model

SHIPPED = shipped_folder() / "hardware_profiles"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_names() -> None:
    assert {"h100-sxm", "dgx-h100", "rtx-4060-8gb"} <= set(hardware_names())
    assert {"ideal", "llama.cpp"} <= set(software_names())


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'h100-smx'.*near it: h100-pcie, h100-sxm"):
        load_hardware("h100-smx")
    with pytest.raises(InputError, match=r"'hf_eagr'.*did you mean 'hf-eager'"):
        load_software("hf_eagr")
    with pytest.raises(InputError, match="neither a shipped profile"):
        load_hardware("")


def test_a_file_works_wherever_a_name_does(tmp_path: Path) -> None:
    text = (SHIPPED / "l40s.yaml").read_text(encoding="utf-8").replace("864 GB/s", "900 GB/s")
    path = write(tmp_path, "mine.yaml", text)
    profile = load_hardware(str(path))
    assert profile.name == "mine"
    assert profile.datasheet.memory_bandwidth.value == 900e9
    assert load_hardware("mine.yaml", [tmp_path]) == profile
    text = (SHIPPED / "software" / "hf-eager.yaml").read_text(encoding="utf-8")
    write(
        tmp_path, "slow.yaml", text.replace("value: 10 us, low: 5 us, high: 15 us", "value: 25 us")
    )
    assert load_software("slow.yaml", [tmp_path]).launch_ns == 25_000


def test_a_folder_is_not_a_profile(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; name the YAML file"):
        load_hardware(str(tmp_path))


def test_a_base_gives_the_parts_left_out() -> None:
    card, node = load_hardware("v100-sxm2-32gb"), load_hardware("dgx-1-v100")
    assert node.datasheet == card.datasheet
    assert node.host_memory_bytes == 512_000_000_000 != card.host_memory_bytes
    assert card.topology is None
    assert node.gpus == 8
    assert node.sources.items() >= card.sources.items()


def test_wiring_of_another_profile(tmp_path: Path) -> None:
    text = "title: mine\nbase: h200-sxm\nsources: {}\ntopology: dgx-h100\n"
    mine = load_hardware(str(write(tmp_path, "mine.yaml", text)))
    assert mine.topology == load_hardware("dgx-h100").topology
    assert mine.datasheet == load_hardware("h200-sxm").datasheet


def test_a_base_beside_the_file(tmp_path: Path) -> None:
    text = (SHIPPED / "l40s.yaml").read_text(encoding="utf-8")
    write(tmp_path, "card.yaml", text)
    top = write(tmp_path, "top.yaml", "title: top\nbase: card.yaml\nsources: {}\n")
    assert load_hardware(str(top)).datasheet == load_hardware("l40s").datasheet


def over(base: str, numbers: str) -> str:
    return f'title: mine\nbase: {base}\nsources: {{me: "my bench"}}\n{numbers}'


def test_numbers_over_a_base_are_those_that_differ(tmp_path: Path) -> None:
    numbers = "datasheet:\n  memory_bandwidth: {value: 251 GB/s, source: me}\n"
    numbers += "host:\n  cores: {value: 12, source: me}\n"
    mine = load_hardware(str(write(tmp_path, "mine.yaml", over("rtx-4060-8gb", numbers))))
    base = load_hardware("rtx-4060-8gb")
    assert mine.datasheet.memory_bandwidth.value == 251e9
    assert mine.sources[mine.datasheet.memory_bandwidth.source] == "my bench"
    left_out = ("memory_bandwidth",)
    both = [one.datasheet.model_dump(exclude={*left_out}) for one in (mine, base)]
    assert both[0] == both[1]
    assert mine.host == base.host.model_copy(update={"cores": mine.host.cores})
    assert mine.host.cores.value == 12


@pytest.mark.parametrize(
    ("part", "number", "fitted"),
    [
        ("datasheet", "memory_bandwidth: {value: 3 TB/s", False),
        ("datasheet", "memory: {value: 96 GB", True),
        ("host", "cores: {value: 7", True),
    ],
)
def test_fits_of_what_a_file_changes_are_not_those_of_its_base(
    part: str, number: str, *, fitted: bool, tmp_path: Path
) -> None:
    """As of the same numbers in an experiment."""
    text = over("h100-sxm", f"{part}: {{{number}, source: me}}}}\n")
    mine = load_hardware(str(write(tmp_path, "mine.yaml", text)))
    inline = f"{{base: h100-sxm, {part.replace('datasheet', 'gpu')}: {{{number}}}}}}}"
    assert mine.calibrated == load_hardware(inline).calibrated
    assert (mine.calibrated is not None) == fitted


def test_mistakes_in_numbers_over_a_base_are_told_where_they_stand(tmp_path: Path) -> None:
    numbers = (
        "datasheet:\n  memory_bandwidth: 300\n  mem: 3\nhost: {cores: {value: 2, source: you}}\n"
    )
    with pytest.raises(InputError) as told:
        load_hardware(str(write(tmp_path, "mine.yaml", over("rtx-4060-8gb", numbers))))
    said = str(told.value)
    assert "mine.yaml:5:21: datasheet.memory_bandwidth" in said
    assert "did you mean 'memory'?" in said
    assert "is missing" not in said


def test_a_gpu_over_a_whole_machine_is_told_to_be_a_profile(tmp_path: Path) -> None:
    text = over("rtx-4060-8gb", "memory: {value: 12 GB, source: me}\n")
    file = write(tmp_path, "mine.yaml", text)
    with pytest.raises(
        InputError, match=r"mine.yaml:2:\d+: base: 'rtx-4060-8gb' is a whole machine"
    ):
        load_hardware(f"{{gpu: {file}}}")


def test_contents_in_plain_units() -> None:
    card = load_hardware("rtx-4060-8gb")
    assert (card.memory_bytes, card.context_bytes) == (8 << 30, 512 << 20)
    v100 = load_hardware("v100-sxm2-32gb").datasheet
    assert v100.pcie.value == 16e9
    assert v100.copy_of("h2d").bytes_per_second == 12_000_000_000


def test_ideal_software_adds_nothing() -> None:
    ideal = load_software("ideal")
    assert not any(ideal.kernels.model_dump().values())
    assert ideal.launch_ns == ideal.host_per_layer_ns == ideal.host_per_copy_ns == 0
    assert ideal.synchronisations == ideal.synchronisation_ns == 0
    assert ideal.pinned
    assert not ideal.blocking


def test_eager_software_copies_a_matrix_at_a_time() -> None:
    from tests.unit.hardware.small import network

    eager, ideal = load_software("hf-eager"), load_software("ideal")
    assert (eager.pinned, eager.blocking) == (False, True)
    assert eager.copies_per_expert(network()) == 3
    assert eager.copies_per_expert(network(gated=False)) == 2
    assert ideal.copies_per_expert(network()) == 1
    assert eager.kernels.expert == 13
    numbers = {"launch_ns", "kernels.attention", "kernels.head", "synchronisation_ns", "copied"}
    assert numbers <= set(eager.sources)


def test_fused_and_compiled_stacks_launch_less_than_an_eager_one() -> None:
    eager = load_software("hf-eager")
    for name in ("vllm", "llama.cpp"):
        stack = load_software(name)
        assert stack.launch_ns < eager.launch_ns
        for part in ("attention", "gate", "grouped", "head"):
            assert 0 < getattr(stack.kernels, part) < getattr(eager.kernels, part)


def test_fairseq_launches_by_gating() -> None:
    """A gate's kernels depend on the gating; the rest is read off fairseq's layers."""
    fairseq = load_software("fairseq")
    gates = {kind: fairseq.kernels.of_gate(kind) for kind in ("static", "tutel", "dynamic", "mine")}
    assert gates == {"static": 110, "tutel": 95, "dynamic": 80, "mine": 80}
    assert fairseq.launch_ns == 25_000
    assert fairseq.kernels.attention + fairseq.kernels.dense == 40
    assert fairseq.kernels.sequence is not None
    assert 30 <= fairseq.kernels.sequence + fairseq.kernels.dense <= 33
    assert (fairseq.count_reads, fairseq.calls_empty) == (2, True)
    assert (fairseq.logits, fairseq.logit_bytes) == ("all", 6)
    assert "kernels.gate_by_gating.static" in fairseq.sources
    plain = load_software("hf-eager")
    assert (plain.count_reads, plain.calls_empty, plain.logits) == (1, False, "last")
    assert plain.kernels.of_gate("static") == plain.kernels.gate


def test_a_source_of_a_gating_must_be_known(tmp_path: Path) -> None:
    text = (SHIPPED / "software" / "fairseq.yaml").read_text(encoding="utf-8")
    text = text.replace("tutel: {value: 95, source: gate}", "tutel: {value: 95, source: nowhere}")
    write(tmp_path, "mine.yaml", text)
    with pytest.raises(InputError, match=r"gate_by_gating.tutel.source.*'nowhere' is not among"):
        load_software("mine.yaml", [tmp_path])


def software_file(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content)
    return path


def test_a_software_profile_says_what_differs_from_its_base(tmp_path: Path) -> None:
    content = """
title: Mine
base: llama.cpp
sources: {mine: measured here}
kernels: {gate: {value: 9, source: mine}}
launch: {value: 2 us, source: mine}
"""
    mine = load_software(str(software_file(tmp_path, "mine.yaml", content)))
    base = load_software("llama.cpp")
    assert (mine.name, mine.launch_ns, mine.kernels.gate) == ("mine", 2000, 9)
    assert mine.sources["launch_ns"] == mine.sources["kernels.gate"] == "measured here"
    assert mine.kernels.attention == base.kernels.attention
    assert mine.sources["kernels.attention"] == base.sources["kernels.attention"]
    further = "title: Two\nbase: mine.yaml\nsources: {}\n"
    two = load_software(str(software_file(tmp_path, "two.yaml", further)))
    assert (two.launch_ns, two.kernels.gate) == (2000, 9)


def test_a_version_is_a_profile_and_an_unknown_one_names_those_that_are() -> None:
    """Each differs from the profile of its name in what that version does otherwise."""
    older, plain = load_software("llama.cpp@b6xxx"), load_software("llama.cpp")
    assert (older.offloaded_execution, plain.offloaded_execution) == ("eager", "splits")
    assert older.launch_ns == plain.launch_ns
    assert load_software("llama.cpp@b5xxx").kernels.attention > older.kernels.attention
    assert "0.19.1" in load_software("vLLM@0.19").sources["tokenize_ns"]
    assert "one run" in load_software("imp@1365").sources["host_per_copy_ns"]
    with pytest.raises(
        InputError, match=r"'nightly' is no version of vllm.*vllm, vllm@0\.14, vllm@0\.19"
    ):
        load_software("vllm@nightly")
    with pytest.raises(InputError, match="neither a shipped profile nor the path"):
        load_software("engine@1")


@pytest.mark.parametrize(
    ("model", "attention"),
    [("qwen3.5-35b-a3b", [25, 25, 25, 15]), ("deepseek-r1", [24] * 4), ("qwen3-30b-a3b", [15] * 4)],
)
def test_kernels_of_a_layer_are_those_of_its_attention(model: str, attention: list[int]) -> None:
    counts = load_software("llama.cpp").kernels
    found = [counts.of_layer(layer).attention for layer in load_model(model).layers[:4]]
    assert found == attention


def test_without_a_mapping_weights_on_the_cpu_are_pinned() -> None:
    pinned, plain = load_software("llama.cpp-no-mmap"), load_software("llama.cpp")
    fields = SoftwareProfile.model_fields.keys() - {"name", "title", "sources"}
    differ = {name for name in fields if getattr(pinned, name) != getattr(plain, name)}
    assert differ == {"pinned", "mapped"}


def test_the_expert_cache_differs_from_llama_cpp_in_its_copies_alone() -> None:
    cache, plain = load_software("llama.cpp-cache"), load_software("llama.cpp")
    fields = SoftwareProfile.model_fields.keys() - {"name", "title", "sources"}
    differ = {name for name in fields if getattr(cache, name) != getattr(plain, name)}
    assert differ == {"pinned", "blocking", "synchronisations"}
    assert cache.cpu_synchronisations == cache.synchronisations == 1


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        ("base: llama\n", "mine.yaml:2", "did you mean 'llama.cpp'"),
        ("base: mine.yaml\n", "mine.yaml:2", "rests on itself; end the chain"),
        ("base: llama.cpp\nlaunch: {value: 2 us, source: own}\n", "mine.yaml:3", "'own' is not"),
    ],
)
def test_a_software_profile_on_a_wrong_base(
    tmp_path: Path, content: str, where: str, what: str
) -> None:
    path = software_file(tmp_path, "mine.yaml", f"title: Mine\n{content}sources: {{}}\n")
    with pytest.raises(InputError) as caught:
        load_software(str(path))
    (problem,) = caught.value.problems
    assert where in problem.where
    assert what in problem.what


def test_a_source_of_the_base_keeps_its_meaning(tmp_path: Path) -> None:
    content = "title: Mine\nbase: llama.cpp\nsources: {launch: another}\n"
    with pytest.raises(InputError, match="'launch' stands for another source"):
        load_software(str(software_file(tmp_path, "mine.yaml", content)))


@pytest.mark.parametrize("base", ["l40", "gb10", "'{gpu: l40}'"])
def test_a_gpu_is_a_base_in_its_usual_host(tmp_path: Path, base: str) -> None:
    """'moesim list gpus' has it, and a card beside it is described by what differs."""
    sheet = "datasheet: {memory_bandwidth: {value: 700 GB/s, source: own}}"
    path = write(
        tmp_path, "mine.yaml", f"title: Mine\nbase: {base}\nsources: {{own: me}}\n{sheet}\n"
    )
    mine, below = load_hardware(str(path)), load_hardware(base.strip("'"))
    assert mine.datasheet.memory_bandwidth.value == 700e9
    assert mine.datasheet.compute == below.datasheet.compute
    assert mine.host == below.host
    assert (mine.unified, mine.assumed_host) == (below.unified, below.assumed_host)


def test_some_numbers_of_a_host_leave_the_others_assumed(tmp_path: Path) -> None:
    host = "host: {cores: {value: 12, source: own}}"
    path = write(tmp_path, "mine.yaml", f"title: Mine\nbase: l40\nsources: {{own: me}}\n{host}\n")
    assert load_hardware(str(path)).assumed_host == load_hardware("l40").assumed_host is not None
