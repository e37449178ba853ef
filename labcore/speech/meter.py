"""What is looked at while an adapter learns, on voices that are not trained on.

Asking for answers takes far longer than a loss, so its time is kept apart from the training's.
"""

import time

from labcore.speech.metrics import word_errors
from labcore.speech.recipe import Prompt
from labcore.speech.speech_llm import SpeechLLM
from labcore.speech.training import Clips, listens

EVERY = 20  # steps
LISTEN_CLIPS = 8
ASKED_CLIPS = 20  # of recognition, greedy answers


class Meter:
    """Every so many steps: does the model listen, and how many words does it get wrong?

    Args:
        model: What is being trained.
        clips: The validation voices.
        asked: Task -> prompt.
        most_tokens: Of an answer; 0 asks for no answers.
    """

    def __init__(self, model: SpeechLLM, clips: Clips, asked: dict[str, Prompt], most_tokens: int):
        self.model, self.clips, self.asked, self.most_tokens = model, clips, asked, most_tokens
        self.asking = 0.0  # CPU seconds spent on answers

    def clock(self) -> float:
        """CPU seconds of this process without those spent on answers."""
        return time.process_time() - self.asking

    def __call__(self, step: int) -> dict[str, float]:
        """Columns for the row of a step; none between measurements."""
        if (step + 1) % EVERY:
            return {}
        some = range(LISTEN_CLIPS)
        seen = {
            f"listens_{task}": listens(self.model, self.clips.batch(some, task), prompt)
            for task, prompt in self.asked.items()
        }
        return seen | (self._answers() if self.most_tokens else {})

    def _answers(self) -> dict[str, float]:
        began = time.process_time()
        batch = self.clips.batch(range(min(ASKED_CLIPS, len(self.clips.frames))), "asr")
        said = self.model.generate(batch.frames, batch.lengths, self.asked["asr"], self.most_tokens)
        counts = [word_errors(w, s) for w, s in zip(batch.answers, said, strict=True)]
        errors, words = (sum(c) for c in zip(*counts, strict=True))
        self.asking += time.process_time() - began
        return {"wer_asr": errors / words, "wer_words": words}
