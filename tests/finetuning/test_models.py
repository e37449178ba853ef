"""Other people's models, adapters, the real ViT-S, and files that are none."""

import copy
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labcore import assets
from labcore.assets.dinov2 import vit_s_state
from labcore.assets.errors import AssetCorrupt
from labcore.assets.onnx_data import read_onnx
from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.finetuning.alast import ALaST
from labcore.finetuning.budgets import ALaSTConfig
from labcore.finetuning.reports import Savings
from labcore.finetuning.strategies import learner, with_lora
from tests.finetuning.conftest import small_vit

HALF = ALaSTConfig(2, rule="difference", budget_lr=0.0, init_budget=0.6)
WHOLE = ALaSTConfig(2, rule="difference", budget_lr=0.0, init_budget=1.0)
OFF = Savings(no_graph_prefix=False, early_drop=False, class_only=False, lean_mlp=False)


def huggingface(kind):
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3,
        "intermediate_size": 48, "image_size": 28, "patch_size": 7, "num_channels": 1,
    }  # fmt: skip
    torch.manual_seed(0)
    if kind == "vit":
        return transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, num_labels=5))
    if kind == "vit model":
        return transformers.ViTModel(transformers.ViTConfig(**sizes))
    if kind == "deit":
        config = transformers.DeiTConfig(**sizes, num_labels=5)
        return transformers.DeiTForImageClassification(config)
    sizes["mlp_ratio"] = 2
    config = transformers.Dinov2Config(**sizes, num_labels=5)
    if kind == "dinov2 model":
        return transformers.Dinov2Model(config)
    return transformers.Dinov2ForImageClassification(config)


@pytest.mark.parametrize(
    ("kind", "prefix", "reads"),
    [("vit", 1, 1), ("vit model", 1, 1), ("deit", 2, 1), ("dinov2", 1, None),
     ("dinov2 model", 1, None)],
)  # fmt: skip
def test_hugging_face_models(kind, prefix, reads, batch):
    model = huggingface(kind).train()
    images = batch[0]
    wrapped = ALaST(model, WHOLE)
    assert (wrapped.trunk.num_prefix_tokens, wrapped.trunk.reads) == (prefix, reads)
    out = model(images)
    plain = out.logits if hasattr(out, "logits") else out.last_hidden_state[:, 0]
    torch.testing.assert_close(wrapped(images), plain, atol=1e-5, rtol=1e-5)
    outcomes = []
    for savings in (Savings(), OFF):
        half = ALaST(model, HALF, savings=savings)
        logits = half(images)
        assert half.trace.entered == [16 + prefix, 9 + prefix, 5 + prefix]
        outcomes.append(logits)
    torch.testing.assert_close(*outcomes, atol=1e-5, rtol=1e-5)
    targets = torch.zeros(len(images), dtype=torch.long)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    before = copy.deepcopy(model.state_dict())
    report = wrapped.step(F.cross_entropy, (images, targets), optimizer, layers=(2,), measure=True)
    inside = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    assert report.saved_bytes
    assert inside
    assert not any("layers.0." in n or "layer.0." in n or "embed" in n for n in inside)
    assert torch.equal(half.eval()(images), wrapped.eval()(images))


@pytest.fixture(scope="module")
def timm_vit():
    """timm's VisionTransformer; its image transforms, which nobody needs here, want torchvision."""
    if not _installed():
        pytest.skip("timm is not installed")
    stood_in = _stand_in_for_torchvision()
    try:
        from timm.models.vision_transformer import VisionTransformer as Timm
    except (ImportError, AttributeError, TypeError) as error:
        pytest.skip(f"timm cannot be imported without torchvision: {error}")
    finally:
        for name in stood_in:
            sys.modules.pop(name, None)
    return Timm


def _installed():
    from importlib.util import find_spec

    return find_spec("timm") is not None


class _Anything(types.ModuleType):
    """A module every attribute of which is an empty class."""

    __path__: list[str] = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (nn.Module,), {"NEAREST": 0, "BILINEAR": 2, "BICUBIC": 3, "BOX": 4,
                                         "HAMMING": 5, "LANCZOS": 1})  # fmt: skip


def _stand_in_for_torchvision():
    from importlib.util import find_spec

    if "torchvision" in sys.modules or find_spec("torchvision") is not None:
        return []
    names = ["torchvision", *(f"torchvision.{n}" for n in (
        "transforms", "transforms.functional", "datasets", "datasets.folder", "ops", "ops.misc",
        "models", "models.feature_extraction", "utils"))]  # fmt: skip
    for name in names:
        sys.modules[name] = _Anything(name)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])
    return names


@pytest.mark.parametrize("registers", [0, 3])
def test_timm_model(timm_vit, batch, registers):
    torch.manual_seed(0)
    model = timm_vit(
        img_size=28, patch_size=7, in_chans=1, embed_dim=24, depth=3, num_heads=3, mlp_ratio=2,
        num_classes=5, init_values=0.5, reg_tokens=registers,
    ).train()  # fmt: skip
    wrapped = ALaST(model, WHOLE)
    assert (wrapped.trunk.num_prefix_tokens, wrapped.trunk.reads) == (1 + registers, 1)
    torch.testing.assert_close(wrapped(batch[0]), model(batch[0]), atol=1e-5, rtol=1e-5)
    wanted = ALaST(model, HALF, savings=OFF)(batch[0])
    torch.testing.assert_close(ALaST(model, HALF)(batch[0]), wanted, atol=1e-5, rtol=1e-5)
    if not registers:
        ours = small_vit(depth=3, layer_scale=True)
        ours.load_state_dict(model.state_dict())
        torch.testing.assert_close(ours(batch[0]), model(batch[0]), atol=1e-5, rtol=1e-5)


def test_a_model_without_class_token_uses_the_mean_patch(batch):
    class Patches(VisionTransformer):
        def embed(self, images):
            return super().embed(images)[:, 1:]

        def forward(self, images):
            x = self.embed(images)
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x.mean(1)))

    config = ViTConfig(patch_size=7, hidden_size=24, depth=3, num_heads=3, num_classes=5)
    model = Patches(config, generator=torch.Generator().manual_seed(0)).train()
    del model.cls_token
    model.cls_token = None
    model.embed = lambda images: model.patch_embed(images)
    wrapped = ALaST(model, HALF, reads="all")
    assert (wrapped.token, wrapped.trunk.num_prefix_tokens) == ("mean", 0)
    wrapped(batch[0])
    assert wrapped.trace.entered == [16, 9, 5]
    with pytest.raises(ValueError, match="no class token"):
        ALaST(model, HALF, token="class")


@pytest.mark.parametrize("strategy", ["lora", "alast_lora"])
def test_lora_never_wakes_the_base_weights(strategy, batch):
    pytest.importorskip("peft")
    model = small_vit()
    base = copy.deepcopy(model.state_dict())
    held = learner(strategy, model, num_layers=2, lr=1e-2)
    asked = {n for n, p in held.model.named_parameters() if p.requires_grad}
    assert asked
    assert all("lora" in n or ".head." in n or n.endswith(("norm.weight", "norm.bias"))
               for n in asked)  # fmt: skip
    for _ in range(3):
        report = held.step(batch, True)
        assert {n for n, p in held.model.named_parameters() if p.requires_grad} == asked
    for name, p in held.model.named_parameters():
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        if plain.startswith(("blocks", "patch_embed", "pos_embed", "cls_token")) and (
            "lora" not in name
        ):
            assert torch.equal(p, base[plain]), name
    assert report.saved_bytes
    moved = [n for n, p in held.model.named_parameters() if "lora_B" in n and p.abs().sum() > 0]
    assert moved


def test_lora_and_alast_train_adapters_of_drawn_layers_only(batch, loss_fn):
    pytest.importorskip("peft")
    wrapped = ALaST(with_lora(small_vit()).train(), HALF)
    adapters = [p for p in wrapped.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(adapters, lr=1e-2)
    wrapped.step(loss_fn, batch, optimizer, layers=(1,))
    moved = {n for n, p in wrapped.model.named_parameters() if "lora_B" in n and p.abs().sum() > 0}
    assert moved
    assert all("blocks.1." in n for n in moved)


@pytest.mark.assets
def test_the_real_vit_s_is_the_recorded_one():
    if assets.status("vit-s-dinov2") != "ready":
        pytest.skip("./lab fetch vit-s-dinov2")
    transformers = pytest.importorskip("transformers")
    from labcore.finetuning.models import real_vit

    model = real_vit(70).eval()
    images = torch.linspace(-2, 2, 3 * 70 * 70).view(1, 3, 70, 70)
    with torch.no_grad():
        found = model.features(images)[0]
    config = transformers.Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=70, patch_size=14
    )
    theirs = transformers.Dinov2Model(config).eval()
    theirs.load_state_dict(_as_huggingface(model.state_dict()), strict=False)
    with torch.no_grad():
        wanted = theirs(images).last_hidden_state[0, 0]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert [round(x, 2) for x in found[:4].tolist()] == KNOWN_FEATURES


KNOWN_FEATURES = [0.4, 0.97, 3.3, -3.6]


def _as_huggingface(state):
    """Our names to Hugging Face's."""
    names = {
        "patch_embed.proj": "embeddings.patch_embeddings.projection", "norm.": "layernorm.",
    }  # fmt: skip
    out = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.position_embeddings": state["pos_embed"],
    }
    parts = (("ls1.gamma", "layer_scale1.lambda1"), ("ls2.gamma", "layer_scale2.lambda1"),
             ("attn.proj", "attention.o_proj"))  # fmt: skip
    for name, value in state.items():
        if ".attn.qkv." in name:
            start, kind = name.split("attn.qkv.")
            start = start.replace("blocks.", "encoder.layer.")
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                out[f"{start}attention.{part}_proj.{kind}"] = rows
            continue
        if name.startswith("blocks."):
            name = name.replace("blocks.", "encoder.layer.")
            for ours, theirs in parts:
                name = name.replace(ours, theirs)
        else:
            for ours, theirs in names.items():
                name = name.replace(ours, theirs, 1) if name.startswith(ours) else name
        out[name] = value
    return out


def test_files_that_are_no_onnx_are_refused(tmp_path):
    for name, content in (("empty", b""), ("text", b"hello there, this is text"),
                          ("cut", bytes([58, 200, 1, 10]))):  # fmt: skip
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(AssetCorrupt, match="fetch it again"):
            read_onnx(path)
    with pytest.raises(ValueError, match="multiple of 14"):
        vit_s_state(100)


def test_onnx_reader_reads_what_the_format_says(tmp_path):
    def field(number, payload):
        return bytes([number << 3 | 2, len(payload)]) + payload

    raw = torch.tensor([[1.0, 2.0]]).numpy().tobytes()
    tensor = bytes([8, 1, 8, 2, 16, 1]) + field(8, b"w") + field(9, raw)
    node = field(1, b"x") + field(1, b"w") + field(2, b"y") + field(4, b"MatMul")
    path = tmp_path / "small.onnx"
    path.write_bytes(bytes([8, 9]) + field(7, field(1, node) + field(5, tensor)))
    data = read_onnx(path)
    assert data.arrays["w"].tolist() == [[1.0, 2.0]]
    assert data.nodes[0].operation == "MatMul"
    assert data.nodes[0].inputs == ("x", "w")
    short = bytes([8, 1, 8, 3, 16, 1]) + field(8, b"w") + field(9, raw)
    path.write_bytes(field(7, field(5, short)))
    with pytest.raises(AssetCorrupt, match="w of shape"):
        read_onnx(path)


def test_lora_without_peft_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match="LoRA needs peft: ./lab bench --setup-peers peft"):
        with_lora(small_vit())
