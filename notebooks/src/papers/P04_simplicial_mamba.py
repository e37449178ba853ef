# %% [markdown]
# # P04 · What can a node read in its cells?
#
# *Paper: Montagna, Scardapane, Telyatnikov, "Topological Deep Learning with State-Space Models: A
# Mamba Approach for Simplicial Complexes", IJCNN 2025, arXiv 2409.12033.*
#
# A graph knows pairs. A simplicial complex knows groups: edges, triangles, tetrahedra. The paper
# writes down, for each node, one short sequence with a token for every rank of cells around it, and
# lets a Mamba block read it.
#
# Reading: 35 min. Exercises: 60 min. Prerequisites: B12, B13.
#
# **Goals**
# - Turn a graph into the sequences that its nodes read.
# - Write the scan of Mamba, and see what it forgets.
# - Judge the model beside simpler ones, and find a slip in its public code.

# %% tags=["setup"]
import labcore

lab = labcore.start("P04", seed=0)

# %%
import networkx as nx
import numpy as np
import torch

from labcore.topology import clique_complex, experiment, explorer, figures, rank_operators
from labcore.topology.tally import distinct, paired, pick, score

result = experiment.load_result()  # measurements that come with the lab
runs = result.tables["runs"]
made = result.provenance
print(f"measured {made.created[:10]}, {made.cpu_seconds:.0f} CPU s: {made.command}")

# %% [markdown]
# ## Recap
#
# $K_r$ are the $r$-simplices (with $r + 1$ nodes) of a complex on $n$ nodes, and
# $S_r \in \{0, 1\}^{n \times |K_r|}$ says which node is in which simplex. A cell's feature is the sum
# of its nodes' features, a node's token the sum of its cells' features:
#
# $$T_r = S_r S_r^\top X = P_r X, \qquad
# s_v = (t_{v,R}, \dots, t_{v,1}, x_v).$$
#
# Highest rank first, the node itself last: four tokens when $R = 3$.

# %% [markdown]
# **The scan.** A token $u_t$ chooses its own step $\Delta_t$, what is written ($B_t$) and what is read
# ($C_t$):
#
# $$h_t = e^{\Delta_t A} \odot h_{t-1} + \Delta_t B_t u_t, \qquad y_t = h_t C_t,$$
#
# with $A < 0$, so that a large step forgets more.
#
# **Mind the convention.** The Mamba paper states a zero-order hold, in which the weight of the input is
# $(e^{\Delta A} - 1)/A$; every public implementation uses $\Delta$ itself. The two differ by
# $O(\Delta^2)$. And $P_1 = A + D$ has a plus sign: it is the *signless* Laplacian.

# %% [markdown]
# ## 1 · From a graph to a sequence
#
# Zachary's karate club: 34 people, 78 friendships. Its cliques are the simplices.

# %%
club = clique_complex(nx.karate_club_graph(), max_dim=3)
print("cells by rank:", club.sizes, " holes by rank:", club.betti())
node = 33
seen = explorer.view("karate", "simplicial/clique", 3)
drawing = (seen.places, seen.edges, seen.cells)
lab.show(figures.complex_drawing(*drawing, node=node, title=f"Node {node} and its cells"))

# %% [markdown]
# Five lines make its sequence: sum over cells, and over cells again. The library's operators, made
# once and used in every layer, must give the same.


# %%
def tokens_by_loops(complex_, x, v):
    rows = []
    for k in range(complex_.dim, 0, -1):
        own = [cell for cell in complex_.simplices(k) if v in cell]
        rows.append(sum((x[cell].sum(0) for cell in own), np.zeros(x.shape[1])))
    return np.stack([*rows, x[v]])


x = np.random.default_rng(0).standard_normal((34, 12)).astype(np.float32)
operators = rank_operators(club)
tokens = operators.apply(torch.from_numpy(x)).numpy()
assert np.allclose(tokens[node], tokens_by_loops(club, x, node), atol=1e-4)
print("sequences:", tokens.shape, " ranks:", operators.ranks, " bytes:", operators.nbytes)
lab.show(figures.token_strip(tokens[node], operators.ranks, node=node))

# %% [markdown]
# **Predict.** Node 11 has a single friend. What does its sequence look like? And who in the club reads
# the longest rank-3 token?

# %%
lab.show(figures.token_strip(tokens[11], operators.ranks, node=11))
counts = operators.counts().numpy()
print("node 11 is in", counts[11].astype(int), "cells of rank", operators.ranks)
print("most tetrahedra:", int(counts[:, 0].argmax()), "in", int(counts[:, 0].max()))

# %% [markdown]
# ## 2 · A state-space model from scratch
#
# With constant $\Delta$, $B$ and $C$ the same map has three faces: a recurrence, a convolution with
# kernel $k_j = C \bar A^j \bar B$, and a lower-triangular matrix. All three give one output.

# %%
from labcore.blocks.selective import mamba_scan

t, delta, a, b, c = 24, 0.3, -1.0, 1.0, 1.0
signal = np.sin(np.arange(t) / 3.0)
kernel = c * np.exp(delta * a) ** np.arange(t) * delta * b
h, recurrence = 0.0, []
for value in signal:
    h = np.exp(delta * a) * h + delta * b * value
    recurrence.append(c * h)
convolution = np.convolve(signal, kernel)[:t]
matrix = np.array([[kernel[i - j] if i >= j else 0.0 for j in range(t)] for i in range(t)])


def tensor(values):
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1)


ones = torch.ones(1, t, 1, dtype=torch.float64)
scan = mamba_scan(tensor(signal), delta * ones, torch.tensor([[a]]).double(), b * ones, c * ones)
for other in (convolution, matrix @ signal, scan.flatten().numpy()):
    assert np.allclose(recurrence, other)
text = {"name": "The scan as a matrix", "rows": "token written", "columns": "token read"}
lab.show(figures.matrix_signs(matrix, **text))

# %% [markdown]
# ## 3 · Selective: the token chooses the step
#
# In Mamba, $\Delta_t$ comes from the token itself. Below, $e^{\Delta_t A}$ for a fresh block on the
# sequence of node 33, and again with all steps ten times as large.
#
# **Predict.** Which states empty first, and what is left of the tetrahedra when the node itself is read?

# %%
from labcore.blocks.mamba import MambaBlock

torch.manual_seed(0)
block = MambaBlock(12)
sequence = torch.nn.functional.layer_norm(torch.from_numpy(tokens[node]), (12,))
with torch.no_grad():
    step = block.inner(sequence[None])[1][0].mean(-1)  # (t,), mean over channels
names = [f"rank {r}" for r in operators.ranks] + ["itself"]
rates = -np.arange(1, 17)
for scale in (1.0, 10.0):
    decay = np.exp(scale * step.numpy()[:, None] * rates)
    lab.show(figures.decay_map(decay, names, scale=scale))
    print(f"x{scale:g}: of rank 3, the slowest state keeps {decay[1:, 0].prod():.2f} at the end")

# %% [markdown]
# ## The sequence explorer
#
# The scan as a matrix, $M_{ts} = C_t (\prod_{k=s+1}^{t} e^{\Delta_k A}) \Delta_s B_s$, is a *hidden
# attention*: how much the output at one token owes to each token read.
#
# **Change** the step, then the direction, then the node. **Watch** the last row, where the node itself
# is read, and which half of the picture is empty.

# %% tags=["centrepiece"]
from labcore.topology.scan_view import hidden_attention


def attention_figure(scale, mode, node):
    read = explorer.node_tokens("karate", "simplicial/clique", 3, node)
    found = hidden_attention(read.values, scale=scale, mode=mode)
    return figures.hidden_attention(found, read.names, mode=f"{mode}, node {node}")


directions = ["forward", "backward", "both", "as published"]
lab.explore(attention_figure, scale=(0.1, 10.0, 0.3), mode=directions, node=(0, 33))

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# Forward, the matrix is lower triangular: rank 3 cannot see the node, the node sees all. So with one
# direction the order of the ranks matters, with two it hardly does. Larger steps darken everything
# below the diagonal: the high ranks are forgotten before the node is read. *As published* is
# symmetric under a half turn, because its second half is the first one turned round. With four tokens
# and a convolution of width four in front, the scan is not the only thing that mixes ranks.
#
# </details>

# %% [markdown]
# ## 4 · The scan need not be a loop
#
# $(a', b') \circ (a, b) = (a'a, a'b + b')$ is associative, so a scan can be computed in rounds. Hillis
# and Steele double the reach in each round; Blelloch's tree sweeps up and down and does less work.

# %%
lab.show(figures.scan_tree(8, algorithm="hillis-steele"))
lab.show(figures.scan_tree(8, algorithm="blelloch"))

# %% [markdown]
# **Predict.** A node reads four tokens. On one core, which is fastest for thousands of such sequences: a
# loop over time, the doubling scan, or the tree?

# %%
import time

methods = ("fused", "sequential", "associative", "blelloch")
g = torch.Generator().manual_seed(0)
u, z = torch.randn(2, 512, 4, 32, generator=g)
B, C = torch.randn(2, 512, 4, 16, generator=g)
A = -torch.rand(32, 16, generator=g) - 0.1
wanted = mamba_scan(u, z.abs(), A, B, C, method="reference")
for method in methods:
    start = time.process_time()
    for _ in range(5):
        y = mamba_scan(u, z.abs(), A, B, C, method=method)
    spent = time.process_time() - start
    assert torch.allclose(y, wanted, atol=1e-4)
    print(f"{method:12s} {200 * spent:6.1f} ms, error {float((y - wanted).abs().max()):.0e}")

# %% [markdown]
# The loop wins: with four steps there is little to gain by rounds, and each round moves all states
# through memory. `fused` is the loop with its own gradient, in tiles that stay in the cache.
#
# ## 5 · The whole model, and simpler ones
#
# Encoder, two layers (tokens, LayerNorm, two Mamba blocks, sum over the sequence, residual), readout.
# Below: one seed live on the karate club, 30 % of the labels.

# %%
from labcore.topology import run_choice

CLIQUE = {"data": "karate", "lifting": "simplicial/clique", "width": 16}
choices = {
    "GCN": {**CLIQUE, "lifting": "graph/identity", "model": "gcn"},
    "SCCNN": {**CLIQUE, "model": "sccnn-unsigned"},
    "SimplicialMamba": {**CLIQUE, "model": "mamba", "lr": 0.003},
}
found = {
    name: run_choice(seed=0, split_seed=0, history=True, **choice)
    for name, choice in choices.items()
}
lab.show(figures.race({name: one["history"] for name, one in found.items()}, data="karate"))
for name, one in found.items():
    ms = 1000 * one["seconds"] / 60
    print(
        f"{name:16s} test {one['test']:.2f}, {one['parameters']:6d} parameters, {ms:.0f} ms an epoch"
    )

# %% [markdown]
# One seed on 34 nodes is an anecdote. The committed runs: eight splits of the club, three of 1797
# handwritten digits with 5 % of the labels. Three baselines read no structure at all.

# %%
for data in ("karate", "digits"):
    lab.show(figures.leaderboard(runs, data=data))
    for rival in ("features only (MLP)", "GCN", "SCN", "SCCNN, unsigned"):
        gap = paired(runs, data, "SimplicialMamba", rival)
        print(f"{data}: Mamba - {rival}: {gap.mean:+.3f} ± {gap.error:.3f} (standard error)")

# %% [markdown]
# Within three points of the simplicial networks on both, so competitive; on the digits behind a plain
# GCN, at many times its cost. **Predict.** Which part carries it? Keep everything and change one thing:
# the highest rank, the sequence model, the direction. *No sequence model* adds the tokens up unread.

# %%
lab.show(figures.ablation(runs))
rows = [row for row in runs if row["label"].startswith("ablation")]
data = rows[0]["data"]
whole = "ablation: max rank 3"
for label in distinct(rows, "label"):
    if label != whole:
        gap = paired(rows, data, whole, label)
        print(f"rank 3 - {label[10:]:18s} {gap.mean:+.3f} ± {gap.error:.3f}")
for label in ("features only (MLP)", "GCN"):
    s = score(runs, data, label)
    print(f"{data}: {label} {s.mean:.3f} ± {s.sd:.3f}; rank 3 {score(runs, data, whole).mean:.3f}")

# %% [markdown]
# Ranks above edges help clearly. The reader does not: tokens added up unread do as well, and so do a GRU,
# an S4D and the block as published. As far as these data can tell, the tokens do the work. That is a
# statement about a few hundred digits and graphs of this size, no more.
#
# ## 6 · A slip in the public code
#
# In the released code the backward output is replaced by the *flipped forward output*. Nothing
# crashes; half of the parameters never learn. One look at gradients finds it.

# %%
from labcore.topology.scan_view import branch_gradients

norms = {mode: branch_gradients(mode) for mode in ("true", "as_published")}
lab.show(figures.branch_bars(norms))

# %% [markdown]
# ## 7 · Limits
#
# **LayerNorm hides counts.** With constant features every token is a multiple of one vector, and the
# norm makes all of them equal: a node in one triangle and a node in five look alike. **Cells have no
# memory**: they are summed anew in every layer. **No triangles, no gain:** molecules read two tokens
# unless rings become cells.

# %%
from labcore.topology import SimplicialMamba

torch.manual_seed(0)
model = SimplicialMamba(2, 16, 3).eval()
with torch.no_grad():
    logits = model(torch.ones(34, 2), operators)
several = np.flatnonzero((counts > 0).all(1))
spread = float((logits[several] - logits[several[0]]).abs().max())
few, many = counts[several, 1].min(), counts[several, 1].max()
print(f"nodes with {few:.0f} to {many:.0f} triangles: logits differ by {spread:.0e}")
labels = distinct(pick(runs, data="surfaces"), "label")
for label in (name for name in labels if "Mamba" in name or "counts" in name):
    s = score(runs, "surfaces", label)
    print(f"which surface? {label:20s} {s.mean:.3f} ± {s.sd:.3f} (chance 0.25)")

# %% [markdown]
# ## Exercises
#
# ### P04.1 · The token operator
#
# *(8 min, difficulty 1)*
#
# Write `token_operator(simplices, n)`: the matrix $P = S S^\top$, `(n, n)`, of the simplices of one rank,
# given as rows of node numbers. Then check by eye that $P_1$ is adjacency plus degrees, and read the
# number of triangles at node 0 of the club from $P_2$.


# %% tags=["exercise:P04.1"]
def token_operator(simplices, n):
    # SOLUTION
    membership = np.zeros((n, len(simplices)))
    membership[simplices.T, np.arange(len(simplices))] = 1
    return membership @ membership.T
    # END SOLUTION


# %% tags=["check:P04.1"]
lab.check("P04.1", token_operator)
p1, p2 = (token_operator(club.simplices(k), 34) for k in (1, 2))
adjacency = nx.to_numpy_array(nx.karate_club_graph(), weight=None)
print("P_1 = A + D:", bool((p1 == adjacency + np.diag(adjacency.sum(0))).all()))
print("triangles at node 0:", p2[0, 0])

# %% [markdown] tags=["hint:P04.1"]
# First the membership matrix: a row a node, a column a simplex.

# %% [markdown] tags=["hint:P04.1"]
# `membership[simplices.T, np.arange(len(simplices))] = 1` fills all columns at once.

# %% [markdown] tags=["hint:P04.1"]
# Nodes by nodes is `membership @ membership.T`; the diagonal stays.

# %% [markdown] tags=["solution-text:P04.1"]
# **Discussion.** $P_r[v, v]$ counts the $r$-simplices at $v$, $P_r[u, v]$ those that hold both. For $r = 1$ two nodes
# share at most one edge, so off the diagonal $P_1$ is the adjacency. All entries together are
# $(r + 1)^2 |K_r|$.

# %% [markdown]
# ### P04.2 · Every node's sequence
#
# *(10 min, difficulty 2)*
#
# Write `node_sequences(x, simplices)`: for features `(n, d)` and a dictionary rank → simplices, the
# tokens `(n, ranks + 1, d)` in reading order.


# %% tags=["exercise:P04.2"]
def node_sequences(x, simplices):
    # SOLUTION
    ranks = sorted(simplices, reverse=True)
    tokens = [token_operator(simplices[k], len(x)) @ x for k in ranks]
    return np.stack([*tokens, x], axis=1)
    # END SOLUTION


# %% tags=["check:P04.2"]
lab.check("P04.2", node_sequences)
mine = node_sequences(x, {k: club.simplices(k) for k in (1, 2, 3)})
print("equal to the library's:", np.allclose(mine, tokens, atol=1e-4))

# %% [markdown] tags=["hint:P04.2"]
# A token matrix for each rank, then stack them along a new axis in the middle.

# %% [markdown] tags=["hint:P04.2"]
# `sorted(simplices, reverse=True)` gives the reading order; the node comes after all cells.

# %% [markdown] tags=["solution-text:P04.2"]
# **Discussion.** No order among the simplices of one rank is needed, so renaming nodes only renames rows: the
# model is equivariant by construction. A node in no simplex of a rank reads a zero there; ranks that
# the whole complex lacks are left out.

# %% [markdown]
# ### P04.3 · The selective scan
#
# *(15 min, difficulty 2)*
#
# Write `selective_scan(u, delta, A, B, C)` for one sequence: `u` and `delta` `(t, e)`, `A` `(e, n)`, `B`
# and `C` `(t, n)`; the state `(e, n)` begins at zero. Return `(t, e)`. A loop over time will do.


# %% tags=["exercise:P04.3"]
def selective_scan(u, delta, A, B, C):
    # SOLUTION
    h, outputs = np.zeros_like(A), []
    for step in range(len(u)):
        d = delta[step][:, None]
        h = np.exp(d * A) * h + d * B[step][None] * u[step][:, None]
        outputs.append(h @ C[step])
    return np.stack(outputs)
    # END SOLUTION


# %% tags=["check:P04.3"]
lab.check("P04.3", selective_scan)

# %% [markdown] tags=["hint:P04.3"]
# One line for the state, one for the output, in that order.

# %% [markdown] tags=["hint:P04.3"]
# `delta[t]` has a number a channel, `B[t]` a number a state: `[:, None]` and `[None]` make them meet.

# %% [markdown] tags=["hint:P04.3"]
# `h = np.exp(d * A) * h + d * B[t][None] * u[t][:, None]`, then `h @ C[t]`.

# %% [markdown] tags=["solution-text:P04.3"]
# **Discussion.** A step of zero changes nothing: the token is skipped. A large step empties the state and writes
# hard: the token is all that counts. So $\Delta$ is a gate, and it is the only place where the decay
# looks at the input.

# %% [markdown]
# ### P04.4 · Counting work
#
# *(8 min, difficulty 2)*
#
# Write `combinations(length)` for a power of two: how many combinations the loop, Hillis-Steele and
# Blelloch's tree (up and down) need, as a tuple of three. By hand for 4 first, on the pictures above.


# %% tags=["exercise:P04.4"]
def combinations(length):
    # SOLUTION
    rounds = length.bit_length() - 1
    doubling = sum(length - 2**i for i in range(rounds))
    return length - 1, doubling, 2 * (length - 1)
    # END SOLUTION


# %% tags=["check:P04.4"]
lab.check("P04.4", combinations)
for length in (4, 64, 4096):
    print(length, combinations(length))

# %% [markdown] tags=["hint:P04.4"]
# In the picture, count the squares of each round.

# %% [markdown] tags=["hint:P04.4"]
# In round $i$ (from 0), positions below $2^i$ are finished already.

# %% [markdown] tags=["solution-text:P04.4"]
# **Discussion.** For 4 tokens: 3, 5 and 6. Doubling does $L \log_2 L - L + 1$, the tree twice the loop. Rounds pay when
# there are more cores than work; a node with four tokens is the opposite case.

# %% [markdown]
# ### P04.5 · Two directions, truly
#
# *(8 min, difficulty 1)*
#
# Write `both_directions(forward, backward, x)`: the sum of what the two sequence models say about each
# token of `x` `(t, d)`. Each model reads its input from row 0 on and returns one row a token.


# %% tags=["exercise:P04.5"]
def both_directions(forward, backward, x):
    # SOLUTION
    return forward(x) + backward(x[::-1])[::-1]
    # END SOLUTION


# %% tags=["check:P04.5"]
lab.check("P04.5", both_directions)

# %% [markdown] tags=["hint:P04.5"]
# The backward model must get the sequence turned round. And its output?

# %% [markdown] tags=["hint:P04.5"]
# Two flips: one before the backward model, one after it.

# %% [markdown] tags=["solution-text:P04.5"]
# **Discussion.** With a sum over the sequence at the end, the published slip gives exactly twice the forward model:
# the model works, trains, and is half as large as its parameter count says. A test on gradients
# (section 6) or on the wrong answer (this check) finds it; a look at accuracy does not.

# %% [markdown]
# ### P04.6 · Give the counts back
#
# *(8 min, difficulty 1)*
#
# Write `with_counts(x, simplices)`: the features `x` and, for each rank *ascending*, one more column
# with the number of simplices at each node. The cell below shows that nodes differ again.


# %% tags=["exercise:P04.6"]
def with_counts(x, simplices):
    # SOLUTION
    ranks = sorted(simplices)
    counts = [np.bincount(simplices[k].ravel(), minlength=len(x)) for k in ranks]
    return np.column_stack([x, *counts]).astype(float)
    # END SOLUTION


# %% tags=["check:P04.6"]
lab.check("P04.6", with_counts)
richer = with_counts(np.ones((34, 2)), {k: club.simplices(k) for k in (1, 2, 3)})
torch.manual_seed(0)
with torch.no_grad():
    logits = SimplicialMamba(5, 16, 3).eval()(torch.tensor(richer).float(), operators)
print("logits now differ by", f"{float((logits[several] - logits[several[0]]).abs().max()):.2f}")

# %% [markdown] tags=["hint:P04.6"]
# The number of cells at a node is the diagonal of its token operator.

# %% [markdown] tags=["hint:P04.6"]
# `np.bincount(simplices[k].ravel(), minlength=len(x))` counts without any matrix.

# %% [markdown] tags=["solution-text:P04.6"]
# **Discussion.** The repair works because the encoder sees the counts before any norm. It also says something about
# the benchmark: where counts decide (which surface is this?), a model that cannot see them stays at
# chance however many ranks it reads.

# %% [markdown]
# ## Where this goes
#
# **Back:** message passing is in B12, recurrences and scans in B13. **On:** P07 asks the same question
# of twenty models on six data sets: when does lifting a graph help at all?
#
# **Sources:** Montagna et al., arXiv 2409.12033; Gu and Dao, Mamba, arXiv 2312.00752; a later bound on
# what such sequences can tell apart: CCMamba, arXiv 2601.20518.
#
# **Open question.** If adding the tokens up is as good as reading them on graphs of this size, is there
# a task in which the *order* of ranks must carry information?
