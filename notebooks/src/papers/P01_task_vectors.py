# %% [markdown]
# # P01 · Why does merging fine-tuned models hurt?
#
# *Paper: Gargiulo, Crisostomi, Bucarelli, Scardapane, Silvestri, Rodolà, "Task Singular Vectors:
# Reducing Task Interference in Model Merging", CVPR 2025, arXiv 2412.00081.*
#
# The paper merges CLIP vision transformers with up to 300 million parameters. Ours has 0.3 million,
# was pre-trained on 1200 characters and fine-tuned on twenty small picture tasks. Its widest matrix
# has rank 96, not 768: expect the same effects, weaker.
#
# Reading: 35 min. Exercises: 70 min. Prerequisites: B04, B10.
#
# **Goals**
# - See a fine-tuned model as a few directions in each matrix.
# - Measure how much the directions of different tasks collide, and whiten them.
# - Judge a merging claim by its baselines and its scale alpha.

# %% tags=["setup"]
import labcore

lab = labcore.start("P01", seed=0)

# %%
import numpy as np
import torch

from labcore.merging import figures, live
from labcore.merging.data import TASKS
from labcore.merging.experiment import load_result
from labcore.merging.tally import compression_means, means, method_mean
from labcore.tally import distinct, pick

result = load_result()  # measurements that come with the lab
tables = result.tables
bench = live.open_workbench()  # the base, twenty task vectors, 200 test pictures a task
eight = TASKS[:8]
made = result.provenance
print(f"measured {made.created[:10]}, {made.cpu_seconds:.0f} CPU s: {made.command}")
print("the first eight tasks:", ", ".join(eight))

# %% [markdown]
# ## Recap
#
# A base $\theta_0$ is fine-tuned on tasks $t = 1 \dots T$. A matrix of the network changes by
# $\Delta_t = W_t - W_0$, of size $m \times n$, with the singular value decomposition
#
# $$\Delta_t = U_t S_t V_t^\top, \qquad r = \min(m, n).$$
#
# The columns of $U_t$ and $V_t$ are the *task singular vectors*. **TSV-Compress** keeps the first $k$ of
# them for each task and rebuilds the one model that is asked for. **TSV-Merge** makes one model of
# all: keep $k = \lfloor r / T \rfloor$ of each task, put them side by side as $U = [U_1 \dots U_T]$ and
# $V$, and replace both by the nearest matrix with orthonormal columns:
#
# $$W = W_0 + \alpha\, U_\perp S V_\perp^\top, \qquad \alpha = 1 .$$

# %% [markdown]
# **How much do tasks collide?** Singular task interference counts overlaps of *both* sides, weighed
# by the singular values between them:
#
# $$\mathrm{STI} = \bigl\lVert (U^\top U - I)\, S\, (V^\top V - I) \bigr\rVert_1 ,$$
#
# the sum of absolute entries. It is zero when either side is orthogonal.
#
# **Mind the convention.** Accuracies are *normalised*: merged over the task's own fine-tuned model,
# the ratio for each task first, then the mean. 100 % means that merging cost nothing; a base that was
# never fine-tuned does not have 0 %.

# %% [markdown]
# ## 1 · A task is a few directions
#
# First the truncation itself in two lines, and the library's, which works on the small Gram matrix in
# double precision. They must agree.

# %%
from labcore.merging import truncated_svd

name = "blocks.1.mlp.fc1.weight"
delta = bench.models.task_vectors["greek"][name]


def truncate(matrix, k):
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u[:, :k] * s[:k] @ vh[:k]


factors = truncated_svd(delta, 12)
torch.testing.assert_close(truncate(delta, 12), factors.dense())
print(f"{name}: {tuple(delta.shape)}, 12 of {min(delta.shape)} components")
print(f"energy kept {factors.energy:.1%}, numbers kept {factors.rank * (sum(delta.shape) + 1):,}")

# %% [markdown]
# **Predict.** With an eighth of the components, how much of the squared norm is kept? And how much
# of the accuracy: more than that, or less?

# %%
matrices = tables["matrices"][: len(bench.parameters)]
spectra = result.arrays["spectra/0"]
lab.show(figures.spectra(spectra, matrices, eight, part="mlp.fc1", kept=1 / 8))

# %%
compressed = compression_means(result)
lab.show(figures.compression_curve(compressed))
for row in pick(compressed, tasks=8):
    print(
        f"{row['fraction']:6.1%} of the components: {row['ratio']:6.1%} of the size, energy "
        f"{row['energy']:.0%}, accuracy kept {row['normalized']:.1%}, worst {row['worst']:.0%}"
    )

# %% [markdown]
# Accuracy stays above energy, as the paper says: the lost directions are mostly not about the task.
# But the published **99 % at a tenth of the size** is not reached here. A matrix of rank 96 has five
# components in a tenth of its bytes; one of rank 768 has sixty. Low rank is counted in components, size in shares.
#
# One caution: TSV-Compress is told which task a picture belongs to. If a simple router has to guess
# it from the base's features, the router's mistakes come on top:

# %%
for count in distinct(tables["router"], "tasks"):
    rows = pick(tables["router"], tasks=count)
    right = np.mean([row["routed"] for row in rows])
    kept = np.mean([row["normalized"] for row in rows])
    print(f"{count:2d} tasks: {right:.0%} of pictures find their task, accuracy kept {kept:.0%}")

# %% [markdown]
# ## 2 · Two tasks in the plane
#
# Before eight tasks, two, with one direction each. The dashed arrows are $u_1$ and $u_2$, the solid ones
# what whitening makes of them. **Predict:** which arrow moves more, the stronger task's or the weaker's?

# %%
lab.show(figures.plane(40.0))
for angle in (80, 40, 10):
    print(angle, "degrees:", figures.plane(float(angle)).layout.meta["alt"].split(";")[0])

# %% [markdown]
# Both move by the same angle: the strengths $S$ play no part in the whitening. That is the price of a
# closed form. Near zero degrees a small difference between two tasks is blown up to a right angle.

# %% [markdown]
# ## 3 · Interference in a real layer
#
# The definition in five lines, and the library's number for the same eight tasks.

# %%
from labcore.merging import singular_task_interference

deltas = [bench.models.task_vectors[task][name] for task in eight]


def sti(deltas, k):
    kept = [truncated_svd(d, k) for d in deltas]
    u, v = (torch.cat(parts, 1) for parts in zip(*[(f.U, f.Vh.T) for f in kept], strict=True))
    s = torch.cat([f.s for f in kept]).diag()
    identity = torch.eye(len(s), dtype=s.dtype)
    return ((u.T @ u - identity) @ s @ (v.T @ v - identity)).abs().sum()


found = singular_task_interference(deltas)
torch.testing.assert_close(sti(deltas, 12), torch.tensor(found.value, dtype=torch.float64))
print(f"STI {found.value:.1f}, over the sum of singular values {found.normalized:.2f}")

# %% [markdown]
# ## The interference map
#
# **Change** the rank kept of each task, then the layer, then whitening. **Watch** the blocks beside the
# diagonal: each is one pair of tasks. Which pairs are light in every layer? What happens to the
# *leading* vectors (the corner of each block) compared with the rest?

# %% tags=["centrepiece"]
layers = [f"blocks.{b}.{part}.weight" for b in (1, 0, 3) for part in ("mlp.fc1", "attn.qkv")]


def interference_figure(rank, layer, whiten):
    seen = live.overlap(eight, layer, rank=rank, whiten=whiten)
    return figures.interference_map(
        seen.left,
        seen.right,
        seen.sizes,
        eight,
        whitened=whiten,
        parameter=layer,
        value=seen.value,
    )


lab.explore(interference_figure, rank=(1, 12), layer=layers, whiten=False)

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# Two random directions in 96 dimensions have a mean |cosine| of 0.08. At rank one the tasks of these
# layers have 0.1 to 0.6: their strongest directions lean on each other, as all first turn the same
# features of the base. At twelve components the mean falls to 0.1-0.2 but the number of overlapping
# pairs grows, and with it the interference. Whitening leaves the diagonal and nothing else. It cannot
# tell a shared direction that *helps* both tasks from one that harms.
#
# </details>

# %% [markdown]
# **Predict.** In which blocks of the network is interference largest: where pictures come in, or
# where the feature goes out? The paper finds the early layers of CLIP.

# %%
rows, pairs = live.interference(eight)
lab.show(figures.depth_bars(rows, tasks=8))
lab.show(figures.pair_map(pairs, eight))

# %% [markdown]
# ## 4 · The merge
#
# Four lines as the paper writes them, against the library, which never decomposes the stacked
# matrices (it needs only their Gram matrices) and is exact where copies or frozen layers make them
# rank-deficient.

# %%
from labcore.merging import tsv_merge_matrix


def merge_by_svd(deltas):
    k = min(deltas[0].shape) // len(deltas)
    u, s, vh = zip(
        *[torch.linalg.svd(d.double(), full_matrices=False) for d in deltas], strict=True
    )
    p, _, q = torch.linalg.svd(torch.cat([x[:, :k] for x in u], 1), full_matrices=False)
    a, _, b = torch.linalg.svd(torch.cat([x[:k] for x in vh]), full_matrices=False)
    return p @ q * torch.cat([x[:k] for x in s]) @ (a @ b)


torch.testing.assert_close(merge_by_svd(deltas), tsv_merge_matrix(deltas), rtol=1e-7, atol=1e-9)
twice = tsv_merge_matrix([deltas[0], deltas[0]])
torch.testing.assert_close(twice, truncate(deltas[0], 48))
print("a model merged with itself is itself, cut to half of its rank")

# %% [markdown]
# Now the whole model, live, on 200 test pictures a task: the eight updates whitened and added once.

# %%
scores = live.scores(eight, "tsv_m", 1.0)
lab.show(figures.task_bars(scores.base, scores.merged, scores.own))
print(f"TSV-Merge at 1: {scores.normalized:.1%}")
for other, alpha in (("task_arithmetic", 1.0), ("task_arithmetic", 0.2), ("average", 1.0)):
    print(f"{other} at {alpha:g}: {live.scores(eight, other, alpha).normalized:.1%}")

# %% [markdown]
# ## 5 · Alpha
#
# Task arithmetic has to find its scale on validation data. TSV-Merge promises that 1 is near the
# best. **Predict:** will 1 still be near the best with twenty tasks?

# %%
for count in distinct(tables["alpha"], "tasks"):
    mine = method_mean(tables["accuracy"], "tsv_m", count)
    lost = 100 * (mine.tuned.normalized - mine.one.normalized)
    print(f"{count:2d} tasks: best alpha {mine.alpha:.2f}; alpha = 1 loses {lost:.1f} points")
lab.show(figures.alpha_curves(tables["alpha"], tasks=8))

# %% [markdown]
# TSV-Merge stands near its best at 1; the sum of all updates has a narrow optimum and collapses soon
# after it. Yet 1 is no law: whitening keeps every singular value, and twenty tasks bring twenty sets of
# them, so the best scale slides down as tasks are added. It also hangs on how large the updates are: with a
# shorter pre-training and three times the learning rate, 1 lost 2, 8 and 13 points in our trials.

# %% [markdown]
# ## 6 · Every merger
#
# All on the same task vectors, each with its best alpha of one grid on validation pictures.

# %%
lab.show(figures.method_bars(means(result), tasks=8))
for count in distinct(tables["accuracy"], "tasks"):
    here = [m for m in means(result) if m.tasks == count]
    best = sorted(here, key=lambda m: -m.tuned.normalized)[:3]
    said = (f"{m.method} {m.tuned.normalized:.1%} ± {m.spread:.1%}" for m in best)
    print(f"{count:2d} tasks, {len(best[0].by_seed)} pre-training seeds: {', '.join(said)}")

# %%
lab.show(figures.ablation(means(result), tasks=8))
lab.show(figures.storage(tables["compression"], model_bytes=live.model_bytes()))

# %% [markdown]
# ## 7 · A real language model, on disk
#
# The same merge needs no test pictures and no pictures at all: SmolLM2-135M was fine-tuned here, all
# weights, on a novel, on speeches and on programs. `lab merge` reads the four checkpoints one tensor
# at a time. **Predict:** does one merged model keep the gain on all three?

# %%
language = load_result("language")
lab.show(figures.language_losses(language.tables["losses"]))
for row in language.tables["merges"]:
    print(
        f"{row['method']:16s} {row['tensors']} tensors in {row['shards']} shards, at most "
        f"{row['peak_bytes'] / 1e6:.0f} MB of memory"
    )

# %% [markdown]
# Here the plain sum is *best*, better than each model on its own text: what one fine-tune learned about
# long texts helped the others. Whitening takes some of that shared gain away; it cannot tell help from
# harm. And in thirty layers interference hardly falls:

# %%
lab.show(figures.depth_bars(language.tables["interference"], tasks=3))

# %% [markdown]
# ## Exercises
#
# ### P01.1 · Whitening
#
# *(10 min, difficulty 1)*
#
# Write `whiten(x)`: the matrix with orthonormal columns that is nearest to `x` (m × k, full column rank)
# in the Frobenius norm. With the thin SVD $X = P D Q^\top$ it is $P Q^\top$. Check for yourself that
# $\lVert X_\perp - X \rVert_F^2 = \sum_j (D_j - 1)^2$.


# %% tags=["exercise:P01.1"]
def whiten(x):
    # SOLUTION
    p, _, qh = torch.linalg.svd(x, full_matrices=False)
    return p @ qh
    # END SOLUTION


# %% tags=["check:P01.1"]
lab.check("P01.1", whiten)

# %% [markdown] tags=["hint:P01.1"]
# Which part of the SVD stretches, and which parts only turn? Leave the stretching out.

# %% [markdown] tags=["hint:P01.1"]
# `torch.linalg.svd(x, full_matrices=False)` returns $P$, $D$ and $Q^\top$ (already transposed).

# %% [markdown] tags=["solution-text:P01.1"]
# **Discussion.** $PQ^\top = X (X^\top X)^{-1/2}$, since $X^\top X = Q D^2 Q^\top$. The distance is the
# distance of the singular values from one: tasks whose vectors overlap most give the $D_j$ farthest
# from one, and are moved most.

# %% [markdown]
# ### P01.2 · TSV-Merge
#
# *(15 min, difficulty 2)*
#
# Write `merge(deltas)` for a list of T matrices of one shape: keep $\min(m, n) // T$ components of
# each, whiten the stacked left and right vectors, and put the singular values back between them. You
# may use `whiten`.


# %% tags=["exercise:P01.2"]
def merge(deltas):
    # SOLUTION
    k = min(deltas[0].shape) // len(deltas)
    parts = [torch.linalg.svd(d, full_matrices=False) for d in deltas]
    u = torch.cat([u[:, :k] for u, _, _ in parts], dim=1)
    s = torch.cat([s[:k] for _, s, _ in parts])
    v = torch.cat([vh[:k].T for _, _, vh in parts], dim=1)
    return whiten(u) * s @ whiten(v).T
    # END SOLUTION


# %% tags=["check:P01.2"]
lab.check("P01.2", merge)

# %% [markdown] tags=["hint:P01.2"]
# The order of the tasks does not matter, but it must be the same for U, S and V.

# %% [markdown] tags=["hint:P01.2"]
# `u * s` scales the columns of `u`: no diagonal matrix is needed.

# %% [markdown] tags=["solution-text:P01.2"]
# **Discussion.** The result is already an SVD up to order: its singular values are the pooled kept
# values of all tasks, so its nuclear norm is their sum. The sum of task arithmetic has no such law:
# aligned tasks add up, opposed ones cancel.

# %% [markdown]
# ### P01.3 · Interference
#
# *(10 min, difficulty 2)*
#
# Write `interference(deltas, k)`: the STI of the recap, with `k` components of each task. By hand
# first: $\Delta_1 = 3 e_1 e_1^\top$, $\Delta_2 = 2 a b^\top$ with $a = (0.6, 0.8)$, $b = (0.8, 0.6)$, $k = 1$.


# %% tags=["exercise:P01.3"]
def interference(deltas, k):
    # SOLUTION
    parts = [torch.linalg.svd(d, full_matrices=False) for d in deltas]
    u = torch.cat([u[:, :k] for u, _, _ in parts], dim=1)
    s = torch.cat([s[:k] for _, s, _ in parts])
    v = torch.cat([vh[:k].T for _, _, vh in parts], dim=1)
    identity = torch.eye(len(s), dtype=s.dtype)
    return ((u.T @ u - identity) * s @ (v.T @ v - identity)).abs().sum().item()
    # END SOLUTION


# %% tags=["check:P01.3"]
lab.check("P01.3", interference)

# %% [markdown] tags=["hint:P01.3"]
# Both Gram matrices are Tk × Tk. What stands on their diagonals before the identity is taken away?

# %% [markdown] tags=["hint:P01.3"]
# The norm is the sum of absolute entries.

# %% [markdown] tags=["solution-text:P01.3"]
# **Discussion.** By hand: $u_1 \cdot u_2 = 0.6$, $v_1 \cdot v_2 = 0.8$. The product has the diagonal
# $0.6 \cdot 2 \cdot 0.8 = 0.96$ and $0.6 \cdot 3 \cdot 0.8 = 1.44$ and nothing else: 2.4.

# %% [markdown]
# ### P01.4 · Copies of one model
#
# *(12 min, difficulty 3)*
#
# Merge T copies of one model and every vector overlaps fully with its twins. Show that the STI is
# $T (T-1)^2$ times the sum of the kept singular values. Write `copies(singular_values, tasks)` for a
# descending spectrum of length r.


# %% tags=["exercise:P01.4"]
def copies(singular_values, tasks):
    # SOLUTION
    kept = singular_values[: len(singular_values) // tasks]
    return float(tasks * (tasks - 1) ** 2 * kept.sum())
    # END SOLUTION


# %% tags=["check:P01.4"]
lab.check("P01.4", copies)

# %% [markdown] tags=["hint:P01.4"]
# With $J$ the T × T matrix of ones, $U^\top U - I = (J - I) \otimes I_k$.

# %% [markdown] tags=["hint:P01.4"]
# The product is $(J - I)^2 \otimes S$. Sum the entries of $(J - I)^2$.

# %% [markdown] tags=["solution-text:P01.4"]
# **Discussion.** $(J - I)^2 = (T - 2) J + I$ has the entry sum $(T - 2) T^2 + T = T (T - 1)^2$. Although STI is
# at its worst, merging loses nothing but rank: the minimum-norm polar factor gives the
# truncation back. Interference between *copies* is no harm; the number cannot know.

# %% [markdown]
# ### P01.5 · What TSV-Compress costs
#
# *(8 min, difficulty 1)*
#
# Write `ledger(m, n, tasks)`: the largest rank at which the factors of one m × n update take fewer
# numbers than the update itself, and how many dense copies all tasks together cost at rank
# $\min(m, n) // T$.


# %% tags=["exercise:P01.5"]
def ledger(m, n, tasks):
    # SOLUTION
    triple = m + n + 1
    k = min(m, n) // tasks
    return (m * n - 1) // triple, tasks * k * triple / (m * n)
    # END SOLUTION


# %% tags=["check:P01.5"]
lab.check("P01.5", ledger)

# %% [markdown] tags=["hint:P01.5"]
# A triple is a column of U, a row of $V^\top$ and a singular value.

# %% [markdown] tags=["hint:P01.5"]
# "Fewer" is strict: try 5 × 5 by hand, where two triples take 22 numbers and three take 33.

# %% [markdown] tags=["solution-text:P01.5"]
# **Discussion.** For 768 × 3072: rank 614 still saves, 615 does not. All tasks cost 1.25 copies for
# every T that divides 768, which is why the bars of TSV-Compress hardly grow with T.

# %% [markdown]
# ### P01.6 · Above chance?
#
# *(10 min, difficulty 2)*
#
# Two random k-dimensional subspaces of $\mathbb{R}^m$ with orthonormal bases $U_1, U_2$: what is the
# expected $\lVert U_1^\top U_2 \rVert_F^2$? Write `chance(m, k)`. The cell after the check holds two real
# tasks against it.


# %% tags=["exercise:P01.6"]
def chance(m, k):
    # SOLUTION
    return k * k / m
    # END SOLUTION


# %% tags=["check:P01.6"]
lab.check("P01.6", chance)

# %%
seen = live.overlap(("mnist", "hebrew"), "blocks.1.mlp.fc2.weight", rank=12)
shared = float((seen.left[:12, 12:] ** 2).sum())
print(
    f"left vectors of mnist and hebrew: {shared:.2f}; chance in 96 dimensions {chance(96, 12):.2f}"
)

# %% [markdown] tags=["hint:P01.6"]
# Turn the space so that $U_2$ is the first k axes. What share of a random unit vector lies there?

# %% [markdown] tags=["hint:P01.6"]
# Each of the k columns of $U_1$ has the expected share $k/m$.

# %% [markdown] tags=["solution-text:P01.6"]
# **Discussion.** By symmetry each squared coordinate of a unit vector has mean $1/m$. Real tasks
# share far more than chance: fine-tuning moves a model along directions that the base prefers.

# %% [markdown]
# ## Where this goes
#
# **Back:** linear models and their least squares are in B04, attention and its matrices in B10. **On:** P05 asks
# which tokens and layers fine-tuning needs, P10 keeps the experts apart and routes between them instead of
# merging.
#
# **Sources:** Gargiulo et al., arXiv 2412.00081; Ilharco et al., task arithmetic, arXiv 2212.04089;
# Marczak et al., Iso-C and Iso-CTS, arXiv 2502.04959.
#
# **Open question.** Whitening treats every overlap as harm. Which data-free number could tell a
# shared direction that helps both tasks from one that harms?

# %% [markdown] tags=["optional"]
# ## Optional: any tasks
#
# Choose tasks, method and alpha. Try the four kinds of digits alone.

# %% tags=["optional"]
chosen = ("mnist", "uci_digits", "mnist_turned", "mnist_inverted")
for method, alpha in (("tsv_m", 1.0), ("task_arithmetic", 0.25), ("iso_c", 1.0)):
    print(f"{method:16s} {live.scores(chosen, method, alpha).normalized:.1%}")
