import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from moesim.calibrate.collect.choice import points_of  # noqa: E402
from moesim.calibrate.collect.cpu import Cpu  # noqa: E402
from moesim.calibrate.collect.plan import Plan  # noqa: E402
from moesim.calibrate.collect.shapes import AttentionShape, ExpertShape, Shapes  # noqa: E402
from moesim.calibrate.collect.trial import FLUSHED_CALLS, CallTrial  # noqa: E402
from moesim.cli.main import main  # noqa: E402
from moesim.hardware import load_hardware  # noqa: E402
from moesim.hardware.measurements.table import read_table  # noqa: E402
from moesim.hardware.measurements.validate import valid  # noqa: E402

TINY = Shapes(
    experts=(ExpertShape(32, 64, 4, 2, gated=True), ExpertShape(32, 64, 4, 1, gated=False)),
    attention=(AttentionShape(4, 4, 16), AttentionShape(4, 2, 16)),
    products=((48, 32),),
)
QUICK = ["--device", "cpu", "--only", "launch", "--minutes", "0.02"]


@pytest.fixture(scope="module")
def cpu():
    before = torch.get_num_threads()
    device = Cpu(1)
    device.cache_bytes = 2**16
    yield device
    torch.set_num_threads(before)


def planned(cpu, dtype):
    return points_of(Plan("cpu", TINY, (dtype,), 0, 2, cpu.cache_bytes, cpu.memory_bytes))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_smallest_point_of_every_kernel_runs(cpu, dtype):
    smallest: dict[tuple[Any, ...], Any] = {}
    for point in planned(cpu, dtype):
        key = (point.columns["op"], point.columns["kernel_source"], point.columns.get("l2_warm"))
        known = smallest.setdefault(key, point)
        if point.operand_bytes < known.operand_bytes:
            smallest[key] = point
    assert len(smallest) >= 16
    for key, point in smallest.items():
        if key[1] == "torch-grouped":
            continue
        trial = point.prepare(cpu)
        trial.warm_up()
        assert len(trial.samples(3)) == 3, key


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this torch has no grouped product")
def test_grouped_experts_are_the_experts_one_by_one(cpu):
    point = next(p for p in planned(cpu, "fp32") if p.columns["kernel_source"] == "torch-grouped")
    trial = point.prepare(cpu)
    rows = [count for count in point.columns["rows"] if count]
    assert trial.calls[0]().shape == (sum(rows), 32)


def test_cold_operands_differ_from_call_to_call_and_warm_ones_do_not(cpu):
    taken = []

    def build(take):
        taken.append(take(64, 64).data_ptr())
        return lambda: None

    CallTrial(cpu, build, "fp32", 4 * 64 * 64, warm=False)
    assert len(set(taken)) == len(taken) == 12
    CallTrial(cpu, build, "fp32", 4 * 64 * 64, warm=True)
    assert len(taken) == 13


def test_the_cache_is_flushed_only_where_operands_do_not_fill_it(cpu, monkeypatch):
    flushes = []
    monkeypatch.setattr(cpu, "flush", lambda: flushes.append(1))
    CallTrial(cpu, lambda take: lambda: None, "fp32", 2**16).samples(9)
    assert flushes == []
    CallTrial(cpu, lambda take: lambda: None, "fp32", 64).samples(100)
    assert len(flushes) == FLUSHED_CALLS


def test_operands_of_which_a_call_reads_a_part_are_not_taken_twice(cpu, monkeypatch):
    flushes = []
    monkeypatch.setattr(cpu, "flush", lambda: flushes.append(1))
    size = cpu.pool.size_bytes
    trial = CallTrial(cpu, lambda take: lambda: None, "fp32", 2**10, cut_bytes=2 * size // 3)
    trial.samples(5)
    assert len(trial.calls) == 1
    assert len(flushes) == 5


def test_cold_calls_go_on_where_the_last_visit_to_them_ended(cpu):
    log = []
    numbers = iter(range(99))

    def build(take):
        number = next(numbers)
        return lambda: log.append(number)

    trial = CallTrial(cpu, build, "fp32", 2**16)
    trial.samples(1)
    trial.samples(4)
    assert log == [0, 1, 2, 0, 1]


def test_the_pool_cuts_without_overlap_until_it_comes_round(cpu):
    pool = type(cpu.pool)("cpu", 4 * 1024)
    first, second = pool.take(500, dtype="fp32"), pool.take(500, dtype="fp32")
    assert second.data_ptr() - first.data_ptr() == 4 * 512
    assert pool.take(100, dtype="fp32").data_ptr() == first.data_ptr()


def test_a_table_and_a_base_profile_come_out(tmp_path, capsys):
    out = tmp_path / "mine.parquet"
    assert main(["calibrate", "collect", "-o", str(out), *QUICK]) == 0
    printed = capsys.readouterr().out
    assert f"next: moesim calibrate fit {out} --base {tmp_path / 'mine.yaml'}" in printed
    table, findings = valid(read_table(out))
    assert findings == []
    assert list(table["op"]) == ["launch"]
    assert set(table["framework"]) == {"torch"}
    assert set(table["version"]) == {torch.__version__}
    profile = load_hardware(str(tmp_path / "mine.yaml"))
    assert profile.datasheet.kernel_start.value > 0


def test_a_table_that_is_there_is_not_overwritten_but_resumed(tmp_path, capsys):
    out = tmp_path / "mine.parquet"
    assert main(["calibrate", "collect", "-o", str(out), *QUICK]) == 0
    before = len(read_table(out))
    assert main(["calibrate", "collect", "-o", str(out), *QUICK]) == 2
    assert "is there already; give another --out, or --resume" in capsys.readouterr().err
    assert main(["calibrate", "collect", "-o", str(out), "--resume", *QUICK]) == 0
    assert len(read_table(out)) >= before


def test_a_profile_that_is_there_is_not_overwritten(tmp_path, capsys):
    profile = tmp_path / "mine.yaml"
    profile.write_text("mine")
    assert main(["calibrate", "collect", "-o", str(tmp_path / "mine.parquet"), *QUICK]) == 2
    assert "mine.yaml: is there already, where the base profile" in capsys.readouterr().err
    assert profile.read_text() == "mine"


def test_an_interruption_keeps_the_table_and_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    from moesim.calibrate.collect.session import Session

    def interrupted(self, minutes, progress):
        self.series[0].visits.append([5.0])
        self.save()
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "measure", interrupted)
    out = tmp_path / "mine.parquet"
    assert main(["calibrate", "collect", "-o", str(out), *QUICK]) == 130
    assert "go on with --resume" in capsys.readouterr().err
    assert len(read_table(out)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "gpu"], "--device 'gpu' is no device; allowed: auto, cpu, cuda"),
        (["--dtype", "int4"], "--dtype 'int4' is not measured; allowed: bf16, fp16, fp32"),
        (["--only", "gemms"], "--only 'gemms' is no op"),
        (["--model", "nobody"], "model 'nobody' is neither a shipped card nor a path"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(options, message, tmp_path, capsys):
    out = tmp_path / "mine.parquet"
    assert main(["calibrate", "collect", "-o", str(out), "--device", "cpu", *options]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_table_is_parquet(tmp_path, capsys):
    assert main(["calibrate", "collect", "-o", str(tmp_path / "mine.csv"), *QUICK]) == 2
    assert "the table is a .parquet file" in capsys.readouterr().err


def test_without_torch_one_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["calibrate", "collect", "-o", str(tmp_path / "mine.parquet"), *QUICK]) == 2
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0
    assert "pip install 'moesim[record]'" in told
