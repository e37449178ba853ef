"""Checks of notebook B06: automatic differentiation (the book, chapter 6)."""

from typing import Any

import numpy as np

from labcore.blocks.autodiff import Tensor, backward, unbroadcast
from labcore.course.checking import EXACT, Wrong, register

Rng = np.random.Generator
Array = np.ndarray


# B06.1: VJPs of four primitives


def vjps() -> dict[str, Any]:
    """Reference of B06.1: for each primitive a function of its inputs and of v."""
    return {
        "mul": lambda a, b, v: (v * b, v * a),
        "matmul": lambda W, x, v: (np.outer(v, x), W.T @ v),
        "tanh": lambda x, v: v * (1 - np.tanh(x) ** 2),
        "relu": lambda x, v: v * (x > 0),
    }


def _use_vjps(answer: dict[str, Any], W: Array, x: Array, v: Array) -> dict[str, Any]:
    return {
        "mul": tuple(answer["mul"](x[: len(v)], 2 * v, v)),
        "matmul": tuple(answer["matmul"](W, x, v)),
        "tanh": answer["tanh"](x, x[::-1]),
        "relu": answer["relu"](x, x[::-1]),
    }


def _draw_linear(rng: Rng) -> tuple[Array, Array, Array]:
    return rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=4)


def _changed(**other: Any) -> dict[str, Any]:
    return vjps() | other


def _adjoint_identity(answer: Any, rng: Rng) -> str | None:
    W, x, v, u = rng.normal(size=(3, 5)), rng.normal(size=5), rng.normal(size=3), rng.normal(size=5)
    left = float(v @ (W @ u))
    right = float(answer["matmul"](W, x, v)[1] @ u)
    return None if abs(left - right) < 1e-9 else f"⟨v, Wu⟩ = {left:.4f} but ⟨VJP, u⟩ = {right:.4f}"


register(
    "B06.1",
    reference=vjps(),
    cases=(_draw_linear,),
    use=_use_vjps,
    properties=(_adjoint_identity,),
    points=2,
    wrong=(
        Wrong(
            "Wv instead of Wᵀv",
            _changed(matmul=lambda W, x, v: (np.outer(v, x), W @ v)),
            "going back turns the matrix round: Wᵀv; a square W hides the mistake from the shapes",
        ),
        Wrong(
            "outer product turned round",
            _changed(matmul=lambda W, x, v: (np.outer(x, v), W.T @ v)),
            "the derivative by W has W's shape: v xᵀ, rows from the output",
        ),
        Wrong(
            "tanh of the adjoint",
            _changed(tanh=lambda x, v: v * (1 - np.tanh(v) ** 2)),
            "the slope is taken where the forward pass was, at x; v only scales it",
        ),
        Wrong(
            "relu of the adjoint",
            _changed(relu=lambda x, v: np.maximum(v, 0)),
            "relu's VJP is linear in v: let v through where x was positive, whatever v's sign",
        ),
    ),
)


# B06.2: undo broadcasting


def _first_axes(v: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes that differ counted from the LEFT."""
    if len(shape) == v.ndim:
        return unbroadcast(v, shape)
    out = v.sum(axis=tuple(range(len(shape), v.ndim)))
    return out if out.shape == shape else np.zeros(shape)


def _draw_square(rng: Rng) -> tuple[Array, tuple[int, ...]]:
    n = int(rng.integers(3, 6))
    return rng.normal(size=(n, n)), (n,)


register(
    "B06.2",
    reference=unbroadcast,
    cases=(
        _draw_square,
        lambda rng: (rng.normal(size=(3, 4)), (3, 1)),
        lambda rng: (rng.normal(size=(3, 4)), ()),
        lambda rng: (rng.normal(size=(3, 4)), (3, 4)),
    ),
    wrong=(
        Wrong(
            "wrong axis",
            _first_axes,
            "a missing axis is the FIRST one: numpy lines shapes up on the right; on a square "
            "batch only the values tell",
        ),
        Wrong(
            "mean instead of sum",
            lambda v, shape: unbroadcast(v, shape) * (max(int(np.prod(shape)), 1) / v.size),
            "a value used n times collects n adjoints: they ADD",
        ),
        Wrong(
            "ones not seen",
            lambda v, shape: v if len(shape) == v.ndim else unbroadcast(v, shape),
            "an axis of length 1 was repeated too: sum over it and keep it (keepdims)",
        ),
    ),
)


# B06.3: an order without recursion


def reverse_order(parents: dict[str, tuple[str, ...]], output: str) -> list[str]:
    """Reference of B06.3: each node after all its consumers."""
    uses = {output: 0}
    stack = [output]
    while stack:
        for parent in parents.get(stack.pop(), ()):
            if parent not in uses:
                uses[parent] = 0
                stack.append(parent)
            uses[parent] += 1
    order, ready = [], [output]
    while ready:
        node = ready.pop()
        order.append(node)
        for parent in parents.get(node, ()):
            uses[parent] -= 1
            if uses[parent] == 0:
                ready.append(parent)
    return order


def _discovered(parents: dict[str, tuple[str, ...]], output: str) -> list[str]:
    queue = [output]
    for node in queue:
        queue += [p for p in dict.fromkeys(parents.get(node, ())) if p not in queue]
    return queue


def _recursive(parents: dict[str, tuple[str, ...]], output: str) -> list[str]:
    done: list[str] = []

    def visit(node: str) -> None:
        if node not in done:
            for parent in parents.get(node, ()):
                visit(parent)
            done.append(node)

    visit(output)
    return done[::-1]


DIAMOND = {"L": ("p", "u"), "p": ("u", "s"), "s": ("u",), "u": ("x", "x"), "x": ()}
CHAIN = {f"n{i}": (f"n{i + 1}",) for i in range(1500)} | {"n1500": ()}


def _use_order(answer: Any, parents: dict[str, tuple[str, ...]], output: str) -> dict[str, Any]:
    """What matters of an order: complete, without repeats, consumers first."""
    try:
        order = list(answer(parents, output))
    except RecursionError:  # its text depends on where the limit was met
        order = []
        deep = True
    else:
        deep = False
    place = {node: i for i, node in enumerate(order)}
    late = sum(place[p] <= place[n] for n in order for p in parents.get(n, ()) if p in place)
    return {
        "recursion limit": deep,
        "visits": len(order),
        "different nodes": len(place),
        "parents too early": late,
        "starts at the output": bool(order) and order[0] == output,
    }


register(
    "B06.3",
    reference=reverse_order,
    cases=((DIAMOND, "L"), (CHAIN, "n0")),
    use=_use_order,
    tolerance=EXACT,
    points=2,
    wrong=(
        Wrong(
            "first discovered",
            _discovered,
            "u is discovered from L, long before s has paid in: count its consumers and wait",
        ),
        Wrong(
            "recursion",
            _recursive,
            "right for small graphs, but 1500 nodes in a row exceed Python's recursion limit: keep "
            "a list of your own",
        ),
        Wrong(
            "inputs first",
            lambda parents, output: reverse_order(parents, output)[::-1],
            "this is the forward order: begin at the output",
        ),
    ),
)


# B06.4: gradient of a stack, on the tape


def gradient_norms(weights: list[Array], x: Array) -> list[float]:
    """Reference of B06.4: ‖∂ mean(y²)/∂W_i‖ of a sigmoid stack."""
    leaves = [Tensor(w) for w in weights]
    y = Tensor(x, constant=True)
    for leaf in leaves:
        y = (y @ leaf).sigmoid()
    found = backward((y * y).mean())
    return [float(np.linalg.norm(found[leaf])) for leaf in leaves]


def _stack_of(kind: str, weights: list[Array], x: Array) -> list[float]:
    leaves = [Tensor(w) for w in weights]
    y = Tensor(x, constant=True)
    for leaf in leaves:
        y = (y @ leaf).tanh() if kind == "tanh" else (y @ leaf).sigmoid()
    found = backward((y * y).sum() if kind == "sum" else (y * y).mean())
    return [float(np.linalg.norm(found[leaf])) for leaf in leaves]


def _draw_stack(rng: Rng) -> tuple[list[Array], Array]:
    return [rng.normal(size=(5, 5)) for _ in range(4)], rng.normal(size=(7, 5))


register(
    "B06.4",
    reference=gradient_norms,
    cases=(_draw_stack,),
    wrong=(
        Wrong(
            "last layer first",
            lambda weights, x: gradient_norms(weights, x)[::-1],
            "in the order of the layers: the first layer's norm comes first",
        ),
        Wrong(
            "sum instead of mean",
            lambda weights, x: _stack_of("sum", weights, x),
            "the loss is the MEAN of the squares",
        ),
        Wrong(
            "tanh",
            lambda weights, x: _stack_of("tanh", weights, x),
            "the activation is the sigmoid, whose slope is at most ¼",
        ),
    ),
)


# B06.5: how often to keep a checkpoint


def _stored(layers: int, every: int) -> tuple[int, int]:
    """Checkpoints kept, and the largest number of values alive while going back."""
    kept = int(np.ceil(layers / every))
    return kept, kept + every


def best_spacing(layers: int) -> int:
    """Reference of B06.5: spacing with the fewest values alive at once; ties: the smallest."""
    return min(range(1, layers + 1), key=lambda every: (_stored(layers, every)[1], every))


register(
    "B06.5",
    reference=best_spacing,
    cases=((100,), (24,), lambda rng: (int(rng.integers(40, 400)),)),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "fewest checkpoints",
            lambda layers: layers,
            "with one checkpoint the whole chain is alive again on the way back: count both",
        ),
        Wrong(
            "every layer",
            lambda layers: 1,
            "this keeps everything, as without checkpoints",
        ),
        Wrong(
            "half",
            lambda layers: layers // 2,
            "two checkpoints, but then half of the chain at once: balance n/k against k",
        ),
    ),
)
