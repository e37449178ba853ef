# %% [markdown]
# # B03 · Datasets and losses: what do we ask for?
#
# *The book, chapter 3: Scardapane, "Alice's Adventures in a differentiable wonderland",
# arXiv 2404.17625.*
#
# Reading: 25 min. Exercises: 60 min. Prerequisites: B02.
#
# **Goals**
# - See that a loss is an assumption about noise.
# - Tell the risk from the empirical risk, by a model that cheats.
# - Turn a likelihood into a loss, and a prior into a penalty.

# %% tags=["setup"]
import labcore

lab = labcore.start("B03", seed=0)

# %%
import numpy as np

from labcore.book import data
from labcore.book.experiment import load_result

birds = data.penguins()
flipper, mass = birds.x[:, 2], birds.x[:, 3]
result = load_result()  # measurements that come with the lab
print(data.source("penguins"))
print(f"{len(flipper)} flippers: mean {flipper.mean():.3f} mm, median {np.median(flipper):.0f} mm")

# %% [markdown]
# ## Recap
#
# We want a function with a small *risk*, the mean loss over all that may come; we only have the
# *empirical risk*, the mean loss over rows drawn independently from the same law:
#
# $$R(f) = \mathbb{E}\, \ell(y, f(x)) \;\approx\; \frac1n \sum_{i=1}^n \ell(y_i, f(x_i)).$$
#
# Where does ℓ come from? If $y = f(x) + \text{noise}$ and the noise has density $q$, the most likely $f$
# minimises the mean of
#
# $$\ell(y, f(x)) = -\log q\bigl(y - f(x)\bigr).$$
#
# Normal noise gives the squared loss, Laplace noise the absolute loss.

# %% [markdown]
# **Mind the convention.** Huber's loss is printed with a threshold of 1 and drawn with 1.5. Ours takes
# it as an argument: $\tfrac12 e^2$ up to $\lvert e \rvert = \delta$, then
# $\delta(\lvert e \rvert - \tfrac12 \delta)$. A loss of probabilities (the likelihood) has a unit: nats.

# %% [markdown]
# ## 1 · What does a loss ask for?
#
# The simplest model is one number for everybody. Which number is best under which loss? By gradient
# descent (B02), with the slope of each loss.

# %%
from labcore.blocks.losses import absolute, minimise_location, squared


def descend(slope, values, lr, steps):
    m = values[0]
    for _ in range(steps):
        m = m - lr * slope(m - values).mean()
    return m


by_squares = descend(lambda e: e, flipper, lr=0.5, steps=60)
by_sizes = descend(np.sign, flipper, lr=0.05, steps=4000)
assert np.isclose(by_squares, minimise_location(squared, flipper), atol=1e-3)
assert np.isclose(by_sizes, minimise_location(absolute, flipper), atol=0.1)
print(f"squared loss: {by_squares:.3f} mm; absolute loss: {by_sizes:.2f} mm")

# %% [markdown]
# The mean and the median. **Predict.** Somebody types one more flipper of 2000 mm. What happens to each?

# %%
spoiled = np.append(flipper, 2000.0)
for name, of in (("mean", np.mean), ("median", np.median)):
    print(f"{name:6s} {of(flipper):8.3f} -> {of(spoiled):8.3f} mm")

# %% [markdown]
# One value in 343 moves the mean by 5 mm and the median not at all. Neither is wrong: the mean believes
# every value, because under normal noise a far value is so improbable that it must be explained.
#
# ## 2 · Noise
#
# A loss is a negative logarithm. Exponentiate it, and it says how probable it holds an error of each
# size.

# %%
from labcore.blocks.losses import huber

e = np.linspace(-8, 8, 1601)
curves = {"squared": squared, "absolute": absolute, "Huber 1": lambda e: huber(e, delta=1.0)}
for name, loss in curves.items():
    density = np.exp(-loss(e))
    density /= density.sum() * (e[1] - e[0])
    beyond = density[np.abs(e) > 4].sum() * (e[1] - e[0])
    print(f"{name:9s} holds errors beyond 4 to have probability {beyond:.6f}")

# %% [markdown]
# ## One outlier
#
# **Change** the place of the outlier, then δ. **Watch** the three lines, and on the right the noise that
# each loss believes in (the vertical axis is logarithmic). Which line follows for ever?

# %% tags=["centrepiece"]
from labcore.book.figures_b03 import outlier_figure


def one_outlier(outlier, delta):
    return outlier_figure(result.arrays["b03/flippers"], outlier, delta)


lab.explore(one_outlier, outlier=(150.0, 400.0, 10.0), delta=(0.25, 4.0, 0.25))

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# A loss is a noise model. The squared loss believes in thin tails, so the outlier must be explained and
# drags the mean. The absolute loss has straight tails on the log scale: a value that is twice as far
# pulls no harder. Huber's loss is normal in the middle and Laplace outside; δ says where one ends and
# the other begins.
#
# </details>

# %% [markdown]
# ## 3 · A likelihood with two numbers
#
# Normal noise has a variance too. Learn it: minimise the negative log-likelihood in both.

# %%
from labcore.blocks.losses import gaussian_nll
from labcore.blocks.prob import mle_gaussian

mean, variance = mle_gaussian(mass)
by_hand = 0.5 * np.log(2 * np.pi * variance) + 0.5 * np.mean((mass - mean) ** 2) / variance
assert np.isclose(by_hand, gaussian_nll(mass, mean, variance))
print(f"body mass: variance {variance:.1f} g² (÷ n), {mass.var(ddof=1):.1f} g² (÷ (n-1))")
for factor in (0.5, 0.9, 1.0, 1.1, 2.0):
    print(f"variance x {factor:3}: {gaussian_nll(mass, mean, factor * variance):.5f} nats")

# %% [markdown]
# ## 4 · A model that cheats
#
# It keeps every training row and looks the answer up; to anything else it says one default value.
#
# **Predict.** Its risk on the training rows? On new ones?

# %%
from labcore.blocks.losses import lookup_table

train_rows, test_rows = (birds.take(i) for i in data.split_rows(len(birds.y), (242, 100), seed=0))
inputs, default = slice(0, 3), train_rows.x[:, 3].mean()
model = lookup_table(train_rows.x[:, inputs], train_rows.x[:, 3], default)
known = {
    tuple(row): target
    for row, target in zip(train_rows.x[:, inputs], train_rows.x[:, 3], strict=True)
}
said = np.array([known.get(tuple(row), default) for row in test_rows.x[:, inputs]])
assert np.array_equal(said, model(test_rows.x[:, inputs]))
for name, rows in (("train", train_rows), ("test", test_rows)):
    risk = np.mean(squared(rows.x[:, 3] - model(rows.x[:, inputs])))
    alone = np.mean(squared(rows.x[:, 3] - default))
    print(f"{name:5s} risk {risk:10.1f} g², of the default alone {alone:10.1f} g²")

# %% [markdown]
# Empirical risk zero, and it has learned nothing. No loss can see the difference; only rows that were
# not used can.
#
# **A slope that is flat.** Why not minimise the number of mistakes itself? Its gradient is zero almost
# everywhere:

# %%
rng = np.random.default_rng(0)
x, y = rng.normal(size=(200, 2)), rng.integers(0, 2, size=200)


def mistakes(w):
    return np.mean((x @ w > 0) != y)


flat = 0
for _ in range(1000):
    w, u = rng.normal(size=(2, 2))
    flat += mistakes(w + 1e-9 * u) == mistakes(w - 1e-9 * u)
print(f"slope of the 0/1 loss is exactly 0 at {flat} of 1000 random points")

# %% [markdown]
# ## Exercises
#
# ### B03.1 · Best constants (5 min, difficulty 1)
#
# Return the number that minimises the mean squared error to the values `y`, and the one that minimises
# the mean absolute error (their count is odd).


# %% tags=["exercise:B03.1"]
def best_constants(y):
    """Minimisers of the squared and of the absolute loss."""
    # SOLUTION
    return y.mean(), np.median(y)
    # END SOLUTION


# %% tags=["check:B03.1"]
lab.check("B03.1", best_constants)

# %% [markdown] tags=["hint:B03.1"]
# Set the derivative of each mean loss to zero.

# %% [markdown] tags=["solution-text:B03.1"]
# $\sum (m - y_i) = 0$ gives the mean; $\sum \operatorname{sign}(m - y_i) = 0$ gives the median.

# %% [markdown]
# ### B03.2 · The most likely normal law (15 min, difficulty 2)
#
# Return the most likely mean, the most likely variance, and the mean negative log-likelihood there, in
# nats, with all constants.


# %% tags=["exercise:B03.2"]
def fit_normal(y):
    """Mean, variance and loss of the best normal law."""
    # SOLUTION
    mean = y.mean()
    variance = np.mean((y - mean) ** 2)
    return mean, variance, 0.5 * (np.log(2 * np.pi * variance) + 1)
    # END SOLUTION


# %% tags=["check:B03.2"]
lab.check("B03.2", fit_normal)

# %% [markdown] tags=["hint:B03.2"]
# Differentiate $\tfrac12 \log 2\pi\sigma^2 + \tfrac{1}{2\sigma^2} \cdot \tfrac1n \sum (y_i - m)^2$ by
# $\sigma^2$.

# %% [markdown] tags=["solution-text:B03.2"]
# The second term is ½ at the optimum, so the loss is $\tfrac12 \log(2\pi e \sigma^2)$: the entropy of the
# fitted law. The variance divides by $n$; BA shows why that is a little too small.

# %% [markdown]
# ### B03.3 · The cheat, measured (10 min, difficulty 2)
#
# Learn pairs `x`, `y` by heart (one number each). Return the mean squared error on them, and on the pairs
# `new_x`, `new_y`; to unknown inputs say `default`. Some of the new inputs may be known.


# %% tags=["exercise:B03.3"]
def risks_of_memory(x, y, new_x, new_y, default):
    """Risk on the learned pairs and on new ones."""
    # SOLUTION
    known = {float(a): float(b) for a, b in zip(x, y, strict=True)}
    said = np.array([known.get(float(a), default) for a in new_x])
    again = np.array([known[float(a)] for a in x])
    return np.mean((y - again) ** 2), np.mean((new_y - said) ** 2)
    # END SOLUTION


# %% tags=["check:B03.3"]
lab.check("B03.3", risks_of_memory)

# %% [markdown] tags=["hint:B03.3"]
# A dictionary, and its method `get`.

# %% [markdown] tags=["solution-text:B03.3"]
# New rows that equal old ones make the cheat look better than it is. Duplicates between training and
# test set do exactly this to real benchmarks.

# %% [markdown]
# ### B03.4 · A prior is a penalty (15 min, difficulty 3)
#
# $y = Xw + \text{noise}$, the noise normal with deviation `noise`, and each weight normal around 0 with
# deviation `prior`. Return the most probable weights given the data.


# %% tags=["exercise:B03.4"]
def most_probable_weights(X, y, noise, prior):
    """Maximum a posteriori weights."""
    # SOLUTION
    penalty = (noise / prior) ** 2
    return np.linalg.solve(X.T @ X + penalty * np.eye(X.shape[1]), X.T @ y)
    # END SOLUTION


# %% tags=["check:B03.4"]
lab.check("B03.4", most_probable_weights)

# %% [markdown] tags=["hint:B03.4"]
# Posterior ∝ likelihood × prior. Take the negative logarithm: two squares, each over its variance.

# %% [markdown] tags=["hint:B03.4"]
# $\frac{1}{2\sigma^2} \lVert y - Xw \rVert^2 + \frac{1}{2\tau^2} \lVert w \rVert^2$; multiply by
# $\sigma^2$ and compare with ridge (B04).

# %% [markdown] tags=["solution-text:B03.4"]
# Ridge with $\lambda = \sigma^2/\tau^2$: noisy data or a confident prior, and the weights stay small.

# %% [markdown]
# ### B03.5 · Huber's loss and its slope (10 min, difficulty 2)
#
# For an array of errors return Huber's loss and its derivative by the error.


# %% tags=["exercise:B03.5"]
def huber_with_slope(e, delta):
    """Huber's loss and its derivative."""
    # SOLUTION
    size = np.abs(e)
    loss = np.where(size <= delta, 0.5 * e**2, delta * (size - 0.5 * delta))
    return loss, np.clip(e, -delta, delta)
    # END SOLUTION


# %% tags=["check:B03.5"]
lab.check("B03.5", huber_with_slope)

# %% [markdown] tags=["hint:B03.5"]
# Where parabola and line meet, value and slope must agree.

# %% [markdown] tags=["solution-text:B03.5"]
# The slope is the error, cut to $[-\delta, \delta]$: gradient clipping, seen from the other side.

# %% [markdown]
# ## Where this goes
#
# **Back:** the walk is from B02. **On:** B04 uses the cross-entropy, the loss of a coin or a die; BA has
# the divergence that maximum likelihood minimises; B09 meets the penalty again as weight decay.
#
# **Sources:** Huber, *Robust estimation of a location parameter*, 1964; Vapnik, *The nature of
# statistical learning theory*, 1995.
#
# **Open question.** A language model is trained with the cross-entropy of the next word. Which noise does
# that assume about a text somebody wrote?
