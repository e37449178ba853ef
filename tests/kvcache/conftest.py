"""Tiny random models, and the real one where it was fetched."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from labcore.kvcache.attention import NAME, load_model

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
}


def tiny_llama(attn: str = NAME, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE | changes)
    model = LlamaForCausalLM._from_config(config, attn_implementation=attn)
    # Default weights give nearly equal logits, which would hide a wrong key; larger ones do not.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="package")
def model() -> Any:
    return tiny_llama()


@pytest.fixture(scope="package")
def qwen() -> Any:
    torch.manual_seed(0)
    config = Qwen3Config(**SHAPE | {"head_dim": 16})
    model = Qwen3ForCausalLM._from_config(config, attn_implementation=NAME)
    return model.eval().requires_grad_(False)


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(1, 97, (1, 48), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="package")
def real() -> Any:
    """SmolLM2-135M and its tokenizer; never fetches."""
    from labcore.assets import AssetError, fetch

    try:
        fetch("smollm2-135m", offline=True)
        return load_model("smollm2-135m")
    except AssetError as error:
        pytest.skip(f"no model here ({error}); run `lab fetch smollm2-135m`")


@pytest.fixture(scope="package")
def moby_dick() -> str:
    """The novel; never fetches."""
    from labcore.assets import AssetError, fetch

    try:
        return fetch("moby-dick", offline=True)["moby-dick.txt"].read_text(encoding="utf-8")
    except AssetError as error:
        pytest.skip(f"no text here ({error}); run `lab fetch moby-dick`")
