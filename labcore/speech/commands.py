"""A small grammar of household commands, English with its Italian translation, exact by rule."""

import numpy as np

NUMBERS = {
    "one": "uno", "two": "due", "three": "tre", "four": "quattro", "five": "cinque",
    "six": "sei", "seven": "sette", "eight": "otto", "nine": "nove",
}  # fmt: skip
DEVICES = {"lamp": "lampada", "fan": "ventola", "heater": "stufa", "radio": "radio",
           "screen": "schermo"}  # fmt: skip
OPENINGS = {"door": "porta", "window": "finestra", "gate": "cancello", "valve": "valvola"}
VALUES = {"red": "rosso", "green": "verde", "blue": "blu", "white": "bianco", "yellow": "giallo",
          "low": "basso", "high": "alto"}  # fmt: skip
THINGS = {"table": "il tavolo", "chair": "la sedia", "robot": "il robot", "box": "la scatola",
          "camera": "la telecamera"}  # fmt: skip
ROOMS = {"kitchen": "in cucina", "garden": "in giardino", "office": "in ufficio",
         "bathroom": "in bagno", "hall": "in sala"}  # fmt: skip
# English and Italian with the same slots.
TEMPLATES = (
    ("set {device} {number} to {value}", "metti {device} {number} su {value}"),
    ("turn on {device} {number}", "accendi {device} {number}"),
    ("turn off {device} {number}", "spegni {device} {number}"),
    ("open {opening} {number}", "apri {opening} {number}"),
    ("close {opening} {number}", "chiudi {opening} {number}"),
    ("move the {thing} to the {room}", "sposta {thing} {room}"),
)
SLOTS = {
    "device": DEVICES, "number": NUMBERS, "value": VALUES, "opening": OPENINGS, "thing": THINGS,
    "room": ROOMS,
}  # fmt: skip


def vocabulary() -> set[str]:
    """Every English word that the grammar can say.

    >>> len(vocabulary())
    44
    """
    fixed = {w for english, _ in TEMPLATES for w in english.split() if not w.startswith("{")}
    return fixed | {word for slot in SLOTS.values() for word in slot}


def command(rng: np.random.Generator) -> tuple[str, str]:
    """A random command and its translation."""
    english, italian = TEMPLATES[int(rng.integers(len(TEMPLATES)))]
    chosen = {name: str(rng.choice(list(slot))) for name, slot in SLOTS.items()}
    theirs = {name: SLOTS[name][word] for name, word in chosen.items()}
    return english.format(**chosen), italian.format(**theirs)


def different(count: int, rng: np.random.Generator, taken: set[str]) -> list[tuple[str, str]]:
    """Different commands that are not in ``taken``."""
    found: dict[str, str] = {}
    while len(found) < count:
        english, italian = command(rng)
        if english not in taken:
            found[english] = italian
    return list(found.items())
