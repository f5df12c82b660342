"""What the importers read from their samples, which tests/data/importers/make.py explains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.model import load_model
from moesim.trace import NO_EXPERT, Phase
from moesim.trace.importers.hf_router_logits import choose
from moesim.trace.importing import import_trace

SAMPLES = Path(__file__).parents[2] / "data" / "importers"
NONE = NO_EXPERT


class TestNpz:
    def test_sample(self):
        trace = import_trace(SAMPLES / "npz.npz", source="a book", licence="none")
        assert trace.expert_ids.tolist() == [
            [[3, 1], [0, 2]],
            [[3, 0], [2, 0]],
            [[1, 2], [0, NONE]],
            [[0, 1], [1, 3]],
            [[2, 3], [3, 1]],
        ]
        assert trace.request_id.tolist() == [0, 0, 0, 1, 1]
        assert trace.position.tolist() == [7, 8, 9, 4, 5]
        assert set(trace.phase.tolist()) == {Phase.DECODE}
        assert trace.gate_weights is not None
        assert trace.gate_weights[4, 1].tolist() == [0.75, 0.25]
        assert trace.experts == 4
        assert trace.metadata.moe_layer_ids == (0, 1)
        assert trace.metadata.model is None
        assert (trace.metadata.source, trace.metadata.licence) == ("a book", "none")

    def test_ids_alone_are_one_request(self, tmp_path):
        np.savez(tmp_path / "x.npz", expert_ids=np.array([[[0, 5]], [[2, 1]]]))
        trace = import_trace(tmp_path / "x.npz", prompt_tokens=1)
        assert trace.requests == 1
        assert trace.experts == 6
        assert trace.phase.tolist() == [Phase.PREFILL, Phase.DECODE]

    @pytest.mark.parametrize(
        ("arrays", "given", "notes"),
        [
            ({}, {}, ["taken as one request of 2 tokens", "prompt length not recorded"]),
            ({}, {"prompt_tokens": 1}, ["taken as one request of 2 tokens"]),
            ({}, {"request_tokens": [1, 1]}, ["prompt length not recorded"]),
            ({"offsets": [0, 1, 2], "first_position": [3, 4]}, {}, []),
        ],
    )
    def test_what_the_file_does_not_say_is_noted(self, tmp_path, arrays, given, notes):
        whole: dict[str, Any] = {name: np.array(values) for name, values in arrays.items()}
        np.savez(tmp_path / "x.npz", expert_ids=np.array([[[0, 5]], [[2, 1]]]), **whole)
        found = import_trace(tmp_path / "x.npz", **given).metadata.notes
        parts = found.split("; ") if found else []
        assert [part.partition(":")[0] for part in parts] == notes

    def test_lengths_stand_in_the_file_or_are_given(self, tmp_path):
        ids = np.array([[[0, 5]], [[2, 1]], [[4, 3]]])
        np.savez(tmp_path / "x.npz", expert_ids=ids)
        trace = import_trace(tmp_path / "x.npz", request_tokens=1, prompt_tokens=[1, 0, 1])
        assert trace.requests == 3
        assert trace.phase.tolist() == [Phase.PREFILL, Phase.DECODE, Phase.PREFILL]
        np.savez(tmp_path / "x.npz", expert_ids=ids, offsets=np.array([0, 2, 3]))
        with pytest.raises(InputError, match="offsets: says where requests begin: leave"):
            import_trace(tmp_path / "x.npz", request_tokens=[1, 2])

    def test_the_model_says_layers_and_experts(self, tmp_path):
        np.savez(tmp_path / "x.npz", expert_ids=np.tile(np.arange(6), (2, 26, 1)))
        trace = import_trace(tmp_path / "x.npz", model=load_model("deepseek-v2-lite"))
        assert trace.metadata.model == "deepseek-v2-lite"
        assert trace.experts == 64
        assert trace.metadata.moe_layer_ids == tuple(range(1, 27))

    def test_a_model_that_does_not_fit(self, tmp_path):
        np.savez(tmp_path / "x.npz", expert_ids=np.tile(np.arange(6), (2, 27, 1)))
        told = r"--model: the recording has 27 MoE layers, but .* has 26; name the one that it was"
        with pytest.raises(InputError, match=told):  # and not that it was recorded from this one
            import_trace(tmp_path / "x.npz", model=load_model("deepseek-v2-lite"))

    def test_the_recording(self, recorded):
        trace = import_trace(recorded, model=load_model("gpt-oss-20b"))
        with np.load(recorded) as arrays:
            assert (trace.expert_ids == arrays["expert_ids"]).all()
            assert (trace.gate_weights == arrays["gate_weights"]).all()
            first = trace.position[trace.request_offsets()[:-1]]
            assert (first == arrays["first_position"]).all()


class TestVllmNpy:
    MODEL = load_model("deepseek-v2-lite")

    def test_sample(self):
        trace = import_trace(SAMPLES / "vllm-npy.npy", model=self.MODEL, prompt_tokens=3)
        assert trace.expert_ids.shape == (4, 26, 6)
        assert trace.expert_ids[2, 3].tolist() == [(14 + 20 + 3 * s) % 64 for s in range(6)]
        assert trace.phase.tolist() == [Phase.PREFILL] * 3 + [Phase.DECODE]
        assert trace.gate_weights is None
        assert trace.experts == 64
        assert trace.metadata.moe_layer_ids == tuple(range(1, 27))

    def test_an_unknown_prompt_length_is_noted(self):
        trace = import_trace(SAMPLES / "vllm-npy.npy", model=self.MODEL)
        assert set(trace.phase.tolist()) == {Phase.DECODE}
        assert "not recorded" in trace.metadata.notes

    def test_a_folder_or_npz_of_requests(self, tmp_path):
        ids = np.load(SAMPLES / "vllm-npy.npy")
        (tmp_path / "requests").mkdir()
        np.save(tmp_path / "requests" / "r1.npy", ids[:1])
        np.save(tmp_path / "requests" / "r0.npy", ids)
        np.savez(tmp_path / "requests.npz", r0=ids, r1=ids[:1])
        for name in ("requests", "requests.npz"):
            trace = import_trace(tmp_path / name, model=self.MODEL)
            assert trace.request_offsets().tolist() == [0, 4, 5]
            assert trace.position.tolist() == [0, 1, 2, 3, 0]

    def test_requests_that_a_file_joins_are_taken_apart(self):
        lengths: dict[str, Any] = {"request_tokens": [3, 1], "prompt_tokens": [2, 1]}
        trace = import_trace(SAMPLES / "vllm-npy.npy", model=self.MODEL, **lengths)
        assert trace.request_id.tolist() == [0, 0, 0, 1]
        assert trace.position.tolist() == [0, 1, 2, 0]
        prompt, answer = Phase.PREFILL, Phase.DECODE
        assert trace.phase.tolist() == [prompt, prompt, answer, prompt]
        assert trace.metadata.notes == ""

    def test_one_array_is_one_request_and_says_so(self):
        trace = import_trace(SAMPLES / "vllm-npy.npy", model=self.MODEL, prompt_tokens=3)
        assert trace.requests == 1
        assert trace.metadata.notes == (
            "taken as one request of 4 tokens: if it joins several, give --request-tokens"
        )

    def test_a_prompt_length_for_each_array(self, tmp_path):
        ids = np.load(SAMPLES / "vllm-npy.npy")
        np.savez(tmp_path / "requests.npz", r0=ids, r1=ids[:2])
        trace = import_trace(tmp_path / "requests.npz", model=self.MODEL, prompt_tokens=[3, 0])
        assert trace.phase.tolist() == [Phase.PREFILL] * 3 + [Phase.DECODE] * 3
        with pytest.raises(InputError, match="there are 2 arrays, each a request of its own"):
            import_trace(tmp_path / "requests.npz", model=self.MODEL, request_tokens=[4, 2])

    @pytest.mark.parametrize(
        ("lengths", "words"),
        [
            ({"prompt_tokens": 5}, "--prompt-tokens: is 5, but request 0 ends after 4 tokens"),
            ({"prompt_tokens": [1, 2], "request_tokens": [3, 1]}, "is 2, but request 1 ends after"),
            ({"prompt_tokens": [1, 2]}, "has 2 lengths for 1 request: .*--request-tokens"),
            ({"request_tokens": [3, 2]}, "--request-tokens: are 5 in 2 requests.* the 4 tokens"),
            ({"request_tokens": [4, 0]}, "each at least 1"),
            ({"request_tokens": 3}, "are 3 in 1 request, .* must be the 4 tokens"),
        ],
    )
    def test_lengths_that_do_not_fit(self, lengths, words):
        with pytest.raises(InputError, match=words):
            import_trace(SAMPLES / "vllm-npy.npy", model=self.MODEL, **lengths)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda ids: ids[:, 1:], "has 26 layers: deepseek-v2-lite has 27"),
            (lambda ids: ids[:, :, :4], "has 4 experts a token"),
            (lambda ids: ids + 1, "has experts in layer 0, which is dense"),
            (lambda ids: ids.astype(np.float32), "must be integers"),
            (lambda ids: ids * 2, "expert id .* experts 0 to 63"),
        ],
    )
    def test_arrays_that_do_not_fit(self, tmp_path, change, words):
        np.save(tmp_path / "x.npy", change(np.load(SAMPLES / "vllm-npy.npy")))
        with pytest.raises(InputError, match=words):
            import_trace(tmp_path / "x.npy", model=self.MODEL)


class TestVllmJsonl:
    @pytest.mark.parametrize("what", ["prompt_tokens", "request_tokens"])
    def test_it_knows_its_requests(self, what):
        length: dict[str, Any] = {what: 3}
        with pytest.raises(InputError, match="the log says where requests begin: leave"):
            import_trace(SAMPLES / "vllm-jsonl.jsonl", **length)

    def test_sample(self):
        trace = import_trace(SAMPLES / "vllm-jsonl.jsonl")
        # request a: prompt of two, then rows 0 of forward 2 and 1 of forward 3; b: two, then row 0
        assert trace.request_id.tolist() == [0, 0, 0, 0, 1, 1, 1]
        assert trace.position.tolist() == [0, 1, 2, 3, 0, 1, 2]
        assert trace.phase.tolist() == [0, 0, 1, 1, 0, 0, 1]
        first = [(1, 0), (1, 1), (2, 0), (3, 1), (2, 1), (2, 2), (3, 0)]  # forward, row
        for token, (forward, row) in enumerate(first):
            for column, layer in enumerate((1, 3)):
                expert = (forward + layer + 2 * row) % 8
                assert trace.expert_ids[token, column].tolist() == [expert, (expert + 3) % 8]
        assert trace.gate_weights is not None
        assert trace.gate_weights[3, 0].tolist() == [0.75, 0.25]
        assert trace.experts == 8
        assert trace.metadata.model == "example/moe"
        assert trace.metadata.moe_layer_ids == (1, 3)
        assert trace.metadata.recorder == "vllm 0.11.0 routing log"

    def test_lines_token_by_token_give_the_same(self, tmp_path):
        meta, *lines = (SAMPLES / "vllm-jsonl.jsonl").read_text().splitlines()
        routes = [json.loads(line) for line in lines]
        forwards, done = [2, 4, 6, 4], 0
        ordered = [meta]
        for size in forwards:
            part = routes[done : done + size]
            ordered += [json.dumps(r) for r in sorted(part, key=lambda r: r["token_idx"])]
            done += size
        assert done == len(routes)
        (tmp_path / "x.jsonl").write_text("\n".join(ordered))
        one, other = import_trace(SAMPLES / "vllm-jsonl.jsonl"), import_trace(tmp_path / "x.jsonl")
        for name in ("expert_ids", "request_id", "position", "phase", "gate_weights"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))

    def test_fewer_experts_than_top_k(self, tmp_path):
        meta = '{"type": "meta", "model_id": "m", "top_k": 2}'
        route = '{"type": "route", "req_id": 4, "token_idx": 0, "layer": 0, "topk_ids": [5]}'
        (tmp_path / "x.jsonl").write_text(f"{meta}\n{route}\n")
        trace = import_trace(tmp_path / "x.jsonl")
        assert trace.expert_ids.tolist() == [[[5, NONE]]]
        assert trace.gate_weights is None


class TestRouterLogits:
    def test_sample(self):
        trace = import_trace(SAMPLES / "hf-router-logits.npz")
        assert trace.expert_ids.tolist() == [
            [[0, 1], [3, 1]],
            [[2, 3], [1, 0]],
            [[1, 2], [2, 3]],
        ]
        # shares of all four experts: 8 and 4 of 16; 4 and 2 of 8
        weights = np.array([[[8, 4], [8, 4]], [[8, 4], [8, 4]], [[8, 4], [8, 4]]]) / 16
        assert trace.gate_weights is not None
        np.testing.assert_allclose(trace.gate_weights, weights, atol=1e-3)
        assert trace.experts == 4
        assert trace.phase.tolist() == [Phase.PREFILL, Phase.PREFILL, Phase.DECODE]

    def test_layers_as_keys_and_normalised_by_default(self, tmp_path):
        with np.load(SAMPLES / "hf-router-logits.npz") as sample:
            layers = {f"layer_{i}": a for i, a in enumerate(sample["router_logits"])}
        np.savez(tmp_path / "x.npz", **layers)
        trace = import_trace(tmp_path / "x.npz", top_k=2)
        np.testing.assert_array_equal(
            trace.expert_ids, import_trace(SAMPLES / "hf-router-logits.npz").expert_ids
        )
        assert trace.gate_weights is not None
        np.testing.assert_allclose(trace.gate_weights[0, 0], [2 / 3, 1 / 3], atol=1e-3)

    @pytest.mark.parametrize("normalise", [True, False])
    def test_weights_agree_with_the_models_own_formulas(self, normalise):
        logits = np.random.default_rng(5).normal(size=(6, 2, 16)).astype(np.float32)
        ids, weights = choose(logits, 3, normalise=normalise)
        for token in range(6):
            for layer in range(2):
                row = logits[token, layer].astype(np.float64)
                order = sorted(range(16), key=lambda e: -row[e])[:3]
                over = row[order] if normalise else row  # top-k, then softmax; or the other way
                expected = [np.exp(row[e]) / np.exp(over).sum() for e in order]
                assert ids[token, layer].tolist() == order
                np.testing.assert_allclose(weights[token, layer], expected, atol=1e-3)

    @pytest.mark.parametrize(("family", "total"), [("olmoe-1b-7b", 0.4), ("qwen3-30b-a3b", 1)])
    def test_the_model_says_top_k_and_normalisation(self, tmp_path, family, total):
        model = load_model(family)
        moe = model.moe_layers[0].moe
        assert moe is not None
        experts = moe.experts
        logits = np.zeros((len(model.moe_layers), 1, experts), dtype=np.float32)
        np.savez(tmp_path / "x.npz", router_logits=logits)
        trace = import_trace(tmp_path / "x.npz", model=model)
        assert trace.top_k == moe.top_k == 8
        assert trace.gate_weights is not None
        assert trace.gate_weights[0, 0].sum() == pytest.approx(1 if total == 1 else 8 / experts)


def test_a_third_party_importer_counts_when_it_recognises(tmp_path, monkeypatch):
    from typing import Literal

    from moesim.trace.importers import Importer, registry

    class Twin(Importer):
        kind: Literal["twin"] = "twin"

        def recognises(self, recording):
            return "expert_ids" in recording.names

        def read(self, recording):
            raise NotImplementedError

    monkeypatch.setitem(registry.components, "twin", Twin)
    with pytest.raises(InputError, match=r"fits several formats .*--importer"):
        import_trace(SAMPLES / "npz.npz")
    assert import_trace(SAMPLES / "npz.npz", importer="npz").tokens == 5
    with pytest.raises(InputError, match=r"did you mean 'npz'|allowed"):
        import_trace(SAMPLES / "npz.npz", importer="npy")


class TestRouteTrace:
    TEXT = (SAMPLES / "route-trace.csv").read_text()

    def test_sample(self):
        trace = import_trace(SAMPLES / "route-trace.csv")
        assert trace.expert_ids.tolist() == [
            [[1, 3], [NONE, NONE]],
            [[2, 0], [3, 1]],
            [[3, 1], [0, 2]],
            [[0, 2], [1, 3]],
        ]
        assert trace.phase.tolist() == [Phase.PREFILL] * 2 + [Phase.DECODE] * 2
        assert trace.position.tolist() == [0, 1, 2, 3]
        assert trace.gate_weights is not None
        assert trace.gate_weights[2, 1].tolist() == [0.75, 0.25]
        assert trace.metadata.moe_layer_ids == (1, 2)
        assert (trace.metadata.model, trace.experts) == ("some-moe-Q4.gguf", 4)

    def test_the_engines_own_counters_are_noted(self):
        trace = import_trace(SAMPLES / "route-trace.csv")
        # six accesses of the prompt (four and two experts), eight of two decoded tokens, six hits
        told = "the engine's cache had 6 of 14 accesses (42.9 %)"
        assert trace.metadata.notes == f"one prompt; {told}"

    def test_a_reduced_k_is_noted(self, tmp_path):
        path = tmp_path / "x.csv"
        layers = [f"0,1,0,{layer},{k},{k},0.5,0,9" for layer in range(48) for k in range(6)]
        path.write_text("\n".join(["# route_trace v1", *layers]))
        trace = import_trace(path, model=load_model("qwen3-30b-a3b"))
        assert "recorded with top-6: the model's own is top-8" in trace.metadata.notes

    @pytest.mark.parametrize(
        ("before", "after", "what"),
        [
            ("0,1,2,1,0,3,0.75", "0,1,2,1,0,3,1.5", "line 12: weight is '1.5': must be a number"),
            ("0,1,2,1,0,3,", "0,1,2,1,0,-3,", "line 12: expert is '-3': must be a whole number"),
            ("0,1,2,1,0,3,", "0,1,2,1,0,4,", "line 12: expert is 4: .* says at most 3"),
            ("0,1,2,1,1,1,", "0,1,2,1,0,1,", "line 13: this turn, step, layer and slot stand"),
            ("0,1,2,1,1,1,", "0,1,2,1,2,1,", "line 13: slot is 2: .* says at most 1"),
            ("0,1,2,1,1,1,", "0,0,2,1,1,1,", "line 1[2-5]: step 2 is in both phases"),
            ("0,1,2,1,1,1,", "1,2,1,1,1,", "line 13: has 8 fields: must have the 9 of"),
            ("n_expert=4", "n_expert=none", "line 2: n_expert is 'none': must be from 1"),
            ("0,1,3,2,1,3,0.25,1,0\n", "", "line 18: step 3 has 1 choices in layer 2: must have 2"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_line(self, tmp_path, before, after, what):
        assert before in self.TEXT
        path = tmp_path / "x.csv"
        path.write_text(self.TEXT.replace(before, after))
        with pytest.raises(InputError, match=f"x.csv: {what}"):
            import_trace(path)

    def test_lengths_stand_in_the_file(self):
        with pytest.raises(InputError, match="leave --prompt-tokens, --request-tokens out"):
            import_trace(SAMPLES / "route-trace.csv", prompt_tokens=1)


class TestSglangJson:
    MODEL = load_model("deepseek-v2-lite")

    def test_sample(self):
        trace = import_trace(SAMPLES / "sglang-json.jsonl", model=self.MODEL)
        assert trace.expert_ids.shape == (6, 26, 6)
        assert trace.expert_ids[2, 3].tolist() == [(14 + 20 + 3 * s) % 64 for s in range(6)]
        assert trace.request_id.tolist() == [0] * 4 + [1] * 2
        assert trace.position.tolist() == [0, 1, 2, 3, 1, 2]
        assert trace.phase.tolist() == [Phase.PREFILL] * 3 + [1, Phase.PREFILL, Phase.DECODE]
        assert trace.metadata.moe_layer_ids == tuple(range(1, 27))

    def test_one_answer_and_a_list_of_them(self, tmp_path):
        one, two = (SAMPLES / "sglang-json.jsonl").read_text().splitlines()
        (tmp_path / "one.json").write_text(json.dumps(json.loads(one), indent=1))
        assert import_trace(tmp_path / "one.json", model=self.MODEL).tokens == 4
        (tmp_path / "two.json").write_text(f"[{one}, {two}]")
        assert import_trace(tmp_path / "two.json", model=self.MODEL).requests == 2

    @pytest.mark.parametrize(
        ("answer", "what"),
        [
            ({}, "answer 0: routed_experts: is None: must be base64 text; ask with"),
            ({"routed_experts": "%%"}, "answer 0: routed_experts: is not base64"),
            ({"routed_experts": "AAAA"}, "has 3 bytes: must be whole tokens of 648, int32"),
            ({"routed_experts": "AAAA" * 216}, "answer 0: prompt_tokens: is None: must be a whole"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path, answer, what):
        (tmp_path / "x.json").write_text(json.dumps({"meta_info": answer}))
        with pytest.raises(InputError, match=what):
            import_trace(tmp_path / "x.json", model=self.MODEL)

    def test_it_needs_a_model(self):
        with pytest.raises(InputError, match=r"SGLang's routed_experts does not say .* --model"):
            import_trace(SAMPLES / "sglang-json.jsonl")


class TestMoeCacheLab:
    TEXT = (SAMPLES / "moe-cache-lab.jsonl").read_text()

    def test_sample(self):
        trace = import_trace(SAMPLES / "moe-cache-lab.jsonl")
        assert trace.expert_ids[:, 0].tolist() == [[1, 4], [2, 5], [3, 6], [4, 7]]
        assert trace.gate_weights is not None
        assert trace.gate_weights[3, 1].tolist() == [0.75, 0.25]
        assert trace.request_id.tolist() == [0, 0, 0, 1]
        assert trace.phase.tolist() == [0, 0, Phase.DECODE, Phase.PREFILL]
        assert (trace.experts, trace.metadata.moe_layer_ids) == (8, (1, 3))

    def test_without_probabilities_there_are_no_weights(self, tmp_path):
        path = tmp_path / "x.jsonl"
        path.write_text(self.TEXT.replace("selected_probabilities", "other"))
        assert import_trace(path).gate_weights is None

    @pytest.mark.parametrize(
        ("before", "after", "what"),
        [
            ('"layer": 3, "selected_experts": [4', '"layer": 5, "selected_experts": [4', "layers"),
            ('"decode"', '"answer"', "line 6: phase is 'answer': must be prefill or decode"),
            ('"token_position": 2', '"token_position": -2', "line 6: token_position is -2: must"),
            ("[1, 4]", "[1, null]", r"line 2: selected_experts is \[1, None\]: must be a list"),
            ("[0.75, 0.25]", "[0.75]", r"line 2: selected_probabilities is \[0.75\]: must be 2"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_line(self, tmp_path, before, after, what):
        assert before in self.TEXT
        path = tmp_path / "x.jsonl"
        path.write_text(self.TEXT.replace(before, after))
        with pytest.raises(InputError, match=what):
            import_trace(path)
