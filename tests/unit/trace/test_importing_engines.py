"""What importers read from the files of engines that were described, not at hand: the samples of
tests/data/importers/make.py, and what contradicts itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.model import load_model
from moesim.trace import NO_EXPERT, Phase, RoutingTrace
from moesim.trace.importing import import_trace

SAMPLES = Path(__file__).parents[2] / "data" / "importers"
DEEPSEEK = load_model("deepseek-v2-lite")
PROMPT, DECODED = int(Phase.PREFILL), int(Phase.DECODE)


def deepseek_ids(tokens: int) -> list[list[list[int]]]:
    """As the samples have them: [tokens, MoE layers, top-6]."""
    token, layer, slot = np.ogrid[:tokens, 1:27, :6]
    return ((7 * token + 5 * layer + 3 * slot) % 64).tolist()  # type: ignore[no-any-return]


class TestLlamaMoeTrace:
    TEXT = (SAMPLES / "llama-moe-trace.csv").read_text()

    def read(self, folder: Path, text: str, **said: int) -> RoutingTrace:
        (folder / "x.csv").write_text(text)
        return import_trace(folder / "x.csv", prompt_tokens=said.get("prompt_tokens"))

    def test_sample(self) -> None:
        trace = import_trace(SAMPLES / "llama-moe-trace.csv")
        assert trace.expert_ids.tolist() == [
            [[1, 3], [NO_EXPERT, NO_EXPERT]],
            [[2, 0], [3, 1]],
            [[3, 1], [0, 2]],
            [[0, 2], [1, 3]],
        ]
        assert trace.gate_weights is not None
        assert trace.gate_weights[3, 1].tolist() == [0.75, 0.25]
        assert trace.phase.tolist() == [PROMPT, PROMPT, DECODED, DECODED]
        assert trace.metadata.moe_layer_ids == (1, 2)
        assert "columns passed over: time_us" in trace.metadata.notes

    @pytest.mark.parametrize(
        "text",
        [
            "pos,il,expert_0,expert_1\n0,0,3,1\n0,1,0,2\n1,0,1,0\n1,1,2,3\n",
            "pos,il,e1,e0\n0,0,1,3\n0,1,2,0\n1,0,0,1\n1,1,3,2\n",
            'Token,Layer,IDs\n0,0,"[3, 1]"\n0,1,"[0, 2]"\n1,0,1;0\n1,1,2 3\n',
            "tok,layer,expert\n0,0,3\n0,0,1\n0,1,0\n0,1,2\n1,0,1\n1,0,0\n1,1,2\n1,1,3\n",
            "t,layer,slot,id\n0,0,1,1\n0,0,0,3\n0,1,0,0\n0,1,1,2\n1,0,0,1\n1,0,1,0\n1,1,0,2\n1,1,1,3\n",
        ],
    )
    def test_names_and_shapes_of_rows(self, tmp_path: Path, text: str) -> None:
        trace = self.read(tmp_path, text)
        assert trace.expert_ids.tolist() == [[[3, 1], [0, 2]], [[1, 0], [2, 3]]]
        assert trace.gate_weights is None
        assert trace.phase.tolist() == [DECODED] * 2
        assert "prompt length not recorded" in trace.metadata.notes
        assert self.read(tmp_path, text, prompt_tokens=1).phase.tolist() == [PROMPT, DECODED]

    def test_tokens_that_begin_again_with_every_pass(self, tmp_path: Path) -> None:
        rows = [(0, 0, 3), (1, 0, 2), (0, 1, 1), (1, 1, 0), (0, 0, 5), (0, 1, 4)]
        text = "".join(f"{token},{layer},{expert}\n" for token, layer, expert in rows)
        trace = self.read(tmp_path, f"token,layer,expert\n{text}")
        assert trace.expert_ids[:, :, 0].tolist() == [[3, 1], [2, 0], [5, 4]]
        assert trace.phase.tolist() == [PROMPT, PROMPT, DECODED]

    def test_requests_and_phases_by_columns(self, tmp_path: Path) -> None:
        text = (
            "seq,phase,token,layer,experts,weights\na,prompt,0,0,3 1,.5 .5\nb,decode,0,0,2 0,1 0\n"
        )
        trace = self.read(tmp_path, text)
        assert trace.request_id.tolist() == [0, 1]
        assert trace.phase.tolist() == [PROMPT, DECODED]
        with pytest.raises(InputError, match="where prompts end: leave --prompt-tokens out"):
            self.read(tmp_path, text, prompt_tokens=1)

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("token,layer,expert\n0,0,x\n", "line 2: expert is 'x'"),
            ("token,pos,layer,expert\n0,0,0,1\n", "'token' and 'pos' both name the token"),
            ("token,layer,expert,p\n0,0,1,0\n0,0,1,0\n", "expert 1 or its slot twice in layer 0"),
            ("token,layer,expert,w\n0,0,1,2\n", "weight is '2'"),
            ("token,layer,experts,weights\n0,0,1 2,.5\n", "2 experts and 1 weights"),
            ("token,layer,phase,expert\n0,0,both,1\n", "phase is 'both'"),
            ("token,layer,experts\n0,0,1 2\n1,0,3\n", "must be 2; is the file cut off"),
            ("token,layer,expert\n", "has no row"),
        ],
    )
    def test_what_contradicts_itself(self, tmp_path: Path, text: str, what: str) -> None:
        with pytest.raises(InputError, match=what):
            self.read(tmp_path, text)

    def test_a_missing_column_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("token,expert\n0,1\n")
        with pytest.raises(InputError, match="no column for the layer among 'token, expert'"):
            import_trace(tmp_path / "x.csv", importer="llama-moe-trace")


class TestVllmJson:
    def read(self, folder: Path, *answers: object, **said: int) -> RoutingTrace:
        (folder / "x.json").write_text(json.dumps(answers))
        prompt = said.get("prompt_tokens")
        return import_trace(folder / "x.json", model=DEEPSEEK, prompt_tokens=prompt)

    @property
    def answers(self) -> list[dict[str, object]]:
        lines = (SAMPLES / "vllm-json.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def test_sample(self) -> None:
        trace = import_trace(SAMPLES / "vllm-json.jsonl", model=DEEPSEEK)
        assert trace.expert_ids.tolist() == deepseek_ids(3) * 2
        assert trace.request_id.tolist() == [0, 0, 0, 1, 1, 1]
        assert trace.phase.tolist() == [PROMPT, PROMPT, DECODED, PROMPT, DECODED, DECODED]

    def test_an_npy_file_in_base64(self, tmp_path: Path) -> None:
        import base64
        import io

        ids = np.zeros((2, 27, 6), np.int16)
        ids[:, 1:] = deepseek_ids(2)
        buffer = io.BytesIO()
        np.save(buffer, ids)
        text = base64.b64encode(buffer.getvalue()).decode()
        answer = {"choices": [{"routed_experts": text, "prompt_token_ids": [5]}]}
        trace = self.read(tmp_path, answer)
        assert trace.expert_ids.tolist() == deepseek_ids(2)
        assert trace.phase.tolist() == [PROMPT, DECODED]

    def test_prompts_that_the_answer_does_not_say(self, tmp_path: Path) -> None:
        first = {name: value for name, value in self.answers[0].items() if name != "usage"}
        assert "all tokens as decode" in self.read(tmp_path, first).metadata.notes
        said = self.read(tmp_path, first, prompt_tokens=2)
        assert said.phase.tolist() == [PROMPT, PROMPT, DECODED]
        with pytest.raises(InputError, match="request 0: has no prompt length where others"):
            self.read(tmp_path, first, self.answers[1])
        with pytest.raises(InputError, match="leave --prompt-tokens out"):
            self.read(tmp_path, self.answers[0], prompt_tokens=2)

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"choices": None}, "answer 0: has no list 'choices'"),
            ({"choices": [3]}, "choice 0: is 3: must be an object"),
            ({"choices": [{}]}, "routed_experts: is None: .*--enable-return-routed-experts"),
            ({"choices": [{"routed_experts": [[1], [1, 2]]}]}, "lists of equal lengths"),
            ({"choices": [{"routed_experts": "AAAA"}]}, "has 3 bytes: must be whole tokens"),
            ({"usage": {"prompt_tokens": -1}}, "prompt_tokens: is -1: must be a whole number"),
            ({"usage": {"prompt_tokens": 1, "completion_tokens": 1}}, "says at most 2"),
            ({"prompt_routed_experts": "AAAA"}, "prompt_routed_experts: has 3 bytes"),
            ({"prompt_token_ids": [1], "usage": {"prompt_tokens": 9}}, "prompt_tokens: is 9, but"),
        ],
    )
    def test_what_contradicts_itself(
        self, tmp_path: Path, change: dict[str, object], what: str
    ) -> None:
        with pytest.raises(InputError, match=what):
            self.read(tmp_path, {**self.answers[0], **change})

    def test_a_prompt_of_another_length_than_its_choices(self, tmp_path: Path) -> None:
        usage = {"prompt_tokens": 2, "completion_tokens": 2}
        with pytest.raises(InputError, match="has 1 token: the answer says a prompt of 2 tokens"):
            self.read(tmp_path, {**self.answers[1], "usage": usage})


def safetensors(arrays: dict[str, np.ndarray]) -> bytes:
    """A file of int32 arrays."""
    header, data = {}, b""
    for name, array in arrays.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "I32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps({**header, "__metadata__": {"format": "pt"}}).encode()
    return len(text).to_bytes(8, "little") + text + data


class TestTensorrtLlm:
    IDS = np.array([[1, 0], [2, 3]], "<i4")

    def read(self, folder: Path, arrays: dict[str, np.ndarray], **said: int) -> RoutingTrace:
        (folder / "x.safetensors").write_bytes(safetensors(arrays))
        kind = "tensorrt-llm"
        return import_trace(folder / "x.safetensors", importer=kind, **said)  # type: ignore[arg-type]

    def test_sample(self) -> None:
        trace = import_trace(SAMPLES / "tensorrt-llm.safetensors")
        first = trace.expert_ids[:, :, 0]
        assert first.tolist() == [[5, 7], [6, 0], [7, 1], [6, 0], [7, 1], [7, 1], [0, 2]]
        assert trace.request_id.tolist() == [0, 0, 0, 1, 1, 2, 2]
        assert trace.position.tolist() == [0, 1, 2, 0, 1, 0, 1]
        assert trace.phase.tolist() == [PROMPT] * 3 + [DECODED] * 4
        assert trace.metadata.moe_layer_ids == (1, 3)
        assert "whose tokens the rows are is not recorded" in trace.metadata.notes

    def test_lengths_that_are_said(self, tmp_path: Path) -> None:
        arrays = {"5_0": self.IDS, "6_0": self.IDS}
        trace = self.read(tmp_path, arrays, request_tokens=4, prompt_tokens=2)
        assert trace.request_id.tolist() == [0] * 4
        assert trace.phase.tolist() == [PROMPT, PROMPT, DECODED, DECODED]

    def test_a_folder_with_its_meta_info(self, tmp_path: Path) -> None:
        (tmp_path / "rank0.safetensors").write_bytes(safetensors({"1_0": self.IDS[0]}))
        with pytest.raises(InputError, match="counts do not say what a token chose"):
            import_trace(tmp_path)
        raw = tmp_path / "rank0_raw.safetensors"
        raw.write_bytes(safetensors({"token_selected_experts_1_0": self.IDS}))
        (tmp_path / "meta_info.json").write_text('{"num_experts": 64}')
        assert import_trace(tmp_path).experts == 64
        (tmp_path / "rank1_raw.safetensors").write_bytes(raw.read_bytes())
        with pytest.raises(InputError, match=r"files of 2 ranks, .* name one"):
            import_trace(tmp_path)

    @pytest.mark.parametrize(
        ("arrays", "what"),
        [
            ({"1_0": IDS[0]}, "1_0: has shape .*: counts do not say what a token chose"),
            ({"other": IDS}, "no array .<iteration>_<layer>"),
            ({"1_0": IDS, "1_1": IDS, "2_0": IDS}, r"has layers \[0\], the first iteration \[0, 1"),
            ({"1_0": IDS, "1_1": IDS[:1]}, "other layers have shapes"),
            ({"1_0": IDS, "a1_0": IDS}, "is the same iteration and layer as '1_0'"),
            ({"1_0": IDS, "2_0": IDS[:, :1]}, "top-1 in iteration 2, top-2 in the first"),
        ],
    )
    def test_what_contradicts_itself(
        self, tmp_path: Path, arrays: dict[str, np.ndarray], what: str
    ) -> None:
        with pytest.raises(InputError, match=what):
            self.read(tmp_path, arrays)

    @pytest.mark.parametrize(
        "change", [(b"I32", b"F32"), (b"[0, 16]", b"[0, 17]"), (b'"shape"', b'"sharp"')]
    )
    def test_a_damaged_header(self, tmp_path: Path, change: tuple[bytes, bytes]) -> None:
        content = safetensors({"1_0": self.IDS}).replace(*change)
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="1_0: "):
            import_trace(tmp_path / "x.safetensors")


class TestMegatronReplay:
    LISTS: ClassVar[list[list[list[int]]]] = [[[0, 5], [1, 6], [2, 7]], [[2, 5], [3, 6], [4, 7]]]

    def test_sample(self) -> None:
        trace = import_trace(SAMPLES / "megatron-replay.npz")
        assert trace.expert_ids.tolist() == np.moveaxis(np.array(self.LISTS), 0, 1).tolist()
        assert trace.phase.tolist() == [DECODED] * 3
        assert "taken as one request" in trace.metadata.notes
        assert "megatron-replay: read as [layer][token][choice]" in trace.metadata.notes

    @staticmethod
    def listed(folder: Path, layers: int, tokens: int) -> tuple[Path, np.ndarray]:
        """A file of lists, layers first, and what it has as [tokens, layers, top_k]."""
        ids = np.random.default_rng(0).random((layers, tokens, 64)).argsort(axis=-1)[..., :6]
        (folder / "x.json").write_text(json.dumps(ids.tolist()))
        return folder / "x.json", np.moveaxis(ids, 0, 1)

    def test_layers_first_of_a_model(self, tmp_path: Path) -> None:
        path, ids = self.listed(tmp_path, 26, 40)
        trace = import_trace(path, model=DEEPSEEK)
        assert (trace.expert_ids == ids).all()
        assert "read as [layer][token][choice], Megatron's order" in trace.metadata.notes

    def test_tokens_first_are_told_by_the_model(self, tmp_path: Path) -> None:
        path, ids = self.listed(tmp_path, 40, 26)
        trace = import_trace(path, model=DEEPSEEK)
        assert (trace.expert_ids == np.moveaxis(ids, 0, 1)).all()
        assert "read as [token][layer][choice], not Megatron's" in trace.metadata.notes
        np.savez(tmp_path / "x.npz", *np.moveaxis(ids, 0, 1))
        assert (
            import_trace(tmp_path / "x.npz", model=DEEPSEEK).expert_ids == trace.expert_ids
        ).all()
        assert "numpy.savez" in import_trace(path).metadata.notes

    def test_where_either_axis_or_none_is_the_layers(self, tmp_path: Path) -> None:
        path, ids = self.listed(tmp_path, 26, 26)
        with pytest.raises(InputError, match="either axis may be the 26 MoE layers"):
            import_trace(path, model=DEEPSEEK)
        np.savez(tmp_path / "x.npz", *np.moveaxis(ids, 0, 1))
        assert (import_trace(tmp_path / "x.npz", model=DEEPSEEK).expert_ids == ids).all()
        np.savez(tmp_path / "y.npz", expert_ids=ids)
        assert (import_trace(tmp_path / "y.npz", model=DEEPSEEK).expert_ids == ids).all()
        path, _ = self.listed(tmp_path, 25, 40)
        with pytest.raises(InputError, match="neither axis is the 26 MoE layers"):
            import_trace(path, model=DEEPSEEK)

    def test_json_and_lengths(self, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_text(json.dumps(self.LISTS))
        trace = import_trace(tmp_path / "x.json", request_tokens=[2, 1], prompt_tokens=1)
        assert trace.request_id.tolist() == [0, 0, 1]
        assert trace.phase.tolist() == [PROMPT, DECODED, PROMPT]
        assert (trace.expert_ids == import_trace(SAMPLES / "megatron-replay.npz").expert_ids).all()

    def test_layers_are_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        layers = {f"arr_{layer}": np.array([[layer, 12]]) for layer in (10, 9, 2, 0)}
        np.savez(tmp_path / "x.npz", **layers)  # type: ignore[arg-type]
        assert import_trace(tmp_path / "x.npz").expert_ids[0, :, 0].tolist() == [0, 2, 9, 10]

    def test_layers_of_other_lengths(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", np.array([[1, 2]]), np.array([[1, 2], [3, 4]]))
        with pytest.raises(InputError, match="arr_0: and other layers have shapes"):
            import_trace(tmp_path / "x.npz")
        (tmp_path / "x.json").write_text("[[[1, 2]], [[1]]]")
        with pytest.raises(InputError, match="all lists of equal lengths"):
            import_trace(tmp_path / "x.json")
