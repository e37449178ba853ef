"""Language models: a GGUF file is read like transformers reads it, and converted only once."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labcore import assets, runtime
from labcore.assets import causal_lm
from labcore.assets.causal_lm import converted, load_causal_lm

transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")
pytest.importorskip("accelerate")

WORDS = [chr(c) for c in range(ord("a"), ord("z") + 1)] + ["Ġ", "Ċ", "th", "the", "<s>", "</s>"]
MERGES = ["t h", "th e"]
HIDDEN, MLP, LAYERS = 32, 48, 2


@pytest.fixture(scope="module")
def small_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers with random weights and 32 tokens, written by the gguf library."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(HIDDEN // 4)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([1] * (len(WORDS) - 2) + [3, 3])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(len(WORDS) - 2)
    writer.add_eos_token_id(len(WORDS) - 1)
    for name, shape in _shapes().items():
        scale = 1.0 if "norm" in name else 0.3
        values = rng.normal(1.0 if "norm" in name else 0.0, scale, shape)
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(WORDS), HIDDEN),
        "output_norm.weight": (HIDDEN,),
    }
    for i in range(LAYERS):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (HIDDEN,),
            f"blk.{i}.ffn_norm.weight": (HIDDEN,),
            f"blk.{i}.attn_q.weight": (HIDDEN, HIDDEN),
            f"blk.{i}.attn_k.weight": (HIDDEN // 2, HIDDEN),
            f"blk.{i}.attn_v.weight": (HIDDEN // 2, HIDDEN),
            f"blk.{i}.attn_output.weight": (HIDDEN, HIDDEN),
            f"blk.{i}.ffn_gate.weight": (MLP, HIDDEN),
            f"blk.{i}.ffn_up.weight": (MLP, HIDDEN),
            f"blk.{i}.ffn_down.weight": (HIDDEN, MLP),
        }
    return shapes


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits


def test_the_converted_model_is_the_gguf_model(small_gguf: Path) -> None:
    direct = transformers.AutoModelForCausalLM.from_pretrained(
        small_gguf.parent, gguf_file=small_gguf.name, dtype=torch.float32
    )
    words = transformers.AutoTokenizer.from_pretrained(small_gguf.parent, gguf_file=small_gguf.name)
    model, tokenizer = load_causal_lm(small_gguf)
    text = "the cat\nthat"
    ids = words(text)["input_ids"]
    assert tokenizer(text)["input_ids"] == ids
    assert tokenizer.decode(ids) == text
    assert torch.equal(logits(model, ids), logits(direct, ids))
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.generation_config.eos_token_id == direct.generation_config.eos_token_id


def test_the_second_load_does_not_read_the_gguf(
    small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shutil.copy(small_gguf, tmp_path / "own.gguf")
    first, _ = load_causal_lm(own)
    monkeypatch.setattr(causal_lm, "_write_safetensors", None)
    second, _ = load_causal_lm(str(own))
    assert torch.equal(logits(first, [1, 2, 3]), logits(second, [1, 2, 3]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_each_precision_has_its_own_copy(small_gguf: Path, dtype: torch.dtype) -> None:
    full, half = converted(small_gguf), converted(small_gguf, dtype=dtype)
    assert full.parent == half.parent
    assert full.name == "float32"
    model, _ = load_causal_lm(small_gguf, dtype=dtype, attn="eager")
    assert model.dtype == dtype
    assert model.config._attn_implementation == "eager"
    wanted, _ = load_causal_lm(full)
    for got, want in zip(model.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(got, want.to(dtype))
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (full, half)]
    assert sizes[1] < 0.7 * sizes[0]
    modes = {path.stat().st_mode for path in full.iterdir()}
    assert len(modes) == 1, "all files of a shared cache are readable alike"


def test_a_failed_conversion_leaves_no_folder(
    small_gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(gguf: Path, into: Path, dtype: torch.dtype) -> None:
        (into / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(causal_lm, "_write_safetensors", fail)
    with pytest.raises(KeyboardInterrupt):
        converted(small_gguf)
    assert not list(cache.glob("models/*/*/*"))


def test_two_processes_convert_once(small_gguf: Path, cache: Path) -> None:
    code = (
        "import sys, labcore.assets.causal_lm as m; from pathlib import Path\n"
        "real = m._write_safetensors\n"
        "def write(*a): print('converting', flush=True); real(*a)\n"
        "m._write_safetensors = write\n"
        "print(m.converted(Path(sys.argv[1])))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(small_gguf)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    lines = [line for process in both for line in process.communicate(timeout=200)[0].split("\n")]
    assert lines.count("converting") == 1
    (folder,) = cache.glob("models/*/*/*")
    assert lines.count(str(folder)) == 2


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(assets.AssetCorrupt, match=r"bad\.gguf cannot be read as a GGUF model"):
        load_causal_lm(tmp_path / "bad.gguf")


def test_sources_that_are_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"notes\.txt is no \.gguf file"):
        load_causal_lm(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="no model at 'smollm'; give a registered asset .smollm2"):
        load_causal_lm("smollm")
    with pytest.raises(ValueError, match="dtype must be one of .*got torch.int8"):
        load_causal_lm(tmp_path, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        load_causal_lm(tmp_path)
    monkeypatch.setenv("LAB_OFFLINE", "1")
    with pytest.raises(assets.AssetOffline):
        load_causal_lm()
    with pytest.raises(assets.AssetSourceError, match="check the id and the network"):
        load_causal_lm("no-such-owner/no-such-model")


def test_an_asset_without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = assets.AssetPaths({"a.txt": Path("/x/a.txt")})
    monkeypatch.setattr(causal_lm, "fetch", lambda name, progress: paths)
    with pytest.raises(ValueError, match="'mnist' is no language model"):
        load_causal_lm("mnist")


def test_short_memory_is_said_before_loading(
    small_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = converted(small_gguf)
    monkeypatch.setattr(runtime, "available_memory", lambda: 1000)
    with pytest.warns(ResourceWarning, match="close other programs"):
        load_causal_lm(folder)
    with pytest.raises(MemoryError, match="of memory are free"):
        load_causal_lm(folder, strict_memory=True)
