# %% [markdown]
# # B05 · Fully-connected models: bending the line
#
# *The book, chapter 5: Scardapane, "Alice's Adventures in a differentiable wonderland",
# arXiv 2404.17625.*
#
# Reading: 25 min. Exercises: 50 min. Prerequisites: B04.
#
# **Goals**
# - See why a stack of linear layers is one linear layer.
# - Know what the gradient of a mini-batch estimates.
# - Read activations and gates as formulas, and find units that have died.

# %% tags=["setup"]
import labcore

lab = labcore.start("B05", seed=0)

# %%
import numpy as np
import torch

from labcore.book import b05
from labcore.book.experiment import load_result

result = load_result()  # measurements that come with the lab
rng = np.random.default_rng(0)
print(
    "XOR:",
    dict(
        zip(map(tuple, b05.XOR_X.astype(int).tolist()), b05.XOR_Y.astype(int).tolist(), strict=True)
    ),
)

# %% [markdown]
# ## Recap
#
# A fully-connected layer maps $c$ features to $c'$, then bends each of them:
#
# $$h = \phi(x W + b), \qquad W \sim (c, c'), \; b \sim (c'),$$
#
# which takes $(c + 1)\, c'$ parameters. Without φ two layers are one, because
#
# $$(x W_1 + b_1) W_2 + b_2 = x\, (W_1 W_2) + (b_1 W_2 + b_2).$$
#
# Training looks at a few rows at a time: the mean gradient of a *mini-batch* drawn at random is an
# unbiased estimate of the gradient over all rows.

# %% [markdown]
# **Mind the convention.** The chapter prints $\tanh s = 2\sigma(s) - 1$. It is
# $\tanh s = 2\sigma(2s) - 1$: the printed form is off by up to 0.30 between −3 and 3. You will see it in
# the next cell.

# %%
s = torch.linspace(-3, 3, 601, dtype=torch.float64)
assert torch.allclose(torch.tanh(s), 2 * torch.sigmoid(2 * s) - 1)
gap = (torch.tanh(s) - (2 * torch.sigmoid(s) - 1)).abs().max()
print(f"largest gap of the printed form: {gap:.2f}")

# %% [markdown]
# ## 1 · XOR
#
# Four points; a line cannot part them.
#
# **Predict.** Least squares *must* answer something. Which weights does it choose, and which bias?

# %%
from labcore.blocks.linear import least_squares

with_ones = np.column_stack([b05.XOR_X, np.ones(4)])
line = least_squares(with_ones, b05.XOR_Y)
assert np.allclose(line, np.linalg.lstsq(with_ones, b05.XOR_Y, rcond=None)[0])
print("weights", line[:2].round(12), "bias", line[2].round(12))

# %% [markdown]
# "One half, whatever you ask." Two units with a bend are enough. Both add the inputs; the second one
# wakes up only when both are 1, and takes away twice as much.

# %%
hidden = np.maximum(b05.XOR_X @ np.array([[1, 1], [1, 1]]) + np.array([0, -1]), 0)
assert np.array_equal(hidden @ np.array([1, -2]), b05.XOR_Y)
assert np.array_equal(hidden @ np.array([1, -2]), b05.solve_by_hand(b05.XOR_X))
print("hidden layer:", hidden.tolist())
print("output:", (hidden @ np.array([1, -2])).tolist())

# %% [markdown]
# The numbers exist. **Predict.** Of 50 networks with four units, trained from 50 random starts, how many
# find such numbers? Here are five of them live; the committed run did fifty.

# %%
x, y = torch.tensor(b05.XOR_X).float(), torch.tensor(b05.XOR_Y).float()
for seed in range(5):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(300):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    said = (model(x)[:, 0] > 0).int().tolist()
    print(f"seed {seed}: {said}, loss {loss.item():.4f}")
for row in result.tables["b05/numbers"]:
    if "solve XOR" in row["what"]:
        print(f"{row['what']}: {row['measured']:.0f}")

# %% [markdown]
# A third of the starts fails: some units are off on all four points, and no gradient reaches them. More
# units than necessary make it likelier that enough of them stay alive.
#
# ## 2 · Mini-batches
#
# **Predict.** An epoch goes through 100 rows in batches of 32. Is the mean of the four gradients the full
# gradient?

# %%
X, t, w = rng.normal(size=(100, 3)), rng.normal(size=100), rng.normal(size=3)


def gradient(rows):
    return X[rows].T @ (X[rows] @ w - t[rows]) / len(rows)


order = rng.permutation(100)
batches = [order[i : i + 32] for i in range(0, 100, 32)]
sizes = np.array([len(b) for b in batches])
parts = np.stack([gradient(b) for b in batches])
full = gradient(order)
assert np.allclose(sizes @ parts / sizes.sum(), full)
print("batches of", sizes, "rows")
print(f"unweighted mean is off by {np.abs(parts.mean(0) - full).max():.4f}, weighted by 0")

# %% [markdown]
# One batch alone is a noisy estimate. Its error falls like one over the root of its size (BA):

# %%
for size in (4, 16, 64):
    draws = [gradient(rng.choice(100, size, replace=False)) - full for _ in range(2000)]
    print(f"batches of {size:2d}: error {np.sqrt(np.mean(np.square(draws))):.3f}")

# %% [markdown]
# ## 3 · Activations and gates
#
# A gate multiplies what one half of a layer says by how far the other half is open. With
# $\operatorname{silu}(s) = s\,\sigma(s)$,
#
# $$\operatorname{SwiGLU}(x) = \bigl(\operatorname{silu}(xW) \odot xV\bigr)\, W_o .$$
#
# The language models of P06 use it in every block.

# %%
inputs, W, V = (torch.randn(n, m, generator=lab.generator) for n, m in ((2, 3), (3, 5), (3, 5)))
gate = torch.nn.functional.silu(inputs @ W)
by_hand = (inputs @ W) * torch.sigmoid(inputs @ W)
assert torch.allclose(gate, by_hand)
print("gate:", gate[0].numpy().round(2))
print("let through:", (gate * (inputs @ V))[0].numpy().round(2))

# %% [markdown]
# ## The playground
#
# All networks are trained beforehand; choose. **Change** the activation first (identity!), then width and
# depth, then the seed. **Watch** the border between the colours. What does depth buy without a bend?
# (A batch of 0 means all rows at once.)

# %% tags=["centrepiece"]
from labcore.book.figures_b05 import playground_figure


def playground(width, depth, activation, name, batch, seed):
    points = [result.arrays[f"b05/{name}_{part}"] for part in ("x", "y")]
    answers, accuracy = result.arrays["b05/answers"], result.arrays["b05/accuracy"]
    settings = {"width": width, "depth": depth, "activation": activation, "batch": batch}
    return playground_figure(answers, accuracy, *points, name=name, seed=seed, **settings)


lab.explore(
    playground,
    width=[4, 2, 16],
    depth=[1, 0, 2, 3],
    activation=["relu", "identity", "tanh"],
    name=["xor", "digits"],
    batch=[0, 16],
    seed=[0, 1, 2],
)

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# Nonlinearity, not depth alone, buys expressiveness. Three layers of 16 units without activation draw the
# same straight border as no hidden layer at all. Each ReLU is one more fold; with more of them the
# regions fold more finely. Two units are enough, and yet none of the three networks with two solves XOR:
# to be able to is not to find.
#
# </details>

# %%
for row in result.tables["b05/numbers"]:
    if row["spread"] is not None:
        print(f"{row['what']:58s} {row['measured']:.3f} ± {row['spread']:.3f}")

# %% [markdown]
# ## Exercises
#
# ### B05.1 · Two layers are one (10 min, difficulty 1)
#
# Return the one layer `(W, b)` that does what two linear layers do: $xW + b = (xW_1 + b_1)W_2 + b_2$.


# %% tags=["exercise:B05.1"]
def collapse(W1, b1, W2, b2):
    """One layer instead of two."""
    # SOLUTION
    return W1 @ W2, b1 @ W2 + b2
    # END SOLUTION


# %% tags=["check:B05.1"]
lab.check("B05.1", collapse)

# %% [markdown] tags=["hint:B05.1"]
# Multiply out, and keep the order of the factors.

# %% [markdown] tags=["solution-text:B05.1"]
# The converse is used too: P01 and low-rank adapters *split* one matrix into a product of two thin ones,
# to make it cheaper, not stronger.

# %% [markdown]
# ### B05.2 · One epoch (10 min, difficulty 2)
#
# `gradients` holds the mean gradient of each batch, `(batches, d)`; `sizes` their numbers of rows. Return
# the gradient of the mean loss over all rows.


# %% tags=["exercise:B05.2"]
def epoch_gradient(gradients, sizes):
    """Gradient over all rows."""
    # SOLUTION
    return (gradients * sizes[:, None]).sum(axis=0) / sizes.sum()
    # END SOLUTION


# %% tags=["check:B05.2"]
lab.check("B05.2", epoch_gradient)

# %% [markdown] tags=["hint:B05.2"]
# What is the SUM of the gradients of the rows of one batch?

# %% [markdown] tags=["solution-text:B05.2"]
# The same slip is made with losses and accuracies: the mean over batches of the batch accuracy is not the
# accuracy, unless all batches are equally long.

# %% [markdown]
# ### B05.3 · How many numbers? (5 min, difficulty 1)
#
# Count the parameters of a fully-connected network with layer sizes such as `(784, 128, 10)`.


# %% tags=["exercise:B05.3"]
def parameters(sizes):
    """Number of weights and biases."""
    # SOLUTION
    return sum((c + 1) * d for c, d in zip(sizes[:-1], sizes[1:], strict=True))
    # END SOLUTION


# %% tags=["check:B05.3"]
lab.check("B05.3", parameters)

# %% [markdown] tags=["hint:B05.3"]
# $(c + 1)\,c'$ for each pair of neighbours.

# %% [markdown] tags=["solution-text:B05.3"]
# `(784, 128, 10)` has 101 770, nearly all in the first layer: a reason for chapter 7.

# %% [markdown]
# ### B05.4 · SwiGLU (10 min, difficulty 2)
#
# Write it for rows `x`: the gate from `W`, the values from `V`, then the output matrix. No biases.


# %% tags=["exercise:B05.4"]
def swiglu(x, W, V, out):
    """Gated layer of current language models."""
    # SOLUTION
    gate = x @ W
    gate = gate / (1 + np.exp(-gate))
    return (gate * (x @ V)) @ out
    # END SOLUTION


# %% tags=["check:B05.4"]
lab.check("B05.4", swiglu)

# %% [markdown] tags=["hint:B05.4"]
# $s\,\sigma(s) = s / (1 + e^{-s})$.

# %% [markdown] tags=["solution-text:B05.4"]
# Three matrices instead of two; models that use it make the hidden layer two thirds as wide, so that the
# number of parameters stays.

# %% [markdown]
# ### B05.5 · The dead (10 min, difficulty 2)
#
# Return the indices of the units of $\operatorname{relu}(XW + b)$ that are zero on *every* row of `X`.


# %% tags=["exercise:B05.5"]
def dead_units(X, W, b):
    """Indices of units that never fire."""
    # SOLUTION
    fires = (X @ W + b > 0).any(axis=0)
    return np.flatnonzero(~fires)
    # END SOLUTION


# %% tags=["check:B05.5"]
lab.check("B05.5", dead_units)

# %% [markdown] tags=["hint:B05.5"]
# A table of rows by units, true where a unit fires; then a question about its columns.

# %% [markdown] tags=["solution-text:B05.5"]
# Its gradient is zero on every row, so no step can revive it. A slope below zero (leaky ReLU) or a
# normalisation in front (B09) prevents this.

# %% [markdown]
# ## Where this goes
#
# **Back:** the linear model is B04. **On:** B06 computes the gradients; B07 uses far fewer numbers;
# BB counts bumps; P10 makes gates that switch whole parts of a network off.
#
# **Sources:** Minsky and Papert, *Perceptrons*, 1969; Shazeer, *GLU variants improve transformer*,
# arXiv 2002.05202.
#
# **Open question.** A network with four units fails on a third of the starts, one with sixteen on
# none that we tried. Is a large network better because it *can* do more, or because it *finds* more?
