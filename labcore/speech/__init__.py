"""Connecting real speech encoders to real language models through five adapters.

"How to Connect Speech Foundation Models and Large Language Models? What Matters and What Does
Not", Verdini, Melucci, Perna, Cariaggi, Gaido, Papi, Mazurek, Kasztelnik, Bentivogli, Bratières,
Merialdo, Scardapane, Interspeech 2025, arXiv 2409.17044.

Read :mod:`.lengths` (how frames become fewer), :mod:`.adapters` (the five of them),
:mod:`.speech_llm` (how a language model reads their vectors), :mod:`.training`, and
:mod:`.variance` (which part matters). A name loads when it is first used: drawing needs no torch.
"""

from labcore.lazy import public_names

_HOMES = {
    "adapters": "AdapterOutput ctc_loss make_adapter",
    "audio": "check_audio read_wav resample",
    "cells": "run_cell",
    "encoders": "ConformerCTCEncoder EncoderOutput FeatureStore HubEncoder SpeechEncoder "
    "WhisperEncoder make_encoder transcript",
    "lengths": "cif cif_assignment cif_reference conv_out_length ctc_compress "
    "ctc_compress_reference window_size window_split",
    "metrics": "ErrorRate cer chrf normalise wer",
    "recipe": "Prompt Recipe",
    "speech_llm": "Batch FrozenLM SpeechLLM",
    "training": "Clips History listens train_adapter warm_up",
    "variance": "bootstrap_shares gap_of_best variance_shares",
    "whisper": "load_whisper",
}
__getattr__, __dir__, __all__ = public_names(__name__, _HOMES)  # noqa: PLE0605
