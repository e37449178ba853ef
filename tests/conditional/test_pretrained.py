"""Layers of published families, read from safetensors, against transformers' own blocks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from labcore.conditional.moe import MoELayer

transformers = pytest.importorskip("transformers")
SIZES: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 32, "num_experts_per_tok": 2,
}  # fmt: skip
FAMILIES = {
    "Mixtral": {"num_local_experts": 4},
    "Olmoe": {"num_experts": 4, "norm_topk_prob": False},
    "Qwen3Moe": {"num_experts": 4, "norm_topk_prob": True, "moe_intermediate_size": 24,
                 "head_dim": 8, "decoder_sparse_step": 1, "mlp_only_layers": []},
}  # fmt: skip


def checkpoint(family: str, folder: Path) -> Any:
    config = getattr(transformers, f"{family}Config")(**SIZES, **FAMILIES[family])
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_of_a_checkpoint_equals_the_librarys(family: str, tmp_path: Path) -> None:
    model = checkpoint(family, tmp_path)
    ours = MoELayer.from_pretrained(tmp_path, 1)
    assert (ours.num_experts, ours.top_k) == (4, 2)
    x = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1))
    theirs = model.model.layers[1].mlp(x.clone())
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs
    torch.testing.assert_close(ours(x), theirs, rtol=1e-4, atol=1e-6)


def test_what_is_no_mixture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        MoELayer.from_pretrained(tmp_path)
    config: dict[str, Any] = {"model_type": "llama"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="'llama' is not known: choose from mixtral"):
        MoELayer.from_pretrained(tmp_path)
    config |= {"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FileNotFoundError, match="no .safetensors file"):
        MoELayer.from_pretrained(tmp_path)
    checkpoint("Mixtral", tmp_path)
    with pytest.raises(ValueError, match="layer 9 of .* is no mixture of 4 experts: 13 of 13"):
        MoELayer.from_pretrained(tmp_path, 9)
