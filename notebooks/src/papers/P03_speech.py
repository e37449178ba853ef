# %% [markdown]
# # P03 · Speech into a language model: which part matters?
#
# *Paper: Verdini et al., "How to Connect Speech Foundation Models and Large Language Models? What
# Matters and What Does Not", Interspeech 2025, arXiv 2409.17044.*
#
# The study's parts have billions of weights. Ours are real too and far smaller: Whisper tiny.en, a
# Conformer, SmolLM2-135M, Gemma-3-270M, and spoken digits. The question is the same; the answer may
# not be.
#
# Reading: 35 min. Exercises: 65 min. Prerequisites: B08, B11.
#
# **Goals**
# - See five ways to make 50 frames a second short enough for a language model.
# - Write integrate-and-fire and the collapse of runs by hand.
# - Say which part of a system matters, with an interval, and know when shares mislead.

# %% tags=["setup"]
import labcore

lab = labcore.start("P03", seed=0)

# %%
import numpy as np
import torch

from labcore import assets
from labcore.speech import corpus, experiment, explorer, figures

result = experiment.load_result()  # measurements that come with the lab
tables = result.tables
# cells marked *live* run the real models again, if they are on this machine
live = all(assets.status(name) == "ready" for name in ("conformer", "smollm2-135m"))
made = result.provenance
print(f"measured {made.created[:10]}: {made.command}")
print("live cells:", "on" if live else "off; ./lab fetch conformer smollm2-135m")

# %% [markdown]
# ## Recap
#
# A frozen encoder gives frames $H \in \mathbb{R}^{T \times d_s}$. A trainable *adapter* turns them into
# $Z \in \mathbb{R}^{N \times d_l}$, vectors of the language model's width. The frozen model reads
#
# $$X = [\,\mathrm{Emb}(p);\; Z;\; \mathrm{Emb}(q);\; \mathrm{Emb}(y)\,]$$
#
# with prompt $p$, $q$ and answer $y$; the loss is the mean cross-entropy of $y$ and its end. Only the
# adapter learns, through thirty frozen layers.
#
# The first half of most adapters is a *length rule*, and every length rule is one non-negative matrix:
#
# $$Z_{\text{short}} = W^\top H, \qquad W \in \mathbb{R}^{T \times N}.$$

# %% [markdown]
# **Five rules.** *Base*: $W = I$. *Conv*: two convolutions of stride 2. *WLQ*: one learned query reads
# each third of a second. *CTC*: a column a run of equal most probable symbols. *CIF*: each frame has
# a weight $\alpha_t \in (0, 1)$; with running sums $c_t = \sum_{u \le t} \alpha_u$,
#
# $$W_{tn} = \bigl|\,[c_{t-1}, c_t] \cap [n, n+1]\,\bigr| .$$
#
# **Mind the convention.** Positions are counted from 0, and a rest of less than one half at the end is
# dropped. In training the weights are first scaled, so that they fire once for each token.

# %% [markdown]
# ## 1 · A clip
#
# Two real encoders hear the same clip. Colours are the three directions in which the frames differ
# most; both encoders give 50 frames a second.

# %%
names = explorer.exhibit_names(result)
for place, name in enumerate(names):
    print(place, name)
numbers = list(names.values())
first = explorer.clip_view_of(result, numbers[0])
sound = corpus.load().sound(first.number)
lab.show(figures.clip_view(sound, first.strips, text=first.text, voice=first.voice))
print(first.says)

# %% [markdown]
# ## 2 · Integrate and fire, short and fast
#
# Frame by frame, as it is usually told: fill a bucket of size 1, pour it out when it is full. The
# library does it as one matrix product, for a whole batch. They must agree.

# %%
from labcore.speech import cif


def pour(frames, alpha):
    held, level, out = torch.zeros(frames.shape[1]), 0.0, []
    for frame, weight in zip(frames, alpha.tolist(), strict=True):
        part = min(weight, 1 - level)
        held, level = held + part * frame, level + part
        if level >= 1 - 1e-7:
            out.append(held)
            held, level = (weight - part) * frame, weight - part
    return torch.stack(out)


frames = torch.randn(40, 6, generator=lab.generator)
alpha = 0.3 * torch.rand(40, generator=lab.generator)
whole = pour(frames, alpha)
fast = cif(frames[None], alpha[None], torch.tensor([40]), residual=2.0)  # no rest
assert int(fast.lengths) == len(whole)
torch.testing.assert_close(fast.frames[0], whole, atol=1e-5, rtol=0)
print(f"{len(frames)} frames, weights sum to {alpha.sum():.2f}: {len(whole)} outputs")

# %% [markdown]
# **Predict.** Below are the five matrices for one clip. Which two will be straight diagonals, whatever
# is said? Which will have the most columns after Base?

# %%
lab.show(figures.assignment_maps(first.maps, tokens=len(first.text.split()), text=first.text))
for kind, w in first.maps.items():
    print(f"{kind:5s} {w.shape[0]:4d} frames -> {w.shape[1]:3d} positions")

# %% [markdown]
# Conv and WLQ follow the clock. CIF was told in training how many tokens there are, and should fire
# once a word. CTC gives a position to each run of equal symbols, blank runs too. How sure is its head
# after these few steps? The symbols that it gives to the frames:

# %%
lab.show(figures.run_strip(first.symbols, text=first.text))
blank = np.mean([s == "∅" for s in first.symbols])
fired = first.maps["cif"].shape[1]
print(f"CTC: {blank:.0%} of the frames are blank, {first.maps['ctc'].shape[1]} positions")
print(f"CIF: fires {fired} times for {len(first.text.split())} words")

# %% [markdown]
# ## 3 · The centre-piece: a threshold and a staircase
#
# Trained weights of a real clip. Raise the threshold: each position takes more weight, so there are
# fewer of them. Change the clip: the stairs follow the words.

# %% tags=["centrepiece"]
views = [explorer.clip_view_of(result, number) for number in numbers]


def staircase(threshold, clip):
    return figures.cif_staircase(views[clip].alpha, threshold=threshold)


lab.explore(staircase, threshold=(0.5, 3.0, 0.1), clip=(0, len(views) - 1))

# %% [markdown]
# <details><summary>What to conclude</summary>
#
# The quantity loss asked for one firing a word at threshold 1: count how near each clip comes. Where
# the sum is flat, frames cost no position; where it is steep, a word is being spent. The longer
# recordings hold other words than digits, and the adapter counts them as if they were digits.
#
# </details>

# %% [markdown]
# ## 4 · What the language model is shown
#
# Each position is a vector of the model's width; here are the tokens whose embeddings are nearest.
# The warm-up taught the adapter to point at words, and at a comma where there is none.

# %%
near = explorer.nearest_of(result, first.number, "conv")
lab.show(figures.nearest_tokens(**near, adapter="conv", text=first.text))
print("answers:", first.answers["conv"])

# %% [markdown]
# **Live.** The committed adapter (weights rounded to a byte) between the real encoder and the real
# language model. And the order test: the same frames, shuffled.

# %%
if live:
    from labcore.speech import make_encoder
    from labcore.speech.live import trained_model
    from labcore.speech.settings import PROMPTS

    model = trained_model("conv")
    heard = make_encoder("conformer").encode([sound])
    order = torch.randperm(int(heard.lengths), generator=lab.generator)
    for name, x in (("in order", heard.features), ("shuffled", heard.features[:, order])):
        said = model.generate(x, heard.lengths, PROMPTS["asr"])[0]
        print(f"{name}: {said!r}, said was {first.text!r}")

# %% [markdown]
# The prompt stands before the sound, so what the model keeps of it is the same for every clip, and is
# computed once. **Predict.** Without that, the whole prompt is read again for each clip: the same
# loss, at how many times the price?

# %%
if live:
    from labcore.speech.speech_llm import Batch

    lm, prompt = model.lm, PROMPTS["asr"]
    read = model.adapter(heard.features, heard.lengths)
    batch = Batch(heard.features, heard.lengths, [first.text], [first.text])
    start, wanted = lm.start(prompt), lm.ids(f" {first.text}") + lm.ids(prompt.end)
    after = lm.embed(lm.ids(prompt.suffix) + wanted)
    row = torch.cat([lm.embed(start), read.embeds[0].to(lm.dtype), after])[None]

    def cached():
        return model.loss(batch, prompt, read)[0]

    def whole():
        hidden = lm.hidden(row, torch.tensor([row.shape[1]]))[0, -len(wanted) - 1 : -1]
        return torch.nn.functional.cross_entropy(lm.logits(hidden), torch.tensor(wanted))


# %%
if live:
    import time

    seconds = []
    with torch.no_grad():
        for way in (cached, cached, whole):  # the first time only to have everything at hand
            began = time.process_time()
            print(f"{way.__name__}: loss {way():.3f}")
            seconds.append(time.process_time() - began)
    rest = row.shape[1] - len(start)
    print(f"{len(start)} positions of prompt before {rest} of sound and answer:", end=" ")
    print(f"{seconds[2] / seconds[1]:.1f} times the price, gradients apart")

# %% [markdown]
# ## 5 · The grid
#
# Two encoders, five adapters, two language models. Word error rate on voices that no adapter ever
# heard, nor the two voices on which the recipe was chosen. All cells have the same steps, order of
# clips and learning rate; a cell is stopped long before it is done, so how *fast* it learns is in the
# figures too. Look along a row, down a column, and across pairs.

# %%
plan = result.config
print(
    f"{plan['steps']} steps of {plan['batch']} clips after {plan['warm_steps']} of warm-up;",
    end=" ",
)
print("trainings of a cell:", dict(zip(plan["lms"], plan["repeats"], strict=True)))
print("how the recipe was chosen, error rates of recognition and translation on two other voices:")
for row in experiment.load_tuning():
    print(f"  {row['candidate']}: {row['asr']:.2f}, {row['st']:.2f} ({row['clips']} clips)")
for task in ("asr", "st"):
    lab.show(figures.grid_map(tables["scores"], task=task, split="test"))
for row in tables["constant"]:
    print(f"always {row['said']!r}: {row['task']}, {row['split']}: error rate {row['wer']:.2f}")

# %%
means = {}
for row in tables["scores"]:
    if (row["task"], row["split"], row["variant"]) == ("asr", "test", ""):
        for level in (row["encoder"], row["adapter"], row["lm"]):
            means.setdefault(level, []).append(row["wer"])
print("mean error rate of a level's cells:")
print(", ".join(f"{level} {np.mean(rates):.2f}" for level, rates in means.items()))

# %% [markdown]
# **Predict.** Which of the three factors explains most of the differences that you just saw? Decide
# before you run the next cell.

# %%
lab.show(figures.share_bars(tables["shares"], task="asr", split="test"))
lab.show(figures.gap_bars(tables["gaps"], task="asr", split="test"))

# %% [markdown]
# A *share* asks how much of the whole spread a factor explains: a bad level nobody would choose counts
# fully. A *gap of the best* asks what one loses by taking the other level and choosing everything
# else well. The study argues with gaps; a variance argues with shares. Read both.
#
# And mind what is mixed: our encoders differ in size, training data and task at once, as the study's do.
# "The encoder matters" says nothing about *which* of these matters. The voices are mixed in too: one
# was kept if one of the encoders understood it by itself.

# %%
for row in explorer.confounds(result):
    print(f"{row['part']:26s} {row['parameters']:18s} {row['what else differs']}")
kept = [v for v in corpus.load().voices if v["kept"]]
better = sum(v["whisper_error"] < v["conformer_error"] for v in kept)
print(f"{len(kept)} voices were kept; for {better} of them Whisper made fewer errors by itself")

# %% [markdown]
# **How fast?** The error rate on voices that are not trained on, against the CPU seconds that it took.
# All cells have the same steps, so a line that ends further left had cheaper ones.

# %%
for lm in plan["watched"]:
    lab.show(figures.error_curves(tables["curves"], tables["cells"], encoder="conformer", lm=lm))
pair = {"encoder": "conformer", "lm": "smollm2-135m", "task": "asr"}
lab.show(figures.cost_of_positions(tables["cells"], lm=pair["lm"]))
lab.show(figures.training_curves(tables["curves"], **pair))
lab.show(figures.training_curves(tables["curves"], **pair, column="listens"))

# %% [markdown]
# The last figure is a meter: loss with *another* clip's sound minus loss with the right one. At
# zero the model guesses from its prompt. Controls and ablations, each one thing changed:

# %%
lab.show(figures.training_curves(tables["curves"], **pair, variants=True))
lab.show(figures.variant_bars(tables["scores"], task="asr"))

# %% [markdown]
# A larger vocabulary, household commands such as "set lamp two to green", with its own number of
# steps; chrF and exact answers stand beside the error rate, because a translation may be near.

# %%
for row in explorer.variants_said(result):
    if row["what"].startswith("commands"):
        print(", ".join(f"{name} {value}" for name, value in row.items()))

# %% [markdown]
# ## Exercises
#
# ### P03.1 · How many positions?
#
# *(8 min, difficulty 1)*
#
# Write `positions(frames, window)`: how many positions Conv gives (two convolutions, kernel 3, stride
# 2, padding 1, so each turns $l$ into $\lfloor (l-1)/2 \rfloor + 1$), and how many WLQ gives with one
# query a window. For 30 s of Whisper frames (1500) and windows of 17: how many a second?


# %% tags=["exercise:P03.1"]
def positions(frames, window):
    # SOLUTION
    half = (frames - 1) // 2 + 1
    return (half - 1) // 2 + 1, -(-frames // window)
    # END SOLUTION


# %% tags=["check:P03.1"]
lab.check("P03.1", positions)
conv, wlq = positions(1500, 17)
print(f"30 s: conv {conv} ({conv / 30:.1f} a second), wlq {wlq} ({wlq / 30:.1f} a second)")

# %% [markdown] tags=["hint:P03.1"]
# Apply the rule of one convolution twice.

# %% [markdown] tags=["hint:P03.1"]
# The last window may be part empty, and still has its query: round up.

# %% [markdown] tags=["hint:P03.1"]
# `-(-a // b)` rounds up.

# %% [markdown] tags=["solution-text:P03.1"]
# **Discussion.** WLQ gives three positions a second at 50 frames (windows of 17) and also at 6.25
# frames (windows of 2): after it, an encoder's rate no longer matters. That is the study's contrast
# of "16 with Whisper, 2 with SeamlessM4T".

# %% [markdown]
# ### P03.2 · Integrate and fire
#
# *(15 min, difficulty 3)*
#
# Write `integrate_and_fire(frames, alpha)` in numpy: frames `(t, d)`, weights `(t,)`, outputs `(n, d)` with
# threshold 1. Drop what is left at the end. For frames 1, 2, 3, 4, 5 and weights .4, .8, .3, .7, .2
# the outputs are 1.6 and 3.3: find out by hand which frame is cut, and where.


# %% tags=["exercise:P03.2"]
def integrate_and_fire(frames, alpha):
    # SOLUTION
    ends = np.cumsum(alpha)
    n = int(np.floor(ends[-1] + 1e-9))
    lower, upper = np.arange(n), np.arange(n) + 1
    starts = (ends - alpha)[:, None]
    overlap = np.minimum(ends[:, None], upper) - np.maximum(starts, lower)
    return overlap.clip(0).T @ frames
    # END SOLUTION


# %% tags=["check:P03.2"]
lab.check("P03.2", integrate_and_fire)
print(integrate_and_fire(np.arange(1.0, 6)[:, None], np.array([0.4, 0.8, 0.3, 0.7, 0.2])).ravel())

# %% [markdown] tags=["hint:P03.2"]
# Lay the weights end to end on a line: frame $t$ covers $[c_{t-1}, c_t]$, output $n$ covers $[n, n+1]$.

# %% [markdown] tags=["hint:P03.2"]
# The overlap of two intervals is the smaller end minus the larger start, and never negative.

# %% [markdown] tags=["hint:P03.2"]
# `(np.minimum(ends[:, None], n + 1) - np.maximum(starts[:, None], n)).clip(0).T @ frames`.

# %% [markdown] tags=["solution-text:P03.2"]
# **Discussion.** The second frame (weight .8) is cut: .6 of it fills the first output, .2 opens the
# second. Seen as overlaps of intervals there is no loop over time, padding takes care of itself, and
# the gradient is that of a minimum and a maximum.

# %% [markdown]
# ### P03.3 · Windows are integrate-and-fire
#
# *(6 min, difficulty 1)*
#
# Which weights make CIF average non-overlapping windows of `window` frames? Write
# `window_weights(frames, window)`.


# %% tags=["exercise:P03.3"]
def window_weights(frames, window):
    # SOLUTION
    return np.full(frames, 1 / window)
    # END SOLUTION


# %% tags=["check:P03.3"]
lab.check("P03.3", window_weights)
x = np.arange(12.0)[:, None]
print("CIF:    ", integrate_and_fire(x, window_weights(12, 4)).ravel())
print("windows:", x.reshape(3, 4).mean(axis=1))

# %% [markdown] tags=["hint:P03.3"]
# The weights of one window must sum to 1.

# %% [markdown] tags=["hint:P03.3"]
# They are all equal.

# %% [markdown] tags=["solution-text:P03.3"]
# **Discussion.** So a window rule is CIF that listens to nothing. What CIF adds is only *where* to
# spend its positions, and the study finds that this freedom does not pay.

# %% [markdown]
# ### P03.4 · Runs of a symbol
#
# *(12 min, difficulty 2)*
#
# Write `average_runs(frames, symbols)`: the mean frame of each run of equal neighbouring symbols, blanks
# (symbol 0) included.


# %% tags=["exercise:P03.4"]
def average_runs(frames, symbols):
    # SOLUTION
    edges = [0, *(np.flatnonzero(np.diff(symbols)) + 1), len(symbols)]
    pairs = zip(edges[:-1], edges[1:], strict=True)
    return np.array([frames[a:b].mean(axis=0) for a, b in pairs])
    # END SOLUTION


# %% tags=["check:P03.4"]
lab.check("P03.4", average_runs)
from labcore.speech import ctc_compress

symbols = torch.randint(0, 3, (1, 40), generator=lab.generator)
mine = average_runs(frames.numpy(), symbols[0].numpy())
theirs = ctc_compress(frames[None], symbols, torch.tensor([40])).frames[0]
gap = np.abs(mine - theirs.numpy()).max()
print(f"{len(mine)} runs; largest difference from the library {gap:.0e}")

# %% [markdown] tags=["hint:P03.4"]
# A run starts where a symbol differs from the one before.

# %% [markdown] tags=["hint:P03.4"]
# `np.flatnonzero(np.diff(symbols)) + 1` are the starts of all runs but the first.

# %% [markdown] tags=["solution-text:P03.4"]
# **Discussion.** The library numbers the runs with a running sum of the starts and adds the frames up with
# `index_add`: the same result without a loop, and several times faster. The choice of symbols has
# no gradient; the average has one.

# %% [markdown]
# ### P03.5 · The share of a factor
#
# *(12 min, difficulty 2)*
#
# Write `main_share(scores, axis)`: the share of the total sum of squares that the means of the levels of
# one axis explain.


# %% tags=["exercise:P03.5"]
def main_share(scores, axis):
    # SOLUTION
    others = tuple(a for a in range(scores.ndim) if a != axis)
    means = scores.mean(axis=others)
    explained = scores.size / len(means) * ((means - scores.mean()) ** 2).sum()
    return explained / ((scores - scores.mean()) ** 2).sum()
    # END SOLUTION


# %% tags=["check:P03.5"]
lab.check("P03.5", main_share)
toy = np.array(
    [
        [[30, 28, 45, 41, 27], [29, 27, 47, 40, 28]],
        [[22, 20, 26, 30, 21], [21, 21, 27, 31, 19]],
    ],
    dtype=float,
)  # encoder, language model, adapter
for axis, name in enumerate(("encoder", "language model", "adapter")):
    print(f"{name}: {main_share(toy, axis):.1%}")

# %% [markdown] tags=["hint:P03.5"]
# Average over all other axes; each mean stands for `scores.size / len(means)` cells.

# %% [markdown] tags=["hint:P03.5"]
# Divide the explained sum of squares by the total one around the grand mean.

# %% [markdown] tags=["solution-text:P03.5"]
# **Discussion.** With every cell measured once, the three-way interaction cannot be told from noise: it
# *is* the residual. Repeats with new seeds separate the two: where a design has several trainings of
# a cell, its intervals draw both the clips and the trainings again; where it has one, only the clips.

# %% [markdown]
# ### P03.6 · Two ways to say what matters
#
# *(6 min, difficulty 2)*
#
# In the toy table above (error rates, low is good), which factor explains the most variance? And which
# one has the largest gap between its best cell and the best cell of its *second best* level? Fill in
# `"encoder"`, `"language model"` or `"adapter"`.

# %% tags=["exercise:P03.6"]
# set `wins` to {"by share": ..., "by gap to the second best": ...}
# SOLUTION
wins = {"by share": "adapter", "by gap to the second best": "encoder"}
# END SOLUTION

# %% tags=["check:P03.6"]
lab.check("P03.6", wins)
for axis, name in enumerate(("encoder", "language model", "adapter")):
    others = tuple(a for a in range(3) if a != axis)
    best = np.sort(toy.min(axis=others))
    print(f"{name}: best cells of its levels {best}, gap to the second {best[1] - best[0]:.0f}")

# %% [markdown] tags=["hint:P03.6"]
# `toy.min` over the other axes gives the best cell of each level.

# %% [markdown] tags=["hint:P03.6"]
# The best adapters lie at 19, 20 and 21: nobody loses much by a second choice.

# %% [markdown] tags=["solution-text:P03.6"]
# **Discussion.** Two bad adapters make the adapter's variance large; whoever avoids them does not care.
# "What matters" depends on whether one asks about all choices or about good ones.

# %% [markdown]
# ### P03.7 · Shuffled frames
#
# *(8 min, difficulty 2)*
#
# Shuffle the frames of a clip. Which adapters give the same vectors as before, merely in another order?
# Think of what each length rule looks at, then fill in `True` or `False` for each.

# %% tags=["exercise:P03.7"]
# set `merely_permuted` to {"base": ..., "conv": ..., "cif": ..., "ctc": ..., "wlq": ...}
# SOLUTION
merely_permuted = {"base": True, "conv": False, "cif": False, "ctc": False, "wlq": False}
# END SOLUTION

# %% tags=["check:P03.7"]
lab.check("P03.7", merely_permuted)
from labcore.speech import make_adapter

frames = torch.randn(1, 60, 8, generator=lab.generator).cumsum(1) / 4  # neighbours are alike
order = torch.randperm(60, generator=lab.generator)
for kind in ("base", "conv", "cif", "ctc", "wlq"):
    extra = {"vocab": 26} if kind in ("cif", "ctc") else {}
    adapter = make_adapter(kind, 8, 16, 50.0, hidden=16, heads=2, **extra)
    with torch.no_grad():
        straight = adapter(frames, torch.tensor([60])).embeds[0]
        turned = adapter(frames[:, order], torch.tensor([60])).embeds[0]
    apart = (turned[:, None] - straight).norm(dim=-1)
    gap = apart.amin(dim=1).max()  # to the nearest vector of before
    print(
        f"{kind:5s} {len(straight)} -> {len(turned)} vectors; farthest from any before: {gap:.2g}"
    )

# %% [markdown] tags=["hint:P03.7"]
# A convolution sees neighbours. Which of the rules, or of the weights that they use, see neighbours?

# %% [markdown] tags=["hint:P03.7"]
# Attention without positions does not see the order, and Base has nothing else.

# %% [markdown] tags=["solution-text:P03.7"]
# **Discussion.** Only Base. Conv and CIF's weights come from convolutions, WLQ's windows hold other
# frames now, and CTC's runs fall apart. None survives the language model: it adds positions of its own,
# so even Base's vectors, in another order, are another sentence, as the order test of section 4 said.

# %% [markdown]
# ## Where this goes
#
# **Back:** the encoders' convolutions are B08's, attention is B10, the cached prefix is B11. **On:** P06
# shortens what a language model keeps of its past, P09 what is sent of an image; both drop
# positions, as the adapters here do.
#
# **At the study's size** the same functions take `make_encoder("facebook/seamless-m4t-v2-large")`, the hub
# id of a language model and `make_adapter(..., hidden=768, layers=4, heads=12)`. That wants a GPU and was
# not run here.

# %% [markdown]
# **Sources:** Verdini et al., arXiv 2409.17044; Dong and Xu, integrate-and-fire, arXiv 1905.11235; Tang
# et al., SALMONN, arXiv 2310.13289, for the window-level query transformer.
#
# **Open question.** Every cell here was stopped early, so the table is also a race. How much of the
# difference between the adapters would be left after ten times the steps?
