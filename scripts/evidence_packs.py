"""Write the packs of evidence whose runs are told by tables: closed loops, vLLM's runs,
llama.cpp's benchmarks, a phone.

``python scripts/evidence_packs.py closed_loops FILE``, ``vllm_runs FOLDER``, ``llama_bench FOLDER``
or ``phone``: the file and the first folder are those of ``verification/served_loops.py`` and
``verification/vllm_runs.py``, whose experiments these are; the second is ``benches`` of llama.cpp's
source; the phone's runs are those of ``verification/phone.py``. Nothing is simulated.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import llama_bench
import pandas as pd
import yaml

from moesim.calibrate.published.pack import COLUMNS, OPTIONAL
from verification import phone, served_loops, serving_prices, vllm_runs

ROOT = Path(__file__).parents[1]
PACKS = ROOT / "experiments"
SURE = "A"
"""The loops' own word for those whose every setting is known."""
SIGNIFICANT = 6
LOOP_SOURCE = (
    "InferenceX and trtllm-bench, in aiconfigurator-core 0.12.0 silicon_sample.csv (Apache-2.0)"
)
PHONE_QUESTION = "BigMoeOnEdge, Qwen3-30B-A3B Q4_K_M on a phone: how fast?"
PHONE_ASSUMED = "the routing of another prompt, six of eight experts"
VLLM_QUESTION = "vLLM 0.19.0, Llama-3.1-8B: how long do requests take?"
LOOP_ASSUMED = "popular experts, no recorded routing; the profile's host, clients take no time"
BENCH_ASSUMED = (
    "tokens are random there; popular experts, no more structure; keys and values in 16 bits"
)
ONE_PROMPT = {
    "arrivals": {"kind": "at_once"},
    "routing": {"kind": "draw", "prompts_from": "decode"},
    "batching": {
        "kind": "continuous",
        "scheduler": {
            "kind": "llama.cpp",
            "max_num_seqs": 1,
            "n_batch": 2048,
            "n_ubatch": 2048,
            "checkpoints": False,
        },
    },
}
Row = dict[str, Any]


def main() -> None:
    """Write the pack that the first argument names."""
    name, *given = sys.argv[1:]
    makers: Mapping[str, Callable[..., list[Row]]] = {
        "closed_loops": closed_loops,
        "vllm_runs": recorded,
        "llama_bench": benches,
        "phone": phones,
    }
    folder = PACKS / name
    folder.mkdir(exist_ok=True)
    rows = makers[name](folder, *map(Path, given))
    with (folder / "measured.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *OPTIONAL], lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} rows in {folder}")


def closed_loops(folder: Path, measured: Path) -> list[Row]:
    """Two rows a loop, of TPOT and of TTFT; loops of one deployment share a file."""
    rows: list[Row] = []
    table, seen = pd.read_csv(measured), set()
    for row in table[table["confidence"] == SURE].itertuples():
        card = str(row.moesim_card).split()[0]
        name = f"{card}-{row.moesim_profile}-x{row.gpus}"
        asked = served_loops.served(row, f"{card}-trace.yaml")
        asked["name"] = f"loop-{name}"
        if name not in seen:
            of = f"{row.framework} {row.framework_version}, {row.model}, {row.gpus} x {row.gpu}"
            write(folder / f"{name}.yaml", asked, f"{of}, closed loops: how long is a token?")
            write_trace(folder, card)
            seen.add(name)
        rows += loop_rows(row, name, asked)
    return rows


def loop_rows(row: Any, name: str, asked: dict[str, Any]) -> list[Row]:
    """Of one loop."""
    workload = asked["workload"]
    lengths = {key: workload["lengths"][key] for key in ("input_len", "output_len")}
    settings = {f"workload.lengths.{key}": value for key, value in lengths.items()} | {
        "workload.requests": workload["requests"],
        "workload.arrivals.max_concurrency": row.max_concurrency,
        "workload.batching.scheduler.max_num_seqs": row.max_concurrency,
    }
    tokens = f"{row.isl} in, {row.osl} out, {row.max_concurrency} clients"
    about = {
        "engine": f"{row.framework} {row.framework_version}", "model": f"{row.model} mxfp4",
        "gpu": f"{row.gpus} x {row.gpu}", "setting": f"{row.experts}, {tokens}",
        "certainty": "high", "assumed": LOOP_ASSUMED, "source": LOOP_SOURCE, "file": name,
        "set": " ".join(f"{key}={value}" for key, value in settings.items()),
    }  # fmt: skip
    at = f"{name}-{row.isl}-{row.osl}-{row.max_concurrency}"
    return [
        {**about, "run": f"{at}-{which}", "of": f"mean_{which}_ms",
         "measured_ms": f"{getattr(row, f'mean_{which}_ms'):g}"}
        for which in ("tpot", "ttft")
    ]  # fmt: skip


def recorded(folder: Path, runs: Path) -> list[Row]:
    """Three rows a run: the means of its requests' times."""
    os.environ[vllm_runs.VARIABLE] = str(runs)
    rows: list[Row] = []
    for run in vllm_runs.runs():
        asked, card = vllm_runs.experiment(run, folder), run.name.split("_")[0]
        lines = (run / "workload_mooncake.jsonl").read_text(encoding="utf-8").splitlines()
        packed = (json.dumps(json.loads(line), separators=(",", ":")) for line in lines)
        (folder / "arrivals.jsonl").write_text("\n".join(packed) + "\n", encoding="utf-8")
        asked |= {key: Path(asked[key]).name for key in ("model", "software", "trace")}
        asked |= {"name": f"vllm-{card}", "records": "summary"}
        asked["workload"]["arrivals"]["file"] = "arrivals.jsonl"
        write(folder / f"{card}.yaml", asked, VLLM_QUESTION)
        means = pd.read_csv(run / "requests.csv")[list(vllm_runs.TIMES)].mean()
        about = {
            "engine": "vllm 0.19.0", "model": "Llama-3.1-8B bf16 (dense)", "gpu": asked["hardware"],
            "setting": "300 requests of ShareGPT at 10 a second", "certainty": "high",
            "assumed": "a dense network is one expert a layer; timed in the engine: no front end",
            "source": "casys-kaist/LLMServingSim, recorded runs (MIT)", "file": card,
        }  # fmt: skip
        rows += [
            {**about, "run": f"{card}-{which.removesuffix('_ms')}", "of": f"mean_{which}",
             "measured_ms": f"{means[which]:.{SIGNIFICANT}g}"}
            for which in vllm_runs.TIMES
        ]  # fmt: skip
    return rows


def phones(folder: Path) -> list[Row]:
    """A row a run but the one that two numbers are fitted to."""
    with phone.MEASURED.open(encoding="utf-8") as file:
        runs = {run["run"]: run for run in csv.DictReader(file)}
    model = folder / "six-larger-experts.json"
    phone.write_model(model)
    fit = phone.fitted(runs[phone.FITTED], str(model))
    source = f"fitted to one run: {phone.FITTED}, BigMoeOnEdge on a phone (verification/phone.py)"
    rows = []
    for name, run in runs.items():
        if name == phone.FITTED:
            continue
        asked = phone.experiment(run, fit, model.name) | {"name": f"phone-{name}"}
        parts = asked["hardware"]
        for part, key in (("gpu", "bandwidth_fraction"), ("storage", "latency")):
            parts[part][key] = {"value": parts[part][key], "source": source}
        write(folder / f"{name}.yaml", asked, PHONE_QUESTION)
        cached = f"{run['cache_mib']} MiB" if run["cache_mib"] else "mapped"
        lanes = run["lanes"] or "no"
        rows.append({
            "run": name, "engine": "BigMoeOnEdge", "model": "Qwen3-30B-A3B Q4_K_M",
            "gpu": "a phone's CPU", "setting": f"{cached}, {lanes} lanes, 256 tokens",
            "certainty": "medium (the phone is not named)", "of": "mean_tpot_ms",
            "assumed": phone.UNJUDGED.get(name, PHONE_ASSUMED),
            "source": "Helldez/BigMoeOnEdge, its logs (Apache-2.0)", "measured_ms": run["ms"],
        })  # fmt: skip
    return rows


def benches(folder: Path, pages: Path) -> list[Row]:
    """A row of each measured speed; decodes and prompts of a model on a machine share a file."""
    rows: list[Row] = []
    for name, (machine, build) in llama_bench.PAGES.items():
        for one in llama_bench.measured(pages / name / f"{name}.md"):
            card, model = llama_bench.MODELS[one.section]
            what = "decode" if one.batch else "prompt"
            file = f"{card}-{machine.split('-192')[0]}-{what}"
            asked = {"name": f"bench-{file}", "model": model, "hardware": machine}
            asked |= {"software": "llama.cpp@b8xxx", "trace": f"{card}-trace.yaml"}
            question = f"llama.cpp, {model}, {machine}: how fast is a {what}?"
            write(folder / f"{file}.yaml", asked | bench_workload(one), question)
            write_trace(folder, card)
            about = {
                "run": f"{file}-{one.context}" + (f"-x{one.batch}" if one.batch else ""),
                "engine": build, "model": model, "gpu": machine, "file": file, "certainty": "high",
                "setting": f"-ub 2048 -fa 1, {one.batch or 'a prompt'} x {one.context} tokens",
                "assumed": BENCH_ASSUMED, "source": f"benches/{name}/{name}.md of llama.cpp (MIT)",
            }  # fmt: skip
            rows.append(about | bench_measured(one))
    return rows


def bench_workload(one: llama_bench.Measured) -> dict[str, Any]:
    """The experiment's workload; settings of rows stand over its numbers."""
    if not one.batch:
        lengths = {"kind": "fixed", "input_len": one.context, "output_len": 1}
        return {"workload": {"requests": 1, "lengths": lengths, **ONE_PROMPT}}
    batching = {"kind": "static", "batch_size": one.batch}
    work = {"requests": one.batch, "phase": "decode", "context": one.context, "batching": batching}
    return {"experts": {"capacity": "all"}, "workload": work}


def bench_measured(one: llama_bench.Measured) -> Row:
    """What a row has of its own."""
    if not one.batch:
        time = 1e3 * one.context / one.tokens_per_s
        setting = f"workload.lengths.input_len={one.context}"
        return {"of": "mean_ttft_ms", "measured_ms": f"{time:.{SIGNIFICANT}g}", "set": setting}
    setting = f"workload.requests={one.batch} workload.batching.batch_size={one.batch}"
    speed = f"{one.tokens_per_s:.{SIGNIFICANT}g}"
    return {"measured_tokens_per_s": speed, "set": f"{setting} workload.context={one.context}"}


def write_trace(folder: Path, card: str) -> None:
    """The parameters of popular experts, no more structure."""
    drawn = serving_prices.parameters(card, served_loops.REQUESTS, served_loops.ROWS)
    plain = drawn.model_dump(mode="json", exclude_none=True)
    write(folder / f"{card}-trace.yaml", plain, "Popular experts, no more structure")


def write(path: Path, content: dict[str, Any], question: str) -> None:
    """As YAML under a line that says what it is."""
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
    path.write_text(f"# {question}\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
