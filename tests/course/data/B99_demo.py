# %% [markdown]
# # B99 · A demo: how warm is a softmax?
#
# *Chapter 4.2 of the book; made to try the course machinery.*
#
# Reading: 5 min. Exercises: 10 min. Prerequisites: B02, B04.
#
# **Goals**
# - Turn scores into probabilities without overflow.
# - Say what a temperature does,
#   in one sentence.

# %% tags=["setup"]
import labcore

lab = labcore.start("B99", seed=0)

# %% tags=["parameters"]
warmest = 4.0

# %% [markdown]
# ## Recap
#
# Scores $s \in \mathbb{R}^n$ become probabilities $p_i = e^{s_i / \tau} / \sum_j e^{s_j / \tau}$,
# where $\tau$ is the temperature:
#
# $$\lim_{\tau \to 0} p = \text{one-hot}(\arg\max_i s_i).$$

# %% [markdown]
# **Mind the convention.** We divide by the temperature; some texts multiply by its inverse.

# %% [markdown]
# ## Five lines of code

# %%
import numpy as np


def softmax(scores, tau=1.0):
    weights = np.exp(scores / tau)
    return weights / weights.sum()


# %%
scores = np.array([2.0, 1.0, 0.5, -1.0])
print(softmax(scores).round(3))

# %% [markdown]
# The same through the log of the sum, and the check that both agree.

# %%
from labcore.course.comparing import close


def softmax_by_logs(scores, tau=1.0):
    return np.exp(scores / tau - np.logaddexp.reduce(scores / tau))


# %%
close(softmax_by_logs(scores), softmax(scores), what="softmax")
assert np.allclose(softmax_by_logs(scores, 0.1), softmax(scores, 0.1))

# %% [markdown]
# **Predict.** What happens with a score of 1000?

# %%
with np.errstate(all="ignore"):
    print(softmax(np.array([1000.0, 0.0])))

# %% [markdown]
# The exponential overflows: infinity over infinity is no number.

# %% [markdown]
# ## Watch it warm up
#
# Move the temperature. Watch the tallest bar. See also B11 and [the chapter](B04_x.ipynb).

# %%
import plotly.graph_objects as go

from labcore import viz


def figure(tau=1.0, log_axis=False):
    bars = softmax_by_logs(scores, tau)
    fig = go.Figure(go.Bar(x=["a", "b", "c", "d"], y=bars))
    fig.update_yaxes(title="probability", type="log" if log_axis else "linear")
    fig.update_xaxes(title="option")
    alt = f"At temperature {tau:.2f} the largest probability is {bars.max():.2f}."
    return viz.finish(fig, title="Softmax", alt=alt, caption="Warm is even.", source="figure")


# %% tags=["centrepiece"]
lab.explore(figure, tau=(0.25, warmest, 0.25), log_axis=False)

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# A high temperature makes all options alike.
#
# </details>

# %% [markdown]
# ## Exercises
#
# **B99.1** (5 min, difficulty 1). Write a softmax over the last axis that survives large scores.


# %% tags=["exercise:B99.1"]
def stable_softmax(scores):
    """Softmax over the last axis."""
    # SOLUTION
    shifted = scores - scores.max(axis=-1, keepdims=True)
    weights = np.exp(shifted)
    return weights / weights.sum(axis=-1, keepdims=True)
    # END SOLUTION


# %% tags=["check:B99.1"]
lab.check("B99.1", stable_softmax)

# %% [markdown] tags=["hint:B99.1"]
# A constant added to all scores changes nothing.

# %% [markdown] tags=["hint:B99.1"]
# Subtract the maximum of each row.

# %% [markdown] tags=["solution-text:B99.1"]
# The shift cancels in the quotient, and $e^0 = 1$ is the largest weight.

# %% [markdown]
# **B99.2** (5 min, difficulty 1). What is the larger probability of scores $(0, \ln 3)$?

# %% tags=["exercise:B99.2"]
larger = None
# SOLUTION
larger = 3 / 4
# END SOLUTION

# %% tags=["check:B99.2"]
lab.check("B99.2", larger)

# %% [markdown] tags=["teacher"]
# Ask in class what the scores must be for nine tenths.

# %% [markdown]
# ## Where this goes
#
# Back to B04, forward to B10. Sources: Bridle (1990); chapter 4.2. Open question: should a model
# choose its own temperature?

# %% [markdown] tags=["optional"]
# ## Optional: a static figure

# %% tags=["optional"]
lab.show(figure(2.0), alt="At temperature 2 the largest of four bars is 0.43.")
