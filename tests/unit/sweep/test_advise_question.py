"""Advice without a file: what is assembled, what fits, the answer, and mistakes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import moesim
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.engine_commands import command_of
from moesim.experiment.loading.resolve import load_experiment
from moesim.model import load_model
from moesim.report.advice.answer import fit_line, is_tight, place_of
from moesim.sweep.advise.abilities import ENGINES, Asks, engine_named, layout_settings
from moesim.sweep.advise.advice import Fit, chosen, fastest
from moesim.sweep.advise.choices import (
    RESIDENT,
    Choice,
    allowed,
    choices_of,
    offered,
    with_settings,
)
from moesim.sweep.advise.question import Question, asked, assembled
from moesim.sweep.advise.room import Memory, Room, room_of, with_layers_on_cpu
from moesim.sweep.advise.run import advise
from moesim.sweep.advise.scored import Scored
from moesim.sweep.runs import Runs

pytestmark = pytest.mark.usefixtures("unrendered")

TINY = {"hardware.gpu.memory": "524 MiB", "hardware.gpu.context_reserve": "500 MiB"}
"""20 MiB, in which small-moe's 27.0 MB do not fit."""
SETS = [f"{path}={value}" for path, value in TINY.items()]


def data_of(model: str, **options: Any) -> dict[str, Any]:
    return dict(assembled(Question(model, **options)).data)


@pytest.mark.parametrize(
    ("model", "gpu", "written", "software"),
    [
        ("Qwen/Qwen3-30B-A3B-FP8", "rtx-pro-6000", None, "vllm"),
        ("qwen3-30b-a3b@awq", "rtx-4090", "int4", "vllm"),
        ("Qwen/Qwen3-30B-A3B-FP8", "rtx-4090", "q8_0", "llama.cpp"),
        ("qwen3:30b", "rtx-4090", "q4_k_m", "llama.cpp"),
    ],
)
def test_who_runs_a_checkpoint_and_in_what(
    model: str, gpu: str, written: str | None, software: str
) -> None:
    """llama.cpp loads GGUF files alone, and none has fp8 or groups of integers; what vLLM loads is
    the repository that was asked for.
    """
    made = assembled(Question(model, hardware=gpu))
    in_format = {"base": "qwen3-30b-a3b", "format": written}
    assert made.data["model"] == (in_format if written else model)
    assert made.data["software"] == software
    assert ("format: " in " ".join(made.assumed)) == (written == "q8_0")


def test_a_gpu_may_be_asked_for_as_the_hardware() -> None:
    assert data_of("gpt-oss-20b", hardware="RTX 3090") == data_of("gpt-oss-20b", gpu="RTX 3090")


def test_a_machine_of_parts_may_be_written_as_in_a_file() -> None:
    parts = {"gpu": "rtx-3090", "host": "ddr5-6000-2ch-64gb"}
    asked_for = data_of("gpt-oss-20b", hardware="{gpu: rtx-3090, host: ddr5-6000-2ch-64gb}")
    assert asked_for["hardware"] == parts
    assert asked_for["model"] == data_of("gpt-oss-20b", **parts)["model"]
    with pytest.raises(InputError, match="this is not YAML"):
        data_of("gpt-oss-20b", hardware="{gpu: rtx-3090")


def test_a_question_is_an_experiment() -> None:
    question = Question("qwen3-30b-a3b@q4_k_m", "rtx-5070", "ddr5-5600-2ch-64gb", context=16384)
    made = assembled(question)
    assert made.data == {
        "name": "qwen3-30b-a3b-q4_k_m-on-rtx-5070-ddr5-5600-2ch-64gb-16384",
        "model": {"base": "qwen3-30b-a3b", "format": "q4_k_m"},
        "hardware": {"gpu": "rtx-5070", "host": "ddr5-5600-2ch-64gb"},
        "software": "llama.cpp",
        "trace": "stand-in:qwen3-30b-a3b",
        "workload": {
            "batching": {"kind": "static", "batch_size": 1},
            "phase": "decode",
            "context": 16384,
        },
    }
    assert [line.partition(":")[0] for line in made.assumed] == ["software", "trace"]
    assert "6 of 8 experts a token" in made.assumed[1]
    assert asked(question).resolved.experiment.workload.context == 16384


@pytest.mark.parametrize(
    ("model", "options", "software"),
    [
        ("gpt-oss-20b", {"gpu": "rtx-3090"}, "llama.cpp"),
        ("gpt-oss-20b", {"gpu": "rtx-3090", "batch": 64}, "vllm"),
        ("gpt-oss-20b@q8_0", {"gpu": "rtx-3090", "batch": 64}, "llama.cpp"),
        ("gpt-oss-20b", {"gpu": "m4-max-128gb", "batch": 64}, "llama.cpp"),
        ("gpt-oss-20b", {"hardware": "dgx-h100", "gpus": 8}, "vllm"),
        ("gpt-oss-20b", {"hardware": "dgx-h100", "gpus": 8, "software": "ideal"}, "ideal"),
    ],
)
def test_the_software_goes_by_format_batch_and_gpus(
    model: str, options: dict[str, Any], software: str
) -> None:
    made = assembled(Question(model, **options))
    assert made.data["software"] == software
    told = any(line.startswith(f"software: {software}") for line in made.assumed)
    assert told is ("software" not in options)


def test_the_assumed_host_holds_the_model() -> None:
    small, large = (data_of(m, gpu="rtx-3090") for m in ("gpt-oss-20b", "gpt-oss-120b@q8_0"))
    assert small["hardware"]["host"] == "ddr5-6000-2ch-64gb"
    assert large["hardware"]["host"] == "ddr5-6000-2ch-128gb"
    assert load_model("gpt-oss-120b@q8_0").bytes > 96 << 30


@pytest.mark.parametrize(
    ("gpu", "host"),
    [
        ("rtx-3090", "ddr5-6000-2ch-64gb"),
        ("rtx-4060-laptop", "ddr5-5600-2ch-32gb"),
        ("mi300x", "epyc-9004-1s"),
        ("rtx-4090", "that of rtx-4090, 64 GiB at 89.6 GB/s and 16 cores"),
        ("h100-sxm", "that of h100-sxm, 1,863 GiB at 614.4 GB/s and 112 cores"),
    ],
)
def test_the_usual_host_of_a_gpu_is_assumed(gpu: str, host: str) -> None:
    made = assembled(Question("gpt-oss-20b", gpu=gpu))
    assert made.assumed[0] == f"host: {host} (--host names yours)"


def test_whole_machines_keep_their_hosts() -> None:
    assert data_of("gpt-oss-20b", gpu="strix-halo-128gb")["hardware"] == "strix-halo-128gb"
    assert data_of("gpt-oss-20b", hardware="dgx-h100")["hardware"] == "dgx-h100"
    both = data_of("gpt-oss-20b", hardware="rtx-4090", host="ddr5-6000-2ch-64gb")
    assert both["hardware"] == {"base": "rtx-4090", "host": "ddr5-6000-2ch-64gb"}


def test_attention_is_split_where_gpus_are_more_than_requests() -> None:
    machine = {"hardware": "dgx-h100", "gpus": 8}
    few = data_of("gpt-oss-20b", **machine)["parallelism"]
    assert few == {"expert": 8, "dense": "tensor"}
    assert data_of("gpt-oss-20b", **machine, batch=8)["parallelism"] == {"expert": 8}


@pytest.mark.parametrize(
    ("model", "options", "where", "told"),
    [
        ("gpt-oss-20b", {}, "--gpu", "rtx-3090 --host ddr5-6000-2ch-64gb"),
        ("gpt-oss-20", {"gpu": "rtx-3090"}, "MODEL", "did you mean 'gpt-oss-20b'"),
        ("gpt-oss-20b@q4_z", {"gpu": "rtx-3090"}, "MODEL", "no format"),
        ("gpt-oss-20b", {"gpu": "rtx-30900"}, "--gpu", "did you mean 'rtx-3090'"),
        ("gpt-oss-20b", {"gpu": "rtx-3090", "host": "ddr9"}, "--host", "moesim list hosts"),
        ("gpt-oss-20b", {"gpu": "rtx-3090", "link": "pcie9"}, "--link", "pcie4-x8"),
        ("gpt-oss-20b", {"hardware": "dgx-h1000"}, "--hardware", "did you mean 'dgx-h100'"),
        ("gpt-oss-20b", {"hardware": "dgx-h100", "gpu": "l4"}, "--gpu", "give one"),
        ("gpt-oss-20b", {"hardware": "dgx-h100", "gpus": 9}, "--gpus", "9 GPUs"),
        ("gpt-oss-20b", {"gpu": "rtx-3090", "context": 1 << 20}, "--context", "131,072"),
        ("gpt-oss-20b", {"gpu": "rtx-3090", "software": "lama"}, "--software", "llama.cpp"),
        ("llama-3.1-8b", {"gpu": "rtx-3090"}, "MODEL", "no MoE layer"),
    ],
)
def test_mistakes_are_told_at_their_options(
    model: str, options: dict[str, Any], where: str, told: str
) -> None:
    with pytest.raises(InputError) as error:
        asked(Question(model, **options))
    (problem,) = error.value.problems
    assert (problem.where, problem.path) == (where, "")
    assert told in problem.what


def test_a_file_is_written_by_its_whole_path(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    card = Path(moesim.__file__).parent / "model" / "cards" / "small-moe.json"
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "config.json"
    path.write_text(card.read_text())
    data = data_of("mine/config.json", gpu="rtx-3090")
    assert data["model"] == str(path)
    assert data["name"] == "mine-on-rtx-3090"
    other = data_of("mine/config.json@q8_0", gpu="rtx-3090")
    assert other["model"] == {"base": str(path), "format": "q8_0"}


def tiny(*more: str) -> Any:
    question = Question("small-moe", gpu="rtx-3090", context=256)
    return asked(question, [*SETS, *more]).resolved.experiment


def test_the_room_is_the_fewest_layers_that_fit_beside_the_caches() -> None:
    """27.01 MB, 3.146 MB of experts a layer, 256 tokens of 4,096 bytes, 4.8 MB that are reserved,
    in 25.17 MB.
    """
    room = room_of(tiny(), "auto")
    assert room.on_cpu == (3, 8)
    assert room.fewest_on_cpu == 3
    assert room.memory is not None
    assert room.memory.kv == 256 * 4096
    assert room.memory.limit == 24 << 20
    assert room.memory.weights == load_model("small-moe").bytes
    whole = build(load_experiment(tiny(), ["experts.capacity=all"]).experiment)
    limit = whole.limit_bytes
    sizes = [int(with_layers_on_cpu(whole, n).total.max()) for n in (2, 3)]
    assert sizes[0] > limit >= sizes[1]
    assert sizes[0] - sizes[1] == 32 * 3 * 128 * 64 * 4  # experts of three matrices in fp32


def test_a_host_without_room_for_slots_leaves_layers_and_one_without_any_is_told() -> None:
    host = {"base": "ddr5-6000-2ch-64gb"}
    whole = load_model("small-moe").bytes
    for memory, slots, on_cpu in ((whole // 2, 0, (3,)), (whole, 21, (3, 8))):
        text = f"hardware.host={{base: {host['base']}, memory: {memory} B}}"
        room = room_of(tiny(text), "auto")
        assert (room.slots > 0, room.on_cpu) == (slots > 0, on_cpu)
    text = f"hardware.host={{base: {host['base']}, memory: {1 << 20} B}}"
    with pytest.raises(InputError, match=r"3 of 8, the host needs 0\.0 GB"):
        room_of(tiny(text), "auto")


def test_an_engine_whose_ways_need_more_than_the_host_has_is_told(tmp_path: Path) -> None:
    """It computes all experts that have no slot, and the host holds half of them."""
    half = load_model("small-moe").bytes // 2
    base = tiny(f"hardware.host={{base: ddr5-6000-2ch-64gb, memory: {half} B}}")
    told: list[Fit] = []
    for engine in ("ktransformers", "llama.cpp"):
        asks, runs = Asks(engine, ENGINES[engine]), Runs(tmp_path / engine)
        if engine == "llama.cpp":
            assert advise(base, runs, of=asks, requests=1, fit=told.append).best.choice.layers
            continue
        with pytest.raises(
            InputError, match="neither all experts fit, nor what ktransformers does"
        ):
            advise(base, runs, of=asks, requests=1, fit=told.append)
    assert len(told) == 1


def test_the_first_line_has_bytes_and_what_fits() -> None:
    memory = Memory(18_550_000_000, 17_553_000_000, 1_610_612_736, 9, 12_300_000_000, 1, 1)
    room = Room(71, 128, 48, (22, 48), memory)
    line = fit_line(Fit("m", "h", "llama.cpp", 16384, room))
    assert line == (
        "Does not fit: 18.6 GB of weights, 1.61 GB of KV cache at a context of 16,384 tokens; the"
        " GPU has 12.3 GB. It does with the experts of 22 of 48 layers on the CPU, or with 71 of"
        " 128 experts a layer in slots."
    )
    of_some = fit_line(Fit("m", "h", "vllm", 16384, room, "ktransformers"))
    assert of_some.endswith(". It does with 71 of 128 experts a layer in slots.")
    whole = fit_line(Fit("m", "h", "s", None, Room(128, 128, 48, (), memory)))
    spread = replace(Fit("m", "h", "s", None, Room(128, 128, 48, (), memory)), laid_out="all")
    assert fit_line(spread) == whole.replace("Fits", "Fits, with all")
    assert whole.startswith(
        "Fits: 18.6 GB of weights, 1.61 GB of KV cache at the trace's own lengths;"
    )


@pytest.mark.parametrize(
    ("program", "gigabytes", "said"),
    [
        ("vllm", 77, "hardly"),  # 90 % of 85 GB are 76.5
        ("sglang", 77, "hardly"),
        ("vllm", 76, ""),
        ("llama.cpp", 77, ""),
    ],
)
def test_a_server_has_a_share_of_the_memory(program: str, gigabytes: int, said: str) -> None:
    memory = Memory(gigabytes * 10**9, 0, 0, 0, 85 * 10**9, 1, 8)
    room = Room(32, 32, 58, (), memory)
    line = fit_line(Fit("m", "h", program, None, room, program))
    assert line.startswith(f"Fits{' ' * bool(said)}{said}: on the fullest GPU {gigabytes} GB")
    assert ("is taken to use 90 % (--" in line) is bool(said)


@pytest.mark.parametrize(
    ("program", "spare", "tight"),
    [("llama.cpp", 0.2, True), ("llama.cpp", 2, False), ("vllm", 0.2, False)],
)
def test_what_fits_with_little_to_spare_is_told(program: str, spare: float, tight: bool) -> None:
    memory = Memory(20 * 10**9, 0, 0, 0, int((20 + spare) * 1e9), 1, 1)
    room = Room(128, 128, 48, (), memory)
    assert is_tight(Fit("m", "h", program, None, room, program)) is tight


def test_llama_cpp_is_told_whose_formats_are_priced() -> None:
    def formats(model: str, **options: Any) -> list[str]:
        made = assembled(Question(model, "rtx-4060-ti-16gb", **options))
        return [line for line in made.assumed if line.startswith("format: ")]

    (line,) = formats("qwen3-30b-a3b")
    assert "61.1 GB" in line
    assert line.endswith("as qwen3-30b-a3b@q4_k_m has")
    assert not formats("qwen3-30b-a3b@f16")
    assert not formats("gpt-oss-20b@mxfp4_moe")
    assert not formats("gpt-oss-20b", software="vllm")


def test_llama_cpp_has_experts_as_published_and_q8_0_beside_them() -> None:
    made = assembled(Question("gpt-oss-20b", "rtx-4060-ti-16gb"))
    assert made.data["model"] == {"base": "gpt-oss-20b", "format": "mxfp4_moe"}
    assert any(line.startswith("format: mxfp4_moe, as its GGUF") for line in made.assumed)
    assert data_of("gpt-oss-20b", gpu="rtx-4090", software="vllm")["model"] == "gpt-oss-20b"
    asked = "gpt-oss-20b@experts=mxfp4"
    whole = {"base": "gpt-oss-20b", "format": "experts=mxfp4"}
    assert data_of(asked, gpu="rtx-4090", software="llama.cpp")["model"] == whole


@pytest.mark.parametrize(
    ("gpus", "least", "told"),
    [
        (1, None, "1 GPU with 22.4 GB, or 2 of these at least."),
        (2, 18_000_000_000, "2 GPUs with 20 GB each, or 4 of these at least."),
    ],
)
def test_a_server_is_told_the_gpus_that_it_needs(gpus: int, least: int | None, told: str) -> None:
    memory = Memory(18_550_000_000, 17_553_000_000, 1_610_612_736, 9, 12_300_000_000, 1, gpus)
    room = Room(71, 128, 48, (22, 48), memory)
    line = fit_line(Fit("m", "h", "vllm", None, room, "vllm", least))
    assert line.endswith(f" With all experts on GPUs it takes {told}")


def test_layers_on_the_cpu_are_choices_beside_the_slots() -> None:
    whole = [one for one in choices_of(13, on_cpu=(5, 24)) if one.layers]
    assert [one.words for one in whole] == ["5 layers on the CPU", "24 layers on the CPU"]
    assert whole[0].settings["experts.on_cpu"] == "{layers: 5}"
    assert whole[0].settings["experts.miss.kind"] == "cpu"
    assert choices_of(0, on_cpu=(5,)) == whole[:1]
    assert {one.capacity for one in choices_of(13, few=True)} == {"auto"}
    assert {one.prefetch for one in choices_of(13, ahead=False)} == {"none"}


def test_layers_that_a_file_has_on_the_cpu_are_not_kept() -> None:
    for own in ({"layers": 4}, {"pattern": "blk[.](2|3)[.]ffn_.*_exps"}):
        base = tiny().model_dump(mode="json") | {"experts": {"on_cpu": own}}
        (made, *_), _ = allowed(load_experiment(base).experiment, [Choice("cpu", "lru", "auto")])
        assert not any(made[1].experts.on_cpu.of(load_model("small-moe")))
        room = room_of(load_experiment(base).experiment, "auto")
        assert room.on_cpu == (3, 8)


def test_a_machine_without_a_gpu_is_not_answered_with_one(tmp_path: Path) -> None:
    """A file of '-dev none' had got the answer of the GPU that it has to name."""
    text = {"host_layers": 8, "experts": {"miss": {"kind": "cpu", "copies_from": "never"}}}
    base = tiny().model_dump(mode="json") | text
    with pytest.raises(InputError, match="host_layers: the host runs all 8 layers, as without"):
        moesim.advise(base, out=tmp_path / "out")
    with pytest.raises(InputError, match="--gpu: a machine without a GPU is asked with a file"):
        asked(Question("small-moe", gpu="none"))


def scored(miss: str, speed: float, layers: int = 0) -> Scored:
    choice = Choice(miss, "lru", "all" if layers else "auto", layers=layers)
    return Scored(choice, {"status": "ok", "output_throughput": speed})


def test_the_flag_counts_layers_without_experts_too() -> None:
    fit = Fit("glm-4.7-flash", "h", "llama.cpp", None, Room(0, 64))  # its first layer is dense
    told = place_of(scored("on_cpu", 1.0, 5), fit)
    assert told == "the experts of the first 5 layers on the CPU (--n-cpu-moe 6)"
    assert "(" not in place_of(scored("on_cpu", 1.0, 5), replace(fit, software="vllm"))


def test_the_best_is_what_the_software_has() -> None:
    runs = (scored("on_cpu", 20.0, 5), scored("load", 10.0), scored("cheapest", 30.0))
    assert fastest(runs) is runs[2]
    assert fastest(runs, ("on_cpu",)) is runs[0]
    assert fastest(runs[1:], ("on_cpu",)) is runs[2]
    assert chosen(runs, ("on_cpu",)) == [runs[0], runs[2]]
    assert chosen(runs) == [runs[2], runs[0]]
    assert chosen(runs[:2]) == [runs[0], runs[1]]


OPTIONS = ["--gpu", "rtx-3090", "--context", "256", "--requests", "1", "-j", "1"]
OF_TINY = [*OPTIONS, *(word for text in SETS for word in ("--set", text))]


@pytest.mark.usefixtures("rendered")
def test_the_answer_and_the_experiment_that_repeats_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", "small-moe", *OF_TINY]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("Does not fit: 0.027 GB of weights, 0.00105 GB of KV cache")
    speed = next(place for place, line in enumerate(told) if line.startswith("Speed: "))
    assert speed > 1
    assert all(len(line) <= 80 for line in told[:speed])
    heads = [line.partition(":")[0] for line in told]
    order = ["Speed", "Range", "Placement", "Limited by", "assumed", "replayed", "figure", "page"]
    order += ["engine", "again"]
    assert [heads.index(head) for head in order] == sorted(heads.index(head) for head in order)
    advice = json.loads(Path("results/small-moe-on-rtx-3090-256-advice/advice.json").read_text())
    best, whole = advice["best"], advice["fewest_whole_layers_on_cpu"]
    flag = f"-ngl {9 - whole}" if best["miss"] == "on_host" else "--n-cpu-moe 3"
    assert sum(flag in line for line in told) == 2
    answer = told[heads.index("Placement") : heads.index("Limited by")]
    placement = " ".join(" ".join(answer).split())
    assert ", in 0.0" in placement
    assert "GB of the host's " in placement
    line = next(line for line in told if line.startswith("engine: "))
    assert line.startswith("engine: llama-server -m small-moe.gguf ")
    assert flag in line
    assert "-c 256 -np 1" in line
    folder = Path("results/small-moe-on-rtx-3090-256-advice")
    advice = json.loads((folder / "advice.json").read_text())
    assert advice["fewest_layers_on_cpu"] == 3
    assert best["layers_on_cpu"] in (3, whole)
    assert advice["context_tokens"] == 256
    assert {one["of"] for one in advice["ranges"]} == {"host", "context"}
    assert advice["assumed"][0].startswith("host: ")
    assert main(["run", str(folder / "experiment.yaml"), "--out", "again"]) == 0
    summary = json.loads(Path("again/summary.json").read_text())
    assert summary["output_throughput"] == advice["best"]["throughput_tokens_per_s"]
    assert (folder / "experiment.yaml").read_text().startswith("# The best of 'moesim advise'")
    assert main(["plot", str(folder)]) == 0
    capsys.readouterr()
    assert main(["advise", "small-moe", *OF_TINY, "--json", "--no-report"]) == 0
    both = capsys.readouterr()
    assert json.loads(both.out) == advice
    assert both.err.startswith("Does not fit: ")
    assert main(["advise", "small-moe", *OF_TINY, "--overwrite", "--json", "--no-report"]) == 0


def test_the_host_s_share_brackets_the_answer(here: Path) -> None:
    question = Question("small-moe", gpu="rtx-3090", context=256)
    advice = moesim.advise(question, requests=1, overrides=SETS, out=here / "out")
    own = advice.best.throughput
    low, high = (one.throughput for one in advice.varied if one.of == "host")
    assert None not in (low, own, high)
    assert (low or 0.0) < (own or 0.0) < (high or 0.0)
    best = advice.best.choice
    assert [end.speeds[best] for end in advice.ends] == [low, high], "played again at both ends"
    dram = next(one for one in advice.gains if one.upgrade.key == "twice_dram")
    least, most = advice.gain_ends(dram) or (0.0, 0.0)
    assert 1 < least < (dram.ratio or 0.0) < most, "the less the host reaches, the more it brings"
    shorter = next(one.throughput for one in advice.varied if one.of == "context")
    assert (shorter or 0.0) > (own or 0.0)


def test_what_fits_is_answered_without_choices(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", "small-moe", *OPTIONS]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Fits: 0.027 GB of weights")
    assert "Placement: everything on the GPU." in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["small-moe"], "--gpu: which GPU?"),
        (["small-moe", "--gpu", "rtx-3090", "--context", "64x"], "--context: '64x'"),
        (["mine.yaml", "--gpu", "rtx-3090"], "--gpu: goes with a MODEL; 'mine.yaml'"),
        (["mine.yaml", "--context", "16k"], "--context: goes with a MODEL"),
        (["nothing.gguf", "--gpu", "rtx-3090"], "MODEL: model 'nothing.gguf'"),
    ],
)
def test_mistakes_take_one_line(
    here: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", *arguments]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert "Traceback" not in err


def test_cards_without_nvlink_get_the_engine_that_holds_the_model() -> None:
    parts: dict[str, Any] = {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb"}
    made = assembled(Question("gpt-oss-120b", gpus=2, **parts))
    assert (made.data["software"], made.data["parallelism"]) == ("llama.cpp", {"pipeline": 2})
    assert "65.2 GB of weights are more than 2 such GPUs have" in made.assumed[0]
    assert data_of("gpt-oss-120b", gpus=3, **parts)["software"] == "vllm"  # 77 GB
    assert data_of("deepseek-v3.2", hardware="dgx-h100", gpus=8)["software"] == "vllm"
    with pytest.raises(InputError, match="--gpus: ktransformers is answered for one GPU"):
        data_of("gpt-oss-120b", gpus=2, software="ktransformers", **parts)


@pytest.mark.parametrize(
    ("batch", "layouts"),
    [(1, ("sliced", "whole", "stages")), (2, ("sliced", "whole", "requests", "stages"))],
)
def test_a_gpu_has_requests_of_its_own_where_there_are_as_many(
    batch: int, layouts: tuple[str, ...]
) -> None:
    question = Question("gpt-oss-20b", hardware="dgx-h100", gpus=2, batch=batch)
    assert assembled(question).asks.layouts == layouts
    assert asked(question, ["parallelism.dense=data"]).asks == replace(
        assembled(question).asks, layouts=()
    )


TWO = {"pipeline": 2, "expert": 1, "dense": "data", "experts": "expert"}
SLICED_OVER_TWO = {"pipeline": 1, "expert": 2, "dense": "tensor", "experts": "tensor"}
WHOLE_ON_TWO = SLICED_OVER_TWO | {"experts": "expert"}


def test_layouts_set_all_of_parallelism() -> None:
    def of(layout: str) -> dict[str, Any]:
        found = dict(layout_settings(layout, 2))
        keys = [path.partition(".")[2] for path in found]
        numbers = [int(v) if v.isdecimal() else v for v in found.values()]
        return dict(zip(keys, numbers, strict=True))

    assert (of("stages"), of("sliced"), of("whole")) == (TWO, SLICED_OVER_TWO, WHOLE_ON_TWO)
    assert of("requests") == WHOLE_ON_TWO | {"dense": "data"}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_has_a_line_for_all_that_is_proposed_for_it(engine: str) -> None:
    has = ENGINES[engine]
    of_way = {
        "on_cpu": Choice("on_cpu", "lru", "all", layers=3 if has.some_layers else 8),
        "on_host": Choice("on_host", "lru", "all", layers=2),
        "cpu": Choice("cpu", "lru", "8 slots/layer"),
    }
    base = load_experiment(
        {"model": "small-moe", "hardware": "dgx-h100", "software": has.software}
    ).experiment
    points = [of_way[way].settings for way in has.ways]
    layouts = [layout_settings(one, 2) for one in has.layouts]
    points += [{**RESIDENT.settings, **dict(settings)} for settings in layouts]
    for settings in [RESIDENT.settings, *points]:
        found = command_of(with_settings(base, settings), engine, 256)
        assert found.text is not None, (settings, found.notes)


def test_whole_layers_on_the_cpu_are_a_choice_of_llama_cpp(here: Path) -> None:
    experiment = tiny()
    room = room_of(experiment, "auto")
    assert room.on_host is not None
    (choice,) = (one for one in choices_of(0, on_host=room.on_host) if one.miss == "on_host")
    assert choice.words == f"{room.on_host} whole layers on the CPU"
    ((_, made),), left_out = allowed(experiment, [choice])
    assert not left_out
    assert made.host_layers == room.on_host
    assert build(made).out_of_memory is None
    fewer = replace(choice, layers=room.on_host - 1)
    assert build(with_settings(experiment, fewer.settings)).out_of_memory is not None
    fit = Fit("small-moe", "h", "llama.cpp", None, room, "llama.cpp")
    one = replace(scored("on_cpu", 1.0), choice=choice)
    told = f"the first {room.on_host} layers on the CPU as wholes (-ngl {9 - room.on_host})"
    assert place_of(one, fit) == told


def test_a_profile_of_an_engine_can_do_what_the_engine_can() -> None:
    assert engine_named("ktransformers@0.2") == "ktransformers"
    assert engine_named("IK_llama.cpp@2025-05") == "ik_llama.cpp"
    assert [engine_named(one) for one in ("ideal", "llama.cpp-cache", "mine.yaml")] == [None] * 3


def test_a_change_in_no_release_is_never_the_best() -> None:
    (one,) = offered("llama.cpp", [Choice("background", "lru", "auto")])
    assert one.pending
    assert dict(one.beside) == {"software": "llama.cpp-cache"}
    assert one.words == "background, pull request 27861"
    assert offered("vllm", [replace(one, beside=())])[0].beside == ()
    runs = (replace(scored("background", 90.0), choice=one), scored("load", 10.0))
    assert fastest(runs) is runs[1]
    assert chosen(runs) == [runs[1]]


OF_LLAMA = ["llama-server", "-ngl "]
OF_KT = ["sglang.launch_server", "--kt-num-gpu-experts "]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--gpus", "2"], ["llama-server -m small-moe.gguf", "-sm layer -ts "]),
        pytest.param(["--software", "ik_llama.cpp"], OF_LLAMA, marks=pytest.mark.long),
        (["--software", "llama.cpp-no-mmap"], [*OF_LLAMA, "-lm none"]),
        pytest.param(["--software", "ktransformers@0.2"], OF_KT, marks=pytest.mark.long),
        (["--software", "ktransformers"], OF_KT),
    ],
)
def test_the_line_is_that_of_the_engine(
    here: Path, options: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*OF_TINY, *options, *(["--software", "llama.cpp"] * ("--gpus" in options))]
    assert main(["advise", "small-moe", *arguments, "--no-report", "--out", "out"]) == 0
    told = capsys.readouterr().out.splitlines()
    line = next(line for line in told if line.startswith("engine: "))
    assert all(part in line for part in parts)
    advice = json.loads(Path("out/advice.json").read_text())
    assert main(["run", "out/experiment.yaml", "--out", "again"]) == 0
    summary = json.loads(Path("again/summary.json").read_text())
    assert summary["output_throughput"] == advice["best"]["throughput_tokens_per_s"]


def test_the_fastest_layout_of_gpus_is_the_answer(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--hardware", "dgx-h100", "--gpus", "2", "--software", "sglang", "--requests", "2"]
    assert main(["advise", "small-moe", *options, "-j", "1", "--out", "out"]) == 0
    told = capsys.readouterr().out
    advice = json.loads(Path("out/advice.json").read_text())
    speeds = [one["throughput_tokens_per_s"] for one in advice["layouts"]]
    assert len(speeds) == 3
    assert speeds == sorted(speeds, reverse=True)
    first = advice["layouts"][0]
    assert f"GPUs: {first['words']}, " in told
    assert "stand for sglang" not in told
    assert "engine: python -m sglang.launch_server" in told
    sliced = first["set"]["parallelism.experts"] == "tensor"
    assert sliced == ("--tp-size 2 --context" in told)
    experiment = load_experiment(Path("out/experiment.yaml")).experiment
    assert experiment.software == "sglang"
    assert str(experiment.parallelism.pipeline) == first["set"]["parallelism.pipeline"]
    assert experiment.parallelism.experts == first["set"]["parallelism.experts"]
    assert main(["run", "out/experiment.yaml", "--out", "again"]) == 0
    summary = json.loads(Path("again/summary.json").read_text())
    assert summary["output_throughput"] == advice["best"]["throughput_tokens_per_s"]


def test_the_formats_of_a_model_are_told_once(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They stood among the assumptions, and again among the notes of the run."""
    assert main(["advise", "olmoe-1b-7b", "--gpu", "rtx-3090", "--requests", "1"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "assumed: format: in the formats that 'olmoe-1b-7b' is published in" in told
    assert told.count("most GGUF files have fewer bits a weight") == 1
