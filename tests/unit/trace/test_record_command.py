"""``moesim trace record``: what it writes, and what it says about bad input."""

from __future__ import annotations

import sys

import pytest
import yaml

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from moesim.cli.main import main  # noqa: E402 (after the optional libraries)
from moesim.results import read_result  # noqa: E402
from moesim.trace import read_trace  # noqa: E402
from moesim.trace import record as recording  # noqa: E402

LINES = "def f(x):\n\n    return x + 1  # \u00e9\nfor word in words:\n"


def save(folder, **settings):
    torch.manual_seed(5)
    config = transformers.OlmoeConfig(
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        **settings,
    )
    transformers.logging.disable_progress_bar()  # saving draws one, whichever test is first
    transformers.OlmoeForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny-olmoe", vocab_size=256)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text(LINES, encoding="utf-8")
    return path


@pytest.fixture
def command(model, prompts, tmp_path):
    """Run the command with these options; returns its exit code and the file."""

    def run(*options, model=model, prompts=prompts):
        out = tmp_path / "out.parquet"
        bytewise = ("--tokenizer", "bytes", "--device", "cpu")
        code = main(
            ["trace", "record", str(model), str(prompts), "-o", str(out), *bytewise, *options]
        )
        return code, out

    return run


def test_what_routers_predict_is_prefetched_by(command, model, tmp_path, capsys):
    code, out = command("--max-new-tokens", "5", "--look-ahead", "1")
    assert code == 0
    assert "note: predicted_ids: each MoE layer's router on the input of" in capsys.readouterr().out
    trace = read_trace(out)
    assert trace.look_ahead.shape == (trace.tokens, 1, 2, 2)
    assert main(["trace", "validate", str(out)]) == 0
    assert main(["trace", "stats", str(out)]) == 0
    assert "recall" in capsys.readouterr().out
    experiment = {
        "model": str(model / "config.json"),
        "hardware": "rtx-4090",
        "trace": str(out),
        "experts": {"capacity": "3 slots/layer", "prefetch": {"kind": "recorded"}},
    }
    file = tmp_path / "ahead.yaml"
    file.write_text(yaml.safe_dump(experiment))
    assert main(["run", str(file), "--out", str(tmp_path / "ahead")]) == 0
    assert read_result(tmp_path / "ahead").summary["prefetches"] > 0
    code, _ = command("--look-ahead", "2")
    assert code == 2
    assert "2 is more than the 1 MoE layers behind the first" in capsys.readouterr().err


def test_the_trace_is_one_that_moesim_reads_and_runs(command, model, tmp_path, capsys):
    code, out = command("--max-new-tokens", "5", "--licence", "CC0-1.0")
    shown = capsys.readouterr()
    assert (code, shown.err) == (0, "")
    assert "3 requests, 49 prefill and 12 decode tokens, 2 MoE layers, top-2 of 8" in shown.out
    metadata = read_trace(out).metadata
    assert (metadata.model, metadata.source) == ("tiny-olmoe", "prompts.txt")
    assert metadata.licence == "CC0-1.0"
    assert main(["trace", "validate", str(out)]) == 0
    assert main(["trace", "stats", str(out)]) == 0
    experiment = {
        "name": "recorded",
        "model": str(model / "config.json"),
        "hardware": "rtx-4060-8gb",
        "trace": str(out),
        "workload": {"phase": "all"},
        "experts": {"capacity": "2 slots/layer"},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(experiment))
    assert main(["run", str(path), "--out", str(tmp_path / "result")]) == 0
    summary = read_result(tmp_path / "result").summary
    assert summary["tokens"] == 61
    assert summary["misses"] > 0


def test_the_first_prompts_only(command):
    code, out = command("--limit-prompts", "2", "--max-new-tokens", "1")
    assert code == 0
    assert (read_trace(out).request_offsets()[1:] == [9, 31]).all()


def test_an_interrupt_keeps_what_is_complete(command, monkeypatch, capsys):
    whole = recording.record

    def interrupted(*arguments):
        yield from list(whole(*arguments))[:2]
        raise KeyboardInterrupt

    monkeypatch.setattr(recording, "record", interrupted)
    code, out = command()
    assert code == 130
    assert "stopped after 2 of 3 prompts" in capsys.readouterr().err
    trace = read_trace(out)
    assert trace.requests == 2
    assert "stopped after 2 of 3 prompts" in trace.metadata.notes


def test_an_interrupt_before_the_first_writes_nothing(command, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(recording, "record", interrupted)
    code, out = command()
    assert code == 130
    assert "nothing is written" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_the_extra_one_line_says_what_to_install(command, monkeypatch, capsys, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    assert command()[0] == 2
    assert capsys.readouterr().err == f"recording needs {missing}: pip install 'moesim[record]'\n"


def one_line(capsys, *words):
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n  \n", ["has no prompts"]),
        (b"", ["has no prompts"]),
        (b"ab\xff", ["prompts.txt:1:3:", "UTF-8"]),
        (b"fine\n" + b"x" * 124, ["prompts.txt:2:", "124 prompt tokens", "128 positions"]),
    ],
)
def test_prompts_that_cannot_be_used(command, prompts, capsys, content, words):
    prompts.write_bytes(content)
    assert command("--max-new-tokens", "5")[0] == 2
    one_line(capsys, *words)


def test_a_missing_file_or_folder_is_named(command, prompts, tmp_path, capsys):
    assert command(prompts=tmp_path / "none.txt")[0] == 2
    one_line(capsys, "none.txt", "there is no such file")
    assert command(model=tmp_path / "no-model")[0] == 2
    one_line(capsys, "no-model", "no such folder")
    assert command(model=prompts)[0] == 2
    one_line(capsys, "no such folder")
    assert command(model=tmp_path)[0] == 2
    one_line(capsys, "transformers cannot load this model")
    assert command("-o", str(tmp_path / "none" / "t.parquet"))[0] == 2
    one_line(capsys, "its folder does not exist")


def test_the_tokenizer_of_the_model_makes_the_tokens(model, prompts, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "def": 1, "for": 2, "word": 3, "in": 4, "words": 5, ":": 6}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    fast.save_pretrained(tmp_path / "words")
    assert recording.load_encoder(str(tmp_path / "words"))("for word in words:") == [2, 3, 4, 5, 6]
    assert recording.load_encoder(str(model), str(tmp_path / "words"))("in def") == [4, 1]


def test_a_model_without_tokenizer_is_told_of_bytes(model, command, capsys):
    assert command("--tokenizer", str(model))[0] == 2
    one_line(capsys, "cannot load this tokenizer", "--tokenizer bytes")


def test_bytes_need_a_vocabulary_for_them(command, tmp_path, capsys):
    small = save(tmp_path / "small", vocab_size=128)
    assert command(model=small)[0] == 2
    one_line(capsys, "prompts.txt:3:", "has token 195", "ends at 127")


def test_a_gpu_that_is_not_there(command, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command("--device", "cuda")[0] == 2
    one_line(capsys, "--device", "cuda")
