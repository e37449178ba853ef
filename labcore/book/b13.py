"""Chapter 13, recurrent models: one state, what it holds, and who decides.

The selective copying task (arXiv 2312.00752, section 3.1): a few symbols stand at random places
between blanks and must be repeated in order at the end. Two networks of equal shape try it; in one
the step sizes, inputs and outputs of the recurrence are fixed, in the other the token chooses them.
The second kind also learns the novel, so that its step sizes can be seen on a real sentence.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from labcore.blocks.norm import rms_norm
from labcore.blocks.ssm import impulse_response, linear_attention, scan, selective_scan
from labcore.book.language import Text, bits, novel, train
from labcore.book.numbers import Findings, Size, number, over_seeds
from labcore.runs import Progress, Table, silent

SECONDS = 120
LAM = 0.9 * np.exp(0.5j)
KNOWN = (1, 0.789824, 0.437645, 0.051567, -0.273034)
SENTENCE = "`Curiouser and curiouser!' cried Alice (she was so much surprised, that for the moment"
STEPS = 300


class SelectiveBlock(nn.Module):
    """``x + out(scan(u) * silu(gate))`` with ``u`` and ``gate`` two maps of the normalised input.

    Args:
        width: Features of a token.
        state: Numbers of state for each feature.
        selective: Whether the token sets step size, input and output of the recurrence; else they
            are learned constants, and the layer is a convolution.
    """

    def __init__(self, width: int, state: int, selective: bool) -> None:
        super().__init__()
        self.selective, self.state = selective, state
        self.enter, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.log_rate = nn.Parameter(torch.arange(1, state + 1.0).log().repeat(width, 1))
        self.skip = nn.Parameter(torch.ones(width))
        start = torch.rand(width) * (np.log(0.5) - np.log(0.01)) + np.log(0.01)
        self.step_bias = nn.Parameter(start.exp().expm1().log())  # softplus gives exp(start)
        if selective:
            self.to_step = nn.Linear(width, width, bias=False)
            self.to_write_read = nn.Linear(width, 2 * state, bias=False)
        else:
            self.write_read = nn.Parameter(torch.randn(2 * state))

    def steps(self, u: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """The step sizes Δ."""
        if self.selective:
            return F.softplus(self.to_step(u) + self.step_bias)
        return F.softplus(self.step_bias).expand(u.shape)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Tokens in, tokens out."""
        u, gate = self.enter(rms_norm(x)).chunk(2, -1)
        if self.selective:
            write, read = self.to_write_read(u).chunk(2, -1)
        else:
            write, read = self.write_read.expand(*u.shape[:2], -1).chunk(2, -1)
        y = selective_scan(u, self.steps(u), -self.log_rate.exp(), write, read, self.skip)
        return x + self.out(y * F.silu(gate))


class RecurrentLM(nn.Module):
    """Embedding, blocks, read-out: a small Mamba, or its time-invariant twin."""

    def __init__(
        self, vocabulary: int, *, width: int = 64, state: int = 8, depth: int = 2,
        selective: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(SelectiveBlock(width, state, selective) for _ in range(depth))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Logits of the token after each."""
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(rms_norm(x))

    def step_sizes(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "l b t d"]:
        """Δ of every block, token and feature."""
        x, found = self.embed(ids), []
        for block in self.blocks:
            assert isinstance(block, SelectiveBlock)
            u, _ = block.enter(rms_norm(x)).chunk(2, -1)
            found.append(block.steps(u))
            x = block(x)
        return torch.stack(found)


@dataclass(frozen=True)
class Copying:
    """Selective copying: ``symbols`` of ``kinds`` among ``length`` places, then as many prompts."""

    kinds: int = 6
    symbols: int = 4
    length: int = 20

    @property
    def vocabulary(self) -> int:
        """Blank, the kinds, and the prompt."""
        return self.kinds + 2

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sequences (n, length + symbols) and what to say at their last places (n, symbols)."""
        order = torch.rand(n, self.length, generator=generator).argsort(1)[:, : self.symbols]
        places = order.sort(1).values
        said = torch.randint(1, self.kinds + 1, (n, self.symbols), generator=generator)
        ids = torch.zeros(n, self.length + self.symbols, dtype=torch.long)
        ids.scatter_(1, places, said)
        ids[:, self.length :] = self.kinds + 1
        return ids, said


def train_copying(
    selective: bool, *, steps: int, seed: int = 0, task: Copying | None = None,
    progress: Progress | None = None,
) -> tuple[RecurrentLM, float]:  # fmt: skip
    """AdamW 5e-3, 64 fresh sequences a step; the model and its accuracy on 1000 new ones."""
    task, report = task or Copying(), progress or silent
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RecurrentLM(task.vocabulary, width=32, selective=selective)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    for step in range(steps):
        ids, said = task.draw(64, generator)
        logits = model(ids)[:, -task.symbols :]
        loss = F.cross_entropy(logits.flatten(0, 1), said.flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            report(step, steps, f"copying, step {step}")
    ids, said = task.draw(1000, torch.Generator().manual_seed(seed + 10_000))
    with torch.no_grad():
        right = model(ids)[:, -task.symbols :].argmax(-1) == said
    return model.eval(), right.double().mean().item()


def measure(config: Size, progress: Progress) -> Findings:
    """Identities, copying by two layers, a sentence of the novel."""
    numbers = _identities()
    steps = 40 if config.small else 800
    rows: Table = []
    for selective in (False, True):
        found = []
        for seed in config.seeds:
            _, right = train_copying(selective, steps=steps, seed=seed, progress=progress)
            found.append(right)
            rows.append({"selective": selective, "seed": seed, "steps": steps, "accuracy": right})
        name = "selective" if selective else "time-invariant"
        numbers.append(over_seeds(f"selective copying, {name} layers", found,
                                  sample="4 x 1000 symbols (chance 0.167)"))  # fmt: skip
    text = novel()
    updates = 20 if config.small else STEPS
    readers = [_reader(text, seed, updates, progress) for seed in config.seeds]
    numbers.append(over_seeds("bits, two selective layers on the novel",
                              [bits(model, text.test) for model in readers],
                              sample=f"{len(text.test)} characters"))  # fmt: skip
    with torch.no_grad():
        opened = readers[0].step_sizes(torch.tensor([text.ids(SENTENCE)]))[:, 0]
    arrays = {"steps": opened.numpy().astype(np.float16)}
    return Findings(arrays, {"numbers": numbers, "copying": rows})


def _reader(text: Text, seed: int, updates: int, progress: Progress) -> RecurrentLM:
    model = train(RecurrentLM, text, steps=updates, seed=seed, progress=progress)
    assert isinstance(model, RecurrentLM)
    return model


def _identities() -> Table:
    response = impulse_response(complex(LAM), len(KNOWN)).real.tolist()
    rows: Table = [
        number(f"impulse response at step {i}", response[i], KNOWN[i], 1e-6)
        for i in range(len(KNOWN))
    ]
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 100, 8, dtype=torch.float64, generator=generator) for _ in range(3))
    both = [linear_attention(q, k, v, recurrent=r) for r in (False, True)]
    rows.append(number("largest gap, linear attention both ways",
                       float((both[0] - both[1]).abs().max()),
                       0.0, 1e-14, sample="100 steps, float64"))  # fmt: skip
    a = torch.rand(1, 1000, 8, dtype=torch.float64, generator=generator)
    b = torch.randn(1, 1000, 8, dtype=torch.float64, generator=generator)
    wanted = scan(a, b, method="loop")
    for method in ("doubling", "chunked"):
        gap = float((scan(a, b, method=method) - wanted).abs().max())
        rows.append(number(f"largest gap, {method} scan to the loop", gap, 0.0, 1e-13,
                           sample="1000 steps, float64"))  # fmt: skip
    return rows
