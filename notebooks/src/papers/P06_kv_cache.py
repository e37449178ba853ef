# %% [markdown]
# # P06 · Which keys can a language model forget?
#
# *Paper: Devoto, Zhao, Scardapane, Minervini, "A Simple and Effective L2 Norm-Based Strategy for
# KV Cache Compression", EMNLP 2024, arXiv 2406.11430.*
#
# Reading: 40 min. Exercises: 65 min. Prerequisites: B10, B11.
#
# **Goals**
# - Measure how well the length of a key predicts the attention it will get, before any query came.
# - Drop half of a real model's cache and keep every position right.
# - Judge a compression claim by its controls: the same guards around another score.

# %% tags=["setup"]
import labcore

lab = labcore.start("P06", seed=0)

# %% [markdown]
# ## What you work with
#
# The paper tests models of about eight billion parameters. Ours, SmolLM2-135M-Instruct, is some
# sixty times smaller: it has the same parts (rotary positions, grouped heads, RMS norms), runs on
# one core, and need not behave like its big relatives. So take nothing from the paper on trust
# here, and nothing from here as a verdict on the paper.
#
# The next cell opens measurements that come with the lab. Cells marked *live* measure again on
# the real model if it is on this machine.

# %%
import numpy as np
import torch

from labcore import assets
from labcore.kvcache import experiment, figures
from labcore.kvcache.tally import distinct, over_trials, pick

result = experiment.load_result()
arrays, tables = result.arrays, result.tables
live = all(assets.status(name) == "ready" for name in ("smollm2-135m", "moby-dick"))
print(f"measured {result.provenance.created[:10]} in {result.provenance.cpu_seconds:.0f} CPU s,",
      f"with `{result.provenance.command}`")  # fmt: skip
print("live cells: on" if live else "live cells: off; `./lab fetch smollm2-135m moby-dick` gets them")

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
    size = bytes_per_token(shape.layers, shape.key_heads, shape.head_dim, shape.itemsize)
    assert size == shape.bytes_per_token
    print(f"{shape.name:24s} {size:8,} bytes a token, {size * 4096 / 2**30:6.3f} GiB for 4096")

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
triangle = arrays["sample/triangle"].astype(np.float32)  # attention among the first tokens
L, H, G = len(norms), window_mean.shape[1], norms.shape[1]

if live:
    from labcore.kvcache import load_model, profile_attention

    model, tokenizer = load_model("smollm2-135m")
    opening = torch.tensor([[row["id"] for row in tables["sample"]]])
    profile = profile_attention(model, opening, window=tables["sample"][0]["window"])
    gap = np.abs(profile.norms.numpy() - norms).max()
    assert gap < 0.01, f"norms differ by {gap}"
    print(f"live: {opening.shape[1]} tokens read; norms agree to {gap:.0e}")

# %% [markdown]
# **Predict.** Below is the head in which the norm predicts attention best (the first position left
# out). Bright columns are keys that many queries look at. Which tokens will stand above the shortest
# bars: rare words, names, or something duller?

# %%
text, length = tables["maps"][0]["text"], min(distinct(tables["maps"], "length"))
relative = arrays[f"map/{text}@{length}/relative_alr"]
without_first = arrays[f"map/{text}@{length}/relative_alr_without_first"]
layer, head = (int(i) for i in np.unravel_index(without_first.argmin(), without_first.shape))
m = triangle.shape[-1]
lab.show(
    figures.attention_triangle(
        triangle[layer, head], norms[layer, head * G // H, :m], words[:m], layer=layer, head=head
    )
)

# %%
shortest = norms[layer, head * G // H, :m].argsort()[:8]
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


row = torch.from_numpy(triangle[layer, head, -1, :-1].copy()).double()  # its own key left out
row_norms = torch.from_numpy(norms[layer, head * G // H, : m - 1].copy()).double()
torch.testing.assert_close(alr_by_curves(row, row_norms), alr(row, row_norms))
best, by_norm = loss_curves(row, row_norms)
lab.show(figures.loss_curves_figure(best.numpy(), by_norm.numpy(), layer=layer, head=head))

# %%
shuffled = [
    relative_alr(row, torch.rand(m - 1, generator=lab.generator).double()).item()
    for _ in range(2000)
]
print(f"relative loss by norm {relative_alr(row, row_norms):.2f};",
      f"2000 random orders: {np.mean(shuffled):.2f} on average")  # fmt: skip

# %% [markdown]
# ## 4 · Every head
#
# One number a head, averaged over the last queries of a longer text (as a ratio of sums). Blue
# heads follow the norm; orange ones with a cross are worse than chance. The paper's scripts leave
# layers 0 and 1 of Llama-2-7B whole. Would you do the same here?

# %%
lab.show(figures.head_map_figure(relative, text=f"{text}, {length} tokens"))

# %% [markdown]
# **Predict.** The first token of a text is an *attention sink*: a head that has nothing to say parks
# its attention there (Xiao et al., arXiv 2309.17453). Its key is short in many heads. Leave this
# one position out and draw the map again: how much blue will be left?

# %%
lab.show(
    figures.head_map_figure(without_first, without_first=True, text=f"{text}, {length} tokens")
)
for name, values in (("all positions", relative), ("without position 0", without_first)):
    print(f"{name:20s} mean {values.mean():.2f}, {(values < 1).mean():.0%} of heads below 1, "
          f"upper half of the layers {values[L // 2 :].mean():.2f}")  # fmt: skip
recency = arrays[f"map/{text}@{length}/recency"]
print(f"{'oldest first':20s} mean {recency.mean():.2f} (another order, for comparison)")
other = next(t for t in distinct(tables["maps"], "text") if t != text)
both = np.corrcoef(relative.ravel(), arrays[f"map/{other}@{length}/relative_alr"].ravel())[0, 1]
print(f"maps of two texts ({text}, {other}) correlate with r = {both:.2f}")

# %% [markdown]
# So the sink carries a good part of the agreement, most of it in the upper layers. The rule still
# finds something real: it finds the sink *without being told where it is*.
#
# ## The head explorer
#
# **Change** the layer, then the head, and compare with the maps. **Watch** the star (the first
# token), the diamonds (punctuation) and the two printed numbers: Spearman's correlation ranks all
# tokens alike, the relative loss weighs them by attention. Find a head where the two disagree.

# %% tags=["centrepiece"]
from labcore.kvcache.explorer import head_view


def head_figure(layer, head):
    view = head_view(
        words, norms, window_mean, window=tables["sample"][0]["window"], layer=layer, head=head
    )
    seen = len(view.attention)
    return figures.norm_scatter(
        view.norms[:seen],
        view.attention,
        view.tokens[:seen],
        layer=layer,
        head=head,
        relative_alr=view.relative_alr,
    )


lab.explore(head_figure, layer=(0, L - 1), head=(0, H - 1))

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# In the first layers full stops and commas have the shortest keys. A little higher, a handful of
# tokens inside the text join them and act as small sinks. In the upper half the star flies away
# from the cloud: one key is very short and takes much of the attention, while among the others
# norm and attention hardly know of each other. A rule that keeps the star looks good on any measure
# that weighs by attention; Spearman's correlation, which gives the star one vote among many, is
# less impressed.
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
    print(f"layers {row['first_layer']:2d}-{row['last_layer']:2d}: punctuation is "
          f"{row['kept_share']:.0%} of the smallest quarter, {row['text_share']:.0%} of the text")  # fmt: skip

# %% [markdown]
# ## 6 · Prune once
#
# The model reads a prompt with full attention; the cache is pruned; the model goes on from what is
# left. We score how surprised it is by the tokens that really follow, as perplexity. **Live:** one
# window of *Moby Dick*, half of every layer kept, beside the committed number for the same window.
# `random+guards` keeps 4 first and 16 newest positions and draws the rest by lot.

# %%
prune = pick(tables["prune"], length=min(distinct(tables["prune"], "length")))
at = {"text": prune[0]["text"], "keep_ratio": 0.5}
names = ("low_norm", "low_norm+guards", "random", "random+guards", "high_norm", "sink_window")
if live:
    from labcore.kvcache import Policy, continuation_nll, data
    from labcore.kvcache.settings import POLICIES

    N, T = prune[0]["length"], prune[0]["tokens"]
    ids = data.windows(tokenizer, N + T + 1, 1)[at["text"]][None]
    prompt = profile_attention(model, ids[:, :N], window=result.config["score_window"])
    follows = ids[:, N:]
for name in names:
    stored = over_trials(prune, "perplexity", policy=name, **at).mean
    line = f"{name:16s} committed {stored:7.2f}"
    if live:
        cache = Policy(*POLICIES[name]).compress(prompt, keep_ratio=0.5, skip_layers=())
        line += f"   live {continuation_nll(model, cache, follows).mean().exp():7.2f}"
    print(line)

# %% [markdown]
# One window is an anecdote. The committed run has more of them, from a novel and from speeches, and
# every share kept; the figure shows their geometric mean.

# %%
lab.show(figures.perplexity_curves(tables["prune"]))

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
for row in pick(tables["paired"], length=prune[0]["length"]):
    if row["keep_ratio"] in (0.5, 0.1):
        clear = "" if abs(row["difference"]) > 2 * row["error"] else "   (within noise)"
        print(f"kept {row['keep_ratio']:.2f}  {row['policy']:>15s} - {row['control']:15s} "
              f"{row['difference']:+.3f} ± {row['error']:.3f}{clear}")  # fmt: skip

# %% [markdown]
# ## 8 · A rolling cache
#
# A chat does not end after the prompt. A *rolling* cache has a budget: after each step, whatever
# exceeds it goes. The paper's language-modelling runs roll in bursts.
#
# **Predict.** Suppose the cache is full of short keys. A new word arrives with an ordinary key. What
# happens to it at once, and to the next ten words? The film shows one head: a pair is drawn while
# it is stored.

# %%
lab.show(figures.rolling_film(arrays, tables["film"], layer=L // 2, head=0))

# %% [markdown]
# The cache fossilises: it keeps the shortest keys it has ever seen and evicts every ordinary new
# word, so the model writes without local context. `recent` protects the newest pairs; it is this
# lab's addition, not the paper's, and the default of `KeyNormCache(budget=...)`.

# %%
lab.show(figures.rolling_bars(tables["rolling"]))

# %% [markdown]
# ## 9 · Finding a pass key, in two fillers
#
# Hide five digits in filler, prune without knowing the question, then ask. The usual filler is a
# few short sentences over and over ("The grass is green. The sky is blue. ..."), the other is prose.
# The task, the key and the question stay the same.

# %%
lab.show(figures.retrieval_curves(tables["passkey"]))

# %%
lab.show(figures.passkey_norms(arrays))

# %%
from IPython.display import Markdown, display

asked = pick(tables["passkey"], question="after", keep_ratio=0.5)
found = {
    (filler, policy): over_trials(asked, "exact", filler=filler, policy=policy).mean
    for filler in ("repeat", "prose")
    for policy in ("low_norm", "random+guards", "sink_window")
}
small = {
    filler: over_trials(tables["passkey_norms"], "mean_percentile", filler=filler).mean
    for filler in ("repeat", "prose")
}
for filler, name in (("repeat", "repetitive filler"), ("prose", "prose")):
    scores = ", ".join(f"{p} {found[filler, p]:.0%}" for p in ("low_norm", "random+guards", "sink_window"))
    display(Markdown(f"**{name}**, half kept: {scores} of the keys found; "
                     f"mean norm percentile of the digits {small[filler]:.2f}."))  # fmt: skip
gap = found["prose", "low_norm"] - found["prose", "random+guards"]
print("in prose the method", "beats" if gap > 0 else "does not beat", "guarded random pairs")
