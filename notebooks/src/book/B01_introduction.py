# %% [markdown]
# # B01 · Introduction: a map of the land
#
# *The book, chapter 1: Scardapane, "Alice's Adventures in a differentiable wonderland",
# arXiv 2404.17625.*
#
# Reading: 20 min. Exercises: 35 min. Prerequisites: none.
#
# **Goals**
# - Read $x \sim (B, T, D)$ as a shape, and predict the shape of an expression.
# - See five kinds of data as tensors.
# - Fit a scaling law, and find the place where it ends.

# %% tags=["setup"]
import labcore

lab = labcore.start("B01", seed=0)

# %%
import numpy as np
import torch

from labcore import assets
from labcore.book import data
from labcore.book.experiment import load_result

result = load_result()  # measurements that come with the lab
live = (
    assets.status("mnist") == "ready"
)  # cells marked *live* train again, if the pictures are here
print("live cells:", "on" if live else "off; ./lab fetch mnist")

# %% [markdown]
# ## Recap
#
# The book's one idea: a neural network is a program made of differentiable blocks, and the blocks fit the
# shape of the data. We write
#
# $$x \sim (B, T, D)$$
#
# for "x is a tensor with three axes": B examples, T tokens, D features. The other thing that chapter 1
# wants you to see is a *scaling law*: as a network gets more data, steps or parameters, its error $E$
# falls like a power of that number $n$,
#
# $$E(n) \approx c\, n^{-\alpha}, \qquad \log E = \log c - \alpha \log n ,$$
#
# a straight line on logarithmic axes.

# %% [markdown]
# **Mind the convention.** Axes are counted from 0, the batch comes first, features last, except for
# convolutions, where torch wants (batch, channels, rows, columns). $(4, 1) + (4)$ does not fail: shapes
# line up on the *right*, and axes of length 1 stretch.

# %% [markdown]
# ## 1 · Five kinds of data
#
# A **table**: rows and named columns. $x \sim (n, d)$.

# %%
birds = data.penguins()
print("table ", birds.x.shape, birds.features)
print("classes", np.unique(birds.y, return_counts=True)[1], birds.classes)

# %% [markdown]
# **Images**: rows and columns of pixels, perhaps with colours. $x \sim (n, H, W)$. Five of MNIST come with
# the lab.

# %%
pictures = result.arrays["b01/digits"]
print("images", pictures.shape, pictures.dtype)
for line in pictures[0][4:26:2, 4:26]:
    print("".join(" .:*#"[int(p) * 4 // 255] for p in line))

# %% [markdown]
# A **text**: a sequence of symbols, each a number. $x \sim (T)$, and one-hot $(T, V)$.
#
# **Predict.** How many different characters does *Alice in Wonderland* use? More or fewer than 100?

# %%
text = data.alice()
symbols = sorted(set(text))
ids = np.array([symbols.index(c) for c in text[:2000]])
onehot = np.eye(len(symbols))[ids]
begin = text.index("Alice was beginning")
print("text  ", ids.shape, "one-hot", onehot.shape, "|", " ".join(text[begin : begin + 48].split()))

# %% [markdown]
# A **graph**: who knows whom. $A \sim (N, N)$, zeros and ones. There is no first node: any order of rows
# and columns is the same graph.

# %%
A, club = data.karate()
order = np.random.default_rng(0).permutation(len(A))
shuffled = A[order][:, order]
assert sorted(A.sum(0)) == sorted(shuffled.sum(0))
print("graph ", A.shape, f"{A.sum() // 2} edges, degrees {A.sum(0).min()} to {A.sum(0).max()}")

# %% [markdown]
# A **series**: numbers in time, $x \sim (T, D)$. Here: words in each paragraph of the novel, and the share
# of them that are said aloud.

# %%
paragraphs = [p.split() for p in text.split("\n\n") if p.strip()]
series = np.array([[len(p), sum(w.startswith("`") for w in p)] for p in paragraphs], dtype=float)
print("series", series.shape, f"{series[:, 0].mean():.1f} words a paragraph on average")

# %% [markdown]
# ## 2 · Shapes
#
# **Predict.** `a` has shape (4, 1), `b` has shape (4). What is the shape of `a + b`?

# %%
a, b = np.arange(4)[:, None], 10 * np.arange(4)
print((a + b).shape)
print(a + b)

# %% [markdown]
# No error, and probably not what was meant: a prediction `(n, 1)` minus a target `(n)` gives `(n, n)`, the
# mean of its squares is a number, and training goes on.
#
# ## 3 · A scaling law
#
# A network with 128 hidden units, 600 steps of 64 pictures, MNIST. Only the number of *different*
# training pictures changes. **Live:** one of the runs again. The short loop and the library's must agree.

# %%
if live:
    from labcore.book.training import accuracy, mlp, mnist_tensors, train

    (x, y), (test_x, test_y) = mnist_tensors("train"), mnist_tensors("test")
    model = mlp((784, 128, 10), seed=0)
    order = torch.Generator().manual_seed(0)
    train(model, x[:300], y[:300], steps=600, lr=1e-3, batch=64, generator=order)
    with torch.no_grad():
        by_hand = (model(test_x[:2000]).argmax(1) == test_y[:2000]).double().mean().item()
    assert np.isclose(by_hand, accuracy(model, test_x[:2000], test_y[:2000]))
    print(f"300 pictures, live: error {1 - by_hand:.3f}")

# %%
errors = result.tables["b01/errors"]
for n in (100, 300, 1000, 3000, 10000, 30000):
    runs = [r["error"] for r in errors if r["n"] == n and r["steps"] == 600 and r["tested"] == 2000]
    print(f"{n:6d} pictures: error {np.mean(runs):.3f} ± {np.std(runs, ddof=1):.3f}")

# %% [markdown]
# Errors are those of the first 2000 test pictures, three seeds. All 10 000 give smaller ones (these 2000
# are the harder ones): a number without its test set means little.
#
# ## The line
#
# **Change** n. The dashed line is fitted to the *smaller* sizes only and drawn on to n. **Watch** the star,
# which is what was measured. Where does the prediction fail, and what do three times the steps change?

# %% tags=["centrepiece"]
from labcore.book.figures_b01 import scaling_figure


def law(n, longer, tested):
    return scaling_figure(errors, n, tested=tested, longer=longer)


lab.explore(law, n=[10000, 1000, 3000, 30000], longer=False, tested=[2000, 10000])

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# Scaling is a regularity, until another resource runs out. The first sizes lie on a line, and the line
# predicts the next. At the right end 600 steps of 64 pictures are 38 400 looks: most pictures are
# seen hardly once, and more of them cannot help. With three times the steps the error falls again.
#
# </details>

# %%
from labcore.book.b01 import slope

means = {}
for row in errors:
    if row["tested"] == 2000 and row["steps"] == 600:
        means.setdefault(row["n"], []).append(row["error"])
sizes = np.array([100, 300, 1000, 3000, 10000])
first = np.array([np.mean(means[n]) for n in sizes])
by_hand = np.polyfit(np.log(sizes), np.log(first), 1)[0]
assert np.isclose(by_hand, slope(sizes, first))
print(f"exponent over the first five sizes: {by_hand:.3f}")

# %% [markdown]
# ## Exercises
#
# ### B01.1 · Six shapes (10 min, difficulty 1)
#
# Write down the shape of each expression as a tuple, without running it. `a` (4, 1); `b` (4); `images`
# (60, 28, 28); `w` (5, 28, 28); `x` (60, 784); `W` (784, 10); `A` (34, 34); `index` (3).

# %% tags=["exercise:B01.1"]
# a dictionary called shapes, from the text of each expression to its shape:
# "a + b", "images.mean(0)", "images[:, None] * w", "x @ W", "x.sum(1, keepdims=True)", "A[index]"
# SOLUTION
shapes = {
    "a + b": (4, 4),
    "images.mean(0)": (28, 28),
    "images[:, None] * w": (60, 5, 28, 28),
    "x @ W": (60, 10),
    "x.sum(1, keepdims=True)": (60, 1),
    "A[index]": (3, 34),
}
# END SOLUTION

# %% tags=["check:B01.1"]
lab.check("B01.1", shapes)

# %% [markdown] tags=["hint:B01.1"]
# Write the shapes one under the other, lined up on the right. Missing axes count as 1.

# %% [markdown] tags=["solution-text:B01.1"]
# `images[:, None]` has shape (60, 1, 28, 28); against (1, 5, 28, 28) it stretches to (60, 5, 28, 28): every
# picture with every template.

# %% [markdown]
# ### B01.2 · The exponent (10 min, difficulty 2)
#
# Given sizes and errors, return the exponent of the power law that fits best (a negative number).


# %% tags=["exercise:B01.2"]
def exponent(sizes, errors):
    """Exponent of a power law."""
    # SOLUTION
    x, y = np.log(sizes), np.log(errors)
    x = x - x.mean()
    return (x @ y) / (x @ x)
    # END SOLUTION


# %% tags=["check:B01.2"]
lab.check("B01.2", exponent)

# %% [markdown] tags=["hint:B01.2"]
# On which axes is $E = c\,n^{-\alpha}$ a straight line?

# %% [markdown] tags=["hint:B01.2"]
# `np.polyfit(x, y, 1)[0]` is the slope of the best line.

# %% [markdown] tags=["solution-text:B01.2"]
# About −0.30 here: ten times the pictures halve the error. For large language models exponents near −0.1
# were reported; each halving then costs a thousand times the data.

# %% [markdown]
# ### B01.3 · What is missing? (15 min, difficulty 2)
#
# Three runs: the error `now`, with three times the data, with three times the steps. Return `"data"` or
# `"steps"`, whichever cuts the error more; `"neither"` if the better one cuts it by less than 5 % of itself.


# %% tags=["exercise:B01.3"]
def bottleneck(now, more_data, more_steps):
    """Name of the missing resource."""
    # SOLUTION
    if min(more_data, more_steps) > 0.95 * now:
        return "neither"
    return "data" if more_data < more_steps else "steps"
    # END SOLUTION


# %% tags=["check:B01.3"]
lab.check("B01.3", bottleneck)

# %% [markdown] tags=["hint:B01.3"]
# A cut of 5 % of itself: the new error is below 0.95 of the old one.

# %%
table = {(r["n"], r["steps"]): [] for r in errors if r["tested"] == 2000}
for r in errors:
    if r["tested"] == 2000:
        table[r["n"], r["steps"]].append(r["error"])
now, more_data, more_steps = (
    np.mean(table[key]) for key in ((10000, 600), (30000, 600), (10000, 1800))
)
print(
    f"at 10 000 pictures: now {now:.3f}, three times data {more_data:.3f}, steps {more_steps:.3f}"
)

# %% [markdown] tags=["solution-text:B01.3"]
# At 10 000 pictures it is the steps. From 300 to 1000 pictures, with the steps as they are, the error
# falls by nearly a third. A scaling law holds along one resource while the others suffice.

# %% [markdown]
# ## Where this goes
#
# **On:** B02 explains the steps, B05 the network; B09 makes it deep; P01 merges networks that were trained
# apart; P10 asks which parts of a large one an input needs.
#
# **Sources:** Hestness et al., *Deep learning scaling is predictable, empirically*, arXiv 1712.00409;
# Kaplan et al., arXiv 2001.08361; Hoffmann et al., arXiv 2203.15556.
#
# **Open question.** A line on log-log axes never ends, but errors cannot fall below the noise in the
# labels. How would you notice that you are there?
