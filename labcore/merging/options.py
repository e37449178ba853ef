"""How parameters are merged by TSV-Merge, and the report of what was done to each."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from torch import Tensor

from labcore.merging.factors import Factors, Method, rounding_floor, truncated_svd
from labcore.merging.interference import rank_per_task
from labcore.merging.vectors import MatrixPolicy

ZeroRank = Literal["raise", "mean", "keep_one"]
Row = dict[str, Any]


@dataclass(frozen=True)
class MergeReport:
    """What was done to each parameter: one row a parameter; a list of plain dicts in ``rows``.

    Attributes:
        rows: kind, rank, kept energy of each task, interference before and after whitening,
            condition numbers, dropped null directions, kept ones that are rounding noise, dtypes,
            seconds.
        peak_bytes: Most memory that a streamed merge took beyond its start; 0 when not measured.
        notes: What the reader should know, as mixed dtypes.
        choices: Every option that decided something.
    """

    rows: list[Row]
    peak_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    choices: dict[str, Any] = field(default_factory=dict)

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame(self.rows)


@dataclass(frozen=True)
class TsvOptions:
    """How a parameter is merged; see :func:`tsv_merge`.

    Raises:
        ValueError: an unknown word, a rank below 1, or a negative tolerance.
    """

    rank: int | None = None
    policy: MatrixPolicy = field(default_factory=MatrixPolicy)
    vector_rule: Literal["mean", "sum"] = "mean"
    orthogonalize: bool = True
    on_zero_rank: ZeroRank = "raise"
    tol: float | Literal["rounding"] | None = None
    method: Method = "auto"
    report: bool = True

    def __post_init__(self) -> None:
        if self.vector_rule not in ("mean", "sum"):
            raise ValueError(f"vector_rule must be mean or sum, got {self.vector_rule!r}")
        if self.on_zero_rank not in ("raise", "mean", "keep_one"):
            raise ValueError(f"on_zero_rank: raise, mean or keep_one, got {self.on_zero_rank!r}")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if isinstance(self.tol, str) and self.tol != "rounding":
            raise ValueError(f"tol must be a number or 'rounding', got {self.tol!r}")
        if isinstance(self.tol, float) and not 0 <= self.tol < 1:
            raise ValueError(f"tol must be in [0, 1), got {self.tol}")

    @property
    def choices(self) -> dict[str, Any]:
        """The options as plain data, for a report."""
        plain = asdict(self)
        return {**plain.pop("policy"), **plain}

    def rank_of(self, name: str, value: Tensor, tasks: int) -> int:
        """Components a task of this parameter; 0 when it is no matrix.

        Raises:
            ValueError: an integer tensor, or more tasks than directions with "raise".
        """
        kind = self.policy.kind(name, value)
        if kind == "skip":
            raise ValueError(f"{name}: {value.dtype} tensors carry no task; leave them out")
        if kind == "vector":
            return 0
        block = self.policy.blocks(name, value)[0]
        if self.rank is not None:
            return min(self.rank, *block.shape)
        k = rank_per_task(block.shape, tasks)
        if k == 0 and self.on_zero_rank == "raise":
            raise ValueError(
                f"{name}: rank 0, {tasks} tasks for {tuple(block.shape)}; set rank or "
                "on_zero_rank='mean' or 'keep_one'"
            )
        return max(k, 1) if self.on_zero_rank == "keep_one" else k

    def reduce(
        self, label: str, block: Tensor, rank: int, weight: Tensor | None
    ) -> tuple[Factors, int]:
        """One task's factors of one matrix, and how many of them are rounding noise.

        Args:
            label: Task and parameter, for errors.
            block: The difference, (m, n).
            rank: Components to keep.
            weight: The base's matrix in its stored dtype, for the rounding floor.

        Raises:
            ValueError: tol="rounding" without a base.
        """
        floor = 0.0
        if weight is not None:
            floor = rounding_floor((weight.to(block.dtype) + block).to(weight.dtype))
        if self.tol != "rounding":
            found = truncated_svd(block, rank, method=self.method, tol=self.tol, name=label)
            return found, int((found.s <= floor).sum())
        if weight is None:
            raise ValueError(f"{label}: tol='rounding' needs the base's weights; give base=")
        return truncated_svd(block, rank, method=self.method, floor=floor, name=label), 0
