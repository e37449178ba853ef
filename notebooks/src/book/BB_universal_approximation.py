# %% [markdown]
# # BB · Universal approximation: enough bumps make a curve
#
# *The book, appendix B: Scardapane, "Alice's Adventures in a differentiable wonderland",
# arXiv 2404.17625.*
#
# Reading: 15 min. Exercises: 30 min. Prerequisites: B05.
#
# **Goals**
# - Build a bump from two sigmoid units.
# - Copy a curve with bumps, and measure how fast the error falls.
# - Say what such a theorem promises, and what not.

# %% tags=["setup"]
import labcore

lab = labcore.start("BB", seed=0)

# %%
import numpy as np

from labcore.book.experiment import load_result

result = load_result()  # measurements that come with the lab


def g(x):
    return np.sinc(x / np.pi)  # sin(x)/x, and 1 at 0


x = np.linspace(0, 10, 4000)

# %% [markdown]
# ## Recap
#
# One hidden layer with enough units copies any continuous function on an interval. The proof for one
# dimension needs no more than steps. A steep sigmoid is a step; two of them make a *bin* of width
# $\Delta$ around $s$:
#
# $$\operatorname{bin}_s(x) = \sigma\bigl(w(x - (s - \tfrac\Delta2))\bigr) -
# \sigma\bigl(w(x - (s + \tfrac\Delta2))\bigr),$$
#
# and a sum of $m$ bins, each as high as the mean $h_i$ of $g$ inside it, is the copy:
#
# $$f(x) = \sum_{i=1}^m h_i \operatorname{bin}_{s_i}(x), \qquad s_i = (i - \tfrac12) \Delta .$$

# %% [markdown]
# **Mind the convention.** The appendix prints the signs of the edges the other way round and the
# centres as $i/m$, which is the right end of each bin. We use the middle, $(i - \tfrac12)\Delta$. And the
# error does not fall exponentially: it falls like a power of $m$. You will measure which.

# %% [markdown]
# ## 1 · A step, a bump
#
# A sigmoid of slope $w$ goes from 0 to 1 within a few $1/w$. The direct formula overflows for
# large negative numbers; the library's does not. Where both work, they agree.

# %%
from labcore.blocks.approx import bin_function, sigmoid

small = np.linspace(-20, 20, 101)
assert np.allclose(1 / (1 + np.exp(-small)), sigmoid(small))
print("σ(-1e5) =", sigmoid(np.array(-1e5)))
bump = sigmoid(50 * (x - 2)) - sigmoid(50 * (x - 3))
assert np.allclose(bump, bin_function(x, 2.5, 1.0, slope=50.0))
print(f"inside {bump[(x > 2.2) & (x < 2.8)].min():.4f}, outside {bump[(x < 1.8)].max():.4f}")

# %% [markdown]
# **Predict.** The bump is the difference of two units. How many numbers does a network of $m$ bins
# need: first layer, second layer?

# %%
m = 10
first_layer, second_layer = 2 * (2 * m), 2 * m  # slope and offset of each unit; a height each
print(f"{m} bins: {2 * m} units, {first_layer} + {second_layer} numbers")

# %% [markdown]
# ## 2 · A curve
#
# Five lines copy $\sin(x)/x$; the library's `bin_network` returns the same function for any interval.

# %%
from labcore.blocks.approx import bin_means, bin_network

width = 10 / m
centres = (np.arange(m) + 0.5) * width
heights = bin_means(g, m, lo=0, hi=10)
bins = [bin_function(x, s, width, slope=1e4) for s in centres]
copy = np.stack(bins, axis=1) @ heights
assert np.allclose(copy, bin_network(g, m, lo=0, hi=10, slope=1e4)(x))
print(f"mean squared error of {m} bins: {np.mean((copy - g(x)) ** 2):.6f}")

# %% [markdown]
# ## 3 · More bins
#
# **Predict.** With twice the bins, how much smaller is the squared error: by 2, by 4, or by more each
# time?

# %%
errors = {}
for m in (5, 10, 20, 40, 80):
    f = bin_network(g, m, lo=0, hi=10)
    errors[m] = np.mean((f(x) - g(x)) ** 2)
    print(f"{m:3d} bins: {errors[m]:.6f}")
print("ratios:", [f"{errors[m] / errors[2 * m]:.2f}" for m in (5, 10, 20, 40)])

# %% [markdown]
# Nearly 4 each time, so the error falls like $1/m^2$. Inside a bin of width $\Delta$ the curve leaves
# its mean by about $\lvert g' \rvert \Delta / 2$ at most; squared, that is proportional to $\Delta^2$.
# For many bins the ratio drops below 4: at the two ends of the interval the outermost step is only
# half up, and these two of our 4000 points cost 0.00006, whatever $m$ is.
#
# The table says it in one number: the slope from 5 to 50 bins, which is why it may miss −2 by 0.2, and
# the same without the two end points. The printed centres shift the whole staircase by half a bin:

# %%
for row in result.tables["bb/numbers"]:
    print(f"{row['what']:50s} {row['measured']:9.6f}, expected {row['expected']:9.6f}")

# %% [markdown]
# ## The staircase
#
# **Change** the number of bins, then the steepness of their edges. **Watch** the star on the line.
# With soft edges, when does the fall stop?

# %% tags=["centrepiece"]
from labcore.book.figures_bb import bins_figure


def staircase(m, slope):
    return bins_figure(
        result.arrays["bb/bins"], result.arrays["bb/errors"], m=m, slope=float(slope)
    )


lab.explore(staircase, m=(1, 80), slope=[10000, 100, 30, 10, 3])

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# Each bin is a constant, so the copy is a staircase and its squared error is proportional to the
# square of the step's width: slope −2. Bins with soft edges cannot be narrower than their edges;
# beyond that, neighbours blur into each other. The theorem says that the numbers exist. It does not
# say that training finds them, nor that their number is affordable in many dimensions.
#
# </details>

# %% [markdown]
# **How many in many dimensions?** Bins of width $\Delta$ fill a cube of $d$ dimensions with
# $(1/\Delta)^d$ cells.

# %%
for d in (1, 2, 3, 10, 784):
    print(f"{d:3d} dimensions, ten bins along each axis: 10^{d} bumps")

# %% [markdown]
# ## Exercises
#
# ### BB.1 · One bump (10 min, difficulty 1)
#
# Return the bin of a given centre, width and slope at the points `x`. You may use `sigmoid`.


# %% tags=["exercise:BB.1"]
def bump_of(x, centre, width, slope):
    """A bump of height 1."""
    # SOLUTION
    left, right = centre - width / 2, centre + width / 2
    return sigmoid(slope * (x - left)) - sigmoid(slope * (x - right))
    # END SOLUTION


# %% tags=["check:BB.1"]
lab.check("BB.1", bump_of)

# %% [markdown] tags=["hint:BB.1"]
# A step up where the bump begins, minus a step up where it ends.

# %% [markdown] tags=["solution-text:BB.1"]
# Between the edges the first sigmoid is 1 and the second 0; to the right both are 1 and cancel.

# %% [markdown]
# ### BB.2 · Where, and how high (10 min, difficulty 2)
#
# For a function `g` on [lo, hi] and `m` bins return the centres and the heights, two arrays `(m,)`.
# A height is the mean of `g` over the bin; 100 points a bin are precise enough.


# %% tags=["exercise:BB.2"]
def place_bins(g, m, lo, hi):
    """Centres and heights of m bins."""
    # SOLUTION
    width = (hi - lo) / m
    centres = lo + (np.arange(m) + 0.5) * width
    offsets = ((np.arange(100) + 0.5) / 100 - 0.5) * width
    return centres, g(centres[:, None] + offsets).mean(axis=1)
    # END SOLUTION


# %% tags=["check:BB.2"]
lab.check("BB.2", place_bins)

# %% [markdown] tags=["hint:BB.2"]
# Bin number $i$ (from 0) goes from $lo + i\Delta$ to $lo + (i+1)\Delta$.

# %% [markdown] tags=["hint:BB.2"]
# Points inside every bin at once: `centres[:, None] + offsets`, then the mean over the last axis.

# %% [markdown] tags=["solution-text:BB.2"]
# The mean is the best constant under the squared loss (B03). The value in the middle differs from it
# by about $\Delta^2 g'' / 24$: small, and visible with five bins.

# %% [markdown]
# ### BB.3 · How many? (10 min, difficulty 2)
#
# With `bins_now` bins the mean squared error is `error_now`. How many bins are needed for an error of
# at most `wanted`? Return a whole number, by the law that you measured.


# %% tags=["exercise:BB.3"]
def bins_needed(error_now, bins_now, wanted):
    """Number of bins for a wanted error."""
    # SOLUTION
    return int(np.ceil(bins_now * np.sqrt(error_now / wanted)))
    # END SOLUTION


# %% tags=["check:BB.3"]
lab.check("BB.3", bins_needed)

# %% [markdown] tags=["hint:BB.3"]
# $E \propto m^{-2}$: write it for both numbers of bins and divide.

# %% [markdown] tags=["solution-text:BB.3"]
# $m = m_0 \sqrt{E_0 / E}$: a hundredth of the error costs ten times the bins.

# %% [markdown]
# ## Where this goes
#
# **Back:** B05 trains such networks instead of building them; B03 says why the mean is the right
# height. **On:** P10 asks how much of a network an input really needs.
#
# **Sources:** Cybenko, *Approximation by superpositions of a sigmoidal function*, 1989; Nielsen's
# picture proof, *Neural networks and deep learning*, chapter 4.
#
# **Open question.** A trained network of the same size is usually far better than a staircase. What
# does it do with its units that bins do not?
