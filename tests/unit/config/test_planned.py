"""What is not there yet is said to be, with what to use instead."""

import pytest

from moesim.cli.main import main
from moesim.config.errors import InputError, nearest
from moesim.config.planned import PLANNED, planned
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.schema.json_schema import json_schema
from moesim.hardware import load_hardware, software_names

SMALL = {
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/small-moe.parquet",
}


def messages(source, overrides=()):
    with pytest.raises(InputError) as error:
        load_experiment(source, overrides)
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("arrival={rate: 3}", "is said with workload.arrivals"),
        ("workload.batching.qps=3", "is said with workload.arrivals"),
        ("slos={ttft: 1}", "is serving: {slo: {ttft: 500 ms, tpot: 50 ms}}"),
        ("sweep.workload.qps=[1, 2]", "is said with workload.arrivals"),
        ("price_per_hour=3", "is asked with cost: {gpu: 2.5 $/h}"),
        ("watts=450", "are asked with energy: {}"),
        ("quantization=int4", "quantization_config"),
        ("parallelism.gpus=2", "GPUs are as many as parallelism.expert says"),
        ("memory.num_gpu_blocks=9", "is memory: {kv: 2588 blocks"),
        ("memory.page_size=16", "are memory.block_size"),
        ("workload.num_prompts=9", "is workload.requests"),
        (
            "workload.batching={kind: continuous, scheduler: {kind: llama.cpp, n_parallel: 4}}",
            "is max_num_seqs under every scheduler",
        ),
        ("experts.policy.kind=belady", "Belady's policy, which knows the future, is min"),
        ("context_length=4096", "priced at, is workload.context"),
    ],
)
def test_a_word_that_people_use(setting, told):
    (message,) = messages(SMALL, [setting])
    assert message.startswith(f"--set {setting}: ")
    assert told in message


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("replicas=2", "replicas: is not a known key here, but serving.replicas is; "),
        ("workload.slo={}", "workload.slo: is not a known key here, but serving.slo is; "),
        ("workload.serving={}", "workload.serving: is not a known key here, but serving is; "),
        ("policy=lru", "policy: is not a known key here, but experts.policy is; "),
        ("experts.policies=lru", "is not a known key; allowed: "),
        ("workload.request_rate=4", "here, but workload.arrivals.request_rate is; "),
        (
            "memory.max_num_seqs=4",
            "here, but workload.batching.scheduler.max_num_seqs is; ",
        ),
        (
            "workload.batching={kind: continuous, scheduler: {kind: trtllm, timeout_iters: 9}}",
            "here, but workload.batching.scheduler.attention_dp_config.timeout_iters is; ",
        ),
        ("experts.interval=4", "here, but memory.split.interval or placement.interval is; "),
    ],
)
def test_a_key_of_another_place_is_sent_there(setting, told):
    (message,) = messages(SMALL, [setting])
    assert told in message


@pytest.mark.parametrize("word", ["counts"])
def test_a_recording_that_no_importer_reads(tmp_path, capsys, word):
    (tmp_path / "r.npz").write_bytes(b"PK")
    command = ["trace", "import", str(tmp_path / "r.npz"), "-o", str(tmp_path / "o.parquet")]
    assert main([*command, "--importer", word]) == 2
    assert "not there yet" in capsys.readouterr().err


def test_no_word_is_there():
    """A word leaves the table when it becomes a key or a name."""
    there = set(software_names())

    def keys(schema):
        if isinstance(schema, dict):
            there.update(schema.get("properties", {}))
            for value in schema.values():
                keys(value)
        elif isinstance(schema, list):
            for value in schema:
                keys(value)

    keys(json_schema())
    assert "batch_size" in there
    assert not {word for words in PLANNED for word in words} & there
    assert planned("capacity") is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("4090", "rtx-4090"),
        ("PRO", "rtx-pro-6000"),
        ("rtx-40", "rtx-4060-8gb"),
        ("h10", "h100-sxm"),
    ],
)
def test_a_part_of_a_name_finds_it(name, meant):
    known = ["h100-sxm", "rtx-4060-8gb", "rtx-4090", "rtx-pro-6000"]
    assert nearest(name, known).endswith(f"did you mean '{meant}'?")


def test_a_name_of_digits_is_a_name():
    (message,) = messages({**SMALL, "hardware": 40900})
    assert "'40900' is neither a known name" in message
    assert message.endswith("did you mean 'rtx-4090'?")
    assert load_hardware("4090").name == "rtx-4090"


def test_a_missing_trace_says_how_it_is_made(tmp_path):
    path = tmp_path / "x.yaml"
    text = "".join(f"{key}: {value}\n" for key, value in SMALL.items())
    command = "moesim trace synthesize some.yaml -o made/small.parquet"
    text = text.replace("traces/small-moe.parquet", "made/small.parquet")
    path.write_text(f"# Small. made/small.parquet is drawn first:\n#   {command}\n{text}")
    (message,) = messages(path)
    assert message.endswith(f"; make it: {command}")
    (message,) = messages(path, ["trace=other.parquet"])
    assert "make it" not in message
