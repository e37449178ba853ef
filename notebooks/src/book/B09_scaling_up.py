# %% [markdown]
# # B09 · Scaling up: staying trainable
#
# *Scardapane, "Alice's Adventures in a differentiable wonderland", arXiv 2404.17625, chapter 9.*
#
# Reading: 25 min. Exercises: 55 min. Prerequisites: B06, B07.
#
# **Goals**
# - Say over which axis each normalisation takes its mean.
# - See the gradient die in a plain deep network, and live beside a skip path.
# - Tell weight decay from an l2 penalty, and dropout's scale from its rate.

# %% tags=["setup"]
import labcore

lab = labcore.start("B09", seed=0)

# %%
import numpy as np
import torch

from labcore.blocks import norm
from labcore.book import data, figures_b09
from labcore.book.b09 import DEPTHS, digits, first_to_last, train
from labcore.book.experiment import load_result

result = load_result()
x, y, x_test, y_test = digits(seed=0)
print(data.source("digits"))
print(f"{len(x)} digits for training, {len(x_test)} for the test")

# %% [markdown]
# ## Recap
#
# A layer $f_l$ of a deep stack sends the gradient back through its Jacobian, and a stack multiplies
# Jacobians. A *residual* layer adds its input:
#
# $$h_{l} = h_{l-1} + f_l(h_{l-1}), \qquad \partial h_l = I + \partial f_l .$$
#
# Normalisation subtracts a mean and divides by a deviation: over the batch for each feature (batch
# norm), or over the features of each row (layer norm). Dropout multiplies by a random mask,
# $\tilde x_i = m_i x_i / p$ with $P(m_i = 1) = p$.

# %% [markdown]
# **Mind the convention.** The book's $p$ is the probability to *keep*; `torch.nn.Dropout(p)` takes the
# probability to *drop*. Our argument is called `keep`. Batch norm divides by the biased variance of
# the batch (denominator $n$) while its running buffer takes the unbiased one ($n - 1$); the output's
# learned scale $\alpha$ is a deviation, not a variance.

# %% [markdown]
# ## 1 · Two means of one table
#
# The same digits, normalised over rows or over columns. By hand, then by the library.

# %%
rows = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
assert torch.allclose(rows, norm.layer_norm(x), atol=1e-5)
columns, running = norm.batch_norm(x, norm.Running.start(64), training=True)
print("layer norm: mean of the first row   ", f"{rows[0].mean():+.1e}")
print("batch norm: mean of column 20       ", f"{columns[:, 20].mean():+.1e}")
print(
    "running mean of column 20 after one batch:",
    f"{running.mean[20]:.4f}",
    "= 0.1 x",
    f"{x[:, 20].mean():.4f}",
)

# %% [markdown]
# **Predict.** Feed the network one single digit at test time. Which of the two normalisations can still
# use its own statistics, and what does the other one do?

# %%
one = x_test[:1]
print("layer norm of one digit has mean", f"{norm.layer_norm(one).mean():+.1e}")
try:
    norm.batch_norm(one, running, training=True)
except ValueError as error:
    print("batch norm in training:", error)
print("at test time it uses its buffers:", norm.batch_norm(one, running, training=False)[0].shape)

# %% [markdown]
# ## 2 · A gradient on its way down
#
# Twenty plain layers of 64 units, nothing trained. The gradient of the loss in the first layer's weights,
# divided by that in the last layer's: a power of ten for each activation.

# %%
for activation in ("relu", "sigmoid"):
    ratios = [first_to_last(activation, seed=seed) for seed in range(3)]
    print(f"{activation:8s}", ", ".join(f"{ratio:.0e}" for ratio in ratios))

# %% [markdown]
# The power of ten is what to look at: from draw to draw it differs by some tenths, so ours may lie half
# a power from a known one. The sigmoid's derivative is at most one quarter, so twenty layers cost at least $4^{-19}$ from this
# alone; with usual initial weights the linear maps shrink it further. For ReLU about half of the units
# let the gradient pass.
#
# The way up is no better. **Predict.** How different are the states of a hundred different digits after
# twenty plain layers?

# %%
deep = norm.ResidualStack(20, 64, False, False, generator=lab.generator)
with torch.no_grad():
    for layer, state in enumerate(deep.states(x[:100])):
        if layer in (0, 1, 5, 10, 20):
            apart = (state - state.mean(0)).norm() / state.norm()
            print(f"after {layer:2d} layers: {apart:.0e} of the state differs from digit to digit")

# %% [markdown]
# What the last layer cannot tell apart no training of the last layer can part.
#
# Two short trainings, live: eight epochs each.

# %%
for kind in ("plain", "residual"):
    _, losses, accuracy = train(20, kind, seed=0)
    print(f"{kind:9s} loss {losses[0]:.3f} -> {losses[-1]:.3f}, test accuracy {accuracy:.1%}")
most = torch.bincount(y_test).max().item() / len(y_test)
print(f"always the most frequent digit: {most:.1%}")

# %% [markdown]
# ## Depth
#
# **Change** the depth. **Watch** the gradient's norm from layer to layer, before any training, and the
# loss epoch by epoch. From which depth on does the plain network not move at all, and how could the
# left picture have told you?


# %% tags=["centrepiece"]
def by_depth(depth):
    return figures_b09.depth_figure(result.arrays, result.tables["b09/runs"], depth=depth)


lab.explore(by_depth, depth=[20, *(d for d in DEPTHS if d != 20)])

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# A plain stack multiplies the gradient by a roughly constant factor below one at every layer: a straight
# line on the logarithmic axis. At 20 layers the first ones receive a millionth, and the loss stays at
# $\ln 10$, the loss of one who knows nothing. Skip paths add the identity to every Jacobian, and the line
# becomes flat. Normalisation is about speed: with it the same epochs go further.
#
# </details>

# %% [markdown]
# ## 3 · Eight paths
#
# Multiply out three linear residual blocks, $(I + W_3)(I + W_2)(I + W_1)$: a sum of eight products, one
# for every choice of blocks. The shortest path is the identity, and most paths are short. Exercise
# B09.3 builds them.

# %%
stack = norm.ResidualStack(3, 64, True, False, generator=lab.generator)
with torch.no_grad():
    states = stack.states(x[:5])
    by_hand = x[:5]
    for layer in stack.layers:
        by_hand = by_hand + layer(by_hand).relu()
assert torch.allclose(states[-1], by_hand)
sizes = [f"{state.norm():.2f}" for state in states]
print("size of the state after each block:", ", ".join(sizes))

# %% [markdown]
# ## 4 · Noise as a teacher
#
# Dropout keeps the mean and adds variance $x^2 (1 - p)/p$. Because the kept values are divided by $p$,
# nothing at all is to be done at test time.

# %%
ones = torch.ones(100_000)
for keep in (0.9, 0.5, 0.1):
    noisy = norm.dropout(ones, keep=keep, generator=lab.generator)
    theory = (1 - keep) / keep
    print(f"keep {keep}: mean {noisy.mean():.3f}, variance {noisy.var():.3f} ({theory:.3f})")

# %% [markdown]
# ## Exercises
#
# ### B09.1 · Batch norm with its buffers
#
# *(15 min, difficulty 2)*
#
# Write `batch_norm(x, mean, var, training)` for $x \sim (b, d)$ and running statistics of shape $(d)$; no
# scale and shift, $\epsilon = 10^{-5}$, momentum 0.1. Return the output and both running statistics
# after this batch, as torch would have them.


# %% tags=["exercise:B09.1"]
def batch_norm(x, mean, var, training):
    # SOLUTION
    if not training:
        return (x - mean) / (var + 1e-5).sqrt(), mean, var
    now = x.mean(0)
    y = (x - now) / (x.var(0, correction=0) + 1e-5).sqrt()
    return y, 0.9 * mean + 0.1 * now, 0.9 * var + 0.1 * x.var(0, correction=1)
    # END SOLUTION


# %% tags=["check:B09.1"]
lab.check("B09.1", batch_norm)

# %% [markdown] tags=["hint:B09.1"]
# Two variances of the same batch are needed: `x.var(0, correction=...)`.

# %% [markdown] tags=["solution-text:B09.1"]
# **Discussion.** Output and buffer use different variances on purpose: the output should have deviation
# exactly one in this batch, the buffer should estimate the population.

# %% [markdown]
# ### B09.2 · Dropout with a given mask
#
# *(6 min, difficulty 1)*
#
# Write `drop(x, keep, mask)`: inverted dropout where `mask` is True for values that stay.


# %% tags=["exercise:B09.2"]
def drop(x, keep, mask):
    # SOLUTION
    return x * mask / keep
    # END SOLUTION


# %% tags=["check:B09.2"]
lab.check("B09.2", drop)

# %% [markdown] tags=["hint:B09.2"]
# The mean over all masks must be `x` itself.

# %% [markdown] tags=["solution-text:B09.2"]
# **Discussion.** The other convention scales at test time instead; libraries rescale in training, so that a
# model that is only used never needs to know that dropout was there.

# %% [markdown]
# ### B09.3 · All paths
#
# *(12 min, difficulty 2)*
#
# Three linear blocks $h \leftarrow h + W_i h$. Write `all_paths(matrices, x)`: a list of $2^n$ vectors, one
# for every subset of blocks that a path goes through, in any order. Their sum is the output.


# %% tags=["exercise:B09.3"]
def all_paths(matrices, x):
    # SOLUTION
    paths = [x]
    for matrix in matrices:
        paths = paths + [matrix @ path for path in paths]
    return paths
    # END SOLUTION


# %% tags=["check:B09.3"]
lab.check("B09.3", all_paths)
blocks = [0.1 * torch.randn(64, 64, generator=lab.generator) for _ in range(3)]
print("sizes of the paths:", ", ".join(f"{p.norm():.2f}" for p in all_paths(blocks, x[0])))

# %% [markdown] tags=["hint:B09.3"]
# Each block doubles the list: every path so far goes on past it, or through it.

# %% [markdown] tags=["solution-text:B09.3"]
# **Discussion.** Remove one block from a trained plain network and nothing is left; remove one from a
# residual network and half of the paths remain (Veit et al., arXiv 1605.06431).

# %% [markdown]
# ### B09.4 · Decay or penalty?
#
# *(12 min, difficulty 3)*
#
# For plain gradient descent the penalty $\frac{\lambda}{2} \lVert w \rVert^2$ and shrinking the weights are
# the same. Write the *first* step of Adam (state zero; $\beta = (0.9, 0.999)$, $\epsilon = 10^{-8}$) as
# `adam_step(w, grad, lr, decay, decoupled)`: with `decoupled=False` the decay is a penalty in the
# gradient, with True it shrinks the weights by `lr * decay`, as AdamW does.


# %% tags=["exercise:B09.4"]
def adam_step(w, grad, lr, decay, decoupled):
    # SOLUTION
    if not decoupled:
        grad = grad + decay * w
    # after bias correction the first step's moments are grad and grad ** 2
    direction = grad / (grad.abs() + 1e-8)
    return w - lr * direction - (lr * decay * w if decoupled else 0)
    # END SOLUTION


# %% tags=["check:B09.4"]
lab.check("B09.4", adam_step)

# %% [markdown] tags=["hint:B09.4"]
# On the first step bias correction makes the first moment the gradient and the second its square.

# %% [markdown] tags=["hint:B09.4"]
# So Adam's first direction is the sign of the gradient, near enough. Where does the decay come in?

# %% [markdown] tags=["solution-text:B09.4"]
# **Discussion.** As a penalty, the decay of a weight is divided by the size of its own gradients: weights
# with large gradients are hardly regularised. Decoupling gives every weight the same relative
# shrinkage (Loshchilov and Hutter, arXiv 1711.05101).

# %% [markdown]
# ### B09.5 · Enough
#
# *(8 min, difficulty 1)*
#
# Write `stop_early(losses, patience)`: from the validation losses of epochs $0, 1, \dots$ return the epoch
# whose weights to keep, and the epoch after which training stops because `patience` epochs in a row
# brought nothing better than the best.


# %% tags=["exercise:B09.5"]
def stop_early(losses, patience):
    # SOLUTION
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        if epoch - best >= patience:
            return best, epoch
    return best, len(losses) - 1
    # END SOLUTION


# %% tags=["check:B09.5"]
lab.check("B09.5", stop_early)

# %% [markdown] tags=["hint:B09.5"]
# Remember the best epoch; its distance to the present one is the waiting time.

# %% [markdown] tags=["solution-text:B09.5"]
# **Discussion.** The best epoch is chosen on validation data, so its loss there is too good to report:
# the test set exists for that.

# %% [markdown]
# ## Where this goes
#
# **Back:** B06 computes these gradients, B07 has the blocks that one wants to stack. **On:** B10 stacks
# attention with the same skips and norms, P01 merges networks that were trained this way, P10 lets an
# input leave early because every block only *adds* to a state that is already usable.
#
# **Sources:** Ioffe and Szegedy, arXiv 1502.03167; He et al., arXiv 1512.03385; Ba et al., arXiv 1607.06450.
#
# **Open question.** If most paths through a residual network are short, is a very deep network one deep
# function, or a crowd of shallow ones?

# %% [markdown] tags=["optional"]
# ## Optional: how sure are these numbers?
#
# The mean test accuracy and its deviation over seeds, for every kind and depth.

# %% tags=["optional"]
for depth in DEPTHS:
    for kind in ("plain", "residual", "residual + norm"):
        found = [r["accuracy"] for r in result.where("b09/runs", kind=kind, depth=depth)]
        print(f"{depth:2d} {kind:16s} {np.mean(found):6.1%} ± {np.std(found, ddof=1):.1%}")
