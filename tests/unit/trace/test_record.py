"""Recorded routing against full passes without a cache, of tiny models with random weights."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from moesim.config.errors import InputError  # noqa: E402 (after the optional libraries)
from moesim.model import load_model  # noqa: E402
from moesim.trace import Phase, read_trace, write_trace  # noqa: E402
from moesim.trace.importers.hf_router_logits import choose  # noqa: E402
from moesim.trace.record import RecordedRequest, find_routers, record, recorded_trace  # noqa: E402
from moesim.trace.record.routers import choice  # noqa: E402
from moesim.trace.validate import findings  # noqa: E402

EXPERTS, NEW = 8, 6
PROMPTS = [[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], [2, 7, 1]]
DECODER = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
LATENT = {
    "num_key_value_heads": 4,
    "n_routed_experts": EXPERTS,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 16,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "n_group": 4,
    "topk_group": 2,
    "routed_scaling_factor": 2.5,
}
LOCAL, ALL = {"num_local_experts": EXPERTS}, {"num_experts": EXPERTS}
FAMILIES = {
    "Mixtral": (2, True, LOCAL | {"sliding_window": 8}),
    "Olmoe": (3, False, ALL),
    "Qwen3Moe": (3, True, ALL | {"moe_intermediate_size": 16, "mlp_only_layers": [1]}),
    "GptOss": (2, True, LOCAL | {"head_dim": 8, "sliding_window": 8}),
}


def build(family, top_k, extra):
    torch.manual_seed(5)
    config = getattr(transformers, f"{family}Config")(
        **(DECODER | extra), num_experts_per_tok=top_k, **norm(family)
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for name, weight in model.named_parameters():
        if name.endswith(("gate.weight", "router.weight", "router.bias")):
            torch.nn.init.normal_(weight)
    return model


def norm(family):
    return {"norm_topk_prob": True} if family in {"Qwen3Moe", "DeepseekV3"} else {}


def without_cache(model, prompt, new_tokens):
    """Router logits [T, L, E] of one pass over the prompt and all greedy tokens but the last."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(new_tokens):
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits
            tokens.append(int(logits[0, -1].argmax()))
        out = model(
            input_ids=torch.tensor([tokens[:-1]]), use_cache=False, output_router_logits=True
        )
    return tokens, np.stack([layer.numpy() for layer in out.router_logits], axis=1)


def recorded(model, prompts=PROMPTS, new_tokens=NEW):
    routers = find_routers(model)
    requests = list(record(model, routers, prompts, new_tokens))
    return recorded_trace(model, routers, requests, name="tiny", source="a test")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    top_k, normalised, extra = FAMILIES[request.param]
    return build(request.param, top_k, extra), top_k, normalised


def test_cached_decode_routes_as_one_full_pass(family):
    model, top_k, normalised = family
    routers = find_routers(model)
    assert (routers.experts, routers.top_k) == (EXPERTS, top_k)
    for prompt, request in zip(PROMPTS, record(model, routers, PROMPTS, NEW), strict=True):
        _, logits = without_cache(model, prompt, NEW)
        ids, weights = choose(logits, top_k, normalise=normalised)
        assert request.prompt_tokens == len(prompt)
        assert request.ids.shape == (len(prompt) + NEW - 1, len(routers.layer_ids), top_k)
        assert (request.ids == ids).all()
        assert request.weights == pytest.approx(weights, abs=1e-3)
        if normalised:
            assert request.weights.sum(axis=2) == pytest.approx(1)


def test_groups_and_biases_of_deepseek_are_in_the_ids():
    model = build("DeepseekV3", 3, LATENT)
    for layer in model.model.layers[1:]:
        layer.mlp.gate.e_score_correction_bias.normal_(std=0.5)
    biases = np.stack([x.mlp.gate.e_score_correction_bias.numpy() for x in model.model.layers[1:]])
    routers = find_routers(model)
    assert routers.layer_ids == (1, 2)
    request = next(record(model, routers, PROMPTS, NEW))
    _, logits = without_cache(model, PROMPTS[0], NEW)
    scores = 1 / (1 + np.exp(-logits.astype(float)))
    biased = (scores + biases).reshape(*scores.shape[:2], 4, 2)  # four groups of two
    kept = np.argsort(-biased.sum(axis=3), axis=2)[:, :, :2]
    mask = np.full(biased.shape, -np.inf)
    np.put_along_axis(mask, kept[..., None], 0, axis=2)
    expected = np.argsort(-(biased + mask).reshape(scores.shape), axis=2)[:, :, :3]
    assert (np.sort(request.ids, axis=2) == np.sort(expected, axis=2)).all()
    plain = np.argsort(-logits, axis=2)[:, :, :3]
    assert (np.sort(request.ids, axis=2) != np.sort(plain, axis=2)).any()
    weights = np.take_along_axis(scores, request.ids, axis=2)
    assert request.weights == pytest.approx(weights / weights.sum(axis=2, keepdims=True), abs=1e-5)


def test_routers_predict_from_what_those_before_were_given(family):
    """As its own gate says of the hidden states that came to one 1 or 2 MoE layers before."""
    model, *_ = family
    routers, given = find_routers(model), []
    (request,) = record(model, routers, PROMPTS[:1], 1, look_ahead=len(routers.layer_ids) - 1)
    assert request.predicted is not None
    hooks = [
        gate.register_forward_hook(lambda _gate, inputs, _out: given.append(inputs[0]))
        for gate in routers.modules
    ]
    with torch.no_grad():
        model(input_ids=torch.tensor(PROMPTS[:1]), use_cache=False)
        for hook in hooks:
            hook.remove()
        for distance in range(1, len(given)):
            for layer in range(distance, len(given)):
                made = choice(routers.modules[layer](given[layer - distance]))
                assert made is not None
                expected = made.ids.gather(1, made.weights.argsort(dim=1, descending=True))
                assert (request.predicted[:, distance - 1, layer] == expected.numpy()).all()
    assert (request.ids == next(record(model, routers, PROMPTS, 1)).ids).all()


def test_phases_positions_and_metadata(family, tmp_path):
    model, top_k, _ = family
    model.save_pretrained(tmp_path / "tiny")
    trace = recorded(model)
    lengths = [len(prompt) + NEW - 1 for prompt in PROMPTS]
    assert np.diff(trace.request_offsets()).tolist() == lengths
    assert trace.position.tolist() == [place for length in lengths for place in range(length)]
    for number, prompt in enumerate(PROMPTS):
        decode = (trace.phase == Phase.DECODE) & (trace.request_id == number)
        assert trace.position[decode].tolist() == list(range(len(prompt), len(prompt) + NEW - 1))
    assert findings(trace) == []
    trace.check_fits(load_model(str(tmp_path / "tiny")))
    assert trace.metadata.top_k == top_k
    assert f"transformers {transformers.__version__}" in trace.metadata.recorder
    write_trace(trace, tmp_path / "t.parquet")
    again = read_trace(tmp_path / "t.parquet")
    assert (again.expert_ids == trace.expert_ids).all()
    assert (again.gate_weights == trace.gate_weights).all()
    assert again.metadata == trace.metadata


@pytest.fixture(scope="module")
def olmoe():
    return build("Olmoe", 3, ALL)


def test_one_new_token_is_prefill_only(olmoe):
    trace = recorded(olmoe, new_tokens=1)
    assert trace.tokens == sum(map(len, PROMPTS))
    assert (trace.phase == Phase.PREFILL).all()


def test_an_end_of_sequence_token_is_not_processed(olmoe, monkeypatch):
    tokens, _ = without_cache(olmoe, PROMPTS[0], NEW)
    generated = tokens[len(PROMPTS[0]) :]
    end = generated[3]
    monkeypatch.setattr(olmoe.generation_config, "eos_token_id", [end, 255])
    trace = recorded(olmoe, PROMPTS[:1])
    assert (trace.phase == Phase.DECODE).sum() == generated.index(end)


def test_no_hook_stays_after_an_interrupt(olmoe, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    routers = find_routers(olmoe)
    before = [len(module._forward_hooks) for module in olmoe.modules()]
    monkeypatch.setattr(olmoe, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(record(olmoe, routers, PROMPTS, NEW))
    assert [len(module._forward_hooks) for module in olmoe.modules()] == before


def test_weights_that_are_no_shares_are_left_out(olmoe):
    request = RecordedRequest(np.zeros((2, 3, 3), np.int64), np.full((2, 3, 3), 1.5, "f4"), 1)
    trace = recorded_trace(olmoe, find_routers(olmoe), [request], name="tiny", source="a test")
    assert trace.gate_weights is None
    assert "outside 0 .. 1" in trace.metadata.notes


def test_a_dense_model_is_refused():
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**DECODER))
    with pytest.raises(InputError, match=r"LlamaForCausalLM .* no module is named gate or router"):
        find_routers(model)


def test_a_router_of_another_kind_is_named():
    settings = DECODER | LOCAL | {"head_dim": 8, "intermediate_size_mlp": 32}
    model = transformers.Llama4ForCausalLM(transformers.Llama4TextConfig(**settings))
    with pytest.raises(InputError) as error:
        find_routers(model)
    found = "layers.0.feed_forward.router (Llama4Router) returns (float32[3, 8], float32[3, 8])"
    assert found in str(error.value)


LOGITS, WEIGHTS = torch.rand(5, EXPERTS), torch.rand(5, 2)
IDS = torch.randint(EXPERTS, (5, 2))


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ((LOGITS, WEIGHTS, IDS), True),
        ((IDS, WEIGHTS), True),
        ([IDS, WEIGHTS, LOGITS], True),
        ((LOGITS, IDS), False),
        ((WEIGHTS, IDS[:4]), False),
        ((WEIGHTS, LOGITS, IDS), False),
        (LOGITS, False),
        ((None, IDS), False),
        ({"ids": IDS}, False),
    ],
)
def test_a_choice_is_ids_beside_weights_of_their_shape(output, found):
    made = choice(output)
    assert (made is not None) == found
    if made is not None:
        assert made.ids is IDS
        assert made.weights is WEIGHTS
