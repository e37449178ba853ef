# %% [markdown]
# # P05 · Which layers and tokens deserve compute?
#
# *Paper: Devoto, Alvetreti, Pomponi, Di Lorenzo, Minervini, Scardapane, "Adaptive Layer Selection for
# Efficient Vision Transformer Fine-Tuning", arXiv 2408.08670; journal version Neurocomputing 2025.*
#
# The paper fine-tunes ViT-B and DeiT at 224 pixels on GPUs. Here a real ViT-S (DINOv2) sees 26 tokens
# on one CPU core, and a small ViT learns beside it. Sizes differ; the rule is the same.
#
# Reading: 30 min. Exercises: 55 min. Prerequisites: B10, B11.
#
# **Goals**
# - Follow a layer's budget through a fine-tuning run and say what moves it.
# - Drop tokens and freeze layers without paying for what nobody reads.
# - Tell what each lever saves, in FLOPs, seconds and bytes.

# %% tags=["setup"]
import labcore

lab = labcore.start("P05", seed=0)

# %%
import numpy as np
import torch

from labcore.finetuning import experiment, figures
from labcore.finetuning.tally import distinct, over_runs, paired, pick

result = experiment.load_result()  # measurements that come with the lab
arrays, tables = result.arrays, result.tables
made = result.provenance
print(f"measured {made.created[:10]}, {made.cpu_seconds:.0f} CPU s: {made.command}")

# %% [markdown]
# ## Recap
#
# A layer $l$ of a ViT turns tokens $x_{l-1}$ into $x_l$; $c_l$ is the class token after it. ALaST gives
# every layer a **budget** $b_l \in (0, 1]$ and asks after every step how far the layer moved $c$:
#
# $$D_l = \frac{1}{B} \sum_{\text{batch}} \lVert c_l - c_{l-1} \rVert^2, \qquad
# b_l \leftarrow \operatorname{clip}\bigl(b_l + \alpha (D_l - D_l^{\text{before}})\bigr).$$
#
# The budget is spent twice. $K$ layers are drawn with weights $b$ and trained, the others are frozen for
# the step. And layer $l$ passes on only $\lfloor b_l n_l \rfloor$ of its $n_l$ patches, those that the class
# token attends to. Dropped patches never return, so shares multiply.
#
# **Mind the convention.** Sources disagree on the starting budget (1 or 0.9), the clip range, mean or sum
# over the batch, and the weights of the draw. The lab keeps both readings, `paper()` and `coauthor()`, and
# adds one of its own, `calibrated()`.

# %% [markdown]
# ## 1 · Class attention without the matrix
#
# Fused attention never shows its weights. One more product, of a single query with all keys, gives the one
# row that the selection needs. First the plain way, then the library's; they must agree.

# %%
from labcore.blocks.class_attention import class_attention
from labcore.course.comparing import close

q, k = torch.randn(2, 3, 17, 8), torch.randn(2, 3, 17, 8)  # batch, heads, tokens, head size
matrix = (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1)
row = matrix[:, :, 0, 1:].mean(1)  # class token's row, its own column left out
close(class_attention(q, k), row)
print(f"{matrix.numel()} weights for {row.numel()} numbers that are read")

# %% [markdown]
# ## 2 · Dropping for real
#
# Masking a token costs as much as keeping it. Here rows are copied into a shorter tensor: prefix first, old
# order kept, ties to the lower index.

# %%
from labcore.blocks.gather import select_tokens

x = torch.randn(2, 17, 24)
kept, index = select_tokens(x, row, num_keep=6)
for b in range(2):  # the same by hand
    best = sorted(sorted(range(16), key=lambda j: -row[b, j].item())[:6])
    assert index[b].tolist() == best
    close(kept[b], x[b, [0, *(j + 1 for j in best)]])
print(kept.shape, index[0].tolist())

# %% [markdown]
# **Predict.** A block computes attention, then an MLP, then tokens are dropped. For a token that is about
# to be dropped, which of its query, key, value and MLP does anybody still read?

# %% [markdown]
# <details>
# <summary>Answer</summary>
#
# Its key and value: the survivors read them in this block's attention. Its query, output projection and
# MLP only change itself, and it is gone. So choose the survivors as soon as queries and keys are there, and
# compute the rest for them alone. The result is the same; the next cell checks it. In the last block only
# the class token survives.
#
# </details>

# %%
from labcore.finetuning import ALaST, ALaSTConfig, run_block, run_block_reference
from labcore.finetuning.models import small_vit

model = small_vit().train()
view = ALaST(model).trunk.views[0]
tokens = model.embed(torch.randn(4, 1, 28, 28))
early, late = run_block(view, tokens, 30), run_block_reference(view, tokens, 30)
assert torch.equal(early.kept, late.kept)
close(early.tokens, late.tokens)
print("same survivors, same values:", tuple(early.tokens.shape))

# %% [markdown]
# ## 3 · One step
#
# `ALaST` wraps the model: ours, timm's, or Hugging Face's. A step reports what it did and what it cost. In
# `eval` mode the model is untouched.

# %%
wrapped = ALaST(model, ALaSTConfig.calibrated(num_trainable_layers=4))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
batch = torch.randn(16, 1, 28, 28), torch.randint(10, (16,))
for _ in range(3):
    report = wrapped.step(torch.nn.functional.cross_entropy, batch, optimizer)
    print(report)  # layers count from 0
print("budgets", np.round(report.budgets, 3), "tokens", report.tokens)

# %% [markdown]
# ## The budget film
#
# **Change** the rule and the step. **Watch** which rows change colour at all, and what that does to the
# tokens on the right. Before you start: with a mean delta of order one and a learning rate of $3 \cdot
# 10^{-4}$, how far can a budget of the preprint's rule move in one step?

# %% tags=["centrepiece"]
steps = arrays["small/alast_calibrated/budgets"].shape[0]


def film(step, rule):
    start = f"small/{rule}/"
    parts = [arrays[start + name] for name in ("budgets", "trained", "tokens")]
    return figures.budget_film(*parts, step=step, strategy=rule, model="small")


lab.explore(film, step=(1, steps), rule=["alast_calibrated", "alast_coauthor", "alast_paper"])

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# With the preprint's rule almost every row stays at 1: the scale of the delta times the learning rate
# decides, and it is tiny. Summed over the batch the same rule moves the last layer most, because deltas grow
# with depth (on the real model by four orders of magnitude). The calibrated rule hands out the same mean
# budget whatever the scale, and its shares follow the *relative* delta.
#
# One thing more: count the preprint's tokens, 50, 49, 48, 47, 46, 45. A budget of 0.9999 of 49 patches is 48
# after rounding down: a layer that may spend "everything" still drops a patch, whatever its delta.
#
# </details>

# %% [markdown]
# ## 4 · Two deltas, two rankings
#
# The photograph goes through the real ViT-S at 224 pixels. Left the distance itself, right the same over
# the class token's own squared length.

# %%
photo = {name: arrays[f"photo/china/{name}"] for name in ("absolute", "relative", "pixels", "kept")}
lab.show(figures.delta_profile_figure(photo["absolute"], photo["relative"], picture="china"))

# %% [markdown]
# And these are the patches that the class token keeps, when every layer passes on nine tenths.

# %%
from labcore.finetuning.settings import BUDGETS

sheet = photo["kept"][BUDGETS.index(0.9)]
lab.show(figures.filmstrip_figure(photo["pixels"], sheet, budget=0.9, picture="china"))

# %% [markdown]
# ## 5 · Where the FLOPs go
#
# A frozen layer above the lowest trained one still does two thirds of its work: forward, and the gradient
# of its input. **Predict** the saving of training 9 layers of 12 before you run the cell.

# %%
from labcore.blocks.cost import DEIT_SMALL, kept_tokens, training_flops

full = training_flops(DEIT_SMALL, freeze_embedding=False).total
nine = [layer for layer in range(12) if layer not in (3, 7, 11)]
for b in (1.0, 0.95, 0.9, 0.8):
    less = training_flops(DEIT_SMALL, kept_tokens([b] * 12, 196), nine).total
    print(f"K = 9, budget {b}: {full / less:.2f} times fewer FLOPs")

# %%
lab.show(figures.flops_figure(trained=9, budget=0.9))

# %% [markdown]
# ## 6 · What it saves and what it loses
#
# Accuracy on test pictures that chose nothing, against CPU time, on the real model. All start from the same
# linear probe; read the bars before you rank points.

# %%
lab.show(figures.trade_off(tables["runs"], tables["clock"], model="vit-s"))

# %%
for model in ("vit-s", "small"):
    runs = pick(tables["runs"], model=model)
    print(
        f"{model}: {runs[0]['test']} test pictures, minus full on the same seeds ± standard error"
    )
    for name in distinct(runs, "strategy"):
        score, gap = over_runs(runs, "accuracy", strategy=name), paired(runs, name, "full")
        print(f"  {name:17s}{score.mean:7.1%} ± {score.sd:.1%}  {gap.mean:+6.1%} ± {gap.error:.1%}")
    base = pick(tables["baselines"], model=model)
    for name in distinct(base, "baseline"):
        score = over_runs(base, "accuracy", baseline=name)
        print(f"  {name:35s}{score.mean:7.1%} ± {score.sd:.1%}")

# %% [markdown]
# On the real model the readings that halve the cost lose one or two points of accuracy, more than the half
# point of the paper; the preprint's reading loses nothing and saves little. The standard errors say how
# little three seeds can tell. Full fine-tuning of the *small* model stays below a regression on plain
# pixels: there "no loss" would say nothing.

# %%
lab.show(figures.race(tables["race"], strategies=["full", "last_k", "alast_calibrated", "lora"]))

# %% [markdown]
# ## 7 · The method or the library?
#
# A clock times a program. `ALaST` also sends large matrix products through the faster of the two libraries
# that torch carries, which has nothing to do with layers or tokens: on a processor where the two differ it
# speeds up any other step as much. **Predict** which of the four numbers below may stand beside the paper's
# 1.3, then run the cells. Full fine-tuning is `ALaST` with every budget at 1 and every saving off: the same
# numbers, bit for bit. The table above was measured without it.

# %%
from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.finetuning.reports import Savings

size = ViTConfig(
    patch_size=4, hidden_size=192, depth=12, num_heads=3, mlp_ratio=4.0, num_classes=10
)
ALL = ALaSTConfig(12, rule="difference", budget_lr=0.0, init_budget=1.0, freeze_embedding=False)


def seconds(config, fast):
    net = VisionTransformer(size, generator=torch.Generator().manual_seed(0)).train()
    off = dict.fromkeys(
        ("no_graph_prefix", "early_drop", "class_only", "lean_mlp"), config is not ALL
    )
    wrapped = ALaST(net, config, savings=Savings(**off, fast_products=fast))
    optimizer, took = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True), []
    for _ in range(4):
        step = wrapped.step(torch.nn.functional.cross_entropy, batch, optimizer, measure=False)
        took.append(step.cpu_seconds)
    return min(took)


# %%
for theirs, ours in ((False, False), (False, True), (True, False), (True, True)):
    ratio = seconds(ALL, theirs) / seconds(ALaSTConfig.calibrated(), ours)
    print(f"faster product: full {theirs!s:5}, ALaST {ours!s:5} {ratio:5.2f} times less CPU time")

# %% [markdown]
# Only the first and the last compare like with like. `lab bench finetuning` prints both kinds of row, also
# against a plain ALaST step: with equal products little is left there, since the plain step needs hardly
# more FLOPs.

# %% [markdown]
# ## Exercises
#
# Five of them; each check compares your answer with a reference on fixed and on random inputs.
#
# ### P05.1 · The update
#
# *(10 min, difficulty 1)*
#
# Write `budgets`: the budget after each step for a sequence of `deltas`. The delta before the first step
# counts as 0, the budget before it is `start`. Clip after every step.


# %% tags=["exercise:P05.1"]
def budgets(deltas, alpha, start=1.0, low=1e-6, high=1.0):
    # SOLUTION
    budget, previous, found = start, 0.0, []
    for delta in deltas:
        budget = min(max(budget + alpha * (delta - previous), low), high)
        previous = delta
        found.append(budget)
    return np.array(found)
    # END SOLUTION


# %% tags=["check:P05.1"]
lab.check("P05.1", budgets)
print(budgets([3, 1, 2.5, 4, 0.5, 0, 6], alpha=0.1))

# %% [markdown] tags=["hint:P05.1"]
# Two numbers have to be remembered from step to step.

# %% [markdown] tags=["hint:P05.1"]
# `budget + alpha * (delta - previous)`, then clip, then `previous = delta`.

# %% [markdown] tags=["solution-text:P05.1"]
# **Discussion.** Without clips the sum telescopes to $b_0 + \alpha (D_i - D_0)$: the budget has no memory
# at all. What looks like an accumulated judgement is the present delta on another scale.

# %% [markdown]
# ### P05.2 · The drawdown
#
# *(15 min, difficulty 3)*
#
# Start at 1, clip at 1 from above, and let the lower clip never act. Prove on paper that the budget is one
# minus $\alpha$ times the fall of the delta from its running maximum, then write `drawdown` without a loop.


# %% tags=["exercise:P05.2"]
def drawdown(deltas, alpha):
    # SOLUTION
    deltas = np.asarray(deltas)
    return 1 - alpha * (np.maximum.accumulate(deltas) - deltas)
    # END SOLUTION


# %% tags=["check:P05.2"]
lab.check("P05.2", drawdown)

# %% [markdown] tags=["hint:P05.2"]
# Each time the clip acts, the delta is at a new maximum. What is the budget there?

# %% [markdown] tags=["hint:P05.2"]
# `np.maximum.accumulate` gives the running maximum.

# %% [markdown] tags=["solution-text:P05.2"]
# **Discussion.** Let $M_i$ be the running maximum. If $b_{i-1} = 1 - \alpha (M_{i-1} - D_{i-1})$, the
# unclipped new value is $1 - \alpha (M_{i-1} - D_i)$. It exceeds 1 exactly if $D_i > M_{i-1}$, and then the
# clip puts 1 and $M_i = D_i$. So "initial budget 1" can only measure how far a delta has fallen.

# %% [markdown]
# ### P05.3 · Two draws
#
# *(10 min, difficulty 2)*
#
# Two layers are drawn one after the other, weights `weights`, without replacement. Return each layer's chance
# to be drawn. By hand first: (1, 0.5, 0.5) gives (5/6, 7/12, 7/12).


# %% tags=["exercise:P05.3"]
def inclusion(weights):
    # SOLUTION
    weights = np.asarray(weights, dtype=float)
    total = weights.sum()
    found = weights / total  # first
    for m, w in enumerate(weights):  # second, after m
        others = np.arange(len(weights)) != m
        found = found + others * (w / total) * weights / (total - w)
    return found
    # END SOLUTION


# %% tags=["check:P05.3"]
lab.check("P05.3", inclusion)
print(inclusion([1, 0.5, 0.5]) * 12)

# %% [markdown] tags=["hint:P05.3"]
# A layer comes first, or it comes second after one of the others.

# %% [markdown] tags=["solution-text:P05.3"]
# **Discussion.** `BudgetSchedule.inclusion_probabilities` does this for any K by walking all subsets. With
# `softmax(b)` on [0.5, 1] the largest odds are $e^{0.5} = 1.65$: the co-author's draw is nearly uniform.

# %% [markdown]
# ### P05.4 · What changes the loss?
#
# *(5 min, difficulty 2)*
#
# For each of the four, with weights as they are: does the loss of *this* batch change? Fill in True or False.

# %% tags=["exercise:P05.4"]
# loss_changes: a dict of four bools
loss_changes = None
# SOLUTION
loss_changes = {
    "fewer trained layers": False,
    "smaller budgets": True,
    "no graph below the lowest trained layer": False,
    "dropped tokens skip their MLP": False,
}
# END SOLUTION

# %% tags=["check:P05.4"]
lab.check("P05.4", loss_changes)

# %% [markdown] tags=["hint:P05.4"]
# The keys are "fewer trained layers", "smaller budgets", "no graph below the lowest trained layer",
# "dropped tokens skip their MLP". Ask for each whether any number that reaches the head is another.

# %% [markdown] tags=["solution-text:P05.4"]
# **Discussion.** Freezing and graphs act on the backward pass. A smaller budget removes keys and values that
# later layers would have read, so the forward pass itself changes: the only lossy lever of the four.

# %% [markdown]
# ### P05.5 · The prefix without a graph
#
# *(15 min, difficulty 3)*
#
# K of L layers are drawn uniformly, the embedding is frozen. On average, how many layers need a backward
# pass: the lowest drawn one and all above it? Then find the K at which that is half of L = 12.


# %% tags=["exercise:P05.5"]
def expected_backward(depth, k):
    # SOLUTION
    return (depth + 1) * k / (k + 1)
    # END SOLUTION


# %% tags=["check:P05.5"]
lab.check("P05.5", expected_backward)
for k in (1, 2, 4, 9):
    print(f"K = {k}: {expected_backward(12, k):.2f} of 12 layers")

# %% [markdown] tags=["hint:P05.5"]
# K points cut L + 1 gaps on a line into K + 1 pieces of equal mean length: the lowest of K uniform layers
# is on average layer $(L + 1)/(K + 1)$.

# %% [markdown] tags=["solution-text:P05.5"]
# **Discussion.** $L - \frac{L+1}{K+1} + 1 = \frac{(L+1)K}{K+1}$. Even K = 1 needs 6.5 of 12 layers: at no K
# above zero does the prefix alone halve the backward pass. At the paper's K = 9 it saves 2.5 %. The prefix is
# free, and it is no replacement for dropping tokens.

# %% [markdown]
# ## Where this goes
#
# **Back:** attention is in B10, what makes it run in B11. **On:** P09 asks which patches are worth sending
# through a channel, P10 which parts of a network an input needs at all.
#
# **Sources:** Devoto et al., arXiv 2408.08670; Oquab et al., DINOv2, arXiv 2304.07193.
#
# **Open question.** Budgets here follow how far a layer moves the class token *forward*. Would the gradient's
# size, which is free once the backward pass ran, tell better which layers to train next?
