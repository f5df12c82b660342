"""Lines of files that name containers."""

from __future__ import annotations

import pytest

from moesim.config.errors import InputError
from moesim.experiment.engine_commands import read_command

from .test_words import warnings

COMPOSE = """services:
  proxy: {image: nginx, command: [nginx]}
  vllm:
    image: vllm/vllm-openai:latest
    ipc: host
    ports: ["8000:8000"]
    environment:
      - HF_TOKEN=${HF_TOKEN}
    deploy: {resources: {reservations: {devices: [{driver: nvidia, count: all}]}}}
"""
KUBERNETES = """apiVersion: v1
kind: Service
metadata: {name: x}
---
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      containers:
      - name: server
        image: %s
        env:
        - name: HF_TOKEN
          valueFrom: {secretKeyRef: {name: s, key: t}}
        - name: HF_HOME
          value: /models
"""


@pytest.mark.parametrize(
    "command",
    [
        'command: ["--model", "openai/gpt-oss-20b", "-tp", "2"]',
        "command: --model openai/gpt-oss-20b -tp 2",
        "command: >\n      --model openai/gpt-oss-20b\n      -tp 2",
        "command: |\n      --model openai/gpt-oss-20b\n      -tp 2",
        "command:\n    - --model\n    - openai/gpt-oss-20b\n    - -tp\n    - 2",
        'entrypoint: ["vllm", "serve"]\n    command: openai/gpt-oss-20b -tp 2',
        'command: ["bash", "-c", "cd /app && vllm serve openai/gpt-oss-20b -tp 2"]',
    ],
)
def test_a_service_of_compose(command: str) -> None:
    found = read_command(f"{COMPOSE}    {command}\n")
    assert (found.engine, found.experiment["model"]) == ("vllm", "gpt-oss-20b")
    assert found.experiment["parallelism"]["expert"] == 2
    assert warnings(found) == []


@pytest.mark.parametrize(
    ("image", "command", "engine"),
    [
        ("vllm/vllm-openai", 'args: ["--model", "openai/gpt-oss-20b", "-tp", "2"]', "vllm"),
        ("x", 'command: ["/bin/sh", "-c"]\n        args: ["vllm serve openai/gpt-oss-20b -tp 2"]',
         "vllm"),
        ("x", 'command: ["trtllm-serve"]\n        args: [openai/gpt-oss-20b, --tp_size, "2"]',
         "trtllm"),
        ("x", ("command: [bash, -c]\n        args:\n        - |\n          python3 -m"
               " sglang.launch_server \\\n            --model-path openai/gpt-oss-20b \\\n"
               "            --tp 2\n"), "sglang"),
    ],
)  # fmt: skip
def test_a_container_of_kubernetes(image: str, command: str, engine: str) -> None:
    found = read_command(f"{KUBERNETES % image}        {command}\n")
    assert (found.engine, found.experiment["model"]) == (engine, "gpt-oss-20b")
    assert found.experiment["parallelism"]["expert"] == 2
    assert warnings(found) == []


def test_a_part_of_a_file() -> None:
    found = read_command('command: ["vllm", "serve", "openai/gpt-oss-20b", "-tp", "2"]')
    assert found.experiment["parallelism"]["expert"] == 2
    text = "environment: {VLLM_USE_V1: 0}\nimage: vllm/vllm-openai\ncommand: --model m\n"
    assert any("VLLM_USE_V1=0" in one and "in front" in one for one in warnings(read_command(text)))


def test_a_file_of_containers_that_is_broken() -> None:
    with pytest.raises(InputError, match=r"^YAML:2:6: this is not YAML") as raised:
        read_command("command: [vllm, serve\nimage: x")
    assert len(raised.value.problems) == 1
    with pytest.raises(InputError, match="is no program of an engine"):
        read_command("services: {web: {image: nginx,\n command: [nginx, -g]}}")
