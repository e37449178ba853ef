# %% [markdown]
# # P02 · Where and when did the network look?
#
# *Paper: Guerra, Scardapane, Bianchi, "Interpreting Temporal Graph Neural Networks with Koopman
# Theory", 2024, arXiv 2410.13469.*
#
# A recurrent graph network says that an infection is real. Its hidden states are the only witness. Can
# a *linear* model of them tell when the infection spread, and through whom? We rebuild the method, run
# it on real contact networks, and hold every score against answers that never saw the network.
#
# Reading: 35 min. Exercises: 60 min. Prerequisites: B12, B13.
#
# **Goals**
# - Fit a linear operator to hidden states and read its modes.
# - Rank the edges of a graph by sparse regression, without an arbitrary sign in the answer.
# - Audit an explanation with trivial baselines.

# %% tags=["setup"]
import labcore

lab = labcore.start("P02", seed=0)

# %%
import numpy as np
import torch

from labcore import assets
from labcore.koopman import experiment, explorer, figures
from labcore.koopman.names import mean_of, networks, values
from labcore.koopman.spectrum import lottery, spectrum

result = experiment.load_result()  # measurements that come with the lab
made = result.provenance
# the real contact networks are read from the data; the synthetic one needs none
real = assets.status("contacts") == "ready"
network = "highschool2012" if real else "synthetic"
print(f"measured {made.created[:10]}, {made.cpu_seconds:.0f} CPU s: {made.command}")
print("network here:", network if real else "synthetic; ./lab fetch contacts for the others")

# %% [markdown]
# ## Recap
#
# A temporal graph has contacts $A_t$ and an infected flag $x_t$ per person. The network updates one state
# per person,
#
# $$h_{t+1} = F(h_t, x_{t+1}, A_{t+1}),$$
#
# with LSTM gates $A_t z W_n + z W_r + b$, $z = [x, h]$; a linear readout of the last states gives the class.
#
# Koopman's idea: a nonlinear $F$ acts *linearly* on functions of the state. If the coordinates $z_t$ (a PCA of
# the states) are rich enough, $z_{t+1} \approx K z_t$. With $K v_i = \lambda_i v_i$ and $w_i^\top K = \lambda_i
# w_i^\top$, the eigenfunction $\varphi_i(z) = w_i^\top z$ obeys
#
# $$\varphi_i(z_{t+1}) = \lambda_i \, \varphi_i(z_t).$$

# %% [markdown]
# **The method.** Project the graph's state on the leading mode: $p_t = z_t^\top v_0$. Where $|p'_t|$ is large,
# something happens (*when*). A node whose last projection is far from the average matters (*where*).
#
# **The data.** Class 1: a simulated infection on real contacts; each contact passes it on with probability
# one half. Class 0: as many infected people at random times. Who infected whom is known, so an
# explanation can be right or wrong.
#
# **Mind the side.** The published code projects on the *right* eigenvector; eigenfunctions need the *left*
# one. They agree only if $K$ is normal.

# %% [markdown]
# ## 1 · An infection on contacts
#
# In bin $s$ a healthy person with $k$ infected contacts is infected with probability $1 - (1-p)^k$, from bin
# $s + 1$ on. With $p = 1$ the arrival times on a constant graph must be graph distances.

# %%
from labcore.koopman import simulate_si


def spread(A, p, rng, seed_node):
    infected_at = np.full(A.shape[1], -1)
    infected_at[seed_node] = 0
    for s in range(len(A) - 1):
        k = (A[s] * (infected_at >= 0)[:, None]).sum(axis=0)
        caught = (rng.random(len(k)) < 1 - (1 - p) ** k) & (infected_at < 0)
        infected_at[caught] = s + 1
    return infected_at


ring = np.roll(np.eye(12), 1, axis=1)
A = np.repeat((ring + ring.T)[None], 10, axis=0).astype(np.uint8)
ours = spread(A, 1.0, np.random.default_rng(0), 0)
theirs = simulate_si(A, 1.0, np.random.default_rng(0), seed_node=0)
assert np.array_equal(ours, theirs)
assert ours.tolist() == [min(v, 12 - v) for v in range(12)]
print("arrival times on a ring:", ours.tolist())

# %% [markdown]
# Now graphs of both classes from the network.
#
# **Predict.** In class 1 every infection (but the first) has an infected contact one bin before. In class 0,
# which share has one by chance?

# %%
from labcore.koopman import dissemination_dataset, explained_share

data = dissemination_dataset(network, 160, seed=7)
for label in (1, 0):
    rows = np.flatnonzero(data.y == label)
    shares = [explained_share(data.A[i], data.infected_at[i]) for i in rows]
    print(f"class {label}: {np.nanmean(shares):.2f} of infections explained, {len(rows)} graphs")

# %% [markdown]
# ## 2 · The network
#
# One gate first: with sum aggregation it is two matrix products. The library's cell makes all four gates
# at once, and what $x$ brings for all steps at once; the states must not change.

# %%
from labcore.koopman.cells import GraphLSTMCell
from labcore.koopman.steps import DenseSteps


def lstm(cell, x, A):  # x (t, n, f), A (t, n, n)
    h = c = torch.zeros(x.shape[1], cell.hidden)
    states = []
    for x_t, A_t in zip(x, A, strict=True):
        z = torch.cat([x_t, h], dim=-1)
        i, f, g, o = (cell.neighbour(A_t @ z) + cell.root(z)).chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return torch.stack(states)


torch.manual_seed(0)
cell = GraphLSTMCell(1, 4)
x = torch.from_numpy(data.x[0])[..., None]
A = torch.from_numpy(data.A[0]).float()
fast = cell(x[:, None], DenseSteps(A[None]))[:, 0]
torch.testing.assert_close(lstm(cell, x, A), fast, atol=1e-5, rtol=1e-4)
print("states agree:", tuple(fast.shape))

# %% [markdown]
# **Train it**, small and short. The validation part is looked at, and chooses nothing. The networks behind
# the figures below were trained longer, on 240 graphs.

# %%
from labcore.koopman import DynGCRNN, Training, fit
from labcore.koopman.training import curve_accuracy

torch.manual_seed(0)
small = DynGCRNN(1, 12, 1)
history = fit(small, data, Training(epochs=12, batch=16))
print("validation accuracy:", np.round(history.accuracy, 2))
print(f"from the infected-count curve alone: {curve_accuracy(data):.2f}")

# %%
lab.show(figures.learning_curves(result))

# %% [markdown]
# ## 3 · The operator
#
# Three lines: pairs of steps inside each sequence, a ridge penalty, eigenvalues by modulus. The library must
# give the same $K$. The published penalty is 1; our graph states are means over people while the readout
# takes ten times that, so the same penalty is 1/100 here.

# %%
from labcore.koopman import fit_operator

pooled = result.arrays[f"{network}/pooled"].astype(np.float64)  # graph states, training part
fitted = fit_operator(pooled, 16, alpha=0.01)
z = fitted.embed(pooled)
before, after = z[:, :-1].reshape(-1, 16), z[:, 1:].reshape(-1, 16)
K = np.linalg.solve(before.T @ before + 0.01 * np.eye(16), before.T @ after).T
np.testing.assert_allclose(K, fitted.K, atol=1e-8)
r2 = 1 - ((z[:, 1:] - z[:, :-1] @ K.T) ** 2).sum() / (z[:, 1:] ** 2).sum()
print(f"one-step R2 {r2:.3f}; skill against 'nothing changes' {fitted.one_step_skill(pooled):.2f}")

# %% [markdown]
# **Predict.** The $R^2$ is near 1. Does that show that the states move linearly? Compare with the second number:
# the share of the error of "nothing changes" that $K$ removes.

# %%
eigenvalues = spectrum(result, network)
lab.show(figures.eigenvalue_plane(eigenvalues, network=network, alpha=0.01, k=16))

# %% [markdown]
# **Left or right?** Let $K$ itself make the next state. The left coordinate of $Kz$ is exactly $\lambda$ times that
# of $z$; the right one is not. On the real next states the misfit of $K$ is added to both.

# %%
ahead = z @ fitted.K.T
for side, vector in (("left", fitted.left[0]), ("right", fitted.right[:, 0])):
    now, then, seen = z[:, :-1] @ vector, ahead[:, :-1] @ vector, z[:, 1:] @ vector
    errors = [np.abs(p - fitted.eigs[0] * now).mean() / np.abs(now).mean() for p in (then, seen)]
    print(f"{side:5s}: relative error {errors[0]:.1e} under K, {errors[1]:.1e} on real states")
first = fitted.components[:, 0] @ fitted.components @ fitted.right[:, 0]
print(f"right mode 0 against the first axis of the PCA: cosine {abs(first):.2f}")

# %% [markdown]
# ## Where and when did the network look?
#
# **Change** the mode, then the explainer. **Watch** the signal's dark stretches against the ticks of true
# steps, and dark people against the ringed ones. Then choose `always`, which says yes to every step.

# %% tags=["centrepiece"]


def explained(mode, explainer, side, kind):
    setting = explorer.Setting(explainer=explainer, mode=mode, side=side, kind=kind)
    return figures.where_and_when(explorer.view(result, network, 0, setting))


lab.explore(
    explained,
    mode=(0, 7),
    explainer=["dmd", "pca", "saliency", "count_change", "always"],
    side=["right", "left"],
    kind=["deviation", "norm", "max_step"],
)

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# The leading mode follows the growth of the infection, and so does the first principal component: they
# are nearly one axis. Higher modes carry little. The norm of all coordinates marks the people who took
# part far better than one mode. And `count_change`, which never saw the network, finds the steps best:
# what the state encodes is mostly its input.
#
# </details>

# %% [markdown]
# ## 4 · Beside trivial answers
#
# The same graph, with scores of answers that know nothing of the network.

# %%
view = explorer.view(result, network, 0)
lab.show(figures.score_strip(view))

# %% [markdown]
# One graph is an anecdote. Over all explained graphs, with the standard error.
#
# **Predict.** Where will DMD stand for *people*: above the number of contacts? Above the last infected flag,
# which the network is given?

# %%
lab.show(figures.score_dots(result, target="node_auc", network=network))

# %%
lab.show(figures.score_dots(result, target="time_f1_window", network=network))
for name in networks(result):
    ours, yes = (mean_of(values(result, name, "time_f1_window", n)) for n in ("dmd", "always"))
    print(f"{name:15s} DMD {ours.mean:.2f} ± {ours.error:.2f}, always yes {yes.mean:.2f}")

# %% [markdown]
# ## 5 · Edges by regression
#
# SINDy explains the next states by a library: own powers, and products over each contact pair. An edge
# weighs what its coefficients weigh. There are thousands of columns and fifty samples, so the ridge
# solution is found in the space of samples,
#
# $$C = \Theta^\top (\Theta \Theta^\top + \alpha I)^{-1} Y ,$$
#
# and summed before it is ever formed. Both ways must agree.

# %%
import time

from labcore.koopman import edge_list, edge_sindy
from labcore.koopman.explain import embed_nodes

graph = explorer.shown_graph(result, network, 0)
edges = edge_list(graph.A)
Z = embed_nodes(graph.states.transpose(1, 0, 2), 16)
seconds = {}
for solver in ("dual", "full"):
    start = time.process_time()
    seconds[solver] = edge_sindy(Z, edges, solver=solver), time.process_time() - start
np.testing.assert_allclose(seconds["dual"][0], seconds["full"][0], rtol=1e-7)
print({name: f"{spent:.3f} s" for name, (_, spent) in seconds.items()})

# %% [markdown]
# **Predict.** The published weight adds coefficients *with their sign*. A principal axis may point either
# way; nothing changes if it is turned. How far will the AUC of the edges move?

# %%
lab.show(figures.flip_lottery(lottery(result, network, 0, degree=3), degree=3))

# %% [markdown]
# **Who infected whom?** Pairs whose both ends took part are easy to find: the states encode who is
# infected. Among *these* pairs, which passed it on? Look where plain counting of contacts stands, and which
# explainer alone keeps up with it.

# %%
lab.show(figures.score_dots(result, target="hard_edge_auc", network=network))

# %% [markdown]
# SINDy and the modes hardly leave chance: the state of a person says *that* they are infected, not by whom. The
# edge gradient asks how the logit depends on each contact; it needs the model, not only its states.

# %% [markdown]
# ## 6 · Cut what is called relevant
#
# Another test needs no truth: remove all contacts of the most relevant steps and see what the logit loses.

# %%
lab.show(figures.deletion_curves(result.tables["deletion"], network=network))

# %% [markdown]
# ## 7 · Sparse regression where it shines
#
# On the Lorenz system the same idea recovers the equations. There are three equations and ten candidate
# terms; ridge, drop what is small, repeat (STLSQ), and only the true terms stay.

# %%
from labcore.koopman import polynomial_library, stlsq


def velocity(q):
    x, y, z = q
    return np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])


def lorenz(steps=4000, dt=0.002):
    path = [np.array([-8.0, 8.0, 27.0])]
    for _ in range(steps - 1):
        q = path[-1]
        path.append(q + dt * velocity(q + dt / 2 * velocity(q)))  # midpoint rule
    return np.array(path)


path = lorenz()
theta, terms = polynomial_library(path, 2, ("x", "y", "z"))
slope = np.gradient(path, 0.002, axis=0)
coefficients = stlsq(theta, slope, threshold=0.1)
for name, row in zip("xyz", coefficients, strict=True):
    print(f"{name}' =", " ".join(f"{c:+.3f} {t}" for c, t in zip(row, terms, strict=True) if c))
assert (coefficients != 0).sum() == 7

# %% [markdown]
# **Optional: with PySINDy**, the library for this. One object holds the library of terms, the optimiser and
# the derivative; the answer must have the same seven terms. It runs where PySINDy is installed
# (`./lab bench --setup-peers pysindy`, or `pip install pysindy`).

# %% tags=["optional"]
from importlib.util import find_spec

from labcore import runtime

runtime.peers_on_path()
if find_spec("pysindy"):
    import pysindy

    known = pysindy.SINDy(
        optimizer=pysindy.STLSQ(threshold=0.1, alpha=0.05),
        feature_library=pysindy.PolynomialLibrary(degree=2),
    )
    known.fit(path, t=0.002, feature_names=["x", "y", "z"])
    known.print()
    assert np.array_equal(known.coefficients() != 0, coefficients != 0)
else:
    print("PySINDy is not installed here; the cell above needs nothing but numpy")

# %% [markdown]
# ## Exercises
#
# ### P02.1 · The operator
#
# *(10 min, difficulty 1)*
#
# Write `operator(Z, alpha)`: `Z` holds embedded states `(sequences, steps, k)`. Return the `(k, k)` matrix with
# the least $\sum \lVert z_{t+1} - K z_t \rVert^2 + \alpha \lVert K \rVert^2$. No intercept.


# %% tags=["exercise:P02.1"]
def operator(Z, alpha):
    # SOLUTION
    k = Z.shape[-1]
    before, after = Z[:, :-1].reshape(-1, k), Z[:, 1:].reshape(-1, k)
    return np.linalg.solve(before.T @ before + alpha * np.eye(k), before.T @ after).T
    # END SOLUTION


# %% tags=["check:P02.1"]
lab.check("P02.1", operator)

# %% [markdown] tags=["hint:P02.1"]
# Which steps form pairs? The last step of a sequence has no successor.

# %% [markdown] tags=["hint:P02.1"]
# Stack all first and all second steps as rows, after cutting each sequence; set the gradient to zero.

# %% [markdown] tags=["solution-text:P02.1"]
# **Discussion.** With rows as snapshots the normal equations give the transpose of $K$. The penalty shrinks all
# eigenvalues: mind it when you read half-lives off them.

# %% [markdown]
# ### P02.2 · A coordinate that evolves by itself
#
# *(10 min, difficulty 2)*
#
# Write `coordinate(K, z)`: for states `z` of shape `(m, k)` return the `m` values of the eigenfunction of the
# eigenvalue of $K$ with the largest modulus, so that $\varphi(Kz) = \lambda\,\varphi(z)$. Any factor is right. $K$
# need not be normal; its leading eigenvalue is real here.


# %% tags=["exercise:P02.2"]
def coordinate(K, z):
    # SOLUTION
    eigs, V = np.linalg.eig(K)
    return z @ np.linalg.inv(V)[np.abs(eigs).argmax()]
    # END SOLUTION


# %% tags=["check:P02.2"]
lab.check("P02.2", coordinate)

# %% [markdown] tags=["hint:P02.2"]
# From $K = V \Lambda V^{-1}$: which vector $w$ satisfies $w^\top K = \lambda w^\top$?

# %% [markdown] tags=["hint:P02.2"]
# Multiply by $V^{-1}$ from the left: $V^{-1} K = \Lambda V^{-1}$. Read off one row.

# %% [markdown] tags=["solution-text:P02.2"]
# **Discussion.** The published code takes the column of $V$. For a normal $K$ both agree; the operators of these
# networks are not normal, and section 3 showed how far the right coordinate is from evolving by $\lambda$.

# %% [markdown]
# ### P02.3 · The always-yes puzzle
#
# *(10 min, difficulty 1)*
#
# Twelve steps, counted from 0; the true ones are 1, 4, 5, 6, 8 and 9. "Always yes" calls every step relevant.
# The published code builds an array of twelve ones and then uses it as a list of *indices* of detected
# steps. Set `answer` to the pair (F1 that the code reports, F1 of really saying yes always). $F_1$ is twice
# the hits over detected plus true steps.

# %% tags=["exercise:P02.3"]
# answer = (reported, right)
# SOLUTION
answer = (2 * 1 / (1 + 6), 2 * 6 / (12 + 6))
# END SOLUTION

# %% tags=["check:P02.3"]
lab.check("P02.3", answer)

# %% [markdown] tags=["hint:P02.3"]
# Which step does the index list `[1, 1, 1, ...]` name, and how often does a set hold it?

# %% [markdown] tags=["solution-text:P02.3"]
# **Discussion.** The list names step 1 only. In the released results this gave .00 to .03 for a baseline that in
# truth reaches $2b/(1+b)$ with $b$ the share of true windows: on our graphs more than .8, above every
# explainer. A baseline that looks absurdly bad deserves as much suspicion as one that looks too good.

# %% [markdown]
# ### P02.4 · Two damped oscillations
#
# *(15 min, difficulty 2)*
#
# Exact DMD: with $X_1 = U S V^\top$ cut at rank $r$, the eigenvalues are those of $U^\top X_2 V S^{-1}$. Write
# `frequencies(X, rank, dt)`: return the frequencies of all `rank` eigenvalues in cycles per unit of time,
# ascending, and their moduli, ascending. Columns of `X` are snapshots, `dt` apart.


# %% tags=["exercise:P02.4"]
def frequencies(X, rank, dt):
    # SOLUTION
    u, s, vt = np.linalg.svd(X[:, :-1], full_matrices=False)
    u, s, vt = u[:, :rank], s[:rank], vt[:rank]
    eigs = np.linalg.eigvals(u.T @ X[:, 1:] @ vt.T / s)
    return np.sort(np.angle(eigs) / (2 * np.pi * dt)), np.sort(np.abs(eigs))
    # END SOLUTION


# %% tags=["check:P02.4"]
lab.check("P02.4", frequencies)
rng = np.random.default_rng(0)
eigs = np.array([0.99 * np.exp(0.3j), 0.97 * np.exp(1.1j)])
modes = rng.normal(size=(30, 2)) + 1j * rng.normal(size=(30, 2))
X = (modes @ (eigs[:, None] ** np.arange(60))).real
for noise in (0.0, 0.05, 0.2):
    moduli = [
        frequencies(X + noise * rng.normal(size=X.shape), 4, 1.0)[1].mean() for _ in range(20)
    ]
    print(f"noise {noise:.2f}: mean modulus {np.mean(moduli):.4f}, true {np.abs(eigs).mean():.4f}")

# %% [markdown] tags=["hint:P02.4"]
# `np.angle` of an eigenvalue is radians a step.

# %% [markdown] tags=["hint:P02.4"]
# `u.T @ X[:, 1:] @ vt.T / s` divides column $j$ by $s_j$, which is what $V S^{-1}$ does.

# %% [markdown] tags=["solution-text:P02.4"]
# **Discussion.** Noise in $X_1$ pulls the moduli inward: a regression on noisy inputs is biased towards zero. The
# half-lives that one reads off eigenvalues are then too short.

# %% [markdown]
# ### P02.5 · A weight without a coin
#
# *(10 min, difficulty 2)*
#
# The coefficients of one edge are a block `(k, n, k)`: library axis, target node, target axis. If axes of the
# embedding change sign, entries of the block change sign: whole slices of the first or the last axis. Write
# `weight(block)`, a number that this cannot move, that is 0 for a zero block and grows with the coefficients.


# %% tags=["exercise:P02.5"]
def weight(block):
    # SOLUTION
    return np.sqrt((block**2).sum())
    # END SOLUTION


# %% tags=["check:P02.5"]
lab.check("P02.5", weight)

# %% [markdown] tags=["hint:P02.5"]
# What can you do to a number so that its sign no longer matters?

# %% [markdown] tags=["solution-text:P02.5"]
# **Discussion.** The Frobenius norm is also unmoved by any *rotation* of the target axes, and it can be had without
# forming $C$: $\lVert L_e^\top G^{-1} Y \rVert_F^2 = \mathrm{tr}(L_e^\top M L_e)$ with $M = G^{-1} Y Y^\top G^{-1}$.

# %% [markdown]
# ### P02.6 · Who spread it?
#
# *(15 min, difficulty 3)*
#
# Among infected people, who passed the infection on? Counting contacts reaches an AUC of about .73 on the
# synthetic network. Write `score(states, A)`, a number a person from the states `(steps, people, features)` and
# contacts `(steps, people, people)`, that reaches .78 on average over 50 fresh graphs. You are not given who
# is infected: the states know.


# %% tags=["exercise:P02.6"]
def score(states, A):
    # SOLUTION
    typical = np.median(states, axis=1, keepdims=True)
    away = np.linalg.norm(states - typical, axis=2)  # large from the infection on
    return (away * A.sum(axis=2)).sum(axis=0)
    # END SOLUTION


# %% tags=["check:P02.6"]
lab.check("P02.6", score)

# %% [markdown] tags=["hint:P02.6"]
# Only contacts *after* one's own infection can pass it on.

# %% [markdown] tags=["hint:P02.6"]
# A person's state leaves the crowd when they are infected: weigh each step's contacts by the distance.

# %% [markdown] tags=["solution-text:P02.6"]
# **Discussion.** The score reads the infection time off the states and counts contacts after it. The same count
# with the input flag in place of the states does as well or better: a fair audit asks what the states add.

# %% [markdown]
# ## Where this goes
#
# **Back:** message passing is in B12, recurrent cells in B13. **On:** P04 puts state-space models, which are
# linear by design, on simplicial complexes.
#
# **Sources:** Guerra et al., arXiv 2410.13469; the data sets of Oettershagen et al., arXiv 1911.05496;
# integrated gradients, arXiv 1703.01365. Contacts: SocioPatterns.
#
# **Open question.** All scores here ask for what the *input* already says. What would a ground truth look like
# that only the network's computation, and not its input, contains?
