"""Making the committed corpora again: spoken digits and commands, and real recordings.

    python -m labcore.speech.synthesis --recordings FOLDER --out labcore/speech/results
    python -m labcore.speech.synthesis --commands --out labcore/speech/results

want the programs ``espeak-ng`` and ``flite`` (Debian packages of the same names), the first also a
folder with the unpacked Debian packages ``asterisk-core-sounds-en-wav`` 1.6.1 (Allison Smith,
CC-BY-SA-3.0) and ``pocketsphinx-testdata`` (BSD; LibriVox readings in the public domain). Nothing
else needs them: a corpus is kept at 8 kHz in mu-law, a telephone's quality, as the recordings are.

A voice is kept only if Whisper tiny.en and the Conformer, each by its own transcript, hear most of
the digits it says; what was dropped stays in the table.
"""

import argparse
import io
import shutil
import subprocess
import wave
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from labcore.speech import audio, commands
from labcore.speech.corpus import DIGITS, Corpus, load, save
from labcore.speech.settings import EXAMPLES

ESPEAK = {
    "train": (
        "en-us+m1", "en-us+m3", "en-us+f2", "en-us+f5", "en-us+klatt2", "en-us+m7", "en-gb+m1",
        "en-gb+f2", "en-gb+m4", "en-gb-scotland+m3", "en-gb-scotland+f5", "en-gb-x-rp+m2",
        "en-gb-x-rp+f2", "en-gb-x-rp+klatt4", "en-gb-x-gbcwmd+m6", "en-gb-x-gbcwmd+f1",
        "en-us-nyc+m3", "en-us-nyc+f2", "en-029+m2", "en-029+f2", "en-us+max", "en-gb+steph",
    ),
    "test": ("en-us+f4", "en-gb-x-gbclan+m2", "en-gb+linda"),
}  # fmt: skip
FLITE = {"train": ("awb", "kal16", "slt"), "test": ("rms",)}
TRAIN_CLIPS, TEST_CLIPS, SEED = 440, 60, 20240925
TRAIN_COMMANDS = 300
KEEP_BELOW = 0.5  # error rate of the better of the two transcripts
PHONEMES = {
    "zero": "z", "one": "w ʌ n", "two": "t u", "three": "θ ɹ i", "four": "f ɔ ɹ", "five": "f aɪ v",
    "six": "s ɪ k s", "seven": "s ɛ v", "eight": "eɪ t", "nine": "n aɪ n",
}  # fmt: skip


def speak(text: str, voice: str) -> audio.Sound:
    """A text said by ``espeak:<voice>`` or ``flite:<voice>``, trimmed, 8 kHz.

    Raises:
        FileNotFoundError: the program is not installed.
        ValueError: unknown kind of voice.
    """
    kind, _, name = voice.partition(":")
    program = {"espeak": "espeak-ng", "flite": "flite"}.get(kind)
    if program is None:
        raise ValueError(f"unknown voice {voice!r}: espeak:NAME or flite:NAME")
    if shutil.which(program) is None:
        raise FileNotFoundError(f"{program} is not installed: apt-get install {program}")
    if kind == "espeak":
        command = [program, "-v", name, "-s", "155", "--stdout", text]
    else:
        command = [program, "-voice", name, "-t", text, "-o", "/dev/stdout"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return _to_telephone(*_read(raw))


def _read(raw: bytes) -> tuple[audio.Sound, int]:
    """Samples and rate of a streamed WAV, whose header may not know its length."""
    with wave.open(io.BytesIO(raw)) as file:
        rate, channels = file.getframerate(), file.getnchannels()
    values = np.frombuffer(raw[44 : 44 + (len(raw) - 44) // 2 * 2], "<i2") / 2**15
    return values.reshape(-1, channels).mean(axis=1).astype(np.float32), rate


def _to_telephone(sound: audio.Sound, rate: int) -> Float[np.ndarray, " resampled"]:
    at = audio.resample(sound, rate, audio.TELEPHONE)
    at = audio.trim(at, margin=240)
    return np.asarray(0.7 * at / np.abs(at).max(), dtype=np.float32)


def digit_strings(count: int, rng: np.random.Generator, taken: set[str]) -> list[str]:
    """Different strings of 2 to 4 digit words that are not in ``taken``."""
    found: dict[str, None] = {}
    while len(found) < count:
        words = rng.choice(DIGITS, size=int(rng.integers(2, 5)))
        text = " ".join(words)
        if text not in taken:
            found[text] = None
    return list(found)


def make(recordings: Path) -> Corpus:
    """Speak, record which voices were dropped, and join with the real recordings."""
    rng = np.random.default_rng(SEED)
    voices = [
        {"voice": f"{kind}:{name}", "split": split}
        for kind, names in (("espeak", ESPEAK), ("flite", FLITE))
        for split in names
        for name in names[split]
    ]
    for row in voices:
        row |= _heard(str(row["voice"]), rng)
    kept = {s: [r["voice"] for r in voices if r["split"] == s and r["kept"]] for s in ESPEAK}
    test = digit_strings(2 * TEST_CLIPS, rng, set())
    train = digit_strings(TRAIN_CLIPS, rng, set(test))
    clips: list[dict[str, Any]] = []
    sounds: list[audio.Sound] = []

    def add(sound: audio.Sound, **about: Any) -> None:
        clips.append(about)
        sounds.append(sound)

    for split, texts in (("train", train), ("test", test[:TEST_CLIPS])):
        for i, text in enumerate(texts):
            voice = kept[split][i % len(kept[split])]
            add(speak(text, voice), split=split, voice=voice, text=text, task="digits")
    folder = recordings / "usr/share/asterisk/sounds/en_US_f_Allison"
    for text in test[TEST_CLIPS:]:
        sound = _joined(folder, text, rng)
        add(sound, split="real", voice="Allison Smith", text=text, task="digits")
    for sound, voice, text in _exhibits(recordings):
        add(sound, split="exhibit", voice=voice, text=text, task="speech")
    return Corpus(clips, sounds, voices)


def make_commands() -> Corpus:
    """Commands by the voices of the digit corpus, so that test voices are the same and unheard."""
    rng = np.random.default_rng(SEED)
    shown = {english for english, _ in EXAMPLES["commands"]}
    test = commands.different(TEST_CLIPS, rng, shown)
    train = commands.different(TRAIN_COMMANDS, rng, shown | {english for english, _ in test})
    voices = load("digits").voices
    clips: list[dict[str, Any]] = []
    sounds: list[audio.Sound] = []
    for split, pairs in (("train", train), ("test", test)):
        kept = [str(v["voice"]) for v in voices if v["split"] == split and v["kept"]]
        for i, (english, italian) in enumerate(pairs):
            voice = kept[i % len(kept)]
            clips.append({"split": split, "voice": voice, "text": english, "italian": italian,
                          "task": "commands"})  # fmt: skip
            sounds.append(speak(english, voice))
    return Corpus(clips, sounds, [])


def _joined(folder: Path, text: str, rng: np.random.Generator) -> audio.Sound:
    """Real recordings of single digits with 80 to 150 ms between them."""
    pieces: list[np.ndarray] = []
    for word in text.split():
        raw = (folder / "digits" / f"{DIGITS.index(word)}.wav").read_bytes()
        gap = int(rng.uniform(0.08, 0.15) * audio.TELEPHONE)
        pieces += [_to_telephone(*_read(raw)), np.zeros(gap, np.float32)]
    return np.concatenate(pieces[:-1])


def _exhibits(recordings: Path) -> list[tuple[audio.Sound, str, str]]:
    """A few longer real recordings to look at; nothing is scored on them."""
    data = recordings / "usr/share/pocketsphinx/test/data"
    prompts = recordings / "usr/share/asterisk/sounds/en_US_f_Allison"
    book = data / "librivox/sense_and_sensibility_01_austen_64kb-0880.wav"
    go = np.frombuffer((data / "goforward.raw").read_bytes(), "<i2") / 2**15
    return [
        (_to_telephone(go, 16_000), "pocketsphinx", "go forward ten meters"),
        (_to_telephone(*_read(book.read_bytes())), "LibriVox",
         "he was not an ill disposed young man"),
        (_to_telephone(*_read((data / "cards/001.wav").read_bytes())), "pocketsphinx",
         "ten of clubs"),
        (_to_telephone(*_read((prompts / "vm-goodbye.wav").read_bytes())), "Allison Smith",
         "goodbye"),
        (_to_telephone(*_read((prompts / "conf-invalid.wav").read_bytes())), "Allison Smith",
         "that is not a valid conference number please try again"),
    ]  # fmt: skip


def _heard(voice: str, rng: np.random.Generator) -> dict[str, Any]:
    """Error rates of both encoders' own transcripts on three strings of this voice."""
    from labcore.speech.encoders import ConformerCTCEncoder, WhisperEncoder, transcript

    errors: dict[str, list[float]] = {"whisper": [], "conformer": []}
    for text in digit_strings(3, rng, set()):
        sound = audio.resample(speak(text, voice), audio.TELEPHONE)
        said = transcript(WhisperEncoder(), sound).lower()
        for number, word in enumerate(DIGITS):
            said = said.replace(str(number), f" {word} ")
        errors["whisper"].append(_missed(text, said))
        heard = transcript(ConformerCTCEncoder(), sound).replace("|", "").replace("  ", " ")
        wanted = [PHONEMES[word] for word in text.split()]
        errors["conformer"].append(float(np.mean([w not in heard for w in wanted])))
    rates = {f"{name}_error": float(np.mean(values)) for name, values in errors.items()}
    return rates | {"kept": min(rates.values()) < KEEP_BELOW}


def _missed(text: str, said: str) -> float:
    """Share of the words of ``text`` that do not come, in order, in ``said``."""
    rest, found = said, 0
    for word in text.split():
        at = rest.find(word)
        if at >= 0:
            rest, found = rest[at + len(word) :], found + 1
    return 1 - found / len(text.split())


def main() -> None:
    """Write ``corpus.npz``, or ``commands.npz``."""
    parser = argparse.ArgumentParser(description="make a speech corpus again")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--recordings", type=Path, help="folder of the unpacked packages: digits")
    which.add_argument("--commands", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    name = "commands.npz" if args.commands else "corpus.npz"
    made = make_commands() if args.commands else make(args.recordings)
    path = save(made, args.out / name)
    print(path, f"{path.stat().st_size / 1e6:.1f} MB,", len(made.clips), "clips")


if __name__ == "__main__":
    main()
