# %% [markdown]
# # P06 · Which keys can a language model forget?
#
# *Paper: Devoto, Zhao, Scardapane, Minervini, "A Simple and Effective L2 Norm-Based Strategy for
# KV Cache Compression", EMNLP 2024, arXiv 2406.11430.*
#
# The paper's models have about eight billion parameters; ours, SmolLM2-135M-Instruct, is some sixty
# times smaller. It has the same parts and need not behave the same: take nothing from the paper on
# trust, and nothing here as a verdict on the paper.
#
# Reading: 40 min. Exercises: 65 min. Prerequisites: B10, B11.
#
# **Goals**
# - Measure how well a key's length predicts the attention it will get.
# - Drop half of a real model's cache and keep every position right.
# - Judge a compression claim by its controls.

# %% tags=["setup"]
import labcore

lab = labcore.start("P06", seed=0)

# %%
import numpy as np
import torch

from labcore import assets
from labcore.kvcache import experiment, figures
from labcore.tally import distinct, over, pick

result = experiment.load_result()  # measurements that come with the lab
arrays, tables = result.arrays, result.tables
# cells marked *live* measure again on the real model, if it is on this machine
live = all(assets.status(name) == "ready" for name in ("smollm2-135m", "moby-dick"))
made = result.provenance
print(f"measured {made.created[:10]}, {made.cpu_seconds:.0f} CPU s: {made.command}")
print("live cells:", "on" if live else "off; ./lab fetch smollm2-135m moby-dick")

# %% [markdown]
# ## Recap
#
# A decoder keeps, for every past token $j$, a key $k_j$ and a value $v_j$, in each layer and each of
# $G$ key heads. A new query $q_t$ reads them:
#
# $$a_{tj} = \frac{\exp(q_t \cdot k_j / \sqrt d)}{\sum_{i \le t} \exp(q_t \cdot k_i / \sqrt d)},
# \qquad o_t = \sum_{j \le t} a_{tj} v_j .$$
#
# To shorten this memory one needs $a_{tj}$ for queries that do not exist yet. The paper's
# observation: keys with a *small* norm $n_j = \lVert k_j \rVert_2$ tend to get *much* attention. Its rule:
#
# $$\text{keep the } \lceil \rho\, n \rceil \text{ pairs with the smallest } n_j .$$
#
# No training, no attention scores, one number a key.

# %% [markdown]
# **How good is the guess?** Drop pairs one by one in some order $\pi$; after $m$ of them the query
# has lost $\ell_\pi(m) = \sum_{i \le m} a_{\pi(i)}$. The best order drops the least attended first.
# The *attention loss* (ALR) is the area between the curve of the norm and that of the best order:
#
# $$Y = \sum_{m=1}^{n} \bigl(\ell_{\text{norm}}(m) - \ell_{\text{best}}(m)\bigr) \ge 0 .$$
#
# We add the *relative* loss: $Y$ over its expected value for a random order. 0 is perfect, 1 is chance.
#
# **Mind the convention.** Some libraries state the share that is *dropped*; $\rho$ is the share *kept*.
# A query's own key is never counted, and $H$ query heads share $G$ key heads: head $h$ reads key head
# $\lfloor hG/H \rfloor$.

# %% [markdown]
# ## 1 · A ledger of bytes
#
# One token leaves a key and a value of $d$ numbers, in $L$ layers and $G$ key heads: $2LGd$
# numbers. The formula fits in a line; the library's ledger must agree with it.

# %%
from labcore.kvcache.ledger import MODELS


def bytes_per_token(layers, key_heads, head_dim, itemsize):
    return 2 * layers * key_heads * head_dim * itemsize


for shape in MODELS:
    sizes = (shape.layers, shape.key_heads, shape.head_dim, shape.itemsize)
    size = bytes_per_token(*sizes)
    assert size == shape.bytes_per_token
    gib = size * 4096 / 2**30
    print(f"{shape.name:24s} {size:8,} bytes a token, {gib:6.3f} GiB for 4096")

# %% [markdown]
# ## 2 · One head, closely
#
# First the rule itself, in three lines; then the library's `select`, which also guards positions
# and checks its input. On the same keys both must keep the same pairs.

# %%
from labcore.kvcache import key_norms, select


def keep_shortest(keys, k):
    norms = keys.float().norm(dim=-1)  # (g, n), in float32 whatever the cache holds
    order = norms.argsort(dim=-1, stable=True)  # shortest first; of equals the older
    return order[:, :k].sort(dim=-1).values  # (g, k), ascending


keys = torch.randn(3, 200, 64, generator=lab.generator)
ours, theirs = keep_shortest(keys, 50), select(-key_norms(keys)[None], 50)[0]
assert torch.equal(ours, theirs)
print("kept by head 0:", ours[0, :12].tolist(), "...")

# %% [markdown]
# Now the keys of the real model, reading the opening of *Moby Dick*. **Live:** the model reads it
# again, and its norms must be those that came with the lab.

# %%
words = [row["token"] for row in tables["sample"]]
norms, window_mean = arrays["sample/norms"], arrays["sample/window_mean"]
triangle = arrays["sample/triangle"].astype(np.float32)  # the first tokens
window = tables["sample"][0]["window"]
L, H, G = len(norms), window_mean.shape[1], norms.shape[1]

if live:
    from labcore.kvcache import load_model, profile_attention

    model, tokenizer = load_model("smollm2-135m")
    opening = torch.tensor([[row["id"] for row in tables["sample"]]])
    profile = profile_attention(model, opening, window=window)
    gap = np.abs(profile.norms.numpy() - norms).max()
    assert gap < 0.01, f"norms differ by {gap}"
    print(f"live: {opening.shape[1]} tokens read; norms agree to {gap:.0e}")

# %% [markdown]
# **Predict.** Below is the head in which the norm predicts attention best (the first position left
# out). Bright columns are keys that many queries look at. Which tokens will stand above the shortest
# bars: rare words, names, or something duller?

# %%
text, length = "moby", min(distinct(tables["maps"], "length"))
relative = arrays[f"map/{text}@{length}/relative_alr"]
without_first = arrays[f"map/{text}@{length}/relative_alr_without_first"]
layer, head = divmod(int(without_first.argmin()), H)
m = triangle.shape[-1]
attention, bars = triangle[layer, head], norms[layer, head * G // H, :m]
fig = figures.attention_triangle(attention, bars, words[:m], layer=layer, head=head)
lab.show(fig)
shortest = bars.argsort()[:8]
print("shortest keys:", ", ".join(repr(words[j]) for j in shortest))

# %% [markdown]
# ## 3 · Loss curves
#
# Take the last query of that picture and drop its keys one by one. The definition is two running
# sums; the library gets the same number from ranks alone, without any sum over $m$ (exercise P06.2).

# %%
from labcore.kvcache import alr, loss_curves, relative_alr


def alr_by_curves(attention, norms):
    best = attention.sort().values.cumsum(0)
    by_norm = attention[norms.argsort(descending=True)].cumsum(0)
    return (by_norm - best).sum()


row = torch.tensor(attention[-1, :-1], dtype=torch.float64)  # its own key left out
row_norms = torch.tensor(bars[:-1], dtype=torch.float64)
torch.testing.assert_close(alr_by_curves(row, row_norms), alr(row, row_norms))
curves = [curve.numpy() for curve in loss_curves(row, row_norms)]
lab.show(figures.loss_curves_figure(*curves, layer=layer, head=head))

shuffled = [
    relative_alr(row, torch.rand(m - 1, generator=lab.generator).double()).item()
    for _ in range(2000)
]
print(f"relative loss by norm: {relative_alr(row, row_norms):.2f}")
print(f"of 2000 random orders: {np.mean(shuffled):.2f} on average")

# %% [markdown]
# ## 4 · Every head
#
# One number a head, averaged over the last queries of a longer text (as a ratio of sums). Blue
# heads follow the norm; orange ones with a cross are worse than chance. The paper's scripts leave
# layers 0 and 1 of Llama-2-7B whole. Would you do the same here?

# %%
where = f"{text}, {length} tokens"
lab.show(figures.head_map_figure(relative, text=where))
print("mean of layers 0, 1, 2:", ", ".join(f"{x:.2f}" for x in relative[:3].mean(1)))

# %% [markdown]
# **Predict.** The first token of a text is an *attention sink*: a head that has nothing to say parks
# its attention there (Xiao et al., arXiv 2309.17453). Its key is short in many heads. Leave this
# one position out and draw the map again: how much blue will be left?

# %%
lab.show(figures.head_map_figure(without_first, without_first=True, text=where))
for order in ("relative_alr", "recency"):
    for name in (order, f"{order}_without_first"):
        a = arrays[f"map/{text}@{length}/{name}"]
        good, upper = (a < 1).mean(), a[L // 2 :].mean()
        print(f"{name:27s} mean {a.mean():.2f}, below 1 {good:4.0%}, upper half {upper:.2f}")
theirs = arrays[f"map/2010@{length}/relative_alr"]
r = np.corrcoef(relative.ravel(), theirs.ravel())[0, 1]
print(f"first map against the map of a speech: r = {r:.2f}")

# %% [markdown]
# So the sink carries a good part of the agreement, most of all in the upper layers. The rule still
# finds something real: it finds the sink *without being told where it is*. The last two rows drop
# the oldest pair first. Which order predicts better once nobody may point at the sink?
#
# ## The head explorer
#
# **Change** the layer, then the head, and compare with the maps. **Watch** the star (the first
# token), the diamonds (punctuation) and the two printed numbers: Spearman's correlation ranks all
# tokens alike, the relative loss weighs them by attention. Find a head where the two disagree.

# %% tags=["centrepiece"]
from labcore.kvcache.explorer import head_view


def head_figure(layer, head):
    at = {"layer": layer, "head": head}
    view = head_view(words, norms, window_mean, window=window, **at)
    n = len(view.attention)  # keys that every query of the window sees
    loss = view.relative_alr
    return figures.norm_scatter(
        view.norms[:n], view.attention, view.tokens[:n], relative_alr=loss, **at
    )


lab.explore(head_figure, layer=(0, L - 1), head=(0, H - 1))

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# In layer 0 there is no pattern to speak of. Just above, punctuation has short keys; a little higher,
# a few words inside the text join it and act as small sinks. In the upper half the star flies away
# from the cloud: one key is very short and takes much of the attention, while for the others the
# norm says less. A rule that keeps the star looks good on any measure that weighs by attention;
# Spearman's correlation gives the star one vote among many.
#
# </details>

# %% [markdown]
# ## 5 · What has a small key?
#
# The twelve tokens with the smallest keys, averaged over the heads of each band of layers. Then the
# share of punctuation among the smallest quarter, beside its share of the text.

# %%
lab.show(figures.low_norm_tokens(tables["low_norm_tokens"], text=text))
for row in pick(tables["low_norm_kinds"], text=text, kind="punctuation"):
    band = f"layers {row['first_layer']:2d} to {row['last_layer']:2d}"
    print(f"{band}: {row['kept_share']:4.0%} of the smallest quarter is punctuation")
print(f"the whole text: {row['text_share']:4.0%}")

# %% [markdown]
# ## 6 · Prune once
#
# The model reads a prompt with full attention; the cache is pruned; the model goes on from what is
# left. We score how surprised it is by the tokens that really follow, as perplexity. **Live:** one
# window of *Moby Dick*, half of every layer kept, beside the committed number for the same window.
# `random+guards` keeps 4 first and 16 newest positions and draws the rest by lot.
#
# One window is an anecdote: the figure after it has the geometric mean over windows from a novel and
# from speeches.

# %%
prune = pick(tables["prune"], length=min(distinct(tables["prune"], "length")))
at = {"text": "moby@0", "keep_ratio": 0.5}
guarded_too = ("low_norm", "low_norm+guards", "random", "random+guards")
names = (*guarded_too, "high_norm", "sink_window")
if live:
    from labcore.kvcache import Policy, continuation_nll, data
    from labcore.kvcache.settings import POLICIES

    N, T = prune[0]["length"], prune[0]["tokens"]
    ids = data.windows(tokenizer, N + T + 1, 1)[at["text"]][None]
    prompt = profile_attention(model, ids[:, :N], window=result.config["score_window"])
    follows = ids[:, N:]


def perplexity(cache, **options):
    return continuation_nll(model, cache, follows, **options).mean().exp().item()


lines = []
for name in names:
    committed = over(prune, "perplexity", policy=name, **at).mean
    line = f"{name:16s} committed {committed:7.2f}"
    if live:
        cache = Policy(*POLICIES[name]).compress(prompt, keep_ratio=0.5, skip_layers=())
        line += f"   live {perplexity(cache):7.2f}"
    lines.append(line)
print("\n".join(lines))

# %%
length = prune[0]["length"]
lab.show(figures.perplexity_curves(prune, length=length, policies=names))

# %% [markdown]
# ## 7 · Controls
#
# Against `random` and `high_norm` the method wins by a wide margin, as published. But those two lose
# the sink and the newest words, and any score suffers without them.
#
# **Predict.** Give the *random* order the same guards (4 first, 16 newest positions). How much of the
# method's lead is left: most, half, or nothing you could tell from noise? Below, differences in
# log-perplexity on the same windows; 0.05 is five per cent, negative favours the first name.

# %%
for row in pick(tables["paired"], length=length):
    if row["keep_ratio"] in (0.5, 0.1):
        pair = f"{row['policy']:>15s} - {row['control']:17s}"
        mean, error = row["difference"], row["error"]
        noise = "within noise" if abs(mean) < 2 * error else ""
        values = f"{mean:+.3f} ± {error:.3f}"
        print(f"kept {row['keep_ratio']:4.2f}  {pair} {values}  {noise}")

# %% [markdown]
# ## 8 · A rolling cache
#
# A chat does not end after the prompt. A *rolling* cache has a budget: after each step, whatever
# exceeds it goes. The paper's language-modelling runs roll in bursts.
#
# **Predict.** Suppose the cache is full of short keys. A new word arrives with an ordinary key. What
# happens to it at once, and to the next ten words? The film shows one head; the numbers under it,
# all of them.

# %%
budget = tables["film"][0]["budget"]
shown = {"policy": "low_norm", "layer": L // 2, "head": 0}
film = arrays["film/low_norm"][L // 2, 0]
lab.show(figures.rolling_film(film, words, budget=budget, **shown))
for policy in ("low_norm", "low_norm+recent"):
    gone = arrays[f"film/{policy}"][2:].astype(int)  # tokens seen then; -1: it stays
    at_once = (gone == np.arange(1, len(words) + 1))[gone >= 0].mean()
    newest = (gone[..., -16:] < 0).mean()
    print(f"{policy}: {at_once:.0%} of the evicted went in their first step;")
    print(f"  of the newest 16 pairs {newest:.0%} are held at the end")

# %% [markdown]
# The cache fossilises: short keys pile up, new words are turned away at the door, and the model goes
# on with holes in its most recent context. `recent` protects the newest pairs; it is this lab's
# addition, not the paper's, and the default of `KeyNormCache(budget=...)`.

# %%
rolling = min(tables["rolling"], key=lambda row: (row["tokens"], -row["prune_to"]))
setting = {name: rolling[name] for name in ("tokens", "budget", "prune_to")}
lab.show(figures.rolling_bars(tables["rolling"], **setting))

# %% [markdown]
# ## 9 · Finding a pass key, in two fillers
#
# Hide five digits in filler, prune without knowing the question, then ask. The usual filler is a
# few short sentences over and over ("The grass is green. The sky is blue. ..."), the other is prose.
# The task, the key and the question stay the same.

# %%
shown_policies = ("low_norm", "random+guards", "sink_window", "high_norm")
for filler, name in (("repeat", "repetitive filler"), ("prose", "prose")):
    rows = pick(tables["passkey"], filler=filler, question="after")
    task = f"pass key in {name}"
    lab.show(figures.retrieval_curves(rows, policies=shown_policies, task=task))
prefix = "passkey_percentiles/"
histograms = {
    name.removeprefix(prefix).split("@")[0]: values
    for name, values in arrays.items()
    if name.startswith(prefix)
}
lab.show(figures.passkey_norms(histograms))

# %%
for filler in ("repeat", "prose"):
    digits = over(tables["passkey_norms"], "mean_percentile", filler=filler)
    print(f"{filler}: mean norm percentile of digits {digits.mean:.2f}; found:")
    for ratio in (0.75, 0.5, 0.25):
        rows = pick(tables["passkey"], question="after", filler=filler)
        rows = pick(rows, keep_ratio=ratio)
        found = [over(rows, "exact", policy=p).mean for p in shown_policies]
        shares = zip(shown_policies, found, strict=True)
        print(f"  {ratio:4.2f} kept:", ", ".join(f"{p} {x:.0%}" for p, x in shares))

# %% [markdown]
# The paper reports pass keys found with nine tenths of the cache gone, on models trained for long
# texts. Our small model agrees on the direction in repetitive filler, if not on how far it carries,
# and **disagrees in prose**, where guarded random pairs, or just the newest ones, find more. The
# histogram says why: words that come again and again get larger keys here, so in repetitive filler
# the digits stand out as small; in prose they do not. Whoever reads a retrieval score should ask for
# the filler first. Whether a large model would say the same, this notebook cannot tell.

# %% [markdown]
# ## 10 · Limits
#
# **Norms must be free to differ.** Qwen3 and Gemma 3 normalise their keys (*QK-norm*): up to a learned
# gain, each key is divided by its own root mean square. What is left for the rule to rank?
#
# **Positions must stay.** A pruned cache holds fewer pairs than the model has seen. Exercise P06.5
# shows what happens to code that confuses the two.
#
# **Bytes are not seconds.** On one core with a short text most of a step goes into matrices that no
# cache policy touches; memory falls exactly with $\rho$, time hardly.

# %%
raw = torch.randn(500, 64, generator=lab.generator) * (0.5 + torch.rand(500, 1))
unit = raw / raw.square().mean(-1, keepdim=True).sqrt()
gain = 0.5 + torch.rand(64, generator=lab.generator)


def variation(keys):
    return (keys.norm(dim=-1).std() / keys.norm(dim=-1).mean()).item()


examples = {"free keys": raw, "RMS norm": unit, "RMS norm and a gain": unit * gain}
for name, keys in examples.items():
    print(f"{name:20s} norms vary by {variation(keys):.4f} of their mean")
ours = norms.std(-1) / norms.mean(-1)
print(f"{'SmolLM2, all heads':20s} norms vary by {ours.min():.4f} to {ours.max():.4f}")

# %% [markdown]
# ## Exercises
#
# Six of them; each check compares your function with a reference on fixed and on random inputs.
#
# ### P06.1 · The bytes that are left
#
# *(8 min, difficulty 1)*
#
# Write `cache_bytes`: the bytes of keys and values of `tokens` tokens when `skipped` layers stay
# whole and every other layer keeps $\lceil \rho\, n \rceil$ pairs in each key head. Llama-2-7B has 32
# layers, 32 key heads, heads of size 128 and 2 bytes a number: guess first what 4096 tokens weigh,
# and what is left with $\rho = 0.5$ when two layers are skipped. It is not half.

# %% tags=["exercise:P06.1"]
import math


def cache_bytes(tokens, layers, key_heads, head_dim, itemsize, keep_ratio=1.0, skipped=0):
    # SOLUTION
    kept = math.ceil(keep_ratio * tokens)
    pairs = skipped * tokens + (layers - skipped) * kept
    return 2 * pairs * key_heads * head_dim * itemsize
    # END SOLUTION


# %% tags=["check:P06.1"]
lab.check("P06.1", cache_bytes)
llama = {"tokens": 4096, "layers": 32, "key_heads": 32, "head_dim": 128, "itemsize": 2}
for settings in ({}, {"keep_ratio": 0.5, "skipped": 2}):
    print(settings, cache_bytes(**llama, **settings) / 2**30, "GiB")

# %% [markdown] tags=["hint:P06.1"]
# Count pairs first, bytes at the end.

# %% [markdown] tags=["hint:P06.1"]
# Two groups of layers: `skipped` of them hold all pairs, the others the rounded-up share.

# %% [markdown] tags=["hint:P06.1"]
# A pair is two vectors of `head_dim` numbers, in each of `key_heads` heads. `math.ceil` rounds up.

# %% [markdown] tags=["solution-text:P06.1"]
# **Discussion.** The overall share kept is $(|S| + (L - |S|)\rho)/L$ with $S$ the skipped layers. Skip two of 32 and
# $\rho = 0.5$ keeps 53 % of the cache. Comparisons at equal $\rho$ with different skip sets are
# therefore not comparisons at equal memory; the figures here put the overall share on their axis.

# %% [markdown]
# ### P06.2 · The attention loss from ranks
#
# *(15 min, difficulty 2)*
#
# A query's attention `row` and the key `norms` end with its own key, which does not count. Return
# `(loss, relative)`: the area $Y$ and $Y$ over its mean for a random order. No loop is needed: a pair
# dropped at 0-based rank $R$ is missing from $n - R$ of the sums, so
#
# $$Y = \sum_j a_j \bigl(R_a(j) - R_n(j)\bigr)$$
#
# with ranks in the best order and in the norm's. By hand first: attention 0.5, 0.3, 0.2 on keys of
# norm 1, 3, 2. (The first fixed case of the check is this one, halved.)


# %% tags=["exercise:P06.2"]
def attention_loss(row, norms):
    # SOLUTION
    attention, norms = row[:-1], norms[:-1]
    n = len(attention)
    best = attention.argsort().argsort()  # 0 = least attended, dropped first
    by_norm = (-norms).argsort().argsort()  # 0 = largest norm, dropped first
    loss = (attention * (best - by_norm)).sum()
    at_random = (attention * (best - (n - 1) / 2)).sum()
    return loss.item(), (loss / at_random).item()
    # END SOLUTION


# %% tags=["check:P06.2"]
lab.check("P06.2", attention_loss)

# %% [markdown] tags=["hint:P06.2"]
# Which pair goes first in each of the two orders? That pair has rank 0.

# %% [markdown] tags=["hint:P06.2"]
# `x.argsort().argsort()` turns values into ranks, smallest first. Drop the *largest* norm first.

# %% [markdown] tags=["hint:P06.2"]
# In a random order each pair has mean rank $(n - 1)/2$, whatever its attention: put that number in
# place of $R_n(j)$ to get the denominator. Do not renormalise the row.

# %% [markdown] tags=["solution-text:P06.2"]
# **Discussion.** By hand: the best order drops 0.2, 0.3, 0.5, so $R_a = (2, 1, 0)$; the norm's drops keys 2, 3, 1, so
# $R_n = (2, 0, 1)$ and $Y = 0.3 \cdot 1 - 0.2 \cdot 1 = 0.1$. A random order loses
# $0.5 \cdot 1 + 0.3 \cdot 0 - 0.2 \cdot 1 = 0.3$ on average; the relative loss is one third. Halving the
# attention halves $Y$ and leaves the ratio alone, which is why maps of $Y$ itself mostly show how much
# attention a head spends elsewhere.

# %% [markdown]
# ### P06.3 · Before or after the rotation
#
# *(12 min, difficulty 2)*
#
# Rotary embeddings turn each pair of coordinates by an angle that grows with the position. Show on
# paper that $\lVert \mathrm{RoPE}(k, p) \rVert = \lVert k \rVert$. So the rule may read keys *before* the
# rotation. Write `kept_before_rotation(keys, k)`: for keys `(g, n, d)` the positions of the `k`
# shortest keys of each head, ascending, as `(g, k)`. Keys may come in bfloat16.


# %% tags=["exercise:P06.3"]
def kept_before_rotation(keys, k):
    # SOLUTION
    norms = keys.float().norm(dim=-1)
    return norms.argsort(dim=-1, stable=True)[..., :k].sort(dim=-1).values
    # END SOLUTION


# %% tags=["check:P06.3"]
lab.check("P06.3", kept_before_rotation)
if live:
    from labcore.kvcache import compress

    caught = []  # what the key projection gives, before the model rotates it
    projection = model.model.layers[layer].self_attn.k_proj
    hook = projection.register_forward_hook(lambda *call: caught.append(call[-1][0]))
    with torch.no_grad():
        model(opening, logits_to_keep=1)
    hook.remove()
    raw = caught[0].unflatten(-1, (G, -1)).transpose(0, 1)  # (g, n, d)
    cached = compress(profile, keep_ratio=0.25).positions(layer)[0]
    agree = (kept_before_rotation(raw, cached.shape[-1]) == cached).float().mean()
    print(f"live: {agree:.0%} of the kept pairs of layer {layer} agree")

# %% [markdown] tags=["hint:P06.3"]
# Look at one coordinate pair: what does a rotation do to $x^2 + y^2$?

# %% [markdown] tags=["hint:P06.3"]
# Take the norm over the last axis, in single precision even if the keys are not.

# %% [markdown] tags=["hint:P06.3"]
# `argsort` along the positions, the first `k` of it, then `sort` those positions.

# %% [markdown] tags=["solution-text:P06.3"]
# **Discussion.** A rotation keeps $x^2 + y^2$ of its pair, and the squared norm is the sum over pairs. In bfloat16,
# with eight bits of mantissa, most norms of a head tie with another one; the kept set then depends
# on how a sort treats equals, and differs between devices. A cast to float32 before the norm costs
# nothing and settles it.

# %% [markdown]
# ### P06.4 · Guards, and a rule turned upside down
#
# *(12 min, difficulty 2)*
#
# Write `guarded(scores, k, sinks, recent)`: the positions of the `k` best scores of each head, `(g, n)`
# to `(g, k)` ascending, where positions below `sinks` and the newest `recent` are always among them,
# *inside* `k`.
#
# **Predict, then measure:** keep the *longest* keys, the very opposite of the method, and perplexity
# explodes. Now guard a single position, the first. How far does it come back?


# %% tags=["exercise:P06.4"]
def guarded(scores, k, sinks=0, recent=0):
    # SOLUTION
    position = torch.arange(scores.shape[-1])
    safe = (position < sinks) | (position >= scores.shape[-1] - recent)
    raised = scores.masked_fill(safe, math.inf)
    best_first = raised.argsort(dim=-1, descending=True, stable=True)
    return best_first[..., :k].sort(dim=-1).values
    # END SOLUTION


# %% tags=["check:P06.4"]
lab.check("P06.4", guarded)


def by_my_rule(state, sinks):
    norms = key_norms(state.keys[0])
    kept = guarded(norms, (norms.shape[-1] + 1) // 2, sinks=sinks)
    return torch.zeros_like(norms).scatter(-1, kept, 1.0)[None]  # kept pairs score 1


for sinks, stored in ((0, "high_norm"), (1, "high_norm+sink")):
    committed = over(prune, "perplexity", policy=stored, **at).mean
    line = f"longest keys, sinks={sinks}: committed {committed:.1f}"
    if live:
        from labcore.kvcache import Score

        mine = Score("mine", lambda state, sinks=sinks: by_my_rule(state, sinks))
        cache = compress(prompt, mine, keep_ratio=0.5)
        line += f", live with your rule {perplexity(cache):.1f}"
    print(line)

# %% [markdown] tags=["hint:P06.4"]
# A guarded position must win against every score. Which number does?

# %% [markdown] tags=["hint:P06.4"]
# Fill the guarded positions with `math.inf`, then rank as before.

# %% [markdown] tags=["hint:P06.4"]
# `scores.masked_fill(mask, math.inf).argsort(dim=-1, descending=True, stable=True)[..., :k]`, sorted.

# %% [markdown] tags=["solution-text:P06.4"]
# **Discussion.** One pair out of several hundred in every head brings most of it back. So the disaster of
# `high_norm` is not that it keeps the wrong half of the text; it is that it throws the sink away,
# and all heads that parked their attention there must spend it on something else. A comparison of
# `low_norm` with bare `high_norm` mostly measures this one pair.

# %% [markdown]
# ### P06.5 · Seen, not stored
#
# *(10 min, difficulty 2)*
#
# A cache has seen `seen` tokens and holds the pairs at positions `kept`; `new` tokens arrive. A rotary
# model feels only distances. Write `distances(kept, seen, new)`: position of each new query minus
# position of each key, first the stored keys, then the new ones, shape `(new, len(kept) + new)`.
# (Negative entries among the new tokens are in the future; the causal mask hides them.)
#
# What do the distances look like to a library that takes the *stored* length for the position?


# %% tags=["exercise:P06.5"]
def distances(kept, seen, new):
    # SOLUTION
    queries = seen + torch.arange(new)
    return queries[:, None] - torch.cat([kept, queries])
    # END SOLUTION


# %% tags=["check:P06.5"]
lab.check("P06.5", distances)
kept = torch.tensor([0, 4, 9, 10, 11])
print("position = tokens seen:  ", distances(kept, 12, 1)[0].tolist())
print("position = pairs stored: ", distances(kept, len(kept), 1)[0].tolist())
if live:
    cache = compress(prompt, keep_ratio=0.5)
    stored = cache.positions(0).shape[-1]
    for name, start in (("tokens seen", N), ("pairs stored", stored)):
        cost = perplexity(cache, start=start)
        print(f"live, position = {name} ({start}): perplexity {cost:.1f}")

# %% [markdown] tags=["hint:P06.5"]
# Stored keys were rotated when they came, and nobody turns them back.

# %% [markdown] tags=["hint:P06.5"]
# The new queries stand at `seen`, `seen + 1`, ...; so do the new keys.

# %% [markdown] tags=["hint:P06.5"]
# `queries[:, None] - torch.cat([kept, queries])` with `queries = seen + torch.arange(new)`.

# %% [markdown] tags=["solution-text:P06.5"]
# **Discussion.** With the stored length as position, the newest stored keys lie in the *future* of the query: their
# distances are negative, values the model never met in training. Code that swaps the tensors inside
# a library cache falls into this as soon as layer 0 is pruned, because the library asks layer 0 for
# the length. Published settings that skip layer 0 escape it silently; `KeyNormCache` counts the
# tokens seen, for any set of skipped layers.

# %% [markdown]
# ### P06.6 · When every norm ties
#
# *(8 min, difficulty 1)*
#
# Write `tied(n, d, k)`: return `(keys, survivors)` with `n` *different* keys of size `d` whose float32
# norms are *exactly* equal, and the list of the `k` positions that the rule keeps of them. You may
# assume that $n$ is at most $d(d-1)$.


# %% tags=["exercise:P06.6"]
def tied(n, d, k):
    # SOLUTION
    binary = (torch.arange(n)[:, None] >> torch.arange(d)) & 1
    return 1.0 - 2.0 * binary, list(range(k))  # signs: squares that add up exactly
    # END SOLUTION


# %% tags=["check:P06.6"]
lab.check("P06.6", tied)
keys, survivors = tied(12, 16, 5)
rule = select(-key_norms(torch.as_tensor(keys).float())[None, None], 5)[0, 0]
print("you say", list(survivors), "and the rule keeps", rule.tolist())

# %% [markdown] tags=["hint:P06.6"]
# Dividing random keys by their norm is not enough. Why not?

# %% [markdown] tags=["hint:P06.6"]
# Choose coordinates whose squares are whole numbers: then the sum has no rounding.

# %% [markdown] tags=["hint:P06.6"]
# Rows of +1 and -1, such as the binary digits of 0, 1, 2, ...; among equals the older pair stays.

# %% [markdown] tags=["solution-text:P06.6"]
# **Discussion.** Any fixed rule would do; what matters is that there is one. "Lower position first" comes from a
# stable sort and is the same on every device, so two people with the same model keep the same pairs.

# %% [markdown]
# ## Where this goes
#
# **Back:** attention and its mask are in B10, the cache that grows in B11. **On:** P10 asks the
# same question of whole layers and experts, P09 of the patches of an image that are worth sending,
# P05 of the tokens worth training on.
#
# **Sources:** Devoto et al., arXiv 2406.11430; Xiao et al. on attention sinks, arXiv 2309.17453;
# Li et al., SnapKV, arXiv 2404.14469, for a score that does look at attention.
#
# **Open question.** If much of the method's success is that it finds the sink, could a model be
# trained *without* a sink, and would any property of a key alone still predict its future?

# %% [markdown] tags=["optional"]
# ## Optional: read what it writes
#
# Perplexity is a number; here is the text. The same beginning, continued greedily from the whole
# cache and from half of it. Change `keep_ratio`, `score`, `recent` and `skip_layers`.

# %% tags=["optional"]
if live:
    from labcore.kvcache import KeyNormCache

    beginning = opening[:, :96]
    half = {"keep_ratio": 0.5, "score": "low_norm", "recent": 16, "skip_layers": (0, 1)}
    for name, settings in (("whole", {"keep_ratio": 1.0}), ("half", half)):
        cache = KeyNormCache(model.config, **settings)
        written = model.generate(
            beginning,
            attention_mask=torch.ones_like(beginning),
            past_key_values=cache,
            do_sample=False,
            max_new_tokens=16,
            pad_token_id=tokenizer.eos_token_id,
        )
        new = tokenizer.decode(written[0, 96:])
        print(f"{name:6s}{cache.nbytes():10,} bytes: {new!r}")
else:
    print("This cell needs the model: ./lab fetch smollm2-135m moby-dick")
