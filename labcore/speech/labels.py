"""Names, colours and marks that the figures of this topic share, and the published facts."""

from labcore import viz

ADAPTERS = {
    "base": ("Base: nothing", 0),
    "conv": ("Conv: two strides", 1),
    "cif": ("CIF: integrate and fire", 2),
    "ctc": ("CTC: runs of a symbol", 3),
    "wlq": ("WLQ: a query a window", 4),
}
ENCODERS = {"whisper": "Whisper tiny.en", "conformer": "Conformer CTC"}
LMS = {"smollm2-135m": "SmolLM2 135M", "gemma3-270m": "Gemma 3 270M", "none": "nearest token"}
TASKS = {"asr": "recognition", "st": "translation to Italian", "nearest": "nearest token, no LM"}
SPLITS = {
    "test": "unseen synthetic voices",
    "real": "real recordings",
    "exhibit": "a recording with other words",
}

# What the frozen parts had learned before; their factor is mixed up with it.
TRAINED_ON = {
    "whisper": "English speech with its text, for an attention decoder, in windows of 30 s",
    "conformer": "phonemes of English and Korean, with CTC, clips of any length",
    "smollm2-135m": "web text, then instructions; 4-bit weights, 576 wide",
    "gemma3-270m": "web text of many languages, no instructions; 4-bit weights, 640 wide",
    "none": "no language model",
}

# What the study reports: (quantity, value). Its table of cells is not repeated here: these rows are
# those that could be confirmed.
PAPER_FACTS = (
    ("best SeamlessM4T against best Whisper, on average", "more than 2 COMET, about 1 WER better"),
    ("best Mistral against best Llama, on average", "less than 0.2 on both"),
    ("frames a position, Conv", "4"),
    ("frames a position, CIF", "25 with Whisper, 3 with SeamlessM4T"),
    ("frames a position, CTC", "13 with Whisper, 2 with SeamlessM4T"),
    ("frames a position, WLQ", "16 with Whisper, 2 with SeamlessM4T"),
    ("encoder frame rate", "Whisper-large-v3 50 Hz, SeamlessM4T-v2-large 6.25 Hz"),
)


def adapter_style(name: str) -> tuple[str, str, str, str]:
    """Label, colour, dash and symbol of an adapter."""
    label, i = ADAPTERS.get(name, (name, 5))
    return label, viz.PALETTE[i], viz.DASHES[i], viz.SYMBOLS[i]


def label(name: str) -> str:
    """How figures call a level of any factor."""
    for names in (ENCODERS, LMS, TASKS, SPLITS):
        if name in names:
            return names[name]
    return ADAPTERS[name][0] if name in ADAPTERS else name


def heading(name: str) -> str:
    """The same with a capital first letter, the others as they are.

    >>> heading("st")
    'Translation to Italian'
    """
    text = label(name)
    return text[:1].upper() + text[1:]
