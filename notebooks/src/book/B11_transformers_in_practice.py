# %% [markdown]
# # B11 · Transformers in practice: making it run
#
# *Scardapane, "Alice's Adventures in a differentiable wonderland", arXiv 2404.17625, chapter 11.*
#
# Reading: 30 min. Exercises: 55 min. Prerequisites: B10.
#
# **Goals**
# - Hide the future before the softmax, and attend across two sequences.
# - Generate with a cache and say exactly what it saves.
# - Cut pictures into tokens.

# %% tags=["setup"]
import labcore

lab = labcore.start("B11", seed=0)

# %%
import torch

from labcore.blocks.attention import attention, causal_mask, online_softmax_attention
from labcore.blocks.kv_cache import KVCache
from labcore.book import figures_b11
from labcore.book.b11 import decoder, generate, work_with_cache, work_without_cache
from labcore.book.experiment import load_result
from labcore.book.language import GPT, bits, novel, train

result = load_result()


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=lab.generator)


# %% [markdown]
# ## Recap
#
# To predict the next token at every place at once, query $i$ may read the keys $j \le i$ only. Scores of
# later keys become minus infinity, *before* the softmax:
#
# $$a_{ij} = \frac{\exp(s_{ij})}{\sum_{l \le i} \exp(s_{il})}, \qquad
# s_{ij} = \frac{q_i \cdot k_j}{\sqrt k}, \; j \le i .$$
#
# In *cross* attention queries come from one sequence, keys and values from another. When a text is
# written token by token, old keys and values do not change: they can be kept in a *cache*.

# %% [markdown]
# **Mind the convention.** The mask is no factor: it sets scores to $-\infty$. Scores are always divided by
# $\sqrt k$. The online softmax keeps a running *maximum* beside its sums. With fewer queries than keys the
# last query belongs to the last key; `torch`'s built-in causal mask lines up the first ones instead.

# %% [markdown]
# ## 1 · A triangle
#
# Four tokens. The library's mask, by hand, and torch's own function.

# %%
q, k, v = normal(4, 8), normal(4, 8), normal(4, 2)
scores = (q @ k.T / 8**0.5).masked_fill(~causal_mask(4, 4), -torch.inf)
by_hand = scores.softmax(-1) @ v
assert torch.allclose(by_hand, attention(q, k, v, causal=True))
builtin = torch.nn.functional.scaled_dot_product_attention(
    q[None], k[None], v[None], is_causal=True
)[0]
print("gap to torch:", f"{(by_hand - builtin).abs().max():.0e}")
print("one query, five keys, ours reads:", causal_mask(1, 5).int().tolist())

# %% [markdown]
# **Predict.** Change the last of four tokens. Which outputs of causal attention change? And of attention
# without a mask?

# %%
x = normal(4, 8)
other = x.clone()
other[3] += 1
for causal in (True, False):
    gap = attention(x, x, x, causal=causal) - attention(other, other, other, causal=causal)
    changed = (gap.abs().amax(-1) > 0).int().tolist()
    print("causal:" if causal else "full:  ", changed)

# %% [markdown]
# **Cross attention.** A translator reads seven words of one language and has written three of another.
# Its queries come from what it wrote, keys and values from what it reads; nothing is hidden, for the
# source is there as a whole. The map of weights is a rectangle, and the order of the *source* does not
# matter: positions must be put in on that side too.

# %%
written, source = normal(3, 8), normal(7, 8)
read, weights = attention(written, source, source, return_weights=True)
by_hand = (written @ source.T / 8**0.5).softmax(-1) @ source
assert torch.allclose(read, by_hand)
turned = source.flip(0)
print("outputs", tuple(read.shape), "weights", tuple(weights.shape))
print("source backwards:", f"{(attention(written, turned, turned) - read).abs().max():.0e}")

# %% [markdown]
# ## 2 · Softmax, a block at a time
#
# The matrix of weights need never exist. Walk through the keys in blocks, keep the largest score so far and
# two sums, and rescale both whenever the maximum grows. This is the arithmetic of fast attention kernels.

# %%
q, k, v = 300 * normal(6, 16), normal(100, 16), normal(100, 4)  # scores of several hundred
whole = attention(q, k, v)
for block in (1, 7, 100):
    part = online_softmax_attention(q, k, v, block=block)
    assert torch.allclose(part, whole)
    print(f"block {block:3d}: gap {(part - whole).abs().max():.0e}")

# %% [markdown]
# ## 3 · A decoder on the novel
#
# Two blocks, 64 features, four heads: a tiny GPT. Here a short training, live; the committed runs have
# 400 updates. Beside it stands the convolution of B08 on the same text and test set.

# %%
text = novel()
model = train(GPT, text, steps=60, seed=0)
print(f"60 updates: {bits(model, text.test):.2f} bits a character")
for row in result.tables["b11/numbers"][:3] + result.tables["b08/numbers"][-1:]:
    print(f"{row['what']}: {row['measured']:.2f} ± {row['spread']:.2f}")

# %% [markdown]
# At this budget the plain GPT is behind the convolution: it must *learn* that neighbours matter, the other
# has it built in. Let half of every token's features come from the token before (*token shift*), at the
# door of the attention, and part of the gap closes; at the door of both maps, and the GPT overtakes.
# Inductive bias wins at small budgets, whoever has it.
#
# ## 4 · A cache
#
# Generate greedily twice, once recomputing everything, once feeding only the new token.

# %%
small = decoder(context=128)
start = torch.tensor([[5, 3, 8]])
slow = generate(small, start, 40, cached=False)
fast = generate(small, start, 40, cached=True)
assert torch.equal(slow, fast)
caches = small.caches()
with torch.no_grad():
    small(slow[:, :10], caches)
    several = small(slow[:, 10:16], caches)  # six new tokens at once
    whole = small(slow[:, :16])[:, 10:]
print("same tokens:", torch.equal(slow, fast))
print("six at once, gap:", f"{(several - whole).abs().max():.0e}", "; cache holds", len(caches[0]))
for n in (10, 100, 1000):
    print(
        f"{n:5d} tokens: {work_without_cache(n):12,d} products without, {work_with_cache(n):8,d} with"
    )

# %% [markdown]
# ## The bill
#
# **Change** the length, then the key heads. **Watch** the slopes in the middle: on logarithmic axes a power
# is a slope. Does the cache bring the cost of a new token down to a constant? On the right a small decoder
# of our own, by the clock.


# %% tags=["centrepiece"]
def bill(tokens, kv_heads, layers):
    return figures_b11.cost_figure(
        result.tables["b11/clock"], tokens=tokens, kv_heads=kv_heads, layers=layers
    )


lab.explore(bill, tokens=(64, 8192, 64), kv_heads=(1, 9), layers=(2, 60))

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# Without a cache step $t$ computes about $t^2/2$ products and the text $T^3/6$; with one, step $t$ computes
# $t$ and the text $T^2/2$. So the cache removes the *recomputation*, one power of the length. It does not
# make a step constant: every new token still reads all keys. Its price is memory that grows with the
# length and with the key heads; query heads are free, which is why models share keys among them.
#
# </details>

# %%
for row in result.tables["b11/clock"]:
    ratio = row["whole"] / row["cached"]
    print(
        f"{row['tokens']:4d} tokens: {row['cached']:.2f} s with, {row['whole']:.2f} s without "
        f"({ratio:.1f} times), {row['bytes']:,} bytes"
    )

# %% [markdown]
# The clock says less than $T^3$ against $T^2$: at these lengths the maps around the attention, which are linear
# in the tokens of a step, take most of the time.
#
# ## 5 · Bad caches are refused
#
# A cache belongs to one batch. Feeding it another one must not end in a wrong answer.

# %%
cache = KVCache()
cache.append(torch.zeros(2, 3, 4, 8), torch.zeros(2, 3, 4, 8))
try:
    cache.append(torch.zeros(1, 3, 1, 8), torch.zeros(1, 3, 1, 8))
except ValueError as error:
    print(error)

# %% [markdown]
# ## Exercises
#
# ### B11.1 · Hide the future
#
# *(8 min, difficulty 1)*
#
# Write `causal_weights(scores)`: from square scores (already scaled) the weights of causal attention.


# %% tags=["exercise:B11.1"]
def causal_weights(scores):
    # SOLUTION
    past = torch.ones_like(scores).tril().bool()
    return scores.masked_fill(~past, -torch.inf).softmax(-1)
    # END SOLUTION


# %% tags=["check:B11.1"]
lab.check("B11.1", causal_weights)

# %% [markdown] tags=["hint:B11.1"]
# Which score has weight zero after the exponential?

# %% [markdown] tags=["solution-text:B11.1"]
# **Discussion.** A mask after the softmax leaks: how much weight is missing from a row tells something
# about the future. The model would learn to read it.

# %% [markdown]
# ### B11.2 · Online softmax
#
# *(15 min, difficulty 3)*
#
# Write `online(scores, values, block)` for one query: scores $(n)$, values $(n, d)$. Return
# $\mathrm{softmax}(s)^\top V$ while looking at `block` entries at a time. Scores go up to 1000.


# %% tags=["exercise:B11.2"]
def online(scores, values, block):
    # SOLUTION
    top = torch.tensor(-torch.inf, dtype=scores.dtype)
    total, summed = 0.0, torch.zeros(values.shape[1], dtype=values.dtype)
    for s, v in zip(scores.split(block), values.split(block), strict=True):
        higher = torch.maximum(top, s.max())
        fade, e = (top - higher).exp(), (s - higher).exp()
        total, summed = total * fade + e.sum(), summed * fade + e @ v
        top = higher
    return summed / total
    # END SOLUTION


# %% tags=["check:B11.2"]
lab.check("B11.2", online)

# %% [markdown] tags=["hint:B11.2"]
# Keep three things: the largest score, the sum of exponentials, the weighted sum of values.

# %% [markdown] tags=["hint:B11.2"]
# When the maximum grows from $m$ to $m'$, both sums were computed with $e^{s - m}$: multiply by $e^{m - m'}$.

# %% [markdown] tags=["solution-text:B11.2"]
# **Discussion.** Nothing is approximate. Memory falls from $n$ weights to three numbers a query, and time
# falls too, because the weights need not travel to memory and back.

# %% [markdown]
# ### B11.3 · The mask beside a cache
#
# *(8 min, difficulty 2)*
#
# A cache holds `held` tokens and `new` ones arrive together. Write `cached_mask(held, new)`: booleans of shape
# $(\text{new}, \text{held} + \text{new})$, True where a new query may read.


# %% tags=["exercise:B11.3"]
def cached_mask(held, new):
    # SOLUTION
    query = held + torch.arange(new)[:, None]
    return torch.arange(held + new)[None] <= query
    # END SOLUTION


# %% tags=["check:B11.3"]
lab.check("B11.3", cached_mask)
print(cached_mask(3, 2).int())

# %% [markdown] tags=["hint:B11.3"]
# New query $i$ stands at position `held + i`.

# %% [markdown] tags=["solution-text:B11.3"]
# **Discussion.** A square mask works in every test that feeds one prompt, and fails on the second: one of the
# commonest faults of hand-written generation.

# %% [markdown]
# ### B11.4 · Bytes
#
# *(5 min, difficulty 1)*
#
# Write `bytes_held(tokens, layers, heads, kv_heads, head_dim, size)`: bytes of the whole cache, `size` bytes a
# number.


# %% tags=["exercise:B11.4"]
def bytes_held(tokens, layers, heads, kv_heads, head_dim, size):
    # SOLUTION
    return 2 * tokens * layers * kv_heads * head_dim * size
    # END SOLUTION


# %% tags=["check:B11.4"]
lab.check("B11.4", bytes_held)
print("SmolLM2-135M, one token:", f"{bytes_held(1, 30, 9, 3, 64, 4):,} bytes in float32")

# %% [markdown] tags=["hint:B11.4"]
# One argument is not needed.

# %% [markdown] tags=["solution-text:B11.4"]
# **Discussion.** 46 080 bytes for one token of this small model: a text of 3000 tokens weighs more than its
# 134.5 million weights at a byte each. That is the problem of P06.

# %% [markdown]
# ### B11.5 · A picture as a text
#
# *(10 min, difficulty 2)*
#
# Write `patchify(images, p)`: images $(b, c, h, w)$ to tokens $(b, hw/p^2, c\,p^2)$, patches in reading order,
# inside each the channel first.


# %% tags=["exercise:B11.5"]
def patchify(images, p):
    # SOLUTION
    b, c, h, w = images.shape
    cut = images.reshape(b, c, h // p, p, w // p, p)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * p * p)
    # END SOLUTION


# %% tags=["check:B11.5"]
lab.check("B11.5", patchify)
images = torch.randn(32, 3, 64, 64, generator=lab.generator)
cut = patchify(images, 8)
back = cut.reshape(32, 8, 8, 3, 8, 8).permute(0, 3, 1, 4, 2, 5).reshape(32, 3, 64, 64)
print(tuple(cut.shape), "and back:", torch.equal(back, images))

# %% [markdown] tags=["hint:B11.5"]
# Split height and width into (which patch, where in it), then bring the two "which" axes together.

# %% [markdown] tags=["solution-text:B11.5"]
# **Discussion.** A linear map of these tokens equals a convolution whose stride is its kernel: how vision
# transformers begin.

# %% [markdown]
# ## Where this goes
#
# **Back:** B10 for attention itself, B08 for the other reader of the novel. **On:** P06 asks which cached keys can
# go, P09 and P05 which image tokens need computing, P03 lets a language model attend to speech.
#
# **Sources:** Milakov and Gimelshein, arXiv 1805.02867; Shazeer, arXiv 1911.02150; Dosovitskiy et al., arXiv
# 2010.11929.
#
# **Open question.** Token shift beat plain attention here. Would it still with a hundred times the text?
