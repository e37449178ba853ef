# %% [markdown]
# # B13 · Recurrent models: one state to remember it all
#
# *Scardapane, "Alice's Adventures in a differentiable wonderland", arXiv 2404.17625, chapter 13.*
#
# Reading: 30 min. Exercises: 60 min. Prerequisites: B10.
#
# **Goals**
# - Write attention without the softmax as a recurrence, and a recurrence as a scan.
# - Read memory and rhythm from an eigenvalue.
# - Say what a selective layer can do that a fixed one cannot.

# %% tags=["setup"]
import labcore

lab = labcore.start("B13", seed=0)

# %%
import numpy as np
import torch

from labcore.blocks import ssm
from labcore.book import data, figures_b13
from labcore.book.b13 import SENTENCE, Copying
from labcore.book.experiment import load_result

result = load_result()
print(data.source("alice"))
print("measured before:", ", ".join(row["what"] for row in result.tables["b13/numbers"][-3:]))


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=lab.generator)


# %% [markdown]
# ## Recap
#
# A recurrent layer keeps a state of fixed size. Attention can be one: replace $\exp(q \cdot k)$ by
# $\phi(q) \cdot \phi(k)$ and the sums over the past move out of the query,
#
# $$S_t = S_{t-1} + \phi(k_t) v_t^\top, \quad z_t = z_{t-1} + \phi(k_t), \quad
# y_t = \frac{\phi(q_t)^\top S_t}{\phi(q_t)^\top z_t} .$$
#
# A *state-space* layer has a linear state that fades, $s_t = A s_{t-1} + B x_t$, $y_t = C s_t$. With a
# diagonal $A$ each number of the state walks alone: $h_t = a_t h_{t-1} + b_t$.

# %% [markdown]
# **Mind the convention.** To diagonalise write $A = P \Lambda P^{-1}$ and $\bar s = P^{-1} s$. Then
# $\bar B = P^{-1} B$ and $\bar C = C P$. In a selective layer the factors are $A_t = \exp(\Delta_t \bar A)$
# with $\bar A < 0$, and $B_t \approx \Delta_t B(x_t)$: what depends on the token is the step size
# $\Delta_t$, and the recurrence remains a scan.

# %% [markdown]
# ## 1 · Attention, one step at a time
#
# The parallel form builds all weights at once, the recurrent one never looks back. They are the same
# function; which is cheaper depends on whether the sequence or the state is longer.

# %%
q, k, v = normal(50, 8), normal(50, 8), normal(50, 4)
phi = ssm.elu_plus_one
weights = (phi(q) @ phi(k).T).tril()
parallel = weights @ v / weights.sum(-1, keepdim=True)
recurrent = ssm.linear_attention(q, k, v, recurrent=True)
assert torch.allclose(parallel, recurrent, rtol=1e-12)
print(f"largest gap: {(parallel - recurrent).abs().max():.0e}")
print("numbers kept by the recurrence:", 8 * 4 + 8, "whatever the length")

# %% [markdown]
# ## 2 · A loop that need not be one
#
# The states of $h_t = a_t h_{t-1} + b_t$ look as if they had to be computed one after another. But two
# steps compose to one of the same kind, so they can be joined in any grouping. *Doubling* joins each
# step with the one before, then pairs of pairs: $\log_2 T$ rounds. *Chunks* walk many short pieces
# side by side.


# %%
def loop(a, b):
    h, states = torch.zeros_like(b[0]), []
    for a_t, b_t in zip(a, b, strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states)


a, b = torch.rand(4096, 64, generator=lab.generator), normal(4096, 64).float()
wanted = loop(a.double(), b.double())
for method in ("loop", "doubling", "chunked"):
    states = ssm.scan(a, b, method=method, dim=0)
    assert torch.allclose(states.double(), wanted, atol=1e-4)
    error = (states - wanted).abs().max().item()
    print(f"{method:9s} error in single precision {error:.0e}")

# %% [markdown]
# ## 3 · What backpropagation through time meets
#
# The gradient of $h_T$ in $h_0$ is the product of all factors. Below 1 it vanishes, above it explodes:
# the classical trouble of recurrent networks is written in one number per channel. Gates make this
# number depend on the input; that is all an LSTM and a selective layer have in common.

# %%
for size in (0.9, 0.99, 1.0, 1.01):
    first = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    factors = torch.full((1, 500, 1), size, dtype=torch.float64)
    ssm.scan(factors, torch.zeros_like(factors), initial=first)[0, -1, 0].backward()
    print(f"factor {size:4.2f}: gradient after 500 steps {first.grad.item():.2e}")

# %% [markdown]
# ## The eigenvalue
#
# A real $2 \times 2$ rotation that shrinks has a pair of complex eigenvalues $\lambda$, $\bar\lambda$; one of
# them is enough.
#
# **Predict.** $|\lambda| = 0.9$ forgets all but a hundredth in 44 steps. How long will 0.99 take?
#
# **Change** the size, then the angle. **Watch** the spiral, the impulse response between its two
# envelopes, and the peak of the gain.


# %% tags=["centrepiece"]
def eigenvalue(radius, angle):
    return figures_b13.eigenvalue_figure(radius=radius, angle=angle)


lab.explore(eigenvalue, radius=(0.5, 1.05, 0.05), angle=(0.0, 3.1, 0.1))

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# The memory is $\log 0.01 / \log |\lambda|$ steps, 458 for 0.99: near the circle each further hair's
# breadth multiplies it. The angle is a frequency in radians a step; the layer answers most to inputs
# that swing at that rhythm, the more sharply the nearer to the circle. A bank of such eigenvalues is a
# bank of tuned memories, and learning moves them about the disc.
#
# </details>

# %% [markdown]
# ## 4 · A linear recurrent unit
#
# Many eigenvalues, inputs and read-outs learned, all inside the circle by construction:
# $\lambda = \exp(-\exp(\nu) + i\theta)$. Five lines against the library.

# %%
params = ssm.LRU(
    nu=normal(16) - 2,
    theta=normal(16).abs(),
    B=torch.complex(normal(16, 3), normal(16, 3)),
    C=torch.complex(normal(2, 16), normal(2, 16)),
    D=normal(2, 3),
)
x = normal(1, 200, 3)
lam = params.eigenvalues
gamma = (1 - lam.abs() ** 2).sqrt()
inputs = (x[0].to(lam.dtype) @ params.B.T) * gamma
short = (loop(lam.expand(200, -1), inputs) @ params.C.T).real + x[0] @ params.D.T
assert torch.allclose(short, ssm.lru(x, params)[0])
print("sizes of the eigenvalues:", f"{lam.abs().min():.3f} to {lam.abs().max():.3f}")

# %% [markdown]
# ## 5 · Who decides what is kept?
#
# Up to here the factors were the same for every token: such a layer is a convolution with a long
# kernel (exercise B13.3). A **selective** layer computes its step size from the token. $\Delta = 0$
# keeps the state untouched, a large $\Delta$ forgets it and writes.
#
# A small network of two selective blocks learned the novel. Here are the step sizes of one of its
# features on a sentence. **Predict:** where should a model of characters open its gates?

# %%
steps = result.arrays["b13/steps"]
lab.show(figures_b13.step_figure(steps, SENTENCE, layer=0, feature=0))
lab.show(figures_b13.step_figure(steps, SENTENCE, layer=0, feature=63))

# %% [markdown]
# Does one *need* this? In **selective copying** some symbols stand among blanks, at places that change
# from sequence to sequence; they are to be repeated in order. A convolution knows distances, and here
# no distance helps.

# %%
ids, said = Copying().draw(2, lab.generator)
for row, answer in zip(ids.tolist(), said.tolist(), strict=True):
    print("".join(".abcdef?"[i] for i in row), " say:", "".join(".abcdef"[i] for i in answer))
lab.show(figures_b13.copying_figure(result.tables["b13/copying"]))

# %% [markdown]
# Both networks have the same width, depth, state and training. The fixed one is far above chance: with
# two layers and products between them it gets two symbols of three. Only the selective one comes
# near to solving the task. So "fails" is a matter of degree: print the numbers.

# %%
for row in result.tables["b13/copying"]:
    kind = "selective" if row["selective"] else "time-invariant"
    print(f"{kind:15s} seed {row['seed']}: {row['accuracy']:.1%} after {row['steps']} updates")

# %% [markdown]
# ## Exercises
#
# ### B13.1 · A running dictionary
#
# *(12 min, difficulty 2)*
#
# Write `recurrent_attention(query, key, value)` for one sequence, $(t, k), (t, k), (t, v)$: walk
# through the tokens with $S_t$ and $z_t$ of the recap, $\phi(x) = \mathrm{elu}(x) + 1$.


# %% tags=["exercise:B13.1"]
def recurrent_attention(query, key, value):
    # SOLUTION
    phi = torch.nn.functional.elu
    state = torch.zeros(key.shape[1], value.shape[1], dtype=value.dtype)
    total, outputs = torch.zeros(key.shape[1], dtype=value.dtype), []
    for q, k, v in zip(phi(query) + 1, phi(key) + 1, value, strict=True):
        state = state + k[:, None] * v[None]
        total = total + k
        outputs.append(q @ state / (q @ total))
    return torch.stack(outputs)
    # END SOLUTION


# %% tags=["check:B13.1"]
lab.check("B13.1", recurrent_attention)

# %% [markdown] tags=["hint:B13.1"]
# Two running sums, one of outer products and one of features.

# %% [markdown] tags=["hint:B13.1"]
# Update both sums before you read: token $t$ may see itself.

# %% [markdown] tags=["solution-text:B13.1"]
# **Discussion.** The state has $k \cdot v + k$ numbers however long the text: compare a KV cache (B11),
# which grows. What the fixed state cannot do is return an exact value from far back.

# %% [markdown]
# ### B13.2 · Two steps are one
#
# *(8 min, difficulty 2)*
#
# A step is a pair $(Z, z)$, meaning $s \mapsto Z s + z$. Write `compose(first, then)`: the pair that does
# both, `first` earlier. The check also tries whether your operator is associative.


# %% tags=["exercise:B13.2"]
def compose(first, then):
    # SOLUTION
    Z, z = first
    V, v = then
    return V @ Z, V @ z + v
    # END SOLUTION


# %% tags=["check:B13.2"]
lab.check("B13.2", compose)

# %% [markdown] tags=["hint:B13.2"]
# Write $V (Z s + z) + v$ and multiply out.

# %% [markdown] tags=["solution-text:B13.2"]
# **Discussion.** Composition of functions is always associative; what matters is that the composed step
# is again a small pair and not a growing formula. A nonlinear recurrence has no such pair.

# %% [markdown]
# ### B13.3 · A constant factor is a convolution
#
# *(10 min, difficulty 2)*
#
# Write `by_fft(lam, b)`: all states of $h_t = \lambda h_{t-1} + b_t$ for one complex number $\lambda$ and a
# real sequence $b \sim (t)$, through `torch.fft`. Return the complex states.


# %% tags=["exercise:B13.3"]
def by_fft(lam, b):
    # SOLUTION
    n = len(b)
    kernel = torch.as_tensor(lam, dtype=torch.complex128) ** torch.arange(n)
    return torch.fft.ifft(torch.fft.fft(kernel, 2 * n) * torch.fft.fft(b, 2 * n))[:n]
    # END SOLUTION


# %% tags=["check:B13.3"]
lab.check("B13.3", by_fft)

# %% [markdown] tags=["hint:B13.3"]
# Unroll: $h_t = \sum_{s \le t} \lambda^{t-s} b_s$, a convolution with the impulse response.

# %% [markdown] tags=["hint:B13.3"]
# The FFT's product is a circular convolution. Give both a length of $2n$ and keep the first $n$.

# %% [markdown] tags=["solution-text:B13.3"]
# **Discussion.** Loop, scan and FFT agree to rounding. The FFT needs a constant factor; the scan does
# not, and that is why selective layers are trained with scans.

# %% [markdown]
# ### B13.4 · In the right coordinates
#
# *(12 min, difficulty 2)*
#
# Write `diagonalise(A, B, C)` for a real system with $A \sim (n, n)$, $B \sim (n)$, $C \sim (n)$: return
# the eigenvalues, the new input vector and the new read-out, all complex. The check drives your
# diagonal system and compares its outputs.


# %% tags=["exercise:B13.4"]
def diagonalise(A, B, C):
    # SOLUTION
    lam, P = torch.linalg.eig(A)
    new_B = torch.linalg.solve(P, B.to(P.dtype))
    return lam, new_B, C.to(P.dtype) @ P
    # END SOLUTION


# %% tags=["check:B13.4"]
lab.check("B13.4", diagonalise)

# %% [markdown] tags=["hint:B13.4"]
# Put $s = P \bar s$ into both equations.

# %% [markdown] tags=["solution-text:B13.4"]
# **Discussion.** A full $A$ costs $n^2$ a step and a diagonal one $n$, for the same input-output map.
# Nearly all matrices can be diagonalised over the complex numbers, so little is lost.

# %% [markdown]
# ### B13.5 · A gate
#
# *(10 min, difficulty 3)*
#
# Write `last_symbol(ids)`: from integer ids $\sim (t)$, 0 being a blank, compute factors $a \sim (t)$ and
# inputs $b \sim (t)$ whose scan holds, at every step, the last id that was not blank (0 before the
# first). This is a selective layer set by hand.


# %% tags=["exercise:B13.5"]
def last_symbol(ids):
    # SOLUTION
    blank = ids == 0
    return blank.double(), ids.double()
    # END SOLUTION


# %% tags=["check:B13.5"]
lab.check("B13.5", last_symbol)
gates, values = last_symbol(ids[0])
print(ids[0].tolist())
print(ssm.scan(gates, values, dim=0).int().tolist())

# %% [markdown] tags=["hint:B13.5"]
# What must happen to the state at a blank, and what at a symbol? The factor only has to be 0 or 1.

# %% [markdown] tags=["solution-text:B13.5"]
# **Discussion.** With $a_t = \exp(-\Delta_t)$: a blank has $\Delta = 0$, a symbol a large one. A fixed factor
# cannot do both, and no choice of it passes the check.

# %% [markdown]
# ## Where this goes
#
# **Back:** B10 for attention with its softmax, B08 for the convolution that reads the same novel. **On:** P04
# runs a selective scan over the simplices around a node, P02 reads the eigenvalues of a learned
# dynamical system in the same disc, P06 asks what a memory that grows may forget.
#
# **Sources:** Katharopoulos et al., arXiv 2006.16236; Orvieto et al., arXiv 2303.06349; Gu and Dao, arXiv
# 2312.00752.
#
# **Open question.** A fixed state must forget; a cache need not. For which questions about a long text
# does that matter, and can a model know in advance?

# %% [markdown] tags=["optional"]
# ## Optional: how long is the memory of a random layer?
#
# Draw eigenvalues uniformly on the disc. Which share of them remembers more than 100 steps?

# %% tags=["optional"]
radius = np.sqrt(np.random.default_rng(0).random(100_000))
span = np.log(0.01) / np.log(radius)
print(f"more than 100 steps: {np.mean(span > 100):.1%}; median memory {np.median(span):.1f} steps")
