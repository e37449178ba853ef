"""A recurrent graph network whose graph changes at every step: DynGCRNN.

Guerra, Scardapane, Bianchi, arXiv 2410.13469. Layer l reads the states of layer l - 1; the state of
a node is the concatenation of all layers' h. The logit is affine in the pooled node states of the
last step (the released readout stacks linear maps without activation, so they collapse to one).
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from labcore.koopman.cells import CELLS, GraphGRUCell, GraphLSTMCell
from labcore.koopman.steps import BACKENDS, Backend, Steps, as_steps

__all__ = ["DynGCRNN", "GraphGRUCell", "GraphLSTMCell", "load_reference_weights"]
GATES = ("input", "forget", "cell", "output")
MEAN_SCALE = 10.0  # a mean over nodes is small beside a sum; this brings it back


class DynGCRNN(nn.Module):
    """Stacked recurrent graph layers and an affine readout of the pooled node states.

    Args:
        in_features: Numbers a node and step.
        hidden: Size of a layer's state.
        layers: How many layers.
        cell: ``"lstm"`` (the default of the article), ``"gru"`` or ``"diffusion"``.
        readout: ``"mean"`` over nodes times 10, which trains better on graphs of one size, or
            ``"sum"`` as published.
        readout_layers: Linear maps in a row, without activation between them.
        koopman_head: Also learn a square matrix K that takes each state to the next.
        backend: ``"dense"`` matrices, ``"sparse"`` lists of contacts, or ``"auto"``: lists where
            contacts are few.

    Raises:
        ValueError: an unknown cell, readout or backend, or a size below 1.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        layers: int,
        readout_layers: int = 1,
        *,
        cell: str = "lstm",
        readout: Literal["sum", "mean"] = "mean",
        koopman_head: bool = False,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if cell not in CELLS or readout not in ("sum", "mean"):
            raise ValueError(f"cell={cell!r}: {', '.join(CELLS)}; readout={readout!r}: sum, mean")
        if backend not in BACKENDS or min(in_features, hidden, layers) < 1:
            raise ValueError(
                f"backend={backend!r} must be one of {', '.join(BACKENDS)}, sizes at least 1: "
                f"in_features={in_features}, hidden={hidden}, layers={layers}"
            )
        sizes = [in_features, *[hidden] * (layers - 1)]
        self.cells = nn.ModuleList(CELLS[cell](size, hidden) for size in sizes)
        width = hidden * layers
        self.pooling, self.backend = readout, backend
        outs = [*[width] * (readout_layers - 1), 1]
        self.readout = nn.Sequential(*(nn.Linear(width, out) for out in outs))
        self.K = nn.Parameter(torch.eye(width)) if koopman_head else None

    def forward(
        self,
        x: Float[Tensor, "b t n f"],
        A: Float[Tensor, "b t n n"] | Steps,
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, "b t n s"]]:
        """Logits and node states of all steps; nodes outside ``mask`` are padding, their states 0.

        Raises:
            ValueError: ``x`` and ``A`` differ in batch, steps or nodes.
        """
        if tuple(A.shape[:3]) != tuple(x.shape[:3]):
            raise ValueError(f"x is {tuple(x.shape)} and A {tuple(A.shape)}: (b, t, n) must agree")
        graph = as_steps(A, self.backend)
        layers, inputs = [], x.transpose(0, 1).contiguous()
        for cell in self.cells:
            inputs = cell(inputs, graph)
            layers.append(inputs)
        states = torch.cat(layers, dim=-1).transpose(0, 1)
        if mask is not None:
            states = states * mask[:, None, :, None]
        return self.logits(states[:, -1], mask), states

    def logits(
        self, last: Float[Tensor, "b n s"], mask: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, " b"]:
        """The readout alone, of node states of one step."""
        pooled = last.sum(dim=1)
        if self.pooling == "mean":
            count = last.shape[1] if mask is None else mask.sum(dim=1, keepdim=True)
            pooled = MEAN_SCALE * pooled / count
        return self.readout(pooled)[..., 0]


def load_reference_weights(state_dict: Mapping[str, Tensor]) -> DynGCRNN:
    """The network whose released weights these are; all sizes are read off the tensors.

    Names: ``encoder.cells.l.{input,forget,cell,output}_gate.{lin,root_lin}.weight``, ``.bias``, and
    ``readout.r.weight``, ``.bias``. A Koopman matrix ``encoder.K`` is training gear and left out.

    Raises:
        ValueError: a name or shape is missing from the family.
    """
    names = [n for n in state_dict if n.startswith("encoder.cells.")]
    if not names:
        raise ValueError(f"no encoder.cells.* among {sorted(state_dict)[:4]}: not such weights")
    layers = 1 + max(int(n.split(".")[2]) for n in names)
    hidden, wide = state_dict["encoder.cells.0.input_gate.lin.weight"].shape
    depth = 1 + max(int(n.split(".")[1]) for n in state_dict if n.startswith("readout."))
    model = DynGCRNN(wide - hidden, hidden, layers, depth, readout="sum")
    renamed: dict[str, Tensor] = {n: v for n, v in state_dict.items() if n.startswith("readout.")}
    for layer in range(layers):
        parts = {"neighbour.weight": "lin.weight", "root.weight": "root_lin.weight"}
        for ours, theirs in {**parts, "root.bias": "bias"}.items():
            keys = [f"encoder.cells.{layer}.{gate}_gate.{theirs}" for gate in GATES]
            missing = [key for key in keys if key not in state_dict]
            if missing:
                raise ValueError(f"weights lack {missing[0]}")
            renamed[f"cells.{layer}.{ours}"] = torch.cat([state_dict[key] for key in keys])
    model.load_state_dict(renamed)
    return model.eval().requires_grad_(requires_grad=False)
