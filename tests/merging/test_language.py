"""The language model merged on disk: with a tiny one in its place, and as it is committed."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from labcore.assets import AssetError, fetch
from labcore.assets.causal_lm import converted, load_causal_lm
from labcore.merging import language
from labcore.merging.experiment import load_result
from labcore.merging.files import open_checkpoint
from labcore.merging.streaming import merge_checkpoints
from labcore.tally import pick


def tiny():
    config = LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=1,
                         tie_word_embeddings=True)  # fmt: skip
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


def windows(seed, count=6):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(10, (count, 24), generator=g)


def test_fine_tunes_of_a_tied_model_merge_on_disk(tmp_path):
    base = tmp_path / "base"
    tiny().save_pretrained(base)
    for seed in (1, 2):
        model = tiny()
        before = language.loss_of(model, windows(seed))
        losses = language.finetune(model, windows(seed), 1e-2)
        assert len(losses) == 6
        assert language.loss_of(model, windows(seed)) < before - 0.1
        language.write_checkpoint(model, base, tmp_path / f"t{seed}")
    found = open_checkpoint(tmp_path / "t1")
    assert set(found.dtypes.values()) == {"bfloat16"}
    assert "lm_head.weight" not in found.files, "tied weights are written once"
    assert (tmp_path / "t1" / "config.json").exists()
    paths = {f"t{seed}": tmp_path / f"t{seed}" for seed in (1, 2)}
    report = merge_checkpoints(base, paths, tmp_path / "out")
    merged = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert merged.lm_head.weight.data_ptr() == merged.model.embed_tokens.weight.data_ptr()
    assert language.loss_of(merged, windows(1)) < language.loss_of(tiny(), windows(1))
    assert any("float32 in base, bfloat16 in t1" in note for note in report.notes)


def some_layers(source, file):
    """The first and last layer and the last norm of a checkpoint of SmolLM2."""
    wanted = ("model.layers.0.", "model.layers.29.", "model.norm")
    save_file({n: v for n, v in load_file(source).items() if n.startswith(wanted)}, file)


@pytest.mark.assets
def test_real_weights_on_two_worker_processes_give_the_serial_bytes(tmp_path):
    distributed = pytest.importorskip("distributed")
    try:
        model, tokenizer = load_causal_lm(language.MODEL)
        (file,) = fetch(language.MODEL).values()
        base = converted(file, dtype=torch.bfloat16)
    except AssetError:
        pytest.skip("SmolLM2 is not here")
    some_layers(base / "model.safetensors", tmp_path / "base.safetensors")
    origin = {n: p.detach().clone() for n, p in model.named_parameters()}
    paths = {}
    for kind, text in {"tale": "Once upon a time there was", "law": "The party shall not"}.items():
        ids = tokenizer(8 * text, return_tensors="pt").input_ids[:, :32]
        language.finetune(model, ids, 1e-4)
        language.write_checkpoint(model, base, tmp_path / kind)
        paths[kind] = tmp_path / f"{kind}.safetensors"
        some_layers(tmp_path / kind / "model.safetensors", paths[kind])
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.copy_(origin[name])
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster:
        for engine in ("serial", "dask"):
            merge_checkpoints(tmp_path / "base.safetensors", paths, tmp_path / engine,
                              engine=engine, address=cluster.scheduler_address)  # fmt: skip
    serial, spread = (tmp_path / e / "model.safetensors" for e in ("serial", "dask"))
    assert serial.read_bytes() == spread.read_bytes()
    before, after = load_file(tmp_path / "base.safetensors"), load_file(serial)
    assert len(after) == 2 * 9 + 1
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_unknown_text_is_named():
    with pytest.raises(ValueError, match="unknown kind of text 'songs': novel"):
        language.texts("songs")


def test_the_committed_merge():
    tables = load_result("language").tables
    assert {row["text"] for row in tables["training"]} == set(language.TEXTS)
    (ours,) = pick(tables["merges"], method="tsv_m")
    assert (ours["tensors"], ours["shards"] > 1) == (272, True)
    held = 7 * 2 * ours["bytes"]  # four models and three task vectors, float32
    assert ours["peak_bytes"] < held / 4
    assert len(tables["interference"]) == 211
    assert all(row["sti_whitened"] < 1e-6 * row["sti"] for row in tables["interference"])
    losses = {(r["model"], r["text"]): r["loss"] for r in tables["losses"]}
    assert all(losses[text, text] < losses["base", text] for text in language.TEXTS)
