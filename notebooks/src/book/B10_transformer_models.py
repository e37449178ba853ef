# %% [markdown]
# # B10 · Transformer models: everyone looks at everyone
#
# *Scardapane, "Alice's Adventures in a differentiable wonderland", arXiv 2404.17625, chapter 10.*
#
# Reading: 30 min. Exercises: 55 min. Prerequisites: B08, B09.
#
# **Goals**
# - Read attention as a dictionary that is looked up softly.
# - Know what it cannot see, the order, and three ways to tell it.
# - Watch the heads of a real language model.

# %% tags=["setup"]
import labcore

lab = labcore.start("B10", seed=0)

# %%
import numpy as np
import torch

from labcore import assets
from labcore.blocks.attention import attention, entropy, multi_head
from labcore.blocks.positions import alibi, rope, sinusoidal
from labcore.book import figures_b10
from labcore.book.b10 import MODEL, train_views
from labcore.book.experiment import load_result

result = load_result()
weights = result.arrays["b10/weights"].astype(np.float32)
tokens = [row["token"] for row in result.tables["b10/tokens"]]
print("sentence:", "".join(tokens))
print(
    "attention of",
    weights.shape[0],
    "layers and",
    weights.shape[1],
    "heads comes with the lab;",
    f"the model itself is {assets.status(MODEL)}",
)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=lab.generator)


# %% [markdown]
# ## Recap
#
# A convolution looks at neighbours. Attention looks at everybody and decides by content: a query is
# compared with all keys, and the values are mixed by the result,
#
# $$\mathrm{SA}(X) = \mathrm{softmax}\Bigl(\frac{Q K^\top}{\sqrt k}\Bigr) V, \qquad
# Q = X W_q,\; K = X W_k,\; V = X W_v .$$
#
# A Python dictionary returns the value of the one equal key; here every value comes back, weighted by
# how near its key is. Several *heads* do this side by side with narrower maps.

# %% [markdown]
# **Mind the convention.** Weights are $W \sim (e, k)$ and are used as $X W$. The frequencies of sinusoidal
# positions are $\omega_i = 10000^{-2i/e}$ for the pairs $i = 0, \dots, e/2 - 1$, each a (sin, cos). The
# softmax runs over the *keys*: every query's weights sum to one.

# %% [markdown]
# ## 1 · A soft dictionary
#
# Four entries, one query that resembles the third key. Turn up the length of the query and the softmax
# hardens into a real look-up.

# %%
keys = torch.eye(4, dtype=torch.float64)
values = torch.tensor([[10.0], [20.0], [30.0], [40.0]], dtype=torch.float64)
for sharpness in (0.0, 2.0, 8.0, 32.0):
    query = sharpness * keys[2:3]
    read, w = attention(query, keys, values, return_weights=True)
    by_hand = (query @ keys.T / 2).softmax(-1) @ values
    assert torch.allclose(read, by_hand)
    print(f"sharpness {sharpness:4.0f}: reads {read.item():5.2f}, {entropy(w).item():.2f} bits")

# %% [markdown]
# **Predict.** Draw queries and keys of width $k$ with independent entries of variance 1. Without the
# division by $\sqrt k$, what happens to the entropy of the weights as $k$ grows?

# %%
for k in (4, 64, 1024):
    q, key = normal(200, k), normal(50, k)
    scores = q @ key.T
    plain, scaled = (entropy(s.softmax(-1)).mean() for s in (scores, scores / k**0.5))
    print(
        f"k = {k:4d}: {plain:.2f} bits plain, {scaled:.2f} scaled; most possible {np.log2(50):.2f}"
    )

# %% [markdown]
# ## 2 · Blind to order
#
# Reorder the tokens and the outputs are reordered, nothing else. For a set that is right; for a sentence
# it is a disaster. Positions have to be put in.

# %%
x = normal(10, 16)
order = torch.randperm(10, generator=lab.generator)


def self_attention(x):
    return attention(x, x, x)


gap = (self_attention(x[order]) - self_attention(x)[order]).abs().max()
placed = x + sinusoidal(10, 16)
moved = x[order] + sinusoidal(10, 16)
gap_placed = (self_attention(moved) - self_attention(placed)[order]).abs().max()
print(f"without positions {gap:.1e}, with positions {gap_placed:.2f}")

# %% [markdown]
# Three ways to tell the order. *Sinusoids* are added to the input. *Rotations* turn query and key by an
# angle that grows with the position, so that scores depend on the distance. *Linear biases* are
# subtracted from the scores: far is less.

# %%
place = torch.arange(40)
q, key = normal(16), normal(16)
turned_q, turned_k = (rope(v.expand(40, 16), place) for v in (q, key))
scores = turned_q @ turned_k.T
spread = torch.stack([scores.diagonal(-o).std() for o in (1, 5, 20)])
print("rotated scores at equal distance vary by", f"{spread.max():.1e}")
P = sinusoidal(40, 16)
print("sinusoids, squared length:", f"{(P @ P.T).diagonal().mean():.3f} = 16 / 2")
print("linear bias of head 0, five keys back:", f"{alibi(8, 4)[0, 7, 2]:.3f}")

# %% [markdown]
# ## A real model's heads
#
# SmolLM2-135M, 30 layers of 9 heads, has read the sentence. **Change** layer and head. **Watch** three
# things: the map (rows read columns), the entropy of every query's weights against the most that is
# possible, and how much the last query leaves on the very first token.
#
# Look for a head that always reads the token before, and one that returns to the cat.


# %% tags=["centrepiece"]
def heads(layer, head):
    return figures_b10.attention_figure(weights, tokens, layer=layer, head=head)


lab.explore(heads, layer=(0, weights.shape[0] - 1), head=(0, weights.shape[1] - 1))

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# Some heads have a plain job: the token before, the same token, the comma. Going up, the left column
# takes over, not smoothly: the mean over heads of what the last query leaves on token 0 is 0.08 in
# layer 0, 0.11 again in layer 10, and 0.89 in layer 23. The softmax must give its weight to somebody,
# and the first token is where a head goes that has nothing to say: an *attention sink*, which P06 will
# meet again.
#
# </details>

# %%
sink = weights[:, :, -1, 0].mean(1)
for layer in (0, 5, 10, 15, 20, 23, 29):
    print(f"layer {layer:2d}: the last query leaves {sink[layer]:.2f} on token 0")
before = np.array([[np.diagonal(h, -1)[1:].mean() for h in layer] for layer in weights])
layer, head = np.unravel_index(before.argmax(), before.shape)
print(
    f"most faithful reader of the token before: layer {layer}, head {head}, "
    f"{before[layer, head]:.2f} on average"
)

# %% [markdown]
# One sentence is an anecdote: on the app's page B10 you may type your own, and the numbers move.
#
# ## 3 · A set of views
#
# Where blindness to order is a virtue: four spoilt copies of one digit, each showing three tenths of its
# pixels, in no order. Embed each, let them look at each other, average, classify.

# %%
model, right, (test, y) = train_views(4, epochs=15, seed=0)
with torch.no_grad():
    straight, turned = model(test), model(test.flip(1))
print(f"four views, 15 epochs: {right:.1%} of {len(y)} test digits")
print("views in reverse change the logits by", f"{(straight - turned).abs().max():.0e}")
for row in result.tables["b10/numbers"]:
    if "spoilt" in row["what"]:
        print(f"40 epochs, {row['what']}: {row['measured']:.1%} ± {row['spread']:.1%}")

# %% [markdown]
# ## Exercises
#
# ### B10.1 · Attention
#
# *(8 min, difficulty 1)*
#
# Write `attend(query, key, value)` for $(q, k), (t, k), (t, v)$.


# %% tags=["exercise:B10.1"]
def attend(query, key, value):
    # SOLUTION
    scores = query @ key.T / query.shape[1] ** 0.5
    return scores.softmax(-1) @ value
    # END SOLUTION


# %% tags=["check:B10.1"]
lab.check("B10.1", attend)

# %% [markdown] tags=["hint:B10.1"]
# One row of scores for each query. Over which axis do they compete?

# %% [markdown] tags=["solution-text:B10.1"]
# **Discussion.** `torch.nn.functional.scaled_dot_product_attention` gives the same numbers, without ever
# writing down the matrix of weights (B11 shows how).

# %% [markdown]
# ### B10.2 · Does it follow?
#
# *(8 min, difficulty 1)*
#
# Write `order_gap(layer, x, order)`: reorder the tokens of $x \sim (t, e)$ by `order`, apply `layer`, and give the
# largest absolute difference to the layer's old outputs in the new order.


# %% tags=["exercise:B10.2"]
def order_gap(layer, x, order):
    # SOLUTION
    return (layer(x[order]) - layer(x)[order]).abs().max().item()
    # END SOLUTION


# %% tags=["check:B10.2"]
lab.check("B10.2", order_gap)

# %% [markdown] tags=["hint:B10.2"]
# Equivariance: $f(PX) = P f(X)$. The permutation appears once on either side.

# %% [markdown] tags=["solution-text:B10.2"]
# **Discussion.** Attention is a graph layer on the complete graph (B12). Adding positions to the input
# breaks the symmetry on purpose.

# %% [markdown]
# ### B10.3 · Clocks
#
# *(10 min, difficulty 2)*
#
# Write `positions(t, d)`: row $p$ holds $\sin(p\,\omega_i), \cos(p\,\omega_i)$ for $i = 0, \dots, d/2 - 1$,
# interleaved, in float64. The check also tries whether dot products depend on the distance only.


# %% tags=["exercise:B10.3"]
def positions(t, d):
    # SOLUTION
    omega = 10_000.0 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    angle = torch.arange(t, dtype=torch.float64)[:, None] * omega
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)
    # END SOLUTION


# %% tags=["check:B10.3"]
lab.check("B10.3", positions)

# %% [markdown] tags=["hint:B10.3"]
# `torch.stack(..., -1).flatten(1)` interleaves two tables.

# %% [markdown] tags=["solution-text:B10.3"]
# **Discussion.** $\sin a \sin b + \cos a \cos b = \cos(a - b)$: every pair is the hand of a clock, and the dot
# product compares how far the hands have turned.

# %% [markdown]
# ### B10.4 · Heads add up
#
# *(15 min, difficulty 3)*
#
# Joining the heads and mixing them by $W_o$ is a *sum*: each head meets its own rows of $W_o$. Write
# `head_outputs(x, w_query, w_key, w_value, w_out, heads)` $\sim$ (heads, t, d): what each adds.


# %% tags=["exercise:B10.4"]
def head_outputs(x, w_query, w_key, w_value, w_out, heads):
    # SOLUTION
    size, found = w_query.shape[1] // heads, []
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        q, k, v = x @ w_query[:, part], x @ w_key[:, part], x @ w_value[:, part]
        found.append((q @ k.T / size**0.5).softmax(-1) @ v @ w_out[part])
    return torch.stack(found)
    # END SOLUTION


# %% tags=["check:B10.4"]
lab.check("B10.4", head_outputs)
maps = [normal(16, 16) for _ in range(4)]
whole = multi_head(x, *maps, 4)
assert torch.allclose(head_outputs(x, *maps, 4).sum(0), whole)

# %% [markdown] tags=["hint:B10.4"]
# A product of a row of blocks with a column of blocks is the sum of the products of blocks.

# %% [markdown] tags=["solution-text:B10.4"]
# **Discussion.** Because heads only add, one can be removed, or its contribution looked at alone: the
# starting point of most studies of what heads do.

# %% [markdown]
# ### B10.5 · A mean that knows who is absent
#
# *(8 min, difficulty 2)*
#
# Sets come in different sizes and are padded. Write `pooled(views, mask)` for views $\sim (b, n, d)$ and a
# boolean mask $\sim (b, n)$: the mean over the views that are there.


# %% tags=["exercise:B10.5"]
def pooled(views, mask):
    # SOLUTION
    weight = mask.to(views.dtype)[..., None]
    return (views * weight).sum(1) / weight.sum(1)
    # END SOLUTION


# %% tags=["check:B10.5"]
lab.check("B10.5", pooled)

# %% [markdown] tags=["hint:B10.5"]
# Sum what is there, divide by how many are there.

# %% [markdown] tags=["solution-text:B10.5"]
# **Discussion.** Equivariant layers followed by an invariant mean give an invariant classifier, whatever
# is between. The same mask must also keep absent views from being *attended to*.

# %% [markdown]
# ## Where this goes
#
# **Back:** B08 reads the same kind of sequence by neighbourhood, B09 made stacks of such layers trainable.
# **On:** B11 makes attention causal and cheap, P06 forgets keys, P05 and P09 choose tokens by the attention
# they get.
#
# **Sources:** Vaswani et al., arXiv 1706.03762; Su et al., arXiv 2104.09864; Xiao et al., arXiv 2309.17453.
#
# **Open question.** If a head parks its weight on the first token when it has nothing to say, should the
# softmax be allowed to sum to less than one?
