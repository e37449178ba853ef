"""ALaST around any vision transformer: one fine-tuning step that spends a budget.

Draw K layers, run forward on ever fewer tokens, learn from the drawn layers only, update the
budgets. In ``eval`` mode the model is untouched: all tokens, no budget.

Four savings change neither loss nor gradients and can be switched off to see so: layers below the
lowest drawn one run without a graph, dropped tokens are left out of attention and MLP, the last
block computes only what the head reads, and a GELU's result is not kept (:mod:`.lean`). A fifth
changes them by rounding only: large matrix products go through the faster of torch's two libraries.
A process that does nothing but train saves more with :func:`labcore.runtime.keep_freed_memory`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labcore.blocks.cost import Flops, SavedBytes, ViTSpec, keep_count, training_flops
from labcore.blocks.cost import saved_activation_bytes as saved_bytes_of
from labcore.blocks.fast_linear import fast_linears
from labcore.finetuning.budgets import ALaSTConfig, BudgetSchedule, class_token_delta
from labcore.finetuning.layers import Passed, run_block, run_block_reference, run_bypassed
from labcore.finetuning.reports import Savings, StepReport, Trace, seconds_on
from labcore.finetuning.trunk import BlockView, find_trunk

LossFn = Callable[[Tensor, Tensor], Tensor]


class ALaST:
    """Adaptive layer and token selection for one model (arXiv 2408.08670).

    Args:
        model: Ours, timm's ViT, or a Hugging Face ViT, DeiT or DINOv2; adapters (peft) may be on it
            already. What has ``requires_grad`` now is what may ever be trained.
        config: Settings; ours (``calibrated``) by default.
        block_path: Dotted name of the list of blocks, if it cannot be found.
        reads: What the head reads, if ``auto`` cannot know (:func:`find_trunk`).
        token: Whose movement and attention count: the ``class`` token's, or the ``mean`` patch's
            (our extension, the default without a class token).
        savings: Which exact savings to use.

    Raises:
        ValueError: K outside 0..L, or a model that :func:`find_trunk` refuses.
    """

    def __init__(
        self,
        model: nn.Module,
        config: ALaSTConfig | None = None,
        block_path: str | None = None,
        *,
        reads: str = "auto",
        token: str | None = None,
        savings: Savings | None = None,
    ) -> None:
        self.model = model
        self.config = config or ALaSTConfig()
        self.trunk = find_trunk(model, block_path, reads)
        self.token = token or ("class" if self.trunk.num_prefix_tokens else "mean")
        if self.token not in ("class", "mean"):
            raise ValueError(f'token must be "class" or "mean", got {token!r}')
        if self.token == "class" and not self.trunk.num_prefix_tokens:  # noqa: S105
            raise ValueError('the model has no class token: use token="mean"')
        self.savings = savings or Savings()
        self.schedule = BudgetSchedule(len(self.trunk.views), self.config)
        self.generator = torch.Generator().manual_seed(self.config.seed)
        self.steps = 0
        self._trained = [p for p in model.parameters() if p.requires_grad]
        inside, behind = self.trunk.in_blocks(), self.trunk.behind_blocks()
        mine = {id(p) for p in self._trained}
        self._by_layer = [
            [p for p in view.block.parameters() if id(p) in mine] for view in self.trunk.views
        ]
        self._embedding = [p for p in self._trained if id(p) not in inside | behind]
        self._adapters = any(
            not p.requires_grad for view in self.trunk.views for p in view.block.parameters()
        )
        self._layers: tuple[int, ...] = tuple(range(len(self.trunk.views)))
        self.trace = Trace()

    def train(self, mode: bool = True) -> "ALaST":
        """Put the model in training mode, or in evaluation mode."""
        self.model.train(mode)
        return self

    def eval(self) -> "ALaST":
        """Put the model in evaluation mode: all tokens, no budget."""
        return self.train(False)

    def __call__(self, images: Float[Tensor, "b c y x"]) -> Tensor:
        """Logits (or the class feature of a model without head), with token selection in training.

        Layers drawn by the last :meth:`step` count as trainable; all, before the first.
        """
        if not self.model.training:
            return logits_of(self.model(images))
        self.trace = Trace()
        with self.trunk.running(self._run), fast_linears(self.savings.fast_products):
            return logits_of(self.model(images))

    def step(
        self,
        loss_fn: LossFn,
        batch: tuple[Tensor, Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        accumulate: int = 1,
        layers: Sequence[int] | None = None,
        measure: bool = True,
    ) -> StepReport:
        """One step of fine-tuning.

        Args:
            loss_fn: Logits and targets to a mean loss.
            batch: Pictures and targets.
            optimizer: Steps once; gradients are None before and after.
            accumulate: Micro-batches; layers are drawn once, deltas are averaged over them.
            layers: Train these instead of drawing.
            measure: Count the bytes saved for backward (takes about 3 % longer).

        Raises:
            ValueError: the model is in evaluation mode, ``accumulate`` does not fit the batch, or a
                delta is NaN or infinite; then neither weights nor budgets have changed.
        """
        if not self.model.training:
            raise ValueError("step needs training mode: call train() first")
        images, targets = batch
        if not 1 <= accumulate <= len(images):
            raise ValueError(f"accumulate must be 1..{len(images)} pictures, got {accumulate}")
        begin = seconds_on(images.device)
        drawn = self.schedule.sample_layers(self.generator) if layers is None else layers
        self._layers = self._checked(drawn)
        optimizer.zero_grad(set_to_none=True)
        loss, deltas, saved = 0.0, torch.zeros(len(self.trunk.views)), 0
        parts = list(zip(images.chunk(accumulate), targets.chunk(accumulate), strict=True))
        with self.only_drawn():
            for pictures, wanted in parts:
                share = len(pictures) / len(images)
                part = self._backward(loss_fn, pictures, wanted, share, measure)
                loss += part[0] * share
                mean = self.config.delta_reduction == "mean"
                deltas += part[1].cpu() * (share if mean else 1.0)
                saved = max(saved, part[2])
            try:
                self.schedule.check(deltas)
            except ValueError:
                optimizer.zero_grad(set_to_none=True)
                raise
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        budgets = self.schedule.update(deltas, lr=float(optimizer.param_groups[0]["lr"]))
        self.steps += 1
        return StepReport(
            loss=loss,
            layers=self._layers,
            tokens=tuple(self.trace.entered),
            deltas=tuple(deltas.tolist()),
            budgets=tuple(budgets.tolist()),
            flops=self._flops(self.trace.entered, None).total,
            flops_spent=self._flops(self.trace.entered, self.trace.computed).total,
            cpu_seconds=seconds_on(images.device) - begin,
            saved_bytes=saved if measure else None,
        )

    def _checked(self, layers: Sequence[int]) -> tuple[int, ...]:
        chosen = tuple(sorted(set(layers)))
        if chosen and not 0 <= chosen[0] <= chosen[-1] < len(self.trunk.views):
            raise ValueError(f"layers must be 0..{len(self.trunk.views) - 1}, got {tuple(layers)}")
        return chosen

    def _backward(
        self, loss_fn: LossFn, pictures: Tensor, wanted: Tensor, share: float, measure: bool
    ) -> tuple[float, Tensor, int]:
        """Forward and backward of one micro-batch: its loss, deltas and saved bytes."""
        counting = saved_bytes_of(self.model) if measure else nullcontext(SavedBytes())
        with counting as counter:
            loss = loss_fn(self(pictures), wanted)
        if loss.requires_grad:
            (loss * share).backward()
        return loss.item(), torch.stack(self.trace.deltas).float(), counter.total

    @contextmanager
    def only_drawn(self) -> Iterator[None]:
        """While open, only parameters of drawn layers, final norm and head ask for gradients."""
        off = [p for i, held in enumerate(self._by_layer) if i not in self._layers for p in held]
        if self.config.freeze_embedding:
            off += self._embedding
        for parameter in off:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in off:
                parameter.requires_grad_(True)

    def _run(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b m d"]:
        """All blocks, on ever fewer tokens."""
        prefix, depth = self.trunk.num_prefix_tokens, len(self.trunk.views)
        first = x.shape[1] - prefix
        budgets = self.schedule.budgets.tolist()
        lowest = self._lowest() if self.savings.no_graph_prefix else 0
        for layer, view in enumerate(self.trunk.views):
            patches = x.shape[1] - prefix
            keep = self._keep(budgets[layer], patches, first) if layer < depth - 1 else patches
            before = self._watched(x)
            with torch.set_grad_enabled(torch.is_grad_enabled() and layer >= lowest):
                passed = self._block(view, x, keep, last=layer == depth - 1)
            relative = self.config.delta == "relative"
            moved = before, self._watched(passed.tokens)
            reduction = self.config.delta_reduction
            self.trace.deltas.append(class_token_delta(*moved, reduction, relative))
            self.trace.entered.append(prefix + (keep if self._around(keep, patches) else patches))
            self.trace.computed.append(self._computed(keep, last=layer == depth - 1))
            self.trace.kept.append(passed.kept)
            x = passed.tokens
        return x

    def _lowest(self) -> int:
        """The first layer that needs a graph."""
        if self._embedding and not self.config.freeze_embedding:
            return 0
        return min(self._layers, default=len(self.trunk.views))

    def _keep(self, budget: float, patches: int, first: int) -> int:
        """Patches that stay."""
        if self.config.drop == "none":
            return patches
        if self.config.drop == "compound":
            return keep_count(budget, patches)
        share = max(1, -int(-(budget * first - 1e-9) // 1))  # ceil, a hair below whole numbers
        return min(patches, share)

    def _around(self, keep: int, patches: int) -> bool:
        return self.config.drop == "bypass" and keep < patches

    def _block(self, view: BlockView, x: Tensor, keep: int, *, last: bool) -> Passed:
        settings: dict[str, Any] = {"prefix": self.trunk.num_prefix_tokens, "token": self.token}
        lean = self.savings.lean_mlp
        if last and self.savings.class_only and self._read() is not None:
            return run_block(view, x, keep, only_first=self._read(), lean=lean, **settings)
        if self.config.drop == "bypass":
            return run_bypassed(view, x, keep, lean=lean, **settings)
        if self.savings.early_drop:
            return run_block(view, x, keep, lean=lean, **settings)
        return run_block_reference(view, x, keep, **settings)

    def _read(self) -> int | None:
        return None if self.token == "mean" else self.trunk.reads  # noqa: S105

    def _computed(self, keep: int, *, last: bool) -> int:
        """Tokens that go through attention and MLP."""
        read = self._read()
        if last and self.savings.class_only and read is not None:
            return read
        if self.savings.early_drop or self.config.drop == "bypass":
            return self.trunk.num_prefix_tokens + keep
        return self.trace.entered[-1]

    @torch.no_grad()
    def _watched(self, x: Tensor) -> Tensor:
        if self.token == "class":  # noqa: S105
            return x[:, 0]
        return x[:, self.trunk.num_prefix_tokens :].mean(1)

    def _flops(self, entered: list[int], computed: list[int] | None) -> Flops:
        """By formula; of ``bypass`` without the keys that only score the patches going around."""
        width, ratio = sizes_of(self.trunk.views[0])
        spec = ViTSpec(len(entered), width, entered[0], ratio)
        return training_flops(
            spec,
            entered,
            () if self._adapters else self._layers,
            tokens_out=computed,
            reached_from=self._lowest(),
        )

    def state_dict(self) -> dict[str, Any]:
        """Budgets and generator, for a resume; weights and optimizer are the caller's to save."""
        return {
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: the state belongs to another model or configuration.
        """
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        self.steps = int(state["steps"])


def sizes_of(view: BlockView) -> tuple[int, float]:
    """Width and MLP ratio of a block, from its matrices."""
    width = int(next(view.norm1.parameters()).shape[0])
    shapes = [p.shape for name, p in view.block.named_parameters()
              if ".mlp." in f".{name}" and p.dim() == 2 and "lora" not in name]  # fmt: skip
    hidden = max((max(shape) for shape in shapes), default=4 * width)
    return width, hidden / width


def logits_of(output: Any) -> Tensor:
    """Logits of whatever a library returns; the class token's feature of a bare backbone."""
    if isinstance(output, Tensor):
        return output
    found = getattr(output, "logits", None)
    if found is None:
        found = output.last_hidden_state[:, 0]
    assert isinstance(found, Tensor)
    return found
