"""Automatic differentiation on numpy arrays (the book, chapter 6): a tape of nodes, read backwards.

Each primitive makes a :class:`Tensor` that knows its parents and, for each of them, how to pull an
adjoint back (the vector-Jacobian product) and how to push a tangent forward (the Jacobian-vector
product). :func:`backward` visits a node after all its consumers, without recursion, once.

    >>> x = Tensor(1.5)
    >>> u = x * x
    >>> round(float(backward(u * u.sin() + u)[x]), 6)
    1.094048
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any  # a numpy array; arithmetic on one without axes gives a numpy number
Linear = Callable[[Any], Any]
Number = float | int


class Tensor:
    """A value, where it came from, and how derivatives pass through it.

    Attributes:
        value: float64 array; never changed by this module.
        name: For drawings.
        op: The primitive that made it; empty for an input.
        parents: What it was made from.
        constant: True for numbers and arrays without parents that derive nothing.
    """

    __slots__ = ("_pulls", "_pushes", "constant", "name", "op", "parents", "value")
    __array_priority__ = 100.0  # numpy leaves array @ Tensor to us

    def __init__(self, value: Any, name: str | None = None, *, constant: bool = False) -> None:
        self.value: np.ndarray = np.asarray(value, dtype=np.float64)
        self.name = name
        self.op = ""
        self.parents: tuple[Tensor, ...] = ()
        self.constant = constant
        self._pulls: tuple[Linear, ...] = ()
        self._pushes: tuple[Linear, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return self.value.shape

    def __repr__(self) -> str:
        made = f" = {self.op}(...)" if self.op else ""
        return f"Tensor({self.name or ''}{made}, shape {self.shape})"

    def __add__(self, other: "Tensor | Array | Number") -> "Tensor":
        a, b = self, lift(other)
        return _made("+", a.value + b.value, (a, b), (_fit(a), _fit(b)), (_same, _same))

    def __mul__(self, other: "Tensor | Array | Number") -> "Tensor":
        a, b = self, lift(other)
        by_a, by_b = (lambda v: v * b.value), (lambda v: v * a.value)
        return _made("*", a.value * b.value, (a, b),
                     (_then(by_a, _fit(a)), _then(by_b, _fit(b))), (by_a, by_b))  # fmt: skip

    def __truediv__(self, other: "Tensor | Array | Number") -> "Tensor":
        a, b = self, lift(other)
        by_a, by_b = (lambda v: v / b.value), (lambda v: -v * a.value / b.value**2)
        return _made("/", a.value / b.value, (a, b),
                     (_then(by_a, _fit(a)), _then(by_b, _fit(b))), (by_a, by_b))  # fmt: skip

    def __matmul__(self, other: "Tensor | Array") -> "Tensor":
        return matmul(self, lift(other))

    def __pow__(self, power: Number) -> "Tensor":
        if isinstance(power, Tensor):
            raise TypeError("the exponent must be a number: write exp(b * a.log()) for a ** b")
        slope = power * self.value ** (power - 1)
        return _elementwise("**", self, self.value**power, slope)

    def __neg__(self) -> "Tensor":
        return self * -1.0

    def __sub__(self, other: "Tensor | Array | Number") -> "Tensor":
        return self + lift(other) * -1.0

    def __rsub__(self, other: "Array | Number") -> "Tensor":
        return lift(other) - self

    def __rtruediv__(self, other: "Array | Number") -> "Tensor":
        return lift(other) / self

    def __rmatmul__(self, other: Array) -> "Tensor":
        return matmul(lift(other), self)

    __radd__, __rmul__ = __add__, __mul__

    def sum(self, axis: int | None = None, *, keepdims: bool = False) -> "Tensor":
        """Sum of all entries, or along an axis."""
        shape = self.shape

        def pull(v: Array) -> Array:
            spread = v if axis is None or keepdims else np.expand_dims(v, axis)
            return np.broadcast_to(spread, shape).copy()

        def push(u: Array) -> Array:
            return np.asarray(u.sum(axis=axis, keepdims=keepdims))

        return _made("sum", push(self.value), (self,), (pull,), (push,))

    def mean(self, axis: int | None = None, *, keepdims: bool = False) -> "Tensor":
        """Mean of all entries, or along an axis."""
        count = self.value.size if axis is None else self.shape[axis]
        return self.sum(axis, keepdims=keepdims) * (1.0 / count)

    def exp(self) -> "Tensor":
        """Elementwise exponential."""
        value = np.exp(self.value)
        return _elementwise("exp", self, value, value)

    def log(self) -> "Tensor":
        """Elementwise natural logarithm."""
        return _elementwise("log", self, np.log(self.value), 1 / self.value)

    def sin(self) -> "Tensor":
        """Elementwise sine."""
        return _elementwise("sin", self, np.sin(self.value), np.cos(self.value))

    def tanh(self) -> "Tensor":
        """Elementwise hyperbolic tangent."""
        value = np.tanh(self.value)
        return _elementwise("tanh", self, value, 1 - value**2)

    def relu(self) -> "Tensor":
        """max(0, x); the subgradient at 0 is 0, as in torch."""
        return _elementwise("relu", self, np.maximum(self.value, 0.0), (self.value > 0) * 1.0)

    def sigmoid(self) -> "Tensor":
        """1 / (1 + exp(−x)), without overflow."""
        value = np.exp(-np.logaddexp(0.0, -self.value))
        return _elementwise("sigmoid", self, value, value * (1 - value))

    def reshape(self, *shape: int) -> "Tensor":
        """The same entries in another shape."""
        old = self.shape
        return _made("reshape", self.value.reshape(shape), (self,),
                     (lambda v: v.reshape(old),), (lambda u: u.reshape(shape),))  # fmt: skip

    @property
    def T(self) -> "Tensor":  # noqa: N802 - numpy's name
        """Axes in reverse order."""
        return _made("T", self.value.T, (self,), (np.transpose,), (np.transpose,))


@dataclass(frozen=True)
class Step:
    """One visit of the backward pass.

    Attributes:
        node: The node that fires.
        adjoint: What had reached it by then.
        sent: Its non-constant parents, each with what is sent to it.
    """

    node: Tensor
    adjoint: Array
    sent: tuple[tuple[Tensor, Array], ...]


def backward(output: Tensor, seed: Array | Number | None = None) -> dict[Tensor, Array]:
    """Adjoints of every node that ``output`` depends on: ∂f*[seed] (the book, 6.3).

    Args:
        output: Any node; a scalar needs no seed.
        seed: The vector v of the product, of the output's shape.

    Raises:
        ValueError: no seed for an output that is not a scalar, or a seed of another shape.
    """
    adjoints: dict[Tensor, Array] = {output: _seed(output, seed)}
    for node in consumers_first(output):
        for parent, sent in pull(node, adjoints[node]):
            adjoints[parent] = adjoints[parent] + sent if parent in adjoints else sent
    return adjoints


def trace(output: Tensor, seed: Array | Number | None = None) -> list[Step]:
    """The visits of :func:`backward`, in their order."""
    adjoints: dict[Tensor, Array] = {output: _seed(output, seed)}
    steps = []
    for node in consumers_first(output):
        sent = pull(node, adjoints[node])
        steps.append(Step(node, adjoints[node], sent))
        for parent, share in sent:
            adjoints[parent] = adjoints[parent] + share if parent in adjoints else share
    return steps


def pull(node: Tensor, adjoint: Array) -> tuple[tuple[Tensor, Array], ...]:
    """One VJP call: what a node sends to each of its parents that is not constant."""
    return tuple(
        (parent, product(adjoint))
        for parent, product in zip(node.parents, node._pulls, strict=True)
        if not parent.constant
    )


def consumers_first(output: Tensor) -> list[Tensor]:
    """Every node that is not constant, each after all nodes that use it; no recursion."""
    waiting: dict[Tensor, int] = {output: 0}
    stack = [output]
    while stack:
        for parent in stack.pop().parents:
            if parent.constant:
                continue
            if parent not in waiting:
                waiting[parent] = 0
                stack.append(parent)
            waiting[parent] += 1
    order, ready = [], [output]
    while ready:
        node = ready.pop()
        order.append(node)
        for parent in node.parents:
            if not parent.constant:
                waiting[parent] -= 1
                if waiting[parent] == 0:
                    ready.append(parent)
    return order


def jvp(f: Callable[[Tensor], Tensor], x: Array, u: Array) -> tuple[Array, Array]:
    """f(x) and the Jacobian-vector product ∂f(x)[u], by forward mode (the book, 6.2).

    Raises:
        ValueError: ``u`` has another shape than ``x``.
    """
    start = Tensor(x)
    tangent = np.asarray(u, dtype=np.float64)
    if tangent.shape != start.shape:
        raise ValueError(f"u must have the shape {start.shape} of x, got {tangent.shape}")
    output = f(start)
    tangents = {start: tangent}
    for node in reversed(consumers_first(output)):
        pushed = [
            push(tangents[parent])
            for parent, push in zip(node.parents, node._pushes, strict=True)
            if parent in tangents
        ]
        if pushed:
            shape = node.shape
            tangents[node] = np.sum([np.broadcast_to(p, shape) for p in pushed], axis=0)
    return output.value, tangents.get(output, np.zeros(output.shape))


def checkpoint(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that keeps its inputs and output only, and runs again when derivatives pass (6.3).

    Same derivatives, fewer stored values, one more forward pass.
    """

    def kept(*inputs: Tensor) -> Tensor:
        values = [lift(x) for x in inputs]
        value = f(*(Tensor(x.value) for x in values)).value  # this graph is forgotten at once
        memory: dict[str, Any] = {}

        def pull_to(place: int) -> Linear:
            def product(v: Array) -> Array:
                if memory.get("v") is not v:  # the first parent runs it again, the others look
                    again = [Tensor(x.value) for x in values]
                    found = backward(f(*again), v)
                    memory.update(v=v, found=[found.get(x, np.zeros(x.shape)) for x in again])
                shares: list[Array] = memory["found"]
                return shares[place]

            return product

        def push_from(place: int) -> Linear:
            def product(u: Array) -> Array:
                fixed = [Tensor(x.value, constant=True) for x in values]
                return jvp(lambda x: f(*fixed[:place], x, *fixed[place + 1 :]),
                           values[place].value, u)[1]  # fmt: skip

            return product

        places = range(len(values))
        return _made("checkpoint", value, tuple(values), tuple(map(pull_to, places)),
                     tuple(map(push_from, places)))  # fmt: skip

    return kept


def stored_values(output: Tensor) -> int:
    """Numbers that the graph behind ``output`` keeps alive."""
    return sum(node.value.size for node in consumers_first(output))


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product; the VJP of Wx is Wᵀv for x and v xᵀ for W (6.4).

    Raises:
        ValueError: not two matrices, or a matrix and a vector, of fitting widths.
    """
    fits = a.value.ndim in (1, 2) and b.value.ndim in (1, 2) and a.value.ndim + b.value.ndim > 2
    if not fits or a.shape[-1] != b.shape[0]:
        raise ValueError(f"shapes {a.shape} @ {b.shape} do not fit: matrices or matrix and vector")

    def to_a(v: Array) -> Array:
        return np.outer(v, b.value) if b.value.ndim == 1 else v @ b.value.T

    def to_b(v: Array) -> Array:
        return np.outer(a.value, v) if a.value.ndim == 1 else a.value.T @ v

    return _made("@", a.value @ b.value, (a, b), (to_a, to_b),
                 (lambda u: u @ b.value, lambda u: a.value @ u))  # fmt: skip


def lift(value: "Tensor | Array | Number") -> Tensor:
    """A tensor as it is; a number or an array as a constant."""
    return value if isinstance(value, Tensor) else Tensor(value, constant=True)


def unbroadcast(v: Array, shape: tuple[int, ...]) -> Array:
    """Sum an adjoint over the axes along which its value was repeated.

    >>> unbroadcast(np.ones((3, 2)), (2,))
    array([3., 3.])
    """
    if v.shape == shape:
        return v
    v = v.sum(axis=tuple(range(v.ndim - len(shape))))
    stretched = tuple(i for i, (n, m) in enumerate(zip(shape, v.shape, strict=True)) if n == 1 < m)
    return v.sum(axis=stretched, keepdims=True) if stretched else v


def _made(
    op: str, value: Array, parents: Sequence[Tensor], pulls: Sequence[Linear],
    pushes: Sequence[Linear],
) -> Tensor:  # fmt: skip
    node = Tensor(value, constant=all(parent.constant for parent in parents))
    node.op, node.parents = op, tuple(parents)
    node._pulls, node._pushes = tuple(pulls), tuple(pushes)
    return node


def _elementwise(op: str, x: Tensor, value: Array, slope: Array) -> Tensor:
    def product(v: Array) -> Array:
        return v * slope

    return _made(op, value, (x,), (product,), (product,))


def _fit(to: Tensor) -> Linear:
    return lambda v: unbroadcast(v, to.shape)


def _then(first: Linear, second: Linear) -> Linear:
    return lambda v: second(first(v))


def _same(v: Array) -> Array:
    return v


def _seed(output: Tensor, seed: Array | Number | None) -> Array:
    if seed is None:
        if output.value.size != 1:
            raise ValueError(f"the output has shape {output.shape}: give a seed of that shape")
        return np.ones(output.shape)
    given = np.asarray(seed, dtype=np.float64)
    if given.shape != output.shape:
        raise ValueError(f"seed must have the output's shape {output.shape}, got {given.shape}")
    return given
