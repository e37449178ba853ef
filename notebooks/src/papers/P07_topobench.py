# %% [markdown]
# # P07 · Does lifting a graph help?
#
# *Paper: Telyatnikov et al., "TopoBench: A Framework for Benchmarking Topological Deep Learning",
# JDMLR 2025, arXiv 2406.06642.*
#
# A graph can be *lifted*: to triangles, to polygons on its cycles, to hyperedges. Networks for these
# richer domains promise more than message passing on pairs. The paper's framework compares them under
# one protocol; its table finds no domain that always wins. Here is the same pipeline in readable parts.
#
# Reading: 35 min. Exercises: 60 min. Prerequisites: B12, P04.
#
# **Goals**
# - Lift a graph to four domains and count its holes.
# - Run one pipeline from data to score, part by part.
# - Tell a better domain from a lucky seed.

# %% tags=["setup"]
import labcore

lab = labcore.start("P07", seed=0)

# %%
import networkx as nx
import numpy as np
import torch

from labcore.topology import clique_complex, experiment, explorer, figures, lift
from labcore.topology.tally import best_by_domain, best_higher, distinct, paired, pick, score

result = experiment.load_result()  # measurements that come with the lab
runs = result.tables["runs"]
made = result.provenance
print(f"measured {made.created[:10]}, {made.cpu_seconds:.0f} CPU s: {made.command}")
print(f"{len(runs)} runs on {', '.join(distinct(runs, 'data'))}")

# %% [markdown]
# ## Recap
#
# A *simplicial complex* holds with every simplex all its faces. The boundary matrix $B_k$ has a column a
# $k$-simplex $(v_0 < \dots < v_k)$, with $(-1)^j$ in the row of the face without $v_j$. Then
#
# $$B_k B_{k+1} = 0, \qquad L_k = B_k^\top B_k + B_{k+1} B_{k+1}^\top .$$
#
# $L_0 = D - A$ is the graph Laplacian. The kernel of $L_k$ has dimension $\beta_k$, the number of
# $k$-dimensional holes, and $\sum_k (-1)^k n_k = \sum_k (-1)^k \beta_k$.

# %% [markdown]
# **Mind the convention.** "Unsigned" means two things. One may take $|L|$ at the end, or build $L$ from
# $|B|$. In a filled triangle the two parts of $L_1$ cancel off the diagonal, so that $|L_1|$ forgets
# neighbours that $|B|$ keeps. Common libraries do the first; exercise P07.5 shows what is lost. We call
# them `abs_after` and `unsigned_incidence`.
#
# ## 1 · One graph, six liftings

# %%
views = explorer.gallery("florentine")
lab.show(figures.lifting_gallery(views, graph="Florentine families"))
for name, seen in views:
    print(f"{name:20s} cells {seen.sizes}, holes {seen.betti or '-'}")

# %% [markdown]
# A lifting is one line; what goes in may be a networkx graph, a matrix, an edge index. Below, edges of
# the clique lifting by hand, then the library's boundary matrix, which must be the same.


# %%
def boundary_one(edges, n):
    matrix = np.zeros((n, len(edges)), dtype=int)
    for j, (u, v) in enumerate(edges):
        matrix[u, j], matrix[v, j] = -1, 1
    return matrix


families = lift(nx.florentine_families_graph(), "simplicial/clique", max_dim=2).complex
b1, b2 = families.boundary(1).toarray(), families.boundary(2).toarray()
assert (b1 == boundary_one(families.simplices(1), families.n)).all()
assert not (b1 @ b2).any()
lab.show(figures.matrix_signs(b2, name="B_2", rows="edge", columns="triangle"))

# %% [markdown]
# **Predict.** The families have 15 nodes, 20 edges and 3 triangles, and are connected. How many loops are
# not filled by a triangle? (Count: $15 - 20 + 3 = \beta_0 - \beta_1 + \beta_2$.)

# %%
spectra = {k: np.linalg.eigvalsh(families.laplacian(k).toarray().astype(float)) for k in range(3)}
lab.show(figures.spectra(spectra))
print("Betti numbers:", families.betti(), " Euler characteristic:", families.euler())

# %% [markdown]
# ## 2 · What only signs can tell
#
# A torus and a Klein bottle with the same numbers of nodes, edges and triangles: no count differs, and
# $\chi = 0$ for both. Holes differ, and over $\mathbb{Z}/2$, where signs vanish, they agree again.

# %%
from labcore.topology import surface

for name in ("torus", "Klein bottle"):
    one = surface(name, 10, 0).complex()
    print(f"{name:13s} {one.sizes}  chi {one.euler()}  {one.betti()}  mod 2: {one.betti('Z2')}")

# %% [markdown]
# Signs also split a flow on edges into a *gradient* (from potentials at nodes), a *curl* (from eddies in
# triangles) and a *harmonic* part, which runs around holes:
# $f = B_1^\top p + B_2 w + h$, three orthogonal parts.

# %%
from labcore.topology import hodge_decompose, holed_square
from labcore.topology.hodge import mixed_flow

square, places = holed_square(120)
flow = mixed_flow(square, places)
found = hodge_decompose(square, flow)
parts = {"flow": flow, "gradient": found.gradient, "curl": found.curl, "harmonic": found.harmonic}
assert abs(found.gradient @ found.curl) < 1e-9
for part in ("gradient", "curl", "harmonic"):
    lab.show(figures.flow_parts(places, square.simplices(1), parts, part=part))
print("holes of the square:", square.betti()[1])

# %% [markdown]
# ## The ring explorer
#
# To lift a graph to polygons one needs a set of cycles, and a cycle basis is not unique. The usual one
# comes from a spanning tree, which depends on how the nodes are *named*.
#
# **Change** the naming. **Watch** which bars move; then choose another graph.

# %% tags=["centrepiece"]


def rings(relabel, graph):
    lengths = explorer.ring_lengths(graph, relabel)
    return figures.ring_bars(lengths, graph=graph, relabel=relabel)


lab.explore(rings, relabel=(0, 9), graph=["les miserables", "karate", "petersen", "torus"])

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# Both bases have $m - n + c$ cycles. The lengths of the fundamental one change with the naming, and many
# are long: two rings fused into a false one. The minimum basis has the same lengths for every naming.
# On molecules this matters: the fundamental basis of MUTAG has dozens of rings longer than ten, which no
# chemist would draw. Two papers that lift "by cycles" may not have the same data.
#
# </details>

# %% [markdown]
# ## 3 · The pipeline, part by part
#
# load → preprocess → lift → tensors → model → train → evaluate. Each part is a function with a type; a
# benchmark is a table of choices for them. First every part by itself, then the same in one call.

# %%
from labcore.topology import pipeline
from labcore.topology.data import load, split
from labcore.topology.models import build
from labcore.topology.preprocess import preprocess

choice = pipeline.Choice("karate", "simplicial/clique", "sccnn-unsigned", width=16)
source = preprocess(load(choice.data), choice.preprocess)
topo = pipeline.lifted(source, choice.lifting, max_dim=2)
given = pipeline.tensors(topo, choice.model, choice.features)
masks = {name: torch.from_numpy(items) for name, items in split(source, 0).items()}
torch.manual_seed(0)
kind = {"level": source.level, "layers": choice.layers, "options": {}}
net = build(choice.model, given, choice.width, source.classes, **kind)
mine = pipeline.train(net, given, torch.from_numpy(source.y), masks, choice)
print("cells:", topo.sizes, " matrices:", sorted(given.m))
print("masks:", {name: len(items) for name, items in masks.items()}, f" test: {mine['test']:.3f}")

# %%
again = pipeline.run_choice(seed=0, **pipeline.as_params(choice, 0))
assert abs(again["test"] - mine["test"]) < 1e-6
other = pipeline.override(choice, ["model=cwn", "lifting=cell/cycle", "width=8"])
print("one call:", f"{again['test']:.3f}", " with three words changed:", end=" ")
print(f"{pipeline.run_choice(seed=0, **pipeline.as_params(other, 0))['test']:.3f}")

# %% [markdown]
# Two rules keep it honest: the epoch is chosen on *validation*, and the test part chooses nothing. One
# split is one number; the committed table has three to eight splits, and three baselines that anyone
# should beat: the majority class, the features alone, the *counts* of cells alone.
#
# ## 4 · The table
#
# **Predict.** A column is a data set, a row a model with its domain. How many columns will a graph
# network win?

# %%
lab.show(figures.table_map(runs))

# %% [markdown]
# Each domain's best network, by *validation*, with its test accuracy and the spread over splits:

# %%
for data in distinct(runs, "data"):
    print(data)
    for domain, label in best_by_domain(runs, data).items():
        s = score(runs, data, label)
        print(f"    {domain:13s} {s.mean:.3f} ± {s.sd:.3f}  {label}")

# %% [markdown]
# MUTAG: 188 molecules, mutagenic or not. Molecules have no triangles, so a simplicial network sees what
# a graph network sees. Rings, glued on as polygons, are another matter; but *walk counts* (how often a
# random walk comes back to an atom) tell a graph network of rings too.

# %%
lab.show(figures.leaderboard(runs, data="mutag"))
for label, control in (
    ("CWN on rings", "GIN"),
    ("CCCN on rings", "GIN"),
    ("GIN + walk counts", "GIN"),
    ("CCCN on rings", "GIN + walk counts"),
):
    gap = paired(runs, "mutag", label, control)
    print(f"{label} - {control}: {gap.mean:+.3f} ± {gap.error:.3f} (standard error)")

# %% [markdown]
# Rings help, and it does not take a new domain to tell a network of them: against a GIN that reads walk
# counts the lead is gone.

# %% [markdown]
# Which closed surface is this triangulation: sphere, torus, projective plane, Klein bottle? Node features
# are constant, so all knowledge is in the cells.
#
# **Predict.** How far do you get by counting the cells at each node?

# %%
lab.show(figures.leaderboard(runs, data="surfaces"))
lab.show(figures.leaderboard(runs, data="torus-or-klein"))
for label in ("cell counts only", "GIN", "SCCNN, signed", "SCCNN, unsigned"):
    s = score(runs, "torus-or-klein", label)
    print(f"torus or Klein bottle: {label:18s} {s.mean:.3f} ± {s.sd:.3f} (chance 0.5)")

# %% [markdown]
# Counts explain most of the first task. Where they are equal (second figure), everything we trained at
# this size stays near chance, signed networks too, although the answer is one rank away: $\beta_2$ is 1
# or 0. A few layers look a few triangles far; a hole is a fact about the whole.
#
# ## 5 · Does the domain matter?
#
# For each data set: the best network on cells or hyperedges minus the best on the graph, both chosen by
# validation, on the same splits.

# %%
lab.show(figures.domain_gain(runs))
lab.show(figures.cost(runs, data="digits"))

# %%
sure = []
for data in distinct(runs, "data"):
    label = best_higher(runs, data)
    if label:
        gap = paired(runs, data, label, best_by_domain(runs, data)["graph"])
        sure += [f"{data} ({label} {gap.mean:+.3f})"] if gap.mean > 2 * gap.error else []
print("better by more than two standard errors:", ", ".join(sure) or "nowhere")

# %% [markdown]
# Where the cells *are* the data (surfaces), the gain is large, and most of it is in the counts of cells. On
# lifted graphs it is a point or a tie, most of these networks cost several times as much, and no domain
# gains twice. Features of higher ranks are sums of node features (exercise P07.4): a lifting adds
# *structure*, never data. All this at small width, with three to eight splits.
#
# ## 6 · A lifting that would explode
#
# Triangles grow with the square of a hub's degree. The size is foretold before anything is made, and what
# is too large is refused with its number.

# %%
from labcore.topology import TooManySimplices, predicted_sizes
from labcore.topology.graphs import as_graph

crowd = nx.complete_graph(200)
print("foretold for 200 friends of each other:", predicted_sizes(as_graph(crowd), 4))
try:
    clique_complex(crowd, max_dim=4)
except TooManySimplices as error:
    print("refused:", error)
small = nx.les_miserables_graph()
print(
    "foretold", predicted_sizes(as_graph(small), 3), "made", clique_complex(small, max_dim=3).sizes
)

# %% [markdown]
# One more parameter to play with: *mapper* cuts a graph along a lens into overlapping slices. What does
# the overlap (`gain`) do to the number of hyperedges, and to their size?

# %%
for gain in (0.0, 0.3, 0.6, 0.9):
    held = lift(small, "hypergraph/mapper", gain=gain).complex
    mean = np.mean([len(edge) for edge in held.hyperedges])
    print(f"gain {gain:.1f}: {held.sizes[1]} hyperedges of {mean:.1f} nodes on average")

# %% [markdown]
# ## Exercises
#
# ### P07.1 · Counting cliques
#
# *(10 min, difficulty 2)*
#
# Write `clique_counts(adjacency, max_dim)`: how many simplices of rank 0, 1, ..., `max_dim` the clique
# complex of a graph has, as a tuple. For the karate club and rank 4 it is (34, 78, 45, 11, 2).


# %% tags=["exercise:P07.1"]
def clique_counts(adjacency, max_dim):
    # SOLUTION
    n = len(adjacency)
    cliques, counts = [(v,) for v in range(n)], [n]
    for _ in range(max_dim):
        cliques = [
            (*c, w) for c in cliques for w in range(c[-1] + 1, n) if all(adjacency[v, w] for v in c)
        ]
        counts.append(len(cliques))
    return tuple(counts)
    # END SOLUTION


# %% tags=["check:P07.1"]
lab.check("P07.1", clique_counts)
club = (nx.to_numpy_array(nx.karate_club_graph()) > 0).astype(int)
counts = clique_counts(club, 4)
chi = sum((-1) ** k * c for k, c in enumerate(counts))
print("the club:", counts, " Euler characteristic:", chi)

# %% [markdown] tags=["hint:P07.1"]
# Grow cliques: a clique of rank $k + 1$ is one of rank $k$ and a node joined to all of it.

# %% [markdown] tags=["hint:P07.1"]
# Only add nodes larger than the last one, so that each clique comes once.

# %% [markdown] tags=["solution-text:P07.1"]
# **Discussion.** This is the library's algorithm in slow motion: it keeps each rank as an array, tests all
# candidates at once, and notes the parent of each clique, which is all that boundary matrices need.

# %% [markdown]
# ### P07.2 · Holes
#
# *(12 min, difficulty 2)*
#
# Write `betti_numbers(boundaries)` for a list $B_1, B_2, \dots, B_R$ of matrices: the tuple
# $\beta_0, \dots, \beta_R$ with $\beta_k = n_k - \operatorname{rank} B_k - \operatorname{rank} B_{k+1}$.
# How many holes has the club?


# %% tags=["exercise:P07.2"]
def betti_numbers(boundaries):
    # SOLUTION
    sizes = [boundaries[0].shape[0], *(b.shape[1] for b in boundaries)]
    ranks = [0, *(int(np.linalg.matrix_rank(b)) for b in boundaries), 0]
    return tuple(n - ranks[k] - ranks[k + 1] for k, n in enumerate(sizes))
    # END SOLUTION


# %% tags=["check:P07.2"]
lab.check("P07.2", betti_numbers)
whole = clique_complex(nx.karate_club_graph(), max_dim=4)
print("holes of the club:", betti_numbers([whole.boundary(k).toarray() for k in range(1, 5)]))

# %% [markdown] tags=["hint:P07.2"]
# $B_0$ and $B_{R+1}$ are zero: their rank is 0.

# %% [markdown] tags=["hint:P07.2"]
# $n_0$ is the number of rows of $B_1$, $n_k$ the number of columns of $B_k$.

# %% [markdown] tags=["solution-text:P07.2"]
# **Discussion.** $n_k - \operatorname{rank} B_k$ counts closed chains, $\operatorname{rank} B_{k+1}$ those that are
# boundaries of something; the difference are the holes. Nine unfilled loops in the club, and
# $1 - 9 = -8$ is its Euler characteristic again.

# %% [markdown]
# ### P07.3 · Turn an edge round
#
# *(8 min, difficulty 1)*
#
# Orientations are a choice. Write `turned(b1, b2, edge)`: both matrices after one edge is given the other
# direction, as new arrays. The check also tries that the spectrum of $L_1$ stays.


# %% tags=["exercise:P07.3"]
def turned(b1, b2, edge):
    # SOLUTION
    first, second = b1.copy(), b2.copy()
    first[:, edge] *= -1
    second[edge] *= -1
    return first, second
    # END SOLUTION


# %% tags=["check:P07.3"]
lab.check("P07.3", turned)

# %% [markdown] tags=["hint:P07.3"]
# An edge is a column in one matrix and a row in the other.

# %% [markdown] tags=["hint:P07.3"]
# `first = b1.copy()`, then `first[:, edge] *= -1`.

# %% [markdown] tags=["solution-text:P07.3"]
# **Discussion.** With $Q$ the diagonal matrix of the signs, $L_1$ becomes $Q L_1 Q$: entries change, eigenvalues do
# not. A network on signed features should answer in the same way: turn an edge, and only that edge's
# feature changes its sign. That needs an odd nonlinearity and no bias.

# %% [markdown]
# ### P07.4 · Features for cells
#
# *(10 min, difficulty 2)*
#
# Write `projected_sum(x, boundaries)`: a list with the features of rank 0, 1, ..., each cell the sum of its
# *faces*. Start with ones on the nodes of a tetrahedron: what do triangles get, and the tetrahedron?


# %% tags=["exercise:P07.4"]
def projected_sum(x, boundaries):
    # SOLUTION
    features = [x]
    for b in boundaries:
        features.append(abs(b).T @ features[-1])
    return features
    # END SOLUTION


# %% tags=["check:P07.4"]
lab.check("P07.4", projected_sum)
four = clique_complex(nx.complete_graph(4), max_dim=3)
ones = projected_sum(np.ones((4, 1)), [four.boundary(k).toarray() for k in (1, 2, 3)])
print("ones on the nodes give", [float(value[0, 0]) for value in ones])

# %% [markdown] tags=["hint:P07.4"]
# One multiplication a rank, each from the rank below.

# %% [markdown] tags=["hint:P07.4"]
# The absolute value of $B_k$ says which faces a cell has; transpose it.

# %% [markdown] tags=["solution-text:P07.4"]
# **Discussion.** 1, 2, 6, 24: a $k$-simplex holds $k!$ times the sum of its nodes over and above $k + 1$ ones, since
# each node is reached along $k!$ chains of faces. It is a constant a rank: no information, only scale.

# %% [markdown]
# ### P07.5 · What an absolute value forgets
#
# *(8 min, difficulty 2)*
#
# Write `unsigned_laplacian(b1, b2)`: $L_1$ built from $|B_1|$ and $|B_2|$. Compare it with the absolute value
# of the signed $L_1$ on one filled triangle.


# %% tags=["exercise:P07.5"]
def unsigned_laplacian(b1, b2):
    # SOLUTION
    down, up = abs(b1), abs(b2)
    return down.T @ down + up @ up.T
    # END SOLUTION


# %% tags=["check:P07.5"]
lab.check("P07.5", unsigned_laplacian)
three = clique_complex(nx.complete_graph(3))
pair = [three.boundary(k).toarray() for k in (1, 2)]
print(unsigned_laplacian(*pair), abs(three.laplacian(1).toarray()), sep="\n\n")

# %% [markdown] tags=["hint:P07.5"]
# The absolute value comes first, the products after it.

# %% [markdown] tags=["hint:P07.5"]
# `abs(b1).T @ abs(b1)` is the lower part; the upper one has $|B_2|$ on both sides.

# %% [markdown] tags=["solution-text:P07.5"]
# **Discussion.** $|L_1| = 3I$: three edges of one triangle that do not know each other. From $|B|$ one gets
# $I + 2 \cdot 11^\top$. A benchmark whose "Laplacian" is the former gives its simplicial networks fewer
# neighbours than the graph has, exactly where there are triangles.

# %% [markdown]
# ### P07.6 · A fair comparison
#
# *(12 min, difficulty 2)*
#
# `ours` and `theirs` map seed → score. Write `judge(ours, theirs)`: over the seeds that both have, the mean
# difference, its standard error, and `"better"`, `"worse"` or `"tie"` by two standard errors.


# %% tags=["exercise:P07.6"]
def judge(ours, theirs):
    # SOLUTION
    seeds = sorted(set(ours) & set(theirs))
    gaps = np.array([ours[seed] - theirs[seed] for seed in seeds])
    mean, error = gaps.mean(), gaps.std(ddof=1) / np.sqrt(len(gaps))
    verdict = "tie" if abs(mean) <= 2 * error else ("better" if mean > 0 else "worse")
    return float(mean), float(error), verdict
    # END SOLUTION


# %% tags=["check:P07.6"]
lab.check("P07.6", judge)


def by_seed(data, label):
    return {row["seed"]: row["test"] for row in pick(runs, data=data, label=label)}


for data in ("karate", "mutag", "digits"):
    labels = distinct([r for r in pick(runs, data=data) if r["domain"] != "graph"], "label")
    named = [name for name in labels if name != "cell counts only" and "ablation" not in name]
    verdicts = [judge(by_seed(data, name), by_seed(data, "GCN"))[2] for name in named]
    print(data, {v: verdicts.count(v) for v in ("better", "tie", "worse")}, "than GCN")

# %% [markdown] tags=["hint:P07.6"]
# Subtract seed by seed first; the spread of the differences is what counts.

# %% [markdown] tags=["hint:P07.6"]
# Standard error: `gaps.std(ddof=1) / np.sqrt(len(gaps))`.

# %% [markdown] tags=["solution-text:P07.6"]
# **Discussion.** Both models meet the same hard splits, so most of the spread over seeds is common and cancels in the
# difference. Even so, the best of a dozen models beats the best of three by luck alone more often than
# not: choose each by validation, as `domain_gain` does, before comparing on test.

# %% [markdown]
# ## Where this goes
#
# **Back:** graphs and message passing are in B12; P04 is one of the models of the table. **On:** P02 looks
# into graph networks that have been trained.
#
# **Sources:** Telyatnikov et al., arXiv 2406.06642; Hajij et al. on topological deep learning, arXiv
# 2206.00606; MANTRA, triangulated surfaces as data, arXiv 2410.02392.
#
# **Open question.** Features of cells are copies of node features. Where are data sets whose cells have
# features of their own, and would the table look different there?
