# %% [markdown]
# # B06 · Automatic differentiation: building the machine
#
# *The book, chapter 6: Scardapane, "Alice's Adventures in a differentiable wonderland",
# arXiv 2404.17625.*
#
# Reading: 35 min. Exercises: 80 min. Prerequisites: B05.
#
# **Goals**
# - Write the vector-Jacobian product of a primitive, and test it without knowing the answer.
# - Visit a graph in an order in which one visit each is enough.
# - Know what reverse mode costs in memory, and how to pay less.

# %% tags=["setup"]
import labcore

lab = labcore.start("B06", seed=0)

# %%
import numpy as np

from labcore.book import data
from labcore.book.experiment import load_result

result = load_result()  # measurements that come with the lab
rng = np.random.default_rng(0)

# %% [markdown]
# ## Recap
#
# A program is a chain of primitives. Each has a Jacobian $\partial f(x)$, which is far too large to write
# down. Two products with it are cheap:
#
# $$\underbrace{\partial f(x)[u]}_{\text{JVP, forward}} \qquad
# \underbrace{\partial f(x)^*[v]}_{\text{VJP, reverse}} \qquad
# \langle v, \partial f(x)[u] \rangle = \langle \partial f(x)^*[v], u \rangle .$$
#
# *Forward mode* pushes a direction $u$ from the inputs; one pass a direction. *Reverse mode* pulls $v$
# back from the output; one pass gives the whole gradient, but the values of the forward pass must be
# kept until then. For $y = Wx$: the VJP is $W^\top v$ for $x$ and $v x^\top$ for $W$.

# %% [markdown]
# **Mind the convention.** The chapter prints the input VJP of $Wx$ as $v^\top W^\top$ and names the JVP
# function where a VJP is meant. We write $W^\top v$, a column; in frameworks the functions are
# `torch.func.vjp` and `jax.vjp`.

# %% [markdown]
# ## 1 · A tape
#
# Every operation of a `Tensor` makes a node that remembers its parents. Here is the smallest machine of
# this kind: scalars, two primitives, recursion. It visits *paths*.

# %%
from labcore.blocks.autodiff import Tensor, backward


class Scalar:
    def __init__(self, value, parents=()):
        self.value, self.parents, self.grad = value, parents, 0.0

    def __add__(self, other):
        return Scalar(self.value + other.value, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other):
        return Scalar(self.value * other.value, ((self, other.value), (other, self.value)))

    def back(self, v=1.0):
        self.grad += v
        for parent, slope in self.parents:
            parent.back(v * slope)


x, t = Scalar(1.5), Tensor(1.5)
(x * x * x + x).back()
assert np.isclose(x.grad, backward(t * t * t + t)[t])
print("d(x³ + x)/dx at 1.5:", x.grad)

# %% [markdown]
# **Predict.** Double a number 12 times by `y = y + y`, then call `back`. How many calls does the small
# machine make? How many does the library's `backward`, which waits until all consumers of a node have
# paid in?

# %%
from labcore.blocks.autodiff import trace

calls = 0


class Counted(Scalar):
    def back(self, v=1.0):
        global calls
        calls += 1
        super().back(v)

    def __add__(self, other):
        return Counted(self.value + other.value, ((self, 1.0), (other, 1.0)))


y, node = Counted(1.0), Tensor(1.0)
for _ in range(12):
    y, node = y + y, node + node
y.back()
visits = trace(node)
print(f"paths: {calls} calls; nodes: {len(visits)}, {sum(bool(v.sent) for v in visits)} VJP calls")

# %% [markdown]
# ## 2 · Is a VJP right?
#
# The identity in the recap needs no known answer: draw $u$ and $v$, push one, pull the other, compare.
# Forward mode is in the library too.

# %%
from labcore.blocks.autodiff import jvp


def f(x):
    return ((x @ W).tanh() * 2.0 + x.sin() @ W).sigmoid()


W, point = rng.normal(size=(3, 3)), rng.normal(size=(2, 3))
u, v = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
leaf = Tensor(point)
pulled = backward(f(leaf), v)[leaf]
value, pushed = jvp(f, point, u)
assert np.isclose(np.sum(v * pushed), np.sum(pulled * u))
print(f"⟨v, ∂f[u]⟩ = {np.sum(v * pushed):.12f}")
print(f"⟨∂f*[v], u⟩ = {np.sum(pulled * u):.12f}")

# %% [markdown]
# This is the graph that both passes walked, one forwards, one backwards. A node shows its shape.

# %%
from labcore.book.figures_b06 import draw

leaf.name = "x"
lab.show(draw(f(leaf).sum()))

# %% [markdown]
# ## The backward pass, step by step
#
# The graph of $L = u \sin u + u$ with $u = x^2$ at $x = 1.5$.
#
# **Change** the number of visits, then the order. **Watch** the adjoints under the nodes. In the wrong
# order, which payment comes too late, and what is $dL/dx$ then?

# %% tags=["centrepiece"]
from labcore.book.figures_b06 import backward_figure

lab.explore(backward_figure, step=(0, 5), order=["consumers first", "first discovered"])

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# A node may fire only after all its consumers. $u$ has three: the sum, the product and the sine. In the
# order of first discovery it fires after two of them, and the sine's share never reaches $x$: 5.334
# instead of 1.094. With the right order each node fires once, whatever the number of paths.
#
# </details>

# %%
x = Tensor(1.5)
u = x * x
L = u * u.sin() + u
print(f"L = {float(L.value):.6f}, dL/dx = {float(backward(L)[x]):.6f}")
for row in result.tables["b06/numbers"]:
    print(f"{row['what']:48s} {row['measured']:.6g}")

# %% [markdown]
# ## 3 · A classifier on our own machine
#
# The penguins of B04 and a 4-8-3 network. The loss is built from primitives; the committed run trained
# torch beside it, step by step.
#
# **Predict.** How far apart are the two losses after 200 steps?

# %%
from labcore.book.b06 import LR, cross_entropy, start_weights, train_on_tape

train_rows, validation_rows, _ = data.course_split(data.penguins())
weights = start_weights(seed=0)
losses = []
for _ in range(200):
    leaves = [Tensor(w) for w in weights]
    hidden = (train_rows.x @ leaves[0] + leaves[1]).tanh()
    loss = cross_entropy(hidden @ leaves[2] + leaves[3], train_rows.y)
    found = backward(loss)
    weights = [w - LR * found[leaf] for w, leaf in zip(weights, leaves, strict=True)]
    losses.append(float(loss.value))
assert np.allclose(losses, train_on_tape(train_rows.x, train_rows.y, seed=0, steps=200))
assert np.allclose(losses, result.arrays["b06/losses"], atol=1e-6)
logits = np.tanh(validation_rows.x @ weights[0] + weights[1]) @ weights[2] + weights[3]
right = np.sum(logits.argmax(axis=1) == validation_rows.y)
print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}; validation {right} of {len(validation_rows.y)}")

# %% [markdown]
# The largest gap to torch over all steps is in the table above: the last bits. Whoever knows eight
# primitives can train a network.
#
# ## 4 · Memory
#
# Reverse mode keeps every value of the forward pass. A *checkpoint* keeps only the input of a block and
# runs the block again on the way back.

# %%
from labcore.blocks.autodiff import checkpoint, stored_values


def block(x):
    for _ in range(4):
        x = (x * 0.9).tanh()
    return x


gradients = []
for name, step in (("plain", block), ("checkpointed", checkpoint(block))):
    leaf = Tensor(np.linspace(-1, 1, 100))
    out = leaf
    for _ in range(6):
        out = step(out)
    out = out.sum()
    gradients.append(backward(out)[leaf])
    print(f"{name:13s} {stored_values(out):5d} numbers stored")
assert np.allclose(*gradients)

# %% [markdown]
# ## Exercises
#
# ### B06.1 · Four VJPs (20 min, difficulty 2)
#
# Fill the dictionary. `mul` and `matmul` get both inputs and $v$ and return a pair; `tanh` and `relu` get
# $x$ and $v$. For `matmul`, $y = Wx$ with a matrix and a vector.

# %% tags=["exercise:B06.1"]
# a dictionary called vjps with the keys mul, matmul, tanh, relu
# SOLUTION
vjps = {
    "mul": lambda a, b, v: (v * b, v * a),
    "matmul": lambda W, x, v: (np.outer(v, x), W.T @ v),
    "tanh": lambda x, v: v * (1 - np.tanh(x) ** 2),
    "relu": lambda x, v: v * (x > 0),
}
# END SOLUTION

# %% tags=["check:B06.1"]
lab.check("B06.1", vjps)

# %% [markdown] tags=["hint:B06.1"]
# Each result has the shape of the input it belongs to.

# %% [markdown] tags=["hint:B06.1"]
# Every VJP is linear in $v$: doubling $v$ doubles it. Check yours for that.

# %% [markdown] tags=["solution-text:B06.1"]
# On a square matrix $Wv$ and $W^\top v$ have the same shape: only the values, or the identity of the
# recap, tell them apart.

# %% [markdown]
# ### B06.2 · Undo the broadcasting (15 min, difficulty 2)
#
# A value of shape `shape` was broadcast to the shape of `v` in the forward pass. Return the adjoint with
# the value's own shape.


# %% tags=["exercise:B06.2"]
def unbroadcast(v, shape):
    """Adjoint of a value that was broadcast."""
    # SOLUTION
    while v.ndim > len(shape):
        v = v.sum(axis=0)
    for axis, n in enumerate(shape):
        if n == 1:
            v = v.sum(axis=axis, keepdims=True)
    return v
    # END SOLUTION


# %% tags=["check:B06.2"]
lab.check("B06.2", unbroadcast)

# %% [markdown] tags=["hint:B06.2"]
# To use a value $n$ times is to copy it $n$ times; the VJP of a copy is a sum.

# %% [markdown] tags=["hint:B06.2"]
# First sum away the axes that `shape` does not have (they are on the left), then those of length 1.

# %% [markdown] tags=["solution-text:B06.2"]
# A bias is the everyday case: `(n, d) + (d,)`. With $n = d$ the sum over the wrong axis has the right
# shape, and the training goes on, badly.

# %% [markdown]
# ### B06.3 · The order (20 min, difficulty 3)
#
# `parents[node]` is the tuple of a node's parents (a parent may appear twice). Return all nodes that
# `output` depends on, itself first, each after all its consumers. A chain of 1500 nodes must work.


# %% tags=["exercise:B06.3"]
def reverse_order(parents, output):
    """Nodes, consumers first."""
    # SOLUTION
    uses, stack = {output: 0}, [output]
    while stack:
        for parent in parents[stack.pop()]:
            if parent not in uses:
                uses[parent] = 0
                stack.append(parent)
            uses[parent] += 1
    order, ready = [], [output]
    while ready:
        node = ready.pop()
        order.append(node)
        for parent in parents[node]:
            uses[parent] -= 1
            if uses[parent] == 0:
                ready.append(parent)
    return order
    # END SOLUTION


# %% tags=["check:B06.3"]
lab.check("B06.3", reverse_order)

# %% [markdown] tags=["hint:B06.3"]
# First count, for every node, how often it is used. Then release a node when its last user has gone.

# %% [markdown] tags=["hint:B06.3"]
# Two loops over a list that you use as a stack; no function calls itself.

# %% [markdown] tags=["solution-text:B06.3"]
# Kahn's algorithm, 1962. Any order that it gives is right; there are many.

# %% [markdown]
# ### B06.4 · Where gradients die (15 min, difficulty 2)
#
# With `Tensor`: $y_0 = x$ (constant), $y_i = \sigma(y_{i-1} W_i)$, loss = mean of the squares of the last
# $y$. Return the norm of the gradient by each $W_i$, first layer first.


# %% tags=["exercise:B06.4"]
def gradient_norms(weights, x):
    """Norms of the gradients of a sigmoid stack."""
    # SOLUTION
    leaves = [Tensor(w) for w in weights]
    y = Tensor(x, constant=True)
    for leaf in leaves:
        y = (y @ leaf).sigmoid()
    found = backward((y * y).mean())
    return [np.linalg.norm(found[leaf]) for leaf in leaves]
    # END SOLUTION


# %% tags=["check:B06.4"]
lab.check("B06.4", gradient_norms)

# %% [markdown] tags=["hint:B06.4"]
# Keep the leaves in a list: `backward` returns a dictionary with the nodes as keys.

# %% [markdown] tags=["solution-text:B06.4"]
# The slope of σ is at most ¼, so 20 layers shrink the gradient by $4^{20}$ or so: measured, first over
# last is $4^{-21.8}$. B09 mends it.

# %% [markdown]
# ### B06.5 · How many checkpoints? (10 min, difficulty 3)
#
# A chain of `layers` equal layers keeps one value each. With a checkpoint every $k$ layers it keeps
# $\lceil n/k \rceil$ values, and while going back, $k$ more for the block that runs again. Return the $k$
# with the smallest sum (the smaller one of two equals).


# %% tags=["exercise:B06.5"]
def best_spacing(layers):
    """Layers between two checkpoints."""
    # SOLUTION
    return min(range(1, layers + 1), key=lambda k: (-(-layers // k) + k, k))
    # END SOLUTION


# %% tags=["check:B06.5"]
lab.check("B06.5", best_spacing)

# %% [markdown] tags=["hint:B06.5"]
# Draw $n/k + k$ over $k$, or differentiate it.

# %% [markdown] tags=["solution-text:B06.5"]
# About $\sqrt n$: memory grows like the root of the depth, for one more forward pass.

# %% [markdown]
# ## Where this goes
#
# **Back:** the networks are from B05, the gradient by hand from B02. **On:** B09 keeps gradients alive;
# P05 skips VJPs of layers that are frozen; P01 looks at the weights that all these steps have changed.
#
# **Sources:** Baydin et al., *Automatic differentiation in machine learning: a survey*, arXiv 1502.05767;
# Griewank and Walther, *Evaluating derivatives*, 2008.
#
# **Open question.** Forward mode needs no memory, but one pass a direction. Could a network be trained
# with a few random directions a step?
