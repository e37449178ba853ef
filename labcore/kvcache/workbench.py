"""What every part of the experiment works with: a loaded model, its tokenizer and the settings."""

from dataclasses import dataclass
from typing import Any

from labcore.assets.causal_lm import load_causal_lm
from labcore.kvcache import Policy
from labcore.kvcache.settings import POLICIES, Config


@dataclass(frozen=True)
class Lab:
    """A loaded model with its tokenizer, and the configuration."""

    model: Any
    tokenizer: Any
    config: Config

    def policy(self, name: str, trial: int = 0) -> Policy:
        """A policy of :data:`POLICIES`; each trial draws its own random numbers."""
        score, sinks, recent = POLICIES[name]
        seed = 1_000 * self.config.seed + trial
        return Policy(score, sinks=sinks, recent=recent, seed=seed)


def open_lab(config: Config) -> Lab:
    """Load the configured model, so that its attention can be observed."""
    model, tokenizer = load_causal_lm(config.model, attn="labcore")
    return Lab(model, tokenizer, config)
