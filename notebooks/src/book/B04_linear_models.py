# %% [markdown]
# # B04 · Linear models: straight lines, honest probabilities
#
# *The book, chapter 4: Scardapane, "Alice's Adventures in a differentiable wonderland",
# arXiv 2404.17625.*
#
# Reading: 30 min. Exercises: 60 min. Prerequisites: B03.
#
# **Goals**
# - Solve least squares in two ways.
# - Train softmax regression from zeros, and know the first loss before it is printed.
# - Tell accuracy from calibration, and turn probabilities into sets that keep a promise.

# %% tags=["setup"]
import labcore

lab = labcore.start("B04", seed=0)

# %%
import numpy as np

from labcore.book import data
from labcore.book.experiment import load_result

birds = data.penguins()
result = load_result()  # measurements that come with the lab
print(data.source("penguins"))
print(f"{len(birds.y)} birds, {len(birds.features)} measures: {', '.join(birds.features)}")

# %% [markdown]
# ## Recap
#
# A linear model is $\hat y = Xw + b$ with $X \sim (n, d)$. *Least squares* minimises
# $\tfrac12 \lVert y - Xw \rVert^2$; setting its gradient to zero gives the normal equations
#
# $$X^\top X\, w = X^\top y .$$
#
# *Ridge* adds $\tfrac12 \lambda \lVert w \rVert^2$ and the matrix becomes $X^\top X + \lambda I$.
#
# For $C$ classes the model gives logits $z \sim (n, C)$, the softmax turns each row into probabilities
#
# $$p_c = \frac{\exp(z_c / \tau)}{\sum_j \exp(z_j / \tau)},$$
#
# and the loss is the mean *cross-entropy* $-\log p_y = \operatorname{logsumexp}(z) - z_y$.

# %% [markdown]
# **Mind the convention.** The closed form $X^\top X + \lambda I$ belongs to a loss that *sums* over the
# rows with a factor ½. With a mean loss $\tfrac1n\lVert y - Xw\rVert^2$ the matrix is
# $X^\top X + \tfrac{n\lambda}{2} I$: the same λ then means something else. Exercise 3 is about this.
#
# The conformal threshold of section 4.3 is the *largest* γ that keeps the coverage.

# %% [markdown]
# ## 1 · A line, two ways
#
# How heavy is a penguin with flippers of a given length? First by the normal equations, in one line;
# then the library's `least_squares`, which also takes λ and refuses what does not fit.

# %%
from labcore.blocks.linear import least_squares

flipper, mass = birds.x[:, 2], birds.x[:, 3]
X = np.column_stack([flipper, np.ones(len(mass))])  # (n, 2): the second column is the bias
by_hand = np.linalg.solve(X.T @ X, X.T @ mass)
slope, bias = least_squares(X, mass)
assert np.allclose(by_hand, [slope, bias])
rest = mass - slope * flipper - bias
print(f"{slope:.4f} g a millimetre, bias {bias:.3f} g")
print(f"variance of the rest {np.mean(rest**2):.1f} g², R² {1 - rest.var() / mass.var():.4f}")

# %% [markdown]
# The second way walks: gradient descent on the same loss.
#
# **Predict.** We standardise the flippers first. What would happen to the walk if we did not?

# %%
x = (flipper - flipper.mean()) / flipper.std()
Z = np.column_stack([x, np.ones(len(x))])
w = np.zeros(2)
for _ in range(200):
    w = w - 0.1 * Z.T @ (Z @ w - mass) / len(mass)
assert np.allclose(w, least_squares(Z, mass), rtol=1e-6)
raw, scaled = (np.linalg.cond(A.T @ A) for A in (X, Z))
print(f"slope {w[0] / flipper.std():.4f}; condition number {raw:.1e} raw, {scaled:.1f} scaled")

# %% [markdown]
# Raw, one direction of the valley is millions of times steeper than the other: a step
# that is safe for the steep one takes for ever along the flat one (B02 makes this exact).
#
# ## 2 · Softmax
#
# Five lines, and a trap: `exp(1000)` is infinite. The softmax does not change when a number is
# subtracted from the whole row, so subtract the largest.

# %%
from labcore.blocks.linear import logsumexp, softmax


def softmax_by_hand(z):
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


rng = np.random.default_rng(0)
z = rng.normal(size=(5, 3)) * 300
assert np.allclose(softmax_by_hand(z), softmax(z))
p = np.exp(z - logsumexp(z)[:, None])  # the same through the log-sum-exp
assert np.allclose(p, softmax(z))
print(softmax(z).round(3))

# %% [markdown]
# ## 3 · Three species
#
# Four measures, three species, full batches, 200 steps, all weights zero at first. Training,
# validation and test rows are those of the author's 2026 course (205, 68, 69).
#
# **Predict.** All logits are zero before the first step. What is the loss, without running anything?

# %%
from labcore.blocks.linear import fit_logistic

train_rows, validation_rows, test_rows = data.course_split(birds)


def right(rows, W, b):
    return int(((rows.x @ W + b).argmax(axis=1) == rows.y).sum())


for lr in (0.01, 0.1, 1.0, 10.0):
    W, b, history = fit_logistic(train_rows.x, train_rows.y, classes=3, lr=lr, steps=200)
    counts = [right(rows, W, b) for rows in (train_rows, validation_rows, test_rows)]
    print(f"lr {lr:5}: loss {history.loss[0]:.6f} -> {history.loss[-1]:.5f}, right {counts}")
majority = np.bincount(test_rows.y).max()
print(f"always {birds.classes[0]}: {majority} of {len(test_rows.y)} on the test rows")

# %% [markdown]
# The first loss is $\ln 3$: three classes, nothing known. The learning rate is chosen on the
# *validation* rows (10 wins, 68 of 68); the test rows are looked at once, and there 0.1 and 10 are
# equally good. Differences of one bird in 69 mean nothing.
#
# ## 4 · Do the probabilities mean anything?
#
# A forecast is *calibrated* if, of all cases called 80 % sure, 80 % come true. Group the predictions
# by confidence, compare confidence and share right in each group, and average the gaps, weighted by
# the size of the group: the *expected calibration error*.

# %%
from labcore.blocks.calibration import ece, reliability

logits, labels = (result.arrays[f"b04/{name}"] for name in ("digit_logits", "digit_labels"))
labels = labels.astype(int)
probs = softmax(logits)
found = reliability(probs, labels, bins=10)
gaps = np.abs(found.accuracy - found.confidence)[found.count > 0]
by_hand = found.count[found.count > 0] @ gaps / len(labels)
assert np.isclose(by_hand, ece(probs, labels, bins=10))
accuracy = (probs.argmax(1) == labels).mean()
print(f"{len(labels)} held-out digits: accuracy {accuracy:.3f}, ECE {by_hand:.4f}")

# %% [markdown]
# ## One knob
#
# **Change** τ, the temperature of the softmax. **Watch** the penguins on the triangle, the bars
# against the diagonal, and the three numbers in the title. Which of them never moves? Where is the
# ECE smallest?

# %% tags=["centrepiece"]
from labcore.book.figures_b04 import temperature_figure


def at_temperature(temperature, bins):
    names = ("penguin_logits", "penguin_species", "digit_logits", "digit_labels")
    arrays = [result.arrays[f"b04/{name}"] for name in names]
    return temperature_figure(*arrays, temperature=temperature, bins=bins)


lab.explore(at_temperature, temperature=(0.1, 3.0, 0.1), bins=(5, 20, 5))

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# The accuracy stays: dividing all logits of a row by τ > 0 keeps their order. Confidence and ECE
# move together with τ. This classifier is too modest at τ = 1 (its bars stand above the diagonal) and
# is most honest near 0.7; large networks usually err on the other side. Accuracy and calibration are
# different things, and one number mends the second.
#
# </details>

# %% [markdown]
# The temperature must be fitted on rows that are not reported. And sets: instead of one class, give
# every class whose probability is at least γ, with γ chosen on the same calibration rows.

# %%
from labcore.blocks.calibration import conformal_threshold, fit_temperature, predict_sets

held, held_y = (result.arrays[f"b04/{name}"] for name in ("held_logits", "held_labels"))
held_y = held_y.astype(int)
heat = fit_temperature(held, held_y)
before, after = (ece(softmax(logits, temperature=t), labels) for t in (1.0, heat))
print(f"fitted temperature {heat:.2f}: ECE {before:.4f} -> {after:.4f} on the test rows")
gamma = conformal_threshold(softmax(held)[np.arange(len(held_y)), held_y], alpha=0.1)
sets = predict_sets(probs, gamma)
covered = sets[np.arange(len(labels)), labels].mean()
print(f"γ {gamma:.3f}: coverage {covered:.3f}, mean size {sets.sum(1).mean():.2f}")
for row in result.tables["b04/numbers"]:
    if row["spread"] is not None:
        print(f"{row['what']:42s} {row['measured']:.3f} ± {row['spread']:.3f}, {row['sample']}")

# %% [markdown]
# A mean size below 1 is no mistake: some sets are empty. The model is right more often than 90 %, so
# the promise can be kept without giving any class for the rows it doubts most.
#
# **Predict.** Train the classifier for fewer steps. What happens to the coverage, and what to the size?

# %%
pictures, parts = data.digits(), (1000, 398, 399)
fitted, cal, new = (pictures.take(i) for i in data.split_rows(len(pictures.y), parts, seed=0))
for steps in (10, 20, 50, 600):
    W, b, _ = fit_logistic(fitted.x / 16, fitted.y, classes=10, lr=2.0, steps=steps)
    p_cal, p_new = (softmax(part.x / 16 @ W + b) for part in (cal, new))
    bar = conformal_threshold(p_cal[np.arange(len(cal.y)), cal.y], alpha=0.1)
    given, right_share = predict_sets(p_new, bar), (p_new.argmax(1) == new.y).mean()
    hit = given[np.arange(len(new.y)), new.y].mean()
    print(
        f"{steps:3d} steps: right {right_share:.3f}, coverage {hit:.3f}, size {given.sum(1).mean():.2f}"
    )

# %% [markdown]
# The promise is kept by the calibration rows, whatever the model; the size is the model's part. So a known
# size belongs to one training: the 0.95 that the table of the chapter's page expects was measured on a
# classifier that had learned less, and its band of 0.05 is wide for that reason.
#
# ## Exercises
#
# ### B04.1 · A loss that survives (10 min, difficulty 1)
#
# Write the mean cross-entropy of logits `(n, C)` and classes `(n,)`. It must be right for logits of
# ±1000 too.


# %% tags=["exercise:B04.1"]
def cross_entropy(logits, y):
    """Mean cross-entropy in nats."""
    # SOLUTION
    top = logits.max(axis=1, keepdims=True)
    log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
    return (log_sum - logits[np.arange(len(y)), y]).mean()
    # END SOLUTION


# %% tags=["check:B04.1"]
lab.check("B04.1", cross_entropy)

# %% [markdown] tags=["hint:B04.1"]
# Never form the probabilities: $-\log p_y = \operatorname{logsumexp}(z) - z_y$.

# %% [markdown] tags=["hint:B04.1"]
# $\operatorname{logsumexp}(z) = m + \log \sum_j \exp(z_j - m)$ with $m$ the largest entry of the row.

# %% [markdown] tags=["solution-text:B04.1"]
# With the largest entry taken out, every exponent is at most 0 and one of them is exactly 0, so the
# sum lies between 1 and $C$ and its logarithm is harmless.

# %% [markdown]
# ### B04.2 · The training loop (20 min, difficulty 2)
#
# Softmax regression from zeros with full-batch steps. The gradient of the mean cross-entropy by the
# logits is $(p - e_y)/n$, with $e_y$ the one-hot row of the class. Return `(W, b)`, shapes `(d, C)`
# and `(C,)`.


# %% tags=["exercise:B04.2"]
def train(X, y, classes, lr, steps):
    """Weights and biases after some steps of gradient descent."""
    # SOLUTION
    W, b = np.zeros((X.shape[1], classes)), np.zeros(classes)
    for _ in range(steps):
        error = (softmax(X @ W + b) - np.eye(classes)[y]) / len(y)
        W = W - lr * X.T @ error
        b = b - lr * error.sum(axis=0)
    return W, b
    # END SOLUTION


# %% tags=["check:B04.2"]
lab.check("B04.2", train)

# %% [markdown] tags=["hint:B04.2"]
# One step: logits, probabilities, error, two gradients, two updates. Nothing of a step is kept for
# the next one except `W` and `b`.

# %% [markdown] tags=["hint:B04.2"]
# `error = (softmax(X @ W + b) - np.eye(classes)[y]) / len(y)`; the gradients are `X.T @ error` and
# the sum of `error` over the rows.

# %% [markdown] tags=["solution-text:B04.2"]
# Frameworks *add* gradients into the place where they keep them. Forget to clear it, and the first
# step is right, all others drag their past along. A test with one step never sees this.

# %% [markdown]
# ### B04.3 · Ridge with a mean loss (10 min, difficulty 2)
#
# Give the $w$ that minimises $\tfrac1n \lVert y - Xw \rVert^2 + \tfrac12 \lambda \lVert w \rVert^2$.
# The check also puts your $w$ into the gradient, which must vanish.


# %% tags=["exercise:B04.3"]
def ridge(X, y, lam):
    """Minimiser of the mean squared error plus the penalty."""
    # SOLUTION
    n, d = X.shape
    return np.linalg.solve(X.T @ X + n * lam / 2 * np.eye(d), X.T @ y)
    # END SOLUTION


# %% tags=["check:B04.3"]
lab.check("B04.3", ridge)

# %% [markdown] tags=["hint:B04.3"]
# Write the gradient down and set it to zero before you write code.

# %% [markdown] tags=["hint:B04.3"]
# $\tfrac2n X^\top (Xw - y) + \lambda w = 0$. Multiply by $n/2$.

# %% [markdown] tags=["solution-text:B04.3"]
# $(X^\top X + \tfrac{n\lambda}{2} I)\, w = X^\top y$. Whoever moves λ from one library to another meets
# this factor.

# %% [markdown]
# ### B04.4 · Calibration error (15 min, difficulty 2)
#
# Given each prediction's confidence in [0, 1] and whether it was right, compute the expected
# calibration error with `bins` equal bins. A confidence of exactly 1 belongs to the last bin.


# %% tags=["exercise:B04.4"]
def calibration_error(confidence, right, bins):
    """Expected calibration error."""
    # SOLUTION
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for i in range(bins):
        mine = index == i
        if mine.any():
            total += mine.mean() * abs(right[mine].mean() - confidence[mine].mean())
    return total
    # END SOLUTION


# %% tags=["check:B04.4"]
lab.check("B04.4", calibration_error)

# %% [markdown] tags=["hint:B04.4"]
# For each bin: share right minus mean confidence, as an absolute value, times the bin's share of all
# rows.

# %% [markdown] tags=["hint:B04.4"]
# `np.minimum((confidence * bins).astype(int), bins - 1)` gives each row its bin.

# %% [markdown] tags=["solution-text:B04.4"]
# The error depends on the number of bins: few bins let gaps of opposite sign cancel inside a bin.
# Move the slider *bins* of the centre-piece and watch.

# %% [markdown]
# ### B04.5 · Sets that keep a promise (15 min, difficulty 3)
#
# `p_true` holds the probability that the model gave to the true class of each calibration row. Return
# the largest γ such that $\{c : p_c \ge \gamma\}$ holds the true class of a *new* row with
# probability at least $1 - \alpha$; 0 if no calibration score is small enough to serve.


# %% tags=["exercise:B04.5"]
def threshold(p_true, alpha):
    """Conformal threshold."""
    # SOLUTION
    k = int(np.floor(alpha * (len(p_true) + 1)))
    return float(np.sort(p_true)[k - 1]) if k > 0 else 0.0
    # END SOLUTION


# %% tags=["check:B04.5"]
lab.check("B04.5", threshold)

# %% [markdown] tags=["hint:B04.5"]
# The new row's score is equally likely to stand at each of the $n + 1$ ranks among the others.

# %% [markdown] tags=["hint:B04.5"]
# It falls below the $k$-th smallest calibration score with probability at most $k/(n+1)$. Take the
# largest $k$ for which that is at most α.

# %% [markdown] tags=["solution-text:B04.5"]
# $k = \lfloor \alpha (n+1) \rfloor$. Nothing was assumed about the model: a bad one keeps the promise
# too, with large sets. What *is* assumed: the new row comes from the same distribution.

# %% [markdown]
# ## Where this goes
#
# **Back:** where the cross-entropy comes from, B03. **On:** B05 bends the line; B06 finds these
# gradients by itself; B08 turns the same temperature when it writes text; P09 sends only patches
# above a threshold; P01 starts from least squares too.
#
# **Sources:** Guo et al. on calibration of networks, arXiv 1706.04599; Angelopoulos and Bates on
# conformal sets, arXiv 2107.07511.
#
# **Open question.** A set can be empty. Is an empty set a useful answer, and what would you do with
# one?
