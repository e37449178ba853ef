"""SimplicialMamba (arXiv 2409.12033): every node reads its cells of all ranks as a sequence.

encoder: Linear, dropout, ReLU. Layer: tokens of the current features, one LayerNorm shared by all
layers, a Mamba block in each direction (or another sequence model), outputs added, pooled over the
sequence, plus the layer's input. Readout: one Linear. Cells have no state of their own: they are
summed anew in every layer.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labcore.blocks.mamba import Bidirectional, MambaBlock
from labcore.topology.sequences import NodeSequencer, RankOperators

POOLINGS = ("sum", "mean", "max")
LEVELS = ("node", "graph", "edge")
SEQUENCE_MODELS = ("mamba", "gru", "lstm", "transformer", "s4d", "none")


class SimplicialMamba(nn.Module):
    """The network.

    Args:
        d_in: Width of the node features.
        d_hidden: Width inside.
        d_out: Outputs.
        n_layers: Layers.
        d_state: State size of Mamba and S4D.
        bidirectional: ``true``, ``none`` or ``as_published`` (see :class:`Bidirectional`).
        pooling: Over the sequence: ``sum``, ``mean`` or ``max``.
        residual: Add the layer's input.
        dropout: In the encoder, before the ReLU as in the authors' code.
        task_level: ``node``; ``graph`` (node embeddings are pooled per graph); or ``edge`` (the
            two ends are multiplied).
        graph_pooling: Over the nodes of a graph: ``sum``, ``mean`` or ``max``.
        sequence_model: What reads the tokens; ``none`` pools them unread.
        lifting: See :class:`~labcore.topology.sequences.NodeSequencer`.
        order: Of the ranks.
        node_chunk: Nodes read together, to bound the memory; None for all.

    Raises:
        ValueError: unknown names (the known ones are listed), or sizes below 1.
    """

    def __init__(
        self,
        d_in: int,
        d_hidden: int,
        d_out: int,
        *,
        n_layers: int = 2,
        d_state: int = 16,
        bidirectional: str = "true",
        pooling: str = "sum",
        residual: bool = True,
        dropout: float = 0.5,
        task_level: str = "node",
        graph_pooling: str = "sum",
        sequence_model: str = "mamba",
        lifting: str = "sum",
        order: str = "descending",
        node_chunk: int | None = None,
    ) -> None:
        super().__init__()
        for what, given, known in (
            ("pooling", pooling, POOLINGS),
            ("graph_pooling", graph_pooling, POOLINGS),
            ("task_level", task_level, LEVELS),
            ("sequence_model", sequence_model, SEQUENCE_MODELS),
        ):
            if given not in known:
                raise ValueError(f"{what} must be one of {', '.join(known)}, got {given!r}")
        if min(d_in, d_hidden, d_out, n_layers, d_state) < 1:
            raise ValueError("d_in, d_hidden, d_out, n_layers and d_state must be 1 or more")
        self.pooling, self.residual, self.task_level = pooling, residual, task_level
        self.graph_pooling = graph_pooling
        self.lifting, self.order, self.node_chunk = lifting, order, node_chunk
        self.encoder = nn.Linear(d_in, d_hidden)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(d_hidden)
        self.layers = nn.ModuleList(
            _reader(sequence_model, d_hidden, d_state, bidirectional) for _ in range(n_layers)
        )
        self.readout = nn.Linear(d_hidden, d_out)

    def forward(
        self,
        x: Tensor,
        operators: RankOperators,
        batch: Tensor | None = None,
        edges: Tensor | None = None,
    ) -> Tensor:
        """Logits: of nodes (n, d_out), of graphs (graphs, d_out) or of edges (e, d_out).

        Raises:
            ValueError: rows of ``x`` that are not n; a graph task without ``batch`` or with ids
                that are not 0, 0, ..., 1, ... in order; an edge task without ``edges``.
        """
        hidden = self.embed(x, operators)
        if self.task_level == "graph":
            hidden = pool_graphs(hidden, batch, self.graph_pooling)
        elif self.task_level == "edge":
            if edges is None:
                raise ValueError("an edge task needs edges, (2, e)")
            hidden = hidden[edges[0]] * hidden[edges[1]]
        logits: Tensor = self.readout(hidden)
        return logits

    def embed(self, x: Tensor, operators: RankOperators) -> Tensor:
        """Node features after all layers, (n, d)."""
        sequencer = NodeSequencer(operators, self.lifting, order=self.order)
        hidden = F.relu(self.dropout(self.encoder(x)))
        for layer in self.layers:
            hidden = self._layer(layer, sequencer(hidden), hidden)
        return hidden

    def _layer(self, layer: nn.Module, tokens: Tensor, hidden: Tensor) -> Tensor:
        size = self.node_chunk or max(len(tokens), 1)
        read = torch.cat([pooled(layer(self.norm(t)), self.pooling) for t in tokens.split(size)])
        return read + hidden if self.residual else read

    @torch.no_grad()
    def explain(self, x: Tensor, operators: RankOperators) -> dict[str, Tensor]:
        """What the layers see: norms of tokens and step sizes, per layer, node and position.

        Returns:
            ``token_norm`` (layers, n, t), ``contribution`` (layers, n, t): norm of what each
            position adds to the pooled sum; and for Mamba ``delta`` and ``gate`` (layers, n, t):
            the mean step and the mean gate of the forward block.
        """
        sequencer = NodeSequencer(operators, self.lifting, order=self.order)
        hidden = F.relu(self.encoder(x))
        seen: dict[str, list[Tensor]] = {
            "token_norm": [],
            "contribution": [],
            "delta": [],
            "gate": [],
        }
        for layer in self.layers:
            tokens = sequencer(hidden)
            normed = self.norm(tokens)
            seen["token_norm"].append(tokens.norm(dim=-1))
            seen["contribution"].append(layer(normed).norm(dim=-1))
            block = getattr(layer, "forward_block", None)
            if isinstance(block, MambaBlock):
                seen["delta"].append(block.inner(normed)[1].mean(-1))
                seen["gate"].append(F.silu(block.in_proj(normed).chunk(2, dim=-1)[1]).mean(-1))
            hidden = self._layer(layer, tokens, hidden)
        return {name: torch.stack(parts) for name, parts in seen.items() if parts}

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """For an optimiser: rates and skips of the scan without weight decay."""
        free = [p for n, p in self.named_parameters() if n.endswith(("A_log", ".D"))]
        ids = {id(p) for p in free}
        rest = [p for p in self.parameters() if id(p) not in ids]
        return [{"params": rest, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0}]


def pooled(sequence: Tensor, how: str) -> Tensor:
    """A sequence (n, t, d) pooled over its positions, (n, d)."""
    if how == "sum":
        return sequence.sum(1)
    return sequence.mean(1) if how == "mean" else sequence.amax(1)


def pool_graphs(hidden: Tensor, batch: Tensor | None, how: str = "sum") -> Tensor:
    """Node features pooled per graph, (graphs, d): ``sum``, ``mean`` or ``max``.

    Raises:
        ValueError: no ``batch``, another length, or ids that skip or go back.
    """
    if batch is None:
        raise ValueError("a graph task needs batch, the graph of each node")
    if len(batch) != len(hidden):
        raise ValueError(f"batch has {len(batch)} entries for {len(hidden)} nodes")
    steps = batch.diff()
    if len(batch) and (int(batch[0]) != 0 or bool(((steps != 0) & (steps != 1)).any())):
        raise ValueError("batch ids must be sorted and contiguous: 0, 0, ..., 1, ..., 2")
    graphs = int(batch[-1]) + 1 if len(batch) else 0
    zeros = hidden.new_zeros(graphs, hidden.shape[1])
    if how == "max":
        return zeros.index_reduce(0, batch, hidden, "amax", include_self=False)
    total = zeros.index_add(0, batch, hidden)
    return total / torch.bincount(batch)[:, None] if how == "mean" else total


class _Recurrent(nn.Module):
    """GRU or LSTM as a sequence model."""

    def __init__(self, kind: str, d: int) -> None:
        super().__init__()
        self.cell = (nn.GRU if kind == "gru" else nn.LSTM)(d, d, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, d) -> (n, t, d)."""
        out: Tensor = self.cell(x)[0]
        return out


class _Linear(nn.Module):
    """S4D: the block with step sizes and matrices that do not look at the input."""

    def __init__(self, d: int, d_state: int) -> None:
        super().__init__()
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(d, 1))
        self.step = nn.Parameter(torch.full((d,), -2.0))
        self.B = nn.Parameter(torch.randn(d_state) / d_state**0.5)
        self.C = nn.Parameter(torch.randn(d_state) / d_state**0.5)
        self.D = nn.Parameter(torch.ones(d))
        self.out_proj = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, d) -> (n, t, d)."""
        from labcore.blocks.selective import mamba_scan

        n, t, _ = x.shape
        b, c = (v.expand(n, t, -1).contiguous() for v in (self.B, self.C))
        delta = F.softplus(self.step).expand_as(x).contiguous()
        out: Tensor = self.out_proj(
            F.silu(mamba_scan(x.contiguous(), delta, -torch.exp(self.A_log), b, c, self.D))
        )
        return out


def _reader(kind: str, d: int, d_state: int, mode: str) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    if kind == "transformer":
        heads = next(h for h in (4, 2, 1) if d % h == 0)
        return nn.TransformerEncoderLayer(d, heads, 2 * d, 0.0, batch_first=True, norm_first=True)

    def one() -> nn.Module:
        if kind == "mamba":
            return MambaBlock(d, d_state)
        return _Linear(d, d_state) if kind == "s4d" else _Recurrent(kind, d)

    return Bidirectional(one(), None if mode == "none" else one(), mode)
