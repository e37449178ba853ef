"""Names of the grid's levels: all that drawing and claims need to know of the settings."""

ENCODERS = ("whisper", "conformer")
ADAPTERS = ("base", "conv", "cif", "ctc", "wlq")
LMS = ("smollm2-135m", "gemma3-270m")
NO_LM = "none"  # nearest token embedding instead of a language model
FACTORS = ("encoder", "adapter", "language model")
ALPHABET = "abcdefghijklmnopqrstuvwxyz "
