"""What stands in front of a program: variables, what starts it, and a container's options.

Options of ``docker run`` are from memory of its documentation.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

_WRAPPERS = ("numactl", "taskset", "docker", "podman")
_CONTAINER = re.compile(r"(?:.*/)?(?:docker|podman|nvidia-docker)")
_STARTS = ("run", "exec")
_VISIBLE = re.compile(
    r"(?:(?:CUDA|HIP|ROCR|GGML_VK|NVIDIA)_VISIBLE_DEVICES=|(?:--gpus=)?\"?device=)"
    r"(\d+(?:,\d+)*),?\"?"
)
"""Which GPUs a program sees, or a container."""
_SWITCHES = (
    "--rm", "--interactive", "--tty", "--detach", "--privileged", "--init", "--no-healthcheck",
    "--quiet",
)  # fmt: skip
_LETTERS = re.compile(r"-[itdq]+")
"""Switches of one letter, together."""
_ROOM = (
    "--ipc", "--volume", "-v", "--mount", "--tmpfs", "--publish", "-p", "--expose", "--network",
    "--net", "--name", "--hostname", "-h", "--add-host", "--shm-size", "--ulimit", "--runtime",
    "--entrypoint", "--workdir", "-w", "--user", "-u", "--device", "--group-add", "--security-opt",
    "--cap-add", "--restart", "--platform", "--pull", "--label", "-l", "--log-driver", "--log-opt",
    "--userns", "--pid", "--annotation", "--cidfile", "--stop-signal", "--stop-timeout",
)  # fmt: skip
"""Options with a value that change no speed: files, ports, rights, names."""
_SET, _GPUS = ("--env", "-e"), "--gpus"
_IDLE = re.compile(
    r"(?:HF_\w+|HUGGING_?FACE_\w+|TRANSFORMERS_\w+|MODELSCOPE_\w+|NGC_\w+|\w*API_KEY|\w*_TOKEN"
    r"|(?:https?|HTTPS?|no|NO)_(?:proxy|PROXY)|NVIDIA_DRIVER_CAPABILITIES"
    r"|(?:NVIDIA|CUDA)_VISIBLE_DEVICES(?:=all|$)|CUDA_DEVICE_ORDER|NCCL_DEBUG|LLAMA_CACHE"
    r"|XDG_CACHE_HOME|VLLM_CACHE_ROOT|VLLM_USE_MODELSCOPE|TRITON_CACHE_DIR|TOKENIZERS_PARALLELISM"
    r"|PYTHON(?:PATH|UNBUFFERED)|(?:LD_LIBRARY_)?PATH|HOME|TZ|LANG|LC_ALL)(?:=.*)?",
    re.DOTALL,
)
"""Variables that change no speed: access, folders, GPUs that are all there."""


def visible_gpus(front: Sequence[str]) -> int | None:
    """How many GPUs the words in ``front`` of a program leave it; None where none says."""
    found = [match for word in front if (match := _VISIBLE.fullmatch(word))]
    return len(found[-1][1].split(",")) if found else None


def unread_in_front(words: Sequence[str], read: Collection[str]) -> list[str]:
    """What of ``words`` may change how the program runs: variables that are not ``read`` (names, or
    with a value), numactl, a container's cores. Which GPUs it sees is what its options, or
    llama.cpp's default, spread over.
    """
    known = {*read}
    return [
        word
        for word in _settings(list(words))
        if not known & {word, word.partition("=")[0]}
        and not _VISIBLE.fullmatch(word)
        and not _IDLE.fullmatch(word)
    ]


def _settings(rest: list[str]) -> Iterator[str]:
    """Words that set something, of a container's options those alone that are not its room."""
    while rest:
        word = rest.pop(0)
        if _CONTAINER.fullmatch(word) and rest and rest[0] in _STARTS:
            del rest[0]
            yield from _of_container(rest)
        elif "=" in word or word in _WRAPPERS:
            yield word


def _of_container(rest: list[str]) -> Iterator[str]:
    """The same of options up to the image, which are taken from ``rest``."""
    while rest and rest[0].startswith("-"):
        name, equals, value = rest.pop(0).partition("=")
        if name in _SWITCHES or _LETTERS.fullmatch(name):
            continue
        if name[:2] in _ROOM and len(name) > len("-v"):  # -p8000:8000
            continue
        if name not in (*_ROOM, *_SET, _GPUS):
            yield name
        elif not equals:
            value = rest.pop(0) if rest else ""
        if name in _SET or (name == _GPUS and value != "all"):
            yield value
