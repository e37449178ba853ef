"""Names of the grid's levels: all that drawing and claims need to know of the settings."""

ENCODERS = ("whisper", "conformer")
ADAPTERS = ("base", "conv", "cif", "ctc", "wlq")
LMS = ("smollm2-135m", "gemma3-270m")
NO_LM = "none"  # nearest token embedding instead of a language model
FACTORS = ("encoder", "adapter", "language model")
ALPHABET = "abcdefghijklmnopqrstuvwxyz "
SPLITS = ("test", "real")  # what is scored
NOT_TRAINED = 0.9  # a cell above this error rate is marked as not trained
ALL = "all"  # the design of all factors; the others are named after their language model
SUBSETS = {"all five": ADAPTERS, "without cif, ctc": ("base", "conv", "wlq")}
