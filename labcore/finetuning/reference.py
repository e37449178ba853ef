"""A plain ALaST step, written from the description of the public code, to compare with.

Whole blocks with explicit attention on every token, a clone of every block's input, a Python number
per layer, a full sort and advanced indexing, one graph through all layers. Same budgets, same
layers, same loss and gradients as :class:`labcore.finetuning.alast.ALaST`; only the cost differs.
Patches stay in the order of their attention, as there; nothing after depends on it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labcore.blocks.cost import keep_count
from labcore.finetuning.trunk import BlockView, find_trunk


class PlainALaST:
    """Forward pass of ALaST without any of its savings.

    Args:
        model: A vision transformer with a class token.
        budgets: One a layer; they stay as given.
    """

    def __init__(self, model: nn.Module, budgets: Sequence[float]) -> None:
        self.model = model
        self.trunk = find_trunk(model)
        self.budgets = [float(b) for b in budgets]
        self.deltas: list[float] = []

    def freeze_all_but(self, layers: Sequence[int]) -> None:
        """Switch the parameters of all other blocks off, and those of the embedding."""
        trained = {id(p) for i in layers for p in self.trunk.views[i].block.parameters()}
        trained |= self.trunk.behind_blocks()
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in trained)

    def __call__(self, images: Float[Tensor, "b c y x"]) -> Tensor:
        """Logits."""
        self.deltas = []
        with self.trunk.running(self._run):
            logits: Tensor = self.model(images)
        return logits

    def _run(self, x: Tensor) -> Tensor:
        last = len(self.budgets) - 1
        if torch.is_grad_enabled() and not x.requires_grad:
            x = (
                x.detach().requires_grad_()
            )  # the public code leaves the embedding trainable: a full graph
        for layer, (view, budget) in enumerate(zip(self.trunk.views, self.budgets, strict=True)):
            entered = x.clone()
            x, weights = _explicit(view, x)
            self.deltas.append((x[:, 0] - entered[:, 0]).square().sum(-1).mean().item())
            if layer == last:
                break
            scores = weights.mean(1)[:, 0, 1:].detach()
            keep = keep_count(budget, scores.shape[1])
            best = scores.argsort(dim=1, descending=True, stable=True)[:, :keep] + 1
            rows = torch.arange(len(x)).unsqueeze(1)
            x = torch.cat((x[:, :1], x[rows, best]), dim=1)
        return x


def _explicit(view: BlockView, x: Tensor) -> tuple[Tensor, Tensor]:
    """A whole block with its attention matrix."""
    query, key, value = view.project(view.norm1(x))
    query = view.heads(query)
    weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
    x = x + view.output((weights @ value).transpose(1, 2).flatten(2))
    return x + view.mlp(view.norm2(x)), weights
