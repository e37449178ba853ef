"""A recurrent graph network whose graph changes at every step: DynGCRNN with LSTM gates.

Guerra, Scardapane, Bianchi, arXiv 2410.13469. With z = [x, h], every gate is
A_t z W_n + z W_r + b: a sum over neighbours without normalisation. Layer l reads the states of
layer l - 1; the state of a node is the concatenation of all layers' h. The logit is affine in the
sum of node states at the last step (the released readout stacks linear maps without activation).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

GATES = ("input", "forget", "cell", "output")


class GraphLSTMCell(nn.Module):
    """One layer; the products that do not need h are made for all steps at once."""

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__()
        self.in_features, self.hidden = in_features, hidden
        self.neighbour = nn.Linear(in_features + hidden, 4 * hidden, bias=False)
        self.root = nn.Linear(in_features + hidden, 4 * hidden)

    def forward(
        self, x: Float[Tensor, "b t n f"], A: Float[Tensor, "b t n n"]
    ) -> Float[Tensor, "b t n h"]:
        """Hidden states of all steps, from zero states."""
        f = self.in_features
        w_x = torch.cat([self.root.weight[:, :f], self.neighbour.weight[:, :f]], dim=1).T
        w_h = torch.cat([self.root.weight[:, f:], self.neighbour.weight[:, f:]], dim=1).T
        given = torch.cat([x, A @ x], dim=-1) @ w_x + self.root.bias  # (b, t, n, 4h)
        h = c = x.new_zeros(*x.shape[:1], x.shape[2], self.hidden)
        states = []
        for t in range(x.shape[1]):
            gates = given[:, t] + torch.cat([h, A[:, t] @ h], dim=-1) @ w_h
            i, f_gate, g, o = gates.chunk(4, dim=-1)
            c = f_gate.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, dim=1)


class DynGCRNN(nn.Module):
    """Stacked graph LSTM layers and an affine readout of the summed node states."""

    def __init__(self, in_features: int, hidden: int, layers: int, readout_layers: int = 1) -> None:
        super().__init__()
        sizes = [in_features, *[hidden] * (layers - 1)]
        self.cells = nn.ModuleList(GraphLSTMCell(size, hidden) for size in sizes)
        width = hidden * layers
        outs = [*[width] * (readout_layers - 1), 1]
        self.readout = nn.Sequential(*(nn.Linear(width, out) for out in outs))

    def forward(
        self,
        x: Float[Tensor, "b t n f"],
        A: Float[Tensor, "b t n n"],
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, "b t n s"]]:
        """Logits and node states of all steps; nodes outside ``mask`` are padding, their states 0.

        Raises:
            ValueError: ``x`` and ``A`` differ in batch, steps or nodes.
        """
        if A.shape[:3] != x.shape[:3]:
            raise ValueError(f"x is {tuple(x.shape)} and A {tuple(A.shape)}: (b, t, n) must agree")
        layers, inputs = [], x
        for cell in self.cells:
            inputs = cell(inputs, A)
            layers.append(inputs)
        states = torch.cat(layers, dim=-1)
        if mask is not None:
            states = states * mask[:, None, :, None]
        return self.readout(states[:, -1].sum(dim=1))[..., 0], states


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
    model = DynGCRNN(wide - hidden, hidden, layers, depth)
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
