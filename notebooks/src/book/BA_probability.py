# %% [markdown]
# # BA · Probability: how far apart are two laws?
#
# *The book, appendix A: Scardapane, "Alice's Adventures in a differentiable wonderland",
# arXiv 2404.17625.*
#
# Reading: 20 min. Exercises: 40 min. Prerequisites: none.
#
# **Goals**
# - Compute a divergence, in both directions, and say what each one punishes.
# - Attach an error to a Monte-Carlo mean.
# - Know which variance divides by $n$ and which by $n - 1$.

# %% tags=["setup"]
import labcore

lab = labcore.start("BA", seed=0)

# %%
import numpy as np

from labcore.book.experiment import load_result

result = load_result()  # measurements that come with the lab
rng = np.random.default_rng(0)
x = np.linspace(-14, 14, 2801)
step = x[1] - x[0]

# %% [markdown]
# ## Recap
#
# For two densities the *Kullback-Leibler divergence* is an expectation under the first one:
#
# $$\operatorname{KL}(p \,\Vert\, q) = \int p(x) \log \frac{p(x)}{q(x)}\, dx \;\ge\; 0 .$$
#
# It is zero only for $p = q$, and it is not symmetric. For two normal laws
#
# $$\operatorname{KL} = \log\frac{s_2}{s_1} + \frac{s_1^2 + (m_1 - m_2)^2}{2 s_2^2} - \frac12 .$$
#
# *Maximum likelihood* chooses the law under which the sample is most probable; for the normal law it
# gives the mean and the mean squared deviation.

# %% [markdown]
# **Mind the convention.** The appendix prints the multivariate normal density without the ½ in the
# exponent; it is $\exp(-\tfrac12 (x-\mu)^\top \Sigma^{-1} (x-\mu))$. We write $N(m, s^2)$ with $s$ the
# *standard deviation*; libraries differ, so look before you pass a number. Logarithms are natural:
# nats, not bits.

# %% [markdown]
# ## 1 · A formula and a sum
#
# The integral as a sum on a fine grid, against the closed form of the library.

# %%
from labcore.blocks.prob import gaussian_pdf, kl_gaussian


def kl_on_grid(p, q):
    inside = p > 0
    return np.sum(p[inside] * np.log(p[inside] / q[inside])) * step


p, q = gaussian_pdf(x, 0, 1), gaussian_pdf(x, 1, 2)
assert np.isclose(kl_on_grid(p, q), kl_gaussian(0, 1, 1, 2))
assert np.isclose(kl_on_grid(q, p), kl_gaussian(1, 2, 0, 1))
print(f"KL(narrow ‖ wide) {kl_on_grid(p, q):.6f} nats")
print(f"KL(wide ‖ narrow) {kl_on_grid(q, p):.6f} nats")

# %% [markdown]
# The second is about three times the first: values that the wide law gives often, far out, are nearly
# impossible under the narrow one, and the logarithm of "nearly impossible" is large.
#
# ## 2 · Monte Carlo
#
# The same expectation by drawing: $\log p/q$ at draws from $p$. A mean of draws is nothing without its
# error, $s / \sqrt n$.

# %%
from labcore.blocks.prob import mc_mean


def log_ratio(draws):
    return np.log(gaussian_pdf(draws, 0, 1)) - np.log(gaussian_pdf(draws, 1, 2))


for n in (100, 10_000, 1_000_000):
    found = mc_mean(log_ratio, rng.standard_normal, n)
    print(f"{n:8d} draws: {found.mean:.4f} ± {found.error:.4f}")

# %% [markdown]
# **Predict.** A hundred times the draws: how many more digits are right?
#
# The committed run repeats this for seven sample sizes and fits the exponent.

# %%
for row in result.tables["ba/monte_carlo"]:
    print(f"{row['n']:6d} draws: error {row['error']:.4f}")
for row in result.tables["ba/numbers"]:
    print(f"{row['what']:42s} {row['measured']:.4f}")

# %% [markdown]
# The exponent is −½: one more digit costs a hundred times the draws.
#
# ## 3 · The variance that is too small
#
# The sample's own mean sits in the middle of the sample by construction, so deviations from it are a
# little too short. On average the most likely variance is $(n-1)/n$ of the true one.

# %%
from labcore.blocks.prob import mle_gaussian

for n in (2, 5, 20):
    samples = rng.standard_normal((20_000, n))
    likely = np.mean(samples.var(axis=1))
    assert np.isclose(samples[0].var(), mle_gaussian(samples[0])[1])
    assert np.isclose(samples[0].var(ddof=1), mle_gaussian(samples[0], unbiased=True)[1])
    print(f"n = {n:2d}: mean of the most likely variance {likely:.3f}, (n-1)/n = {(n - 1) / n:.3f}")

# %% [markdown]
# ## One bell for two humps
#
# **Change** the mean and the deviation of the bell $q$, then the distance of the humps of $p$.
# **Watch** the two numbers in the title, and on the right, *where* each of them is paid. Find the
# best bell for the first number, then the best one for the second.

# %% tags=["centrepiece"]
from labcore.book.figures_ba import two_fits_figure

lab.explore(
    two_fits_figure, mean=(-5.0, 5.0, 0.5), deviation=(0.5, 4.5, 0.25), apart=(4.0, 10.0, 1.0)
)

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# $\operatorname{KL}(p \Vert q)$ is paid where $p$ is and $q$ is not, so its best bell covers both
# humps: it has $p$'s mean and variance. $\operatorname{KL}(q \Vert p)$ is paid where $q$ is and $p$
# is not: from a distance of about six on, its best bell hides inside one hump. Maximum likelihood minimises the first; many
# approximate inference methods and policy updates minimise the second.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ### BA.1 · A divergence (10 min, difficulty 1)
#
# Return $\operatorname{KL}(N(m_1, s_1^2) \Vert N(m_2, s_2^2))$ in nats.


# %% tags=["exercise:BA.1"]
def kl(m1, s1, m2, s2):
    """Divergence of two normal laws in nats."""
    # SOLUTION
    return np.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5
    # END SOLUTION


# %% tags=["check:BA.1"]
lab.check("BA.1", kl)

# %% [markdown] tags=["hint:BA.1"]
# It is in the recap. Test it on $N(0, 1)$ and $N(1, 2^2)$: 0.443147.

# %% [markdown] tags=["solution-text:BA.1"]
# With equal deviations it is $(m_1 - m_2)^2 / 2s^2$: the squared loss (B03) is a divergence in disguise.

# %% [markdown]
# ### BA.2 · The bell that covers (10 min, difficulty 2)
#
# A density `p` is given on the equally spaced points `x`. Return mean and deviation of the normal law
# $q$ with the smallest $\operatorname{KL}(p \Vert q)$.


# %% tags=["exercise:BA.2"]
def covering_bell(x, p):
    """Mean and standard deviation of the best forward fit."""
    # SOLUTION
    weight = p / p.sum()
    mean = weight @ x
    return mean, np.sqrt(weight @ (x - mean) ** 2)
    # END SOLUTION


# %% tags=["check:BA.2"]
lab.check("BA.2", covering_bell)

# %% [markdown] tags=["hint:BA.2"]
# Only $-\int p \log q$ depends on $q$. Put the normal density in and differentiate by its mean.

# %% [markdown] tags=["solution-text:BA.2"]
# The derivative by the mean vanishes when $q$ has $p$'s mean, that by the deviation when it has $p$'s
# variance: *moment matching*. The reverse problem has no such formula; it needs a search.

# %% [markdown]
# ### BA.3 · A mean with its error (5 min, difficulty 1)
#
# Given independent values, return their mean and the standard error of that mean.


# %% tags=["exercise:BA.3"]
def mean_with_error(values):
    """Mean and standard error."""
    # SOLUTION
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    # END SOLUTION


# %% tags=["check:BA.3"]
lab.check("BA.3", mean_with_error)

# %% [markdown] tags=["hint:BA.3"]
# Two different spreads: that of the values, and that of their mean.

# %% [markdown] tags=["solution-text:BA.3"]
# Every table of this lab that says ± after seeds shows one of these two; read which.

# %% [markdown]
# ### BA.4 · How many draws? (10 min, difficulty 2)
#
# With `n_now` draws the error is `error_now`. How many draws give an error of at most `wanted`?


# %% tags=["exercise:BA.4"]
def draws_needed(error_now, n_now, wanted):
    """Number of draws for a wanted standard error."""
    # SOLUTION
    return int(np.ceil(n_now * (error_now / wanted) ** 2))
    # END SOLUTION


# %% tags=["check:BA.4"]
lab.check("BA.4", draws_needed)

# %% [markdown] tags=["hint:BA.4"]
# error × √n is constant.

# %% [markdown] tags=["solution-text:BA.4"]
# A test set is a sample too: to halve the error bar of an accuracy takes four times the test rows.

# %% [markdown]
# ## Where this goes
#
# **On:** B03 makes losses from likelihoods; B04 asks whether probabilities can be believed; B08 samples
# from a model of text.
#
# **Sources:** MacKay, *Information theory, inference, and learning algorithms*, 2003; Bishop, *Pattern
# recognition and machine learning*, section 10.1, for the two directions.
#
# **Open question.** A chat model is first trained on text (which divergence?) and then on rewards,
# held near the first model by a penalty (which divergence?). What do the two directions do to its
# variety?
