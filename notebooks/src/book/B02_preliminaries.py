# %% [markdown]
# # B02 · Preliminaries: walking downhill
#
# *The book, chapter 2: Scardapane, "Alice's Adventures in a differentiable wonderland",
# arXiv 2404.17625. The landscape is that of the chapter's practice page.*
#
# Reading: 25 min. Exercises: 60 min. Prerequisites: B01.
#
# **Goals**
# - Read and write tensor products as `einsum`.
# - Compute a gradient by hand and check it by differences.
# - Predict the largest step with which gradient descent still arrives.

# %% tags=["setup"]
import labcore

lab = labcore.start("B02", seed=0)

# %%
import numpy as np

from labcore.book.experiment import load_result

result = load_result()  # measurements that come with the lab
rng = np.random.default_rng(0)

# %% [markdown]
# ## Recap
#
# The gradient $\nabla f(x) \sim (d)$ collects the partial derivatives. Along a direction $u$ of length
# 1 the slope is
#
# $$D_u f(x) = \langle \nabla f(x), u \rangle ,$$
#
# so the gradient points uphill most steeply. *Gradient descent* with momentum μ walks
#
# $$v \leftarrow \mu v - \eta \nabla f(x), \qquad x \leftarrow x + v .$$
#
# Near a minimum with Hessian $H$ (the matrix of second derivatives) it returns to the minimum only if
#
# $$\eta < \frac{2 (1 + \mu)}{\lambda_{\max}(H)} .$$

# %% [markdown]
# **Mind the convention.** $x \sim (B, T, D)$ means "x has this shape"; $\langle A, B \rangle$ is the
# sum of elementwise products of two tensors of equal shape, whatever their number of axes. Code counts
# from 0.

# %% [markdown]
# ## 1 · Tensors and einsum
#
# `einsum` names the axes. An index that appears twice and not after the arrow is summed.

# %%
A, B = rng.normal(size=(5, 3, 4)), rng.normal(size=(5, 4, 2))
assert np.allclose(np.einsum("bij,bjk->bik", A, B), A @ B)
assert np.isclose(np.einsum("bij,bij->", A, A), np.sum(A * A))
print("batched product:", np.einsum("bij,bjk->bik", A, B).shape)
print("norm of each row:", np.einsum("bij,bij->bi", A, A).shape)

# %% [markdown]
# ## 2 · A landscape
#
# $$f(x) = \sin x_1 \cos x_2 + \sin \tfrac{x_1}{2} \cos \tfrac{x_2}{2}$$
#
# over $[0, 10]^2$. Write it so that a whole grid of points goes through at once: the last axis holds
# the two coordinates.

# %%
from labcore.blocks.optim import numeric_gradient
from labcore.book.b02 import practice, practice_gradient, value


def f(x):
    a, b = x[..., 0], x[..., 1]
    return np.sin(a) * np.cos(b) + np.sin(a / 2) * np.cos(b / 2)


points = rng.uniform(0, 10, size=(1000, 2))
assert np.allclose(f(points), practice(points))
where = np.array([2.0, 1.0])
differences = numeric_gradient(value, where)
assert np.allclose(differences, practice_gradient(where), atol=1e-8)
print("gradient at (2, 1):", practice_gradient(where).round(6))

# %% [markdown]
# Central differences need two evaluations a coordinate and lose half of the digits. They are good for
# one thing: to check a gradient that somebody derived by hand.
#
# ## 3 · A walk
#
# **Predict.** From (5, 5), with steps of 0.1 times the gradient, 100 of them: which of the two
# coordinates arrives first?

# %%
from labcore.blocks.optim import gradient_descent

x = np.array([5.0, 5.0])
for _ in range(100):
    x = x - 0.1 * practice_gradient(x)
walk = gradient_descent(value, np.array([5.0, 5.0]), lr=0.1, steps=100, grad=practice_gradient)
assert np.allclose(x, walk.x[-1])
print(f"after 100 steps at {x.round(4)}, f = {value(x):.6f}, gradient {walk.grad_norm[-1]:.1e}")

# %% [markdown]
# $x_2$ goes to $2\pi$. Where is the lowest point of the whole square, and how curved is the landscape
# there?

# %%
from labcore.blocks.optim import numeric_hessian, stability_limit
from labcore.book.b02 import minimum

lowest = minimum()
H = numeric_hessian(practice_gradient, lowest)
print(f"lowest point {lowest.round(5)}, f = {value(lowest):.6f}")
print("curvatures:", np.linalg.eigvalsh(H).round(5))
for momentum in (0.0, 0.5, 0.9):
    print(f"momentum {momentum}: limit {stability_limit(H, momentum=momentum):.4f}")

# %% [markdown]
# The limits are a prediction from two numbers. The committed run looked for the largest step that
# still arrives, by bisection, without knowing them:

# %%
for row in result.tables["b02/limits"]:
    gap = row["measured"] / row["limit"] - 1
    print(f"momentum {row['momentum']}: found {row['measured']:.3f}, predicted {row['limit']:.3f}")
    assert abs(gap) < 0.01

# %% [markdown]
# **Why 2/λ.** Close to the minimum the slope is $H e$ with $e$ the distance from it, so a step makes
# $e \leftarrow (1 - \eta\lambda)\, e$ along each eigenvector. The factor stays below 1 in size
# exactly if $0 < \eta\lambda < 2$. At $\eta = 1/\lambda$ it is zero: one step, and there.
#
# ## 4 · Starts
#
# **Predict.** Two hundred random starts, steps of 0.5. What share of them reaches the lowest point?

# %%
starts = rng.uniform(0, 10, size=(200, 2))
ends = starts.copy()
for _ in range(200):
    ends = ends - 0.5 * practice_gradient(ends)
arrived = np.linalg.norm(ends - lowest, axis=1) < 1e-3
print(f"{arrived.mean():.0%} of {len(starts)} starts end at the lowest point")
others = np.unique(ends[~arrived].round(2), axis=0)
print(f"the others end at {len(others)} places, the best of them {practice(others).min():.3f}")

# %% [markdown]
# Some walks leave the square and find an equally deep pit outside it; others stop in a shallow one. The
# step size decides *whether* a walk arrives, the start decides *where*.
#
# ## The walk
#
# **Change** the step, then the momentum, then the start. **Watch** the path and, on the right, the
# gradient norm; the title says whether the step is below the limit. Try 1.7, then 1.8.

# %% tags=["centrepiece"]
from labcore.book.figures_b02 import descent_figure


def descent(lr, momentum, x1, x2):
    return descent_figure(x1, x2, lr, momentum, steps=100)


lab.explore(
    descent,
    lr=(0.1, 4.0, 0.1),
    momentum=(0.0, 0.9, 0.1),
    x1=(0.0, 10.0, 0.5),
    x2=(0.0, 10.0, 0.5),
)

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# Curvature sets the learning rate. Below the limit the gradient norm falls on a straight line (a fixed
# factor a step); the line is steepest near half the limit. Above it the walk does not explode, because
# the landscape is bounded: it hops between walls for ever. Momentum moves the limit by the factor
# $1 + \mu$.
#
# </details>

# %% [markdown]
# ## Exercises
#
# ### B02.1 · The gradient by hand (15 min, difficulty 2)
#
# For points `x` of shape `(n, 2)` return the values `(n,)` and the gradients `(n, 2)` of the landscape,
# without a loop.


# %% tags=["exercise:B02.1"]
def value_and_gradient(x):
    """Values and gradients of the landscape."""
    # SOLUTION
    a, b = x[:, 0], x[:, 1]
    values = np.sin(a) * np.cos(b) + np.sin(a / 2) * np.cos(b / 2)
    by_a = np.cos(a) * np.cos(b) + 0.5 * np.cos(a / 2) * np.cos(b / 2)
    by_b = -np.sin(a) * np.sin(b) - 0.5 * np.sin(a / 2) * np.sin(b / 2)
    return values, np.stack([by_a, by_b], axis=1)
    # END SOLUTION


# %% tags=["check:B02.1"]
lab.check("B02.1", value_and_gradient)

# %% [markdown] tags=["hint:B02.1"]
# One partial derivative at a time; treat the other coordinate as a constant.

# %% [markdown] tags=["hint:B02.1"]
# The derivative of $\sin(x_1/2)$ is $\tfrac12 \cos(x_1/2)$.

# %% [markdown] tags=["solution-text:B02.1"]
# Compare with `numeric_gradient` at three random points before you trust any gradient of your own.

# %% [markdown]
# ### B02.2 · The walk (15 min, difficulty 2)
#
# Return all points of a walk with momentum, the start included, shape `(steps + 1, d)`. The velocity
# is zero at first. From (5, 5) with lr 0.1 and no momentum it must reach (4.4113, 6.2832) in 100 steps.


# %% tags=["exercise:B02.2"]
def descend(gradient, start, lr, momentum, steps):
    """Points of a walk downhill."""
    # SOLUTION
    x, v = start, np.zeros_like(start)
    points = [x]
    for _ in range(steps):
        v = momentum * v - lr * gradient(x)
        x = x + v
        points.append(x)
    return np.array(points)
    # END SOLUTION


# %% tags=["check:B02.2"]
lab.check("B02.2", descend)

# %% [markdown] tags=["hint:B02.2"]
# Two lines a step: the velocity, then the point.

# %% [markdown] tags=["solution-text:B02.2"]
# Beware of `x += v`: it changes the array that the list already holds, and all points become the last.

# %% [markdown]
# ### B02.3 · The largest stable step (10 min, difficulty 2)
#
# From the Hessian at a minimum and the momentum, return the step size at the edge of stability.


# %% tags=["exercise:B02.3"]
def largest_step(hessian, momentum):
    """Edge of stability."""
    # SOLUTION
    return 2 * (1 + momentum) / np.linalg.eigvalsh(hessian).max()
    # END SOLUTION


# %% tags=["check:B02.3"]
lab.check("B02.3", largest_step)

# %% [markdown] tags=["hint:B02.3"]
# Along each eigenvector the walk is a one-dimensional one. Which of them breaks first?

# %% [markdown] tags=["solution-text:B02.3"]
# Scaling the inputs (B04) makes the curvatures equal, so that one step size suits every direction.

# %% [markdown]
# ### B02.4 · Three patterns (10 min, difficulty 1)
#
# Fill the dictionary with `einsum` patterns: the product of each pair of matrices in two batches; the
# dot product of two tensors with three axes; the trace of a matrix.

# %% tags=["exercise:B02.4"]
# a dictionary called patterns
# SOLUTION
patterns = {
    "batched product": "bij,bjk->bik",
    "generalised dot product": "bij,bij->",
    "trace": "ii->",
}
# END SOLUTION

# %% tags=["check:B02.4"]
lab.check("B02.4", patterns)

# %% [markdown] tags=["hint:B02.4"]
# The keys are `"batched product"`, `"generalised dot product"` and `"trace"`.

# %% [markdown] tags=["hint:B02.4"]
# What you want to keep goes after the arrow; all else is summed.

# %% [markdown] tags=["solution-text:B02.4"]
# `"bij,bjk->bik"`, `"bij,bij->"`, `"ii->"`. Attention (B10) is two such lines.

# %% [markdown]
# ### B02.5 · A slope along an arrow (10 min, difficulty 1)
#
# Given the gradient at a point and any arrow `u` that is not zero, return the slope in its direction.


# %% tags=["exercise:B02.5"]
def slope_along(gradient, u):
    """Directional derivative."""
    # SOLUTION
    return gradient @ u / np.linalg.norm(u)
    # END SOLUTION


# %% tags=["check:B02.5"]
lab.check("B02.5", slope_along)

# %% [markdown] tags=["hint:B02.5"]
# Check yourself by $\bigl(f(x + \epsilon u) - f(x)\bigr) / (\epsilon \lVert u \rVert)$.

# %% [markdown] tags=["solution-text:B02.5"]
# Without the division it is the *Jacobian-vector product* of B06, which is linear in $u$ and therefore
# the more useful of the two.

# %% [markdown]
# ## Where this goes
#
# **On:** B05 replaces the gradient by that of a few rows; B06 lets a program find it; B04 meets a
# valley a million times steeper one way than the other.
#
# **Sources:** Goh, *Why momentum really works*, Distill 2017; Cohen et al. on the edge of stability,
# arXiv 2103.00065.
#
# **Open question.** Networks are often trained *at* the edge: the curvature grows until the chosen step
# is just stable. Who adapts to whom, the step or the landscape?
