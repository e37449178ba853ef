# %% [markdown]
# # B08 · Beyond images: reading Alice
#
# *Scardapane, "Alice's Adventures in a differentiable wonderland", arXiv 2404.17625, chapter 8.*
#
# Reading: 30 min. Exercises: 70 min. Prerequisites: B07.
#
# **Goals**
# - Turn a text into tokens, one merge at a time.
# - Make a convolution that cannot see the future.
# - Keep the model and the way one samples from it apart.

# %% tags=["setup"]
import labcore

lab = labcore.start("B08", seed=0)

# %%
import torch
import torch.nn.functional as F

from labcore.blocks import text as tools
from labcore.book import data, figures_b08
from labcore.book.b08 import PROMPTS, next_characters
from labcore.book.experiment import load_result
from labcore.book.language import CausalCNN, bits, novel, train, unpacked

result = load_result()
whole, alice = data.alice(), novel()
print(data.source("alice"))
print(f"{len(whole)} characters, {len(alice.vocabulary)} different ones")

# %% [markdown]
# ## Recap
#
# A sequence is a grid with one axis. A one-dimensional convolution slides a kernel along time; it is *causal*
# if output $t$ depends on inputs up to $t$ only, which padding on the left alone gives:
#
# $$h_t = \phi\Bigl(\sum_{i=0}^{s-1} W_i\, x_{t - d\,i} + b\Bigr), \qquad
# p(x_1, \dots, x_T) = \prod_t p(x_t \mid x_{<t}) .$$
#
# With dilation $d$ the taps stand $d$ tokens apart. A causal model trained to predict the next token is an
# *autoregressive* model: it gives the factors on the right.

# %% [markdown]
# **Mind the convention.** Merges are learned on raw characters, blanks included. Every adjacent pair is
# counted, those that overlap in a run too; the replacement goes from left to right without overlap; of
# equally frequent pairs the smallest pair of ids wins. Bits are logarithms to base 2.

# %% [markdown]
# ## 1 · What counting knows
#
# The entropy of a character, then of a character whose predecessors are known, all by counting in the whole
# novel.
#
# **Predict.** With 73 symbols, ignorance costs $\log_2 73 = 6.2$ bits. How many are left when one, and two,
# characters before are known?

# %%
from collections import Counter
from math import log2

counts = Counter(whole).values()
by_hand = -sum(c / len(whole) * log2(c / len(whole)) for c in counts)
assert abs(by_hand - tools.block_entropy(whole, 1)) < 1e-9
entropies = [0.0, *(tools.block_entropy(whole, k) for k in (1, 2, 3))]
for k in range(3):
    print(f"{k} known: {entropies[k + 1] - entropies[k]:.4f} bits")

# %% [markdown]
# These are measured on the text that was counted. An honest table is counted on one part and scored on
# another; add-one smoothing gives unseen pairs a chance.

# %%
cut = len(alice.train)
table = tools.bigram_bits(whole[:cut], whole[cut:])
print(f"add-one bigram on the last tenth: {table:.4f} bits")

# %% [markdown]
# ## 2 · Tokens
#
# Characters make long sequences, words make large vocabularies. Byte-pair encoding begins with characters and
# merges the most frequent neighbours, again and again.

# %%
learned = tools.bpe_train(whole, 30)
names = [repr(t) for t in learned.tokens[len(learned.chars) :]]
for name, count in list(zip(names, learned.counts, strict=True))[:5]:
    print(f"{name:6s} {count}")
print("then:", " ".join(names[5:30]))
piece = whole[40_000:40_400]
ids = tools.encode(piece, learned)
assert tools.decode(ids, learned) == piece
print(f"{len(piece)} characters are {len(ids)} tokens after 30 merges")

# %% [markdown]
# ## 3 · A convolution that reads forward
#
# Pad on the left, and nothing to the right of $t$ can reach output $t$. That must hold exactly: change the last
# character and every earlier output stays bit for bit.

# %%
model = unpacked(CausalCNN(len(alice.vocabulary)), result.arrays, "b08/cnn/")
some = alice.test[:64][None]
other = some.clone()
other[0, 40] = (other[0, 40] + 1) % 73
with torch.no_grad():
    before, after = model(some), model(other)
same = (before == after).all(-1)[0]
print("first output that changes:", int((~same).int().argmax()))

# %%
x, w = torch.randn(12, 3, generator=lab.generator), torch.randn(2, 3, 3, generator=lab.generator)
by_hand = torch.stack(
    [
        sum(w[:, :, i] @ x[t - 2 * (2 - i)] for i in range(3) if t - 2 * (2 - i) >= 0)
        for t in range(12)
    ]
)
short = F.conv1d(F.pad(x.T, (4, 0)), w, dilation=2).T
assert torch.allclose(by_hand, short, atol=1e-5)
print("dilated, causal, by hand and by torch:", f"{(by_hand - short).abs().max():.0e}")

# %% [markdown]
# ## 4 · Learning the novel
#
# Five gated layers with dilations 1, 2, 4, 8, 16: 63 characters in sight. A short training, live; the committed
# one has 300 updates.

# %%
live = train(CausalCNN, alice, steps=80, seed=0)
print(f"80 updates, live: {bits(live, alice.test):.2f} bits a character")
print(f"300 updates:      {bits(model, alice.test):.2f}")
for row in result.tables["b08/cnn"]:
    print(f"  seed {row['seed']}: {row['bits']:.3f}")

# %% [markdown]
# ## 5 · The model and the sampler
#
# The network gives probabilities. What one does with them is another decision: take the best, draw, draw at a
# *temperature* (divide the logits by $\tau$ first), or search for the most likely whole.
#
# **Change** the temperature, then how many characters the model may see. **Watch** the bars against the marks,
# and the line that is written.

# %% tags=["centrepiece"]
prompt = PROMPTS["the Queen"]


def speak(temperature, context):
    names, logits, line = next_characters(
        result.arrays, prompt, context=context, temperature=temperature
    )
    return figures_b08.next_character_figure(
        names, logits, line, prompt=prompt, context=context, temperature=temperature
    )


lab.explore(speak, temperature=(0.0, 2.0, 0.25), context=(1, 63))

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# The marks never move with the temperature: the model is a conditional distribution, sampling is a separate
# choice. At 0 and with two characters in sight the line goes round for ever, because the likeliest next
# character leads back to where it came from; at 2 rare characters take over. The context does move the
# marks: with few characters in sight the model knows little more than a bigram or trigram table.
#
# </details>

# %% [markdown]
# The most likely character at every step need not give the most likely line. Beam search keeps several
# beginnings.


# %%
def logits(ids):
    with torch.no_grad():
        return model(torch.tensor([list(ids)[-63:]]))[0, -1]


start = alice.ids(prompt)
for width in (1, 2, 8):
    ids, score = tools.beam_search(logits, start, 12, width=width)
    line = "".join(alice.vocabulary[i] for i in ids)
    print(f"width {width}: log-probability {score:.3f}", repr(line))

# %% [markdown]
# ## Exercises
#
# ### B08.1 · One merge
#
# *(15 min, difficulty 3)*
#
# Write `merge_once(ids, new)`: find the most frequent adjacent pair in a list of ids and replace it by `new`.
# Return the pair (a tuple), its count, and the new list. Mind the convention.


# %% tags=["exercise:B08.1"]
def merge_once(ids, new):
    # SOLUTION
    pairs = list(zip(ids, ids[1:], strict=False))
    pair = min(set(pairs), key=lambda p: (-pairs.count(p), p))
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return pair, pairs.count(pair), merged
    # END SOLUTION


# %% tags=["check:B08.1"]
lab.check("B08.1", merge_once)

# %% [markdown] tags=["hint:B08.1"]
# Count and replace are two different walks: the first overlaps, the second does not.

# %% [markdown] tags=["hint:B08.1"]
# `min` with the key (minus the count, the pair) settles ties.

# %% [markdown] tags=["solution-text:B08.1"]
# **Discussion.** The first merge of the novel is "e" with a blank, 4377 times. Because overlaps are counted and
# not replaced, a run's count may be larger than the number of merges it gives.

# %% [markdown]
# ### B08.2 · Nothing from the future
#
# *(10 min, difficulty 2)*
#
# Write `causal_conv(x, w, dilation)` for $x \sim (t, d)$ and a kernel $w \sim (e, d, s)$: outputs $(t, e)$; the last
# tap meets the present token.


# %% tags=["exercise:B08.2"]
def causal_conv(x, w, dilation):
    # SOLUTION
    reach = (w.shape[2] - 1) * dilation
    return F.conv1d(F.pad(x.T, (reach, 0)), w, dilation=dilation).T
    # END SOLUTION


# %% tags=["check:B08.2"]
lab.check("B08.2", causal_conv)

# %% [markdown] tags=["hint:B08.2"]
# How far does the first tap reach into the past? So many zeros belong in front.

# %% [markdown] tags=["solution-text:B08.2"]
# **Discussion.** A model with 'same' padding reaches a wonderful training loss: it copies the character that it
# should predict. The bit-for-bit test catches that before any training.

# %% [markdown]
# ### B08.3 · How far back?
#
# *(5 min, difficulty 1)*
#
# Write `receptive_field(kernel, dilations)`: how many tokens one output of the stack can see.


# %% tags=["exercise:B08.3"]
def receptive_field(kernel, dilations):
    # SOLUTION
    return 1 + sum((kernel - 1) * d for d in dilations)
    # END SOLUTION


# %% tags=["check:B08.3"]
lab.check("B08.3", receptive_field)
print(receptive_field(3, [1, 2, 4, 8, 16]))

# %% [markdown] tags=["hint:B08.3"]
# Begin with the token itself and add what each layer adds.

# %% [markdown] tags=["solution-text:B08.3"]
# **Discussion.** Doubling dilations buy a field that grows like $2^{\text{layers}}$ at a cost that grows like the
# layers.

# %% [markdown]
# ### B08.4 · A table's bits
#
# *(12 min, difficulty 2)*
#
# Write `bigram_bits(train, test)`: mean $-\log_2 p(b \mid a)$ over adjacent pairs of `test`, with
# $p(b \mid a) = (n_{ab} + 1) / (n_a + V)$ counted in `train`; $V$ is the number of different characters of both
# texts, $n_a$ how often $a$ begins a pair.


# %% tags=["exercise:B08.4"]
def bigram_bits(train, test):
    # SOLUTION
    size = len(set(train + test))
    pairs, first = Counter(zip(train, train[1:], strict=False)), Counter(train[:-1])
    scored = list(zip(test, test[1:], strict=False))
    return sum(log2((first[a] + size) / (pairs[a, b] + 1)) for a, b in scored) / len(scored)
    # END SOLUTION


# %% tags=["check:B08.4"]
lab.check("B08.4", bigram_bits)

# %% [markdown] tags=["hint:B08.4"]
# The last character of `train` begins no pair.

# %% [markdown] tags=["solution-text:B08.4"]
# **Discussion.** 3.56 bits against 3.50 by counting the text itself: the price of an honest score. The
# convolution, 2.51, is near what *two* known characters give when counted in hindsight.

# %% [markdown]
# ### B08.5 · Two beams
#
# *(15 min, difficulty 3)*
#
# `logp(ids)` gives the log-probabilities of the next token after a list of ids. Write `beam(logp, steps, width)`:
# begin with the empty list and return the best tokens and their log-probability.


# %% tags=["exercise:B08.5"]
def beam(logp, steps, width):
    # SOLUTION
    beams = [(0.0, [])]
    for _ in range(steps):
        grown = [
            (score + gain, [*ids, token])
            for score, ids in beams
            for token, gain in enumerate(logp(ids).tolist())
        ]
        beams = sorted(grown, key=lambda b: -b[0])[:width]
    return beams[0][1], beams[0][0]
    # END SOLUTION


# %% tags=["check:B08.5"]
lab.check("B08.5", beam)

# %% [markdown] tags=["hint:B08.5"]
# All beginnings grow by all tokens; then keep the `width` best of everything.

# %% [markdown] tags=["solution-text:B08.5"]
# **Discussion.** In the check's tree the likeliest first step leads into a thicket where three ways are equally
# likely; two beams remember the second-best beginning, which goes on almost surely.

# %% [markdown]
# ### B08.6 · Texts of different length
#
# *(8 min, difficulty 1)*
#
# Write `pad_batch(texts, pad)` for lists of ids: ids $\sim (b, \text{longest})$ padded behind with `pad`, and a boolean
# mask that is True where a token is. Beware: a text may hold the id `pad` itself.


# %% tags=["exercise:B08.6"]
def pad_batch(texts, pad):
    # SOLUTION
    longest = max(len(ids) for ids in texts)
    rows = [list(ids) + [pad] * (longest - len(ids)) for ids in texts]
    masks = [[True] * len(ids) + [False] * (longest - len(ids)) for ids in texts]
    return torch.tensor(rows), torch.tensor(masks)
    # END SOLUTION


# %% tags=["check:B08.6"]
lab.check("B08.6", pad_batch)

# %% [markdown] tags=["hint:B08.6"]
# The length of each list says all that the mask needs.

# %% [markdown] tags=["solution-text:B08.6"]
# **Discussion.** A causal model needs no mask for padding behind the text, because nothing real can see it. The
# loss does: padded targets must not count.

# %% [markdown]
# ## Where this goes
#
# **Back:** B07 has the same layer on pictures. **On:** B10 lets every token look at every other, B11 trains a small
# GPT on this novel, B13 reads it with a single state, P06 shortens the memory of a large model.
#
# **Sources:** Sennrich et al., arXiv 1508.07909; van den Oord et al., arXiv 1609.03499; Dauphin et al., arXiv
# 1612.08083.
#
# **Open question.** Which sampler would you use for a poem, which for a proof, and what does the choice assume
# about the model?
