"""Programs that are none of an engine's: what they are, and what to write instead.

Names are from memory of their documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from moesim.config.errors import nearest

_CLIENT = (
    "sends requests to a server, of which it says nothing; write the server's line, and what it"
    " sends as workload.arrivals and workload.lengths"
)
_MLX = (
    "runs MLX, whose kernels moesim has no prices of; on Apple's chips it has llama.cpp's: write"
    " 'llama-server -m MODEL-Q4_K_M.gguf' for a model in four bits"
)
_ON_LLAMA_CPP = (
    "is no program of an engine that moesim reads; it runs llama.cpp: write 'llama-server' with the"
    " model and options, or options alone with --engine llama.cpp"
)
_OTHER = (
    "runs an engine whose kernels moesim has no prices of; write the line of the nearest that it"
    " has: 'vllm serve' or 'python -m sglang.launch_server'"
)
_KNOWN: Mapping[str, str] = {
    r"vllm bench serve|(sglang\.)?(bench|benchmark)_serving(\.py)?|genai-perf|aiperf|guidellm"
    r"|llmperf|evalscope|lm_eval|curl|sglang\.bench_one_batch_server": _CLIENT,
    r"mlx_lm(\.\w+)?|mlx_lm \w+|mlx-lm|mlx_vlm(\.\w+)?": _MLX,
    r"ollama|koboldcpp(\.py)?|lms|llamafile|ramalama|llama_cpp\.server|local-ai": _ON_LLAMA_CPP,
    r"lmdeploy|text-generation-launcher|mlc_llm|ftllm|exllamav[23]|tabbyapi|aphrodite": _OTHER,
}  # fmt: skip
_PYTHON = re.compile(r"(.*/)?python[\d.]*(\.exe)?")


def program_of(words: Sequence[str]) -> str:
    """The program of a command, or the module or file that Python runs, without its folder."""
    for place, word in enumerate(words[:-1]):
        if _PYTHON.fullmatch(word):
            return next((one for one in words[place + 1 :] if one[0] != "-"), word)
    own = next((word for word in words if "=" not in word), words[0])
    name = own.rpartition("/")[2]
    return " ".join(words[:3]) if list(words[1:2]) == ["bench"] else name


def instead_of(program: str, programs: Sequence[str]) -> str:
    """What is to be said of a ``program`` that none of an engine's ``programs`` is."""
    name = program if " " in program else program.rpartition("/")[2]
    if found := next((what for one, what in _KNOWN.items() if re.fullmatch(one, name)), None):
        return found
    what = "is no program of an engine that moesim reads"
    return f"{what}; {nearest(name, programs)}; options alone are read with --engine NAME"
