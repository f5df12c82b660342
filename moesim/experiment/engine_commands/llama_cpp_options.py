"""The options of llama.cpp and of ik_llama.cpp that moesim knows.

Names and meanings are those of ``common/arg.cpp`` (MIT) as llama-cpp-python 0.3.36 ships it, and of
older releases: ``--no-mmap`` and ``--mlock`` (now ``--load-mode``), ``-fa`` without a value,
``--draft-max`` (removed). ik_llama.cpp's own are those that its runs are published with. Whatever
else a line has is said to be not understood.
"""

from __future__ import annotations

from moesim.experiment.engine_commands.words import DRAFTS, Effect, Option, Takes

READ, NOT_MODELLED = Effect.READ, Effect.NOT_MODELLED
NOTHING, SWITCH = Takes.NOTHING, Takes.SWITCH
LLAMA_CPP = (
    Option("-m --model", READ),
    Option("-hf -hfr --hf-repo", READ),
    Option("-hff --hf-file", READ),
    Option("-ngl --gpu-layers --n-gpu-layers", READ),
    Option("-ncmoe --n-cpu-moe", READ),
    Option("--moe-expert-cache", READ),
    Option("-cmoe --cpu-moe", READ, NOTHING),
    Option("-ot --override-tensor", READ),
    Option("-c --ctx-size", READ),
    Option("-b --batch-size", READ),
    Option("-ub --ubatch-size", READ),
    Option("-np --parallel", READ),
    Option("-kvu --kv-unified", READ, NOTHING),
    Option("-t --threads", READ),
    Option("-fa --flash-attn", READ, SWITCH),
    Option("-ctk --cache-type-k", READ), Option("-ctv --cache-type-v", READ),
    Option("-nkvo --no-kv-offload", NOT_MODELLED, SWITCH, "the KV cache stays on the GPU"),
    Option("-ncffn --n-cpu-ffn", NOT_MODELLED, why="dense networks stay on the GPU"),
    Option("-ts --tensor-split", READ),
    Option("-sm --split-mode", READ),
    Option("-dev --device", READ),
    Option("--rpc", NOT_MODELLED, why="layers on GPUs of other machines"),
    Option("-tb --threads-batch", NOT_MODELLED,
           why="threads of prompts; those of -t compute"),
    Option("--numa", NOT_MODELLED, why="all NUMA nodes of the host share its experts evenly"),
    Option("--no-mmap", READ, NOTHING),
    Option("-mmp --mmap", READ),
    Option("-d --n-depth", READ),
    Option("-lm --load-mode", READ),
    Option("-nr --no-repack", NOT_MODELLED, NOTHING, "the layout of weights on the CPU"),
    Option("--repack", NOT_MODELLED, NOTHING, "the layout of weights on the CPU"),
    Option("--no-op-offload", READ, NOTHING),
    Option("-fit --fit", NOT_MODELLED, why="moves layers to the CPU where they do not fit",
           harmless=("off",)),
    Option("--override-kv", NOT_MODELLED, why="another model than the file's"),
    Option("--lora --lora-scaled", NOT_MODELLED, why="an adapter's weights"),
    Option("-mm --mmproj", NOT_MODELLED, why="a projector for images, in the GPU's memory"),
    Option("-md --model-draft --spec-draft-model", NOT_MODELLED, why=DRAFTS),
    Option("-hfd -hfrd --hf-repo-draft --spec-draft-hf", NOT_MODELLED, why=DRAFTS),
    Option("--draft --draft-n --draft-max --spec-draft-n-max", NOT_MODELLED, why=DRAFTS),
    Option("--draft-min --draft-n-min --spec-draft-n-min", NOT_MODELLED, why=DRAFTS),
    Option("--spec-type", NOT_MODELLED, why=DRAFTS, harmless=("none",)),
    Option("-ngld --gpu-layers-draft --n-gpu-layers-draft --spec-draft-ngl", NOT_MODELLED,
           why=DRAFTS),
    Option("--swa-full", NOT_MODELLED, NOTHING, "keys outside of sliding windows are kept too"),
    Option("-mg --main-gpu"),
    Option("--mlock", takes=NOTHING),
    Option("--host"), Option("--port"), Option("-a --alias"), Option("--api-key"),
    Option("--jinja", takes=NOTHING), Option("--no-jinja", takes=NOTHING),
    Option("--metrics", takes=NOTHING), Option("--slots", takes=NOTHING),
    Option("--no-slots", takes=NOTHING), Option("--props", takes=NOTHING),
    Option("--no-webui --no-ui", takes=NOTHING), Option("--no-warmup", takes=NOTHING),
    Option("--warmup", takes=NOTHING), Option("--chat-template"), Option("--chat-template-file"),
    Option("--chat-template-kwargs"), Option("--reasoning-format"), Option("--reasoning-budget"),
    Option("--temp --temperature"), Option("--top-k"), Option("--top-p"), Option("--min-p"),
    Option("--repeat-penalty"), Option("--presence-penalty"), Option("--frequency-penalty"),
    Option("--samplers"), Option("-s --seed"), Option("-n --predict --n-predict --n-gen", READ),
    Option("-pg"), Option("-p --prompt --n-prompt"), Option("-f --file"),
    Option("-sys --system-prompt"),
    Option("-cnv --conversation", takes=NOTHING),
    Option("-no-cnv --no-conversation", takes=NOTHING),
    Option("-st --single-turn", takes=NOTHING), Option("--ignore-eos", takes=NOTHING),
    Option("-cb --cont-batching", takes=NOTHING), Option("-v --verbose", takes=NOTHING),
    Option("-lv --verbosity"), Option("--log-file"), Option("--log-disable", takes=NOTHING),
    Option("--prio"), Option("--poll"), Option("--timeout -to"), Option("--cache-reuse"),
    Option("-cram --cache-ram"), Option("--keep"), Option("--offline", takes=NOTHING),
    Option("-hft --hf-token"), Option("-r --reverse-prompt --repetitions"), Option("-o --output"),
    Option("--rope-scaling"), Option("--rope-scale"), Option("--rope-freq-base"),
    Option("--rope-freq-scale"), Option("--yarn-orig-ctx"), Option("--yarn-ext-factor"),
    Option("--yarn-attn-factor"), Option("--yarn-beta-fast"), Option("--yarn-beta-slow"),
    Option("--no-context-shift", takes=NOTHING),
    Option("--context-shift", takes=NOTHING), Option("--no-mmproj", takes=NOTHING),
)  # fmt: skip
"""Of llama.cpp."""
IK_LLAMA_CPP = (
    *LLAMA_CPP,
    Option("-ser --smart-expert-reduction", NOT_MODELLED,
           why="fewer experts a token than the model's; all are computed"),
    Option("-fmoe --fused-moe", NOT_MODELLED, SWITCH, "fused kernels of the CPU's experts"),
    Option("-rtr --run-time-repack", READ, NOTHING),
    Option("-mla --mla-use", NOT_MODELLED, why="which form of latent attention is computed"),
    Option("-amb --attention-max-batch", NOT_MODELLED, why="the size of attention's buffer"),
)  # fmt: skip
"""Of its fork, llama.cpp's too."""
