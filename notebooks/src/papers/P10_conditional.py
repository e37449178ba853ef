# %% [markdown]
# # P10 · How much of a network does each input need?
#
# *Paper: Scardapane, Baiocchi, Devoto, Marsocci, Minervini, Pomponi, "Conditional computation in
# neural networks: principles and research trends", 2024, arXiv 2403.07965.*
#
# The paper is a tutorial without a result table. What is tested here is the behaviour that it
# describes, on small vision transformers and real pictures.
#
# Reading: 40 min. Exercises: 60 min. Prerequisites: B11, P09.
#
# **Goals**
# - See experts, tokens and exits as one idea with one cost.
# - Train through a discrete choice, and know what that costs.
# - Judge a saving by its baselines, its oracle and a clock.

# %% tags=["setup"]
import labcore

lab = labcore.start("P10", seed=0)

# %%
import numpy as np
import torch

from labcore.conditional import figures
from labcore.conditional.experiment import load_result
from labcore.conditional.measure import distinct, over_seeds, pick

result = load_result()  # measurements that come with the lab
arrays, tables = result.arrays, result.tables
made = result.provenance
print(f"measured {made.created[:10]}, {made.cpu_seconds:.0f} CPU s: {made.command}")

# %% [markdown]
# ## Recap
#
# A layer $y = f(x, w)$ sees a set $S$: its input tokens, its blocks, or the layers of a stack. A
# *subsampler* $\Gamma$ keeps part of it, depending on a condition $x_c$:
#
# $$\Gamma(S, x_c) = M(x_c) \cdot S, \qquad M \in \{0, 1\}^{|S|}.$$
#
# Fewer tokens is *input sparsity*, fewer blocks *width sparsity* (experts), fewer layers *depth
# sparsity* (early exits). One unit counts them all: FLOPs executed over FLOPs of the whole.

# %% [markdown]
# **Mixture of experts.** A router gives $p_t = \mathrm{softmax}(x_t W)$; of $E$ experts the $k$ most
# probable run:
#
# $$y_t = \sum_{e \in S_t} g_{te}\, f_e(x_t).$$
#
# **Mind the convention.** $g = p / \sum_{S_t} p$ in some works (Mixtral), plain $p$ in others (Switch).
# And "the" balance loss of a widely used library sums its shares to $k$, so its minimum is $k$; ours
# is 1.

# %% [markdown]
# ## 1 · One mixture, four ways to run it
#
# First a loop that anybody can read; then the library's layer. Its four dispatchers differ in time
# only.

# %%
from labcore.conditional import MoELayer
from labcore.conditional.dispatch import DISPATCHERS


def by_loop(layer, x):
    p = (x @ layer.router.weight.T).softmax(-1)
    top = p.topk(layer.top_k, dim=-1)
    weights = top.values / top.values.sum(-1, keepdim=True)
    y = torch.zeros_like(x)
    for t in range(len(x)):
        for g, e in zip(weights[t], top.indices[t], strict=True):
            y[t] += g * layer.experts.one(x[t : t + 1], layer.experts.pieces()[e])[0]
    return y


layer = MoELayer(16, 32, num_experts=8, top_k=2, generator=lab.generator)
x = torch.randn(40, 16, generator=lab.generator)
with torch.no_grad():
    slow = by_loop(layer, x)
    for how in DISPATCHERS:
        layer.dispatch = how
        torch.testing.assert_close(layer(x), slow, rtol=1e-4, atol=1e-5)
cost = layer.cost()
print(f"five names, one result; {cost.ratio:.2f} of the FLOPs of all experts")

# %% [markdown]
# ## 2 · Who goes where
#
# The routers below were trained on a stream of digits and clothes, 20 classes. The class token and
# 16 patches of a test picture stand on the left.
#
# **Predict.** Without a balance loss, what share of the tokens will the busiest of eight experts
# get: 13 % (even), a quarter, or nearly all?

# %%
for arm in ("top-1, no balance", "top-1, balanced", "top-2, no balance", "top-2, balanced"):
    rows = pick(tables["experts"], arm=arm, tokens="patches", trained=True)
    for block in distinct(rows, "layer"):
        share = over_seeds(rows, "largest", layer=block)
        print(f"{arm:18s} block {block}: {share.mean:.2f} ± {share.error:.2f}, {share.n} seeds")

# %% [markdown]
# Uneven, but no collapse onto one: at this size and length of training the textbook story is only
# half of the truth. **Change** $k$, the noise, the capacity. **Watch** the sizes of the experts and the
# grey dotted lines, which are tokens that came to a full expert.


# %% tags=["centrepiece"]
def board(k, picture, noise, capacity, arm):
    return figures.switchboard(
        arrays[f"logits/{arm}/4"][picture],
        arrays[f"pictures/{arm}"][picture],
        k=k,
        noise=noise,
        capacity=capacity,
        title=arm,
    )


lab.explore(
    board,
    k=(1, 8),
    picture=(0, 11),
    noise=(0.0, 3.0),
    capacity=(0.0, 2.0),
    arm=["top-1, no balance", "top-1, balanced", "top-2, balanced"],
)

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# With $k = 8$ the mixture is dense: all lines are drawn, nothing is saved. Empty patches of one picture
# go to the same expert, because equal inputs give equal logits: the load within a picture is far
# more uneven than over a batch. Noise spreads them. A tight capacity drops tokens in order of their
# position, so the lower half of a picture suffers first.
#
# </details>

# %%
lab.show(figures.load_film(arrays["film/top-1, no balance"], layer=1, every=6, arm="no balance"))

# %%
lab.show(figures.load_film(arrays["film/top-1, balanced"], layer=1, every=6, arm="balanced"))

# %% [markdown]
# ## 3 · Do experts specialise?
#
# Mutual information of expert and class, in bits, beside two baselines: an untrained router, and
# shuffled classes. **Predict** which is larger for a class token: bits of class or of domain (digit or
# garment)?

# %%
from labcore.conditional.explorer import likes

arm = "top-2, balanced"
for tokens in ("patches", "class token"):
    rows = pick(tables["experts"], arm=arm, tokens=tokens, layer=4)
    after, before = pick(rows, trained=True), pick(rows, trained=False)
    bits = {
        name: over_seeds(after, f"{name}_bits").mean for name in ("class", "domain", "shuffled")
    }
    said = ", ".join(f"{name} {value:.2f}" for name, value in bits.items())
    print(f"{tokens}: {said}; untrained router {over_seeds(before, 'class_bits').mean:.2f}")
lab.show(figures.likes_map(likes(arrays, arm, 4, "patches"), arm=arm, layer=4, tokens="patches"))

# %% [markdown]
# The experts know something, of 4.3 bits that would name the class. Is the mixture worth it? The
# honest neighbours are a dense network of equal FLOPs and one of equal parameters.

# %%
for name in distinct(tables["mixture"], "arm"):
    rows = pick(tables["mixture"], arm=name)
    found = over_seeds(rows, "accuracy")
    print(f"{name:25s} {found.mean:.3f} ± {found.error:.3f} at {rows[0]['ratio']:.2f} of the FLOPs")

# %% [markdown]
# No network with hard choices is better than the *small* dense one, and one expert a token is worse:
# on so few pictures more parameters do not help (look at the large dense one), so there is nothing
# for experts to win. Only the soft mixture is better.

# %% [markdown]
# ## 4 · A gradient through a choice
#
# $z$ is drawn, $F(z)$ is paid; we need $\nabla_\theta\, E[F(z)]$. *Score function*: $(F(z) - c)\,\nabla\log p(z)$.
# *Straight-through*: forward the hard $z$, backward as if it were $p$. *Gumbel-softmax*: noise, then a
# soft maximum at temperature $\tau$.
#
# Five lines, and the library's exact gradient:

# %%
from labcore.conditional import exact_gradient


def enumerate_gradient(logits, cost):
    p = logits.softmax(-1)
    costs = cost(torch.eye(len(p), dtype=p.dtype))
    return p * (costs - (p * costs).sum())


def quadratic(z):
    return (z @ torch.linspace(0, 1, z.shape[-1], dtype=z.dtype) - 0.4).square()


logits = torch.randn(5, generator=lab.generator, dtype=torch.float64)
torch.testing.assert_close(enumerate_gradient(logits, quadratic), exact_gradient(logits, quadratic))
lab.show(figures.gradient_histogram(1.0, 0.5))

# %%
lab.show(figures.bias_and_spread(tables["estimators"], categories=16))

# %% [markdown]
# **Dead gates.** A dropped token behind a mask of $-\infty$ gets no gradient, so its gate can never learn
# that it was needed. A multiplicative mask has the same forward value and stays alive:
#
# $$A_{ij} = \frac{e^{P_{ij}} G_j}{\sum_k e^{P_{ik}} G_k}.$$

# %%
from labcore.conditional import masked_attention

scores = torch.randn(1, 1, 4, 4, generator=lab.generator)
value = torch.randn(1, 1, 4, 3, generator=lab.generator)
gate = torch.tensor([[1.0, 0.0, 1.0, 1.0]], requires_grad=True)
attention = masked_attention(scores, gate)
hidden = scores.masked_fill((gate[:, None, None] == 0) & ~torch.eye(4).bool(), -torch.inf)
torch.testing.assert_close(attention, hidden.softmax(-1))
(attention @ value)[..., 0, :].sum().backward()
print("gradient of every gate:", [round(g, 3) for g in gate.grad[0].tolist()])

# %% [markdown]
# ## 5 · Fewer tokens
#
# Canvases of 49 patches hold one digit and fragments of others, so it is known which patches
# matter. Random, class attention and merging need no training; the learned selector and halting were
# tuned for 1.5 epochs.

# %%
from labcore.conditional.explorer import canvas_panels

panels = canvas_panels(arrays, 0, "medium")
label = int(arrays["canvas/labels"][0])
lab.show(figures.canvas_tokens(arrays["canvas/images"][0], panels, label=label))

# %% [markdown]
# **Merging** matches tokens of two halves by cosine and averages the best $r$ pairs. A merged token
# that stands for $s$ others gets $+\log s$ on its attention logit. Then two *equal* tokens merge without
# any change of the output: an identity worth testing.

# %%
from labcore.blocks.vit import Attention
from labcore.conditional import bipartite_soft_matching, proportional_attention

with torch.no_grad():
    block, tokens = Attention(16, 2), torch.randn(1, 9, 16, generator=lab.generator)
    tokens[0, 4] = tokens[0, 3]  # two equal tokens
    step = bipartite_soft_matching(tokens, r=1)
    merged, size = step.merge(tokens)
    whole = proportional_attention(block, tokens)[0]
    fewer = proportional_attention(block, merged, size)[0]
    torch.testing.assert_close(step.unmerge(fewer), whole, rtol=1e-4, atol=1e-5)
print(f"{tokens.shape[1]} tokens became {merged.shape[1]}, sizes {size[0, :, 0].tolist()}")

# %% [markdown]
# The same in a real, pre-trained ViT-S: 24 pairs a block, a photograph of 576 patches. **Predict** for the
# figure below: at half of the FLOPs, which keeps more of the picture's feature, merging tokens or
# keeping those that the class token attends to? And is the latter better than chance?

# %%
from labcore.conditional.photo import kept_photo

lab.show(figures.merge_map(kept_photo(arrays, "china", 24)))

# %%
lab.show(figures.feature_kept(tables["photographs"]))

# %% [markdown]
# Merging, by far: an average of alike tokens still says what they said. Dropping loses it, and on two
# photographs class attention chooses hardly better than chance, because this network was never trained
# to live on what is left.

# %% [markdown]
# ## 6 · Fewer layers
#
# A head after every block; a sample leaves at the first head that is sure. **Predict**: is it better
# to train all heads with the trunk, or afterwards on a finished one?

# %%
from labcore.conditional.explorer import river_of

lab.show(figures.head_accuracy(tables["heads"]))

# %%
lab.show(figures.exit_river(river_of(arrays, "joint", "budget", 1 / 3, True), setting="a third"))

# %%
names = ("rules", "oracle", "heads")
lab.show(figures.exit_curves(*(tables[n] for n in names), training="joint"))

# %% [markdown]
# A real network is a *separate* case by nature: a pre-trained ViT-S was never trained for exits. Linear
# heads on its frozen features:

# %%
names = ("feature_heads", "feature_budgets", "feature_oracle")
lab.show(figures.real_exits(*(tables[n] for n in names)))

# %% [markdown]
# ## 7 · One axis, and a clock
#
# The same unit for all families. **Predict** before the second figure: which saving survives on a
# clock?

# %%
lab.show(figures.cost_accuracy(tables))

# %%
lab.show(figures.flops_and_time(tables))

# %% [markdown]
# **Discover**: a block's overhead does not shrink with its batch. Where survivors of several batches wait
# for each other, `net.predict(images, rule, batch=64)`, more than half of what the clock took back
# returns. What does a user pay for that who sends one picture at a time?
#
# ## Exercises
#
# ### P10.1 · The balance loss
#
# *(12 min, difficulty 2)*
#
# Write `balance(probs, index)`: $E \sum_e f_e P_e$ with $f_e$ the share of all $T k$ assignments that went to
# expert $e$, and $P_e$ the mean probability. `probs` is `(t, e)`, `index` `(t, k)`. It is 1 at balance. Is 1
# the smallest value?


# %% tags=["exercise:P10.1"]
def balance(probs, index):
    # SOLUTION
    experts = probs.shape[1]
    share = torch.bincount(index.reshape(-1), minlength=experts) / index.numel()
    return experts * (share * probs.mean(0)).sum()
    # END SOLUTION


# %% tags=["check:P10.1"]
lab.check("P10.1", balance)
odd = torch.tensor([[0.51, 0.49]] * 9 + [[0.0, 1.0]])
print(f"nine undecided tokens and a sure one: {balance(odd, odd.argmax(1)[:, None]):.4f}")

# %% [markdown] tags=["hint:P10.1"]
# Count first: how many of all assignments went to each expert?

# %% [markdown] tags=["hint:P10.1"]
# `torch.bincount(index.reshape(-1), minlength=experts)` divided by `index.numel()`.

# %% [markdown] tags=["solution-text:P10.1"]
# **Discussion.** It is not: shares and probabilities may disagree. Nine tokens lean to expert 1 by a
# hair, so $f_1 = 0.9$, but one very sure token pulls the mean probability to the other side.

# %% [markdown]
# ### P10.2 · Why one expert must not be renormalised
#
# *(8 min, difficulty 1)*
#
# Write `gates(logits, k)`: weights of the `k` chosen experts, largest first, `(t, k)`. They sum to 1 for
# $k > 1$. For $k = 1$ choose so that the router still learns.


# %% tags=["exercise:P10.2"]
def gates(logits, k):
    # SOLUTION
    top = logits.softmax(-1).topk(k, dim=-1).values
    return top if k == 1 else top / top.sum(-1, keepdim=True)
    # END SOLUTION


# %% tags=["check:P10.2"]
lab.check("P10.2", gates)

# %% [markdown] tags=["hint:P10.2"]
# What is $p / p$, and what is its derivative?

# %% [markdown] tags=["solution-text:P10.2"]
# **Discussion.** $p/p = 1$ is constant: the loss does not feel the router. Switch therefore scales the
# expert's output by $p$ itself.

# %% [markdown]
# ### P10.3 · The best baseline
#
# *(10 min, difficulty 2)*
#
# One draw of the score-function estimator is $(F - c)\, s$ with $E[s] = 0$. Find the $c$ with the smallest
# variance; write `best(p, costs, score)` for vectors over the values of $z$. By hand first: $p = 0.3$,
# $F = 5$ with probability $p$, else 2.


# %% tags=["exercise:P10.3"]
def best(p, costs, score):
    # SOLUTION
    weight = p * score**2
    return (weight * costs).sum() / weight.sum()
    # END SOLUTION


# %% tags=["check:P10.3"]
lab.check("P10.3", best)

# %% [markdown] tags=["hint:P10.3"]
# The mean does not depend on $c$. So minimise $E[(F - c)^2 s^2]$.

# %% [markdown] tags=["hint:P10.3"]
# Set the derivative by $c$ to zero: $E[(F - c)\, s^2] = 0$.

# %% [markdown] tags=["solution-text:P10.3"]
# **Discussion.** By hand: scores $1/0.3$ and $-1/0.7$, $c^* = 4.1$. The gradient is 3, the variance 80.05
# without a baseline and exactly 0 with $c^*$: two values and one constant leave nothing to vary.

# %% [markdown]
# ### P10.4 · Halting weights
#
# *(12 min, difficulty 2)*
#
# A token has halting scores `h` `(layers,)`. It halts at the first layer whose running sum reaches
# $1 - \varepsilon$, and at the last layer anyway. Layers before weigh `h`, the halting layer the remainder,
# layers after 0. Return the weights. By hand: $h = (0.3, 0.5, 0.9)$.


# %% tags=["exercise:P10.4"]
def halting(h, eps=0.01):
    # SOLUTION
    weights, spent = torch.zeros_like(h), 0.0
    for i in range(len(h)):
        if spent + h[i] >= 1 - eps or i == len(h) - 1:
            weights[i] = 1 - spent
            break
        weights[i] = h[i]
        spent = spent + h[i]
    return weights
    # END SOLUTION


# %% tags=["check:P10.4"]
lab.check("P10.4", halting)

# %% [markdown] tags=["hint:P10.4"]
# The weights of every token sum to exactly 1, also when the scores do not.

# %% [markdown] tags=["hint:P10.4"]
# Walk through the layers with the sum so far; the last one you visit gets `1 - spent`.

# %% [markdown] tags=["solution-text:P10.4"]
# **Discussion.** By hand: sums 0.3, 0.8, 1.7, so $N = 3$, remainder 0.2, weights (0.3, 0.5, 0.2), ponder cost
# $N + r = 3.2$. Only $r$ has a gradient; $N$ is a count.

# %% [markdown]
# ### P10.5 · Leave, on a budget
#
# *(10 min, difficulty 2)*
#
# Write `leave_at(confidence, threshold)`: for confidences `(heads, samples)` the head at which each
# sample leaves; who is never sure leaves at the last. The cell below then fits a threshold for 40 % of
# the cost on *validation* pictures and reports the cost on test.


# %% tags=["exercise:P10.5"]
def leave_at(confidence, threshold):
    # SOLUTION
    sure = confidence >= threshold
    last = torch.full(sure.shape[1:], len(sure) - 1)
    return torch.where(sure.any(0), sure.int().argmax(0), last)
    # END SOLUTION


# %% tags=["check:P10.5"]
lab.check("P10.5", leave_at)
sure = {}
for split in ("val", "test"):
    z = torch.from_numpy(arrays[f"exits/joint/{split}"].astype(np.float32))
    sure[split] = z.softmax(-1).amax(-1)


def spent(split, threshold):
    return ((leave_at(sure[split], threshold) + 1) / len(sure[split])).mean().item()


fitted = max((t for t in np.linspace(0.2, 1, 81) if spent("val", t) <= 0.4), default=0.2)
print(f"threshold {fitted:.2f}: {spent('val', fitted):.3f} on validation", end=", ")
print(f"{spent('test', fitted):.3f} on test")

# %% [markdown] tags=["hint:P10.5"]
# The first True of a column is its argmax; but what is the argmax of a column of False?

# %% [markdown] tags=["hint:P10.5"]
# `torch.where(sure.any(0), sure.int().argmax(0), last)`.

# %% [markdown] tags=["solution-text:P10.5"]
# **Discussion.** The two costs differ by sampling. Had the threshold been fitted on test pictures, the
# report would have shown the budget exactly, and nobody would learn what a deployment pays.

# %% [markdown]
# ### P10.6 · A leak
#
# *(8 min, difficulty 2)*
#
# In *expert choice*, each expert takes the `capacity` tokens with the largest probability (softmax over
# experts). Write `leaks(logits, changed, cut, capacity)`: True if any token *before* `cut` is taken by other
# experts under `changed`, which differs from `logits` only from `cut` on.


# %% tags=["exercise:P10.6"]
def leaks(logits, changed, cut, capacity):
    # SOLUTION
    def taken(z):
        p = z.softmax(-1)
        best_tokens = p.topk(capacity, dim=0).indices
        return torch.zeros_like(p).scatter(0, best_tokens, 1.0)[:cut]

    return bool((taken(logits) != taken(changed)).any())
    # END SOLUTION


# %% tags=["check:P10.6"]
lab.check("P10.6", leaks)

# %% [markdown] tags=["hint:P10.6"]
# Each column of the probabilities is one expert's ranking of all tokens.

# %% [markdown] tags=["hint:P10.6"]
# `p.topk(capacity, dim=0)`: down the columns. Compare rows before `cut` only.

# %% [markdown] tags=["solution-text:P10.6"]
# **Discussion.** A later token that an expert likes more pushes an earlier one out. In a decoder that is
# a look into the future; training loss falls, generation does not work. `MoELayer(causal=True)` warns.

# %% [markdown]
# ## Where this goes
#
# **Back:** attention is in B10, transformers in practice in B11; P09 sends selected tokens over a
# channel, P05 trains on them, P06 drops pairs of a cache.
#
# **Sources:** Scardapane et al., arXiv 2403.07965; Bolya et al., token merging, arXiv 2210.09461.
#
# **Open question.** All families save FLOPs here, few save time. Which selections could hardware like:
# those decided per token, per picture, or per batch?
