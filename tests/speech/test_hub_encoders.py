"""Encoders of transformers, with random weights: any of them may stand before an adapter."""

from typing import Any

import numpy as np
import pytest
import torch

from labcore.speech.adapters import make_adapter
from labcore.speech.encoders import HubEncoder, SpeechEncoder, make_encoder, transcript

transformers = pytest.importorskip("transformers")
SECOND = np.random.default_rng(0).normal(size=16_000).astype(np.float32) * 0.1


def whisper() -> tuple[Any, Any]:
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=20,
        num_mel_bins=80, max_source_positions=100, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, suppress_tokens=[], begin_suppress_tokens=[],
    )  # fmt: skip
    return transformers.WhisperModel(config), transformers.WhisperFeatureExtractor(chunk_length=2)


def wav2vec() -> tuple[Any, Any]:
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    return transformers.Wav2Vec2Model(config), transformers.Wav2Vec2FeatureExtractor()


def seamless() -> tuple[Any, Any]:
    config = transformers.SeamlessM4Tv2Config(
        hidden_size=16, speech_encoder_layers=1, speech_encoder_attention_heads=2,
        speech_encoder_intermediate_size=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, vocab_size=20, char_vocab_size=20, unit_hifi_gan_vocab_size=20,
        t2u_vocab_size=20, t2u_encoder_layers=1, t2u_decoder_layers=1, t2u_encoder_ffn_dim=16,
        t2u_decoder_ffn_dim=16, t2u_encoder_attention_heads=2, t2u_decoder_attention_heads=2,
    )  # fmt: skip
    return transformers.SeamlessM4Tv2Model(config), transformers.SeamlessM4TFeatureExtractor()


@pytest.mark.parametrize(
    ("make", "rate", "frames"), [(whisper, 50, 50), (wav2vec, 50, 49), (seamless, 6.25, 7)]
)
def test_any_encoder_of_transformers_stands_before_an_adapter(
    make: Any, rate: float, frames: int
) -> None:
    torch.manual_seed(0)
    encoder = HubEncoder(*make(), "tiny")
    assert isinstance(encoder, SpeechEncoder)
    assert (encoder.dim, encoder.parameters > 0) == (16, True)
    assert encoder.frame_rate == pytest.approx(rate, rel=0.05)
    found = encoder.encode([SECOND, SECOND[:9_000]])
    assert int(found.lengths[0]) == pytest.approx(frames, abs=1)
    alone = encoder.encode([SECOND[:9_000]])
    n = int(found.lengths[1])
    torch.testing.assert_close(found.features[1, :n], alone.features[0])
    adapter = make_adapter("wlq", encoder.dim, 24, encoder.frame_rate, hidden=16, heads=2)
    assert adapter.window == round(encoder.frame_rate / 3)
    assert adapter(found.features, found.lengths).embeds.shape[2] == 24
    with pytest.raises(ValueError, match="no transcript of its own"):
        transcript(encoder, SECOND)


def test_clips_that_a_fixed_window_would_cut_are_refused() -> None:
    encoder = HubEncoder(*whisper(), "tiny")
    with pytest.raises(ValueError, match=r"hears 2 s at a time, the clip lasts 3\.0 s: cut it"):
        encoder.encode([np.tile(SECOND, 3)])


def test_another_sample_rate_is_refused() -> None:
    model, extractor = wav2vec()
    extractor.sampling_rate = 8_000
    with pytest.raises(ValueError, match="tiny hears 8000 Hz"):
        HubEncoder(model, extractor, "tiny")


def test_a_folder_is_loaded(tmp_path: Any) -> None:
    model, extractor = wav2vec()
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    encoder = make_encoder(str(tmp_path))
    assert encoder.name == str(tmp_path)
    torch.testing.assert_close(
        encoder.encode([SECOND]).features,
        HubEncoder(model, extractor, "x").encode([SECOND]).features,
    )
