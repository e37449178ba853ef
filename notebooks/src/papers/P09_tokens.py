# %% [markdown]
# # P09 · Which patches are worth sending?
#
# *Paper: Devoto, Petruzzi, Pomponi, Di Lorenzo, Scardapane, "Adaptive Semantic Token Selection for
# AI-native Goal-oriented Communications", 2024, arXiv 2405.02330.*
#
# The paper cuts DeiT in two on Imagenette. Our network has 0.14 million parameters and reads
# cluttered canvases: there we know which tokens matter, so "semantic" can be measured.
#
# Reading: 35 min. Exercises: 60 min. Prerequisites: B11, P05.
#
# **Goals**
# - Build a gate that is a step forwards and has a gradient backwards.
# - Remove a token from attention, instead of setting it to zero.
# - Send what is left over a channel with the noise that was asked for.

# %% tags=["setup"]
import labcore

lab = labcore.start("P09", seed=0)

# %%
import numpy as np
import torch

from labcore.tokens import experiment, figures
from labcore.tokens.tally import best_precision, over_seeds, pick

result = experiment.load_result()  # measurements and weights that come with the lab
arrays, tables = result.arrays, result.tables
made = result.provenance
tuning = result.config["tuning"]
print(f"measured {made.created[:10]}, {made.cpu_seconds:.0f} CPU s: {made.command}")
print(f"fine-tuning of each method: {tuning['steps']} steps of {tuning['batch']} new canvases")

# %% [markdown]
# ## Recap
#
# A device runs the first blocks of a vision transformer, sends some of its tokens, and a server
# runs the rest: $f = D \circ C \circ E$. A *budget token* $\alpha u$ joins the sequence and says
# which rate is wanted. A gate gives each token a score and each image a threshold:
#
# $$h_i = \sigma(w \cdot x_i / \tau + \beta), \qquad \theta = \sigma(v \cdot x_{\text{budget}} + c),
# \qquad \text{kept iff } h_i > \theta .$$

# %% [markdown]
# Training adds to the cross entropy a penalty on the rate, with $T(x)$ the tokens kept of $T$:
#
# $$L = \mathrm{CE} + \lambda \Bigl(\frac{T(x)}{T} - \alpha\Bigr)^2 .$$
#
# **Mind the convention.** $\alpha$ is the share *kept*. Noise is stated in decibels for a complex
# symbol of power one: its variance is $10^{-\text{SNR}/10}$, half of it in each real part. 0 dB is a
# value like any other: signal and noise are equally strong.

# %% [markdown]
# ## 1 · The canvas
#
# One digit of MNIST stands at one of 16 places; six cells hold fragments of other digits. A fragment
# looks like a piece of the digit: only what is around it tells them apart.

# %%
examples, labels = arrays["examples"], arrays["example_labels"]
share = tables["base"][0]["digit_share"]
print(f"tokens with ink of the digit: {share:.0%} of 49, so about {49 * share:.0f}")
print("labels:", labels[:12].tolist())
print(f"network before selection and channel: {tables['base'][0]['accuracy']:.3f}")

# %% [markdown]
# ## 2 · A hard gate with a gradient
#
# The step $[h > \theta]$ has gradient zero. Straight through: forwards the step, backwards the
# gradient of a sigmoid. In three lines, then against the library.

# %%
from labcore.tokens import straight_through


def hard_gate(margin, width=0.1):
    soft = torch.sigmoid(margin / width)
    return soft + ((margin > 0).to(soft.dtype) - soft).detach()


margin = torch.linspace(-0.3, 0.3, 7, requires_grad=True)
ours, theirs = hard_gate(margin), straight_through(margin)
assert torch.equal(ours, theirs)
print("step:    ", ours.tolist())
print("gradient:", torch.autograd.grad(ours.sum(), margin)[0].numpy().round(2).tolist())

# %% [markdown]
# ## 3 · Absent, not zero
#
# **Predict.** A dropped token is set to zero before attention. How much softmax mass does its key
# still get, if all other logits are about zero too?

# %%
from labcore.tokens import multiplicative_attention

generator = lab.generator
q, k, v = (torch.randn(1, 1, 6, 8, generator=generator) for _ in range(3))
mask = torch.tensor([[1.0, 1, 0, 1, 0, 0]])
zeroed = (q @ (k * mask[:, None, :, None]).mT / 8**0.5).softmax(-1)
print(f"mass on three zeroed keys: {zeroed[..., mask[0] == 0].sum(-1).mean():.2f}")

# %% [markdown]
# Left out of the sum, they get nothing. The library's multiplicative form has the same values, and
# keeps a gradient for dropped tokens: their gate can learn that they were needed.

# %%
logits = q @ k.mT / 8**0.5
left_out = logits.masked_fill(mask[:, None, None] == 0, -torch.inf).softmax(-1) @ v
alive = mask.clone().requires_grad_()
out = multiplicative_attention(q, k, v, alive)
assert torch.allclose(out, left_out, atol=1e-6)
(gradient,) = torch.autograd.grad(out.square().sum(), alive)
print("gradient of dropped tokens:", gradient[mask == 0].numpy().round(2).tolist())

# %% [markdown]
# ## 4 · The channel
#
# Normalise, add noise, and measure what was added. At 0 dB the noise must be as strong as the signal.

# %%
from labcore.tokens import awgn, normalize_power

parts = torch.randn(1, 2000, 16, 2, generator=generator)
symbols = normalize_power(torch.view_as_complex(parts))
for snr in (-10.0, 0.0, 20.0):
    noise = awgn(symbols, snr, generator) - symbols
    measured = -10 * torch.log10(noise.abs().square().mean()).item()
    assert abs(measured - snr) < 0.1
    print(f"asked for {snr:5.1f} dB, got {measured:5.1f} dB")

# %% [markdown]
# ## Send it
#
# **Change** the rate, then the noise, then the canvas. **Watch** which patches stay lit and when the
# bars give up. Does noise hurt sooner when few tokens are sent?

# %% tags=["centrepiece"]
from labcore.tokens.live import send


def send_figure(alpha, snr, canvas):
    picture, label = examples[canvas], int(labels[canvas])
    sent = send(picture, alpha, float(snr))
    return figures.send_figure(picture, sent, alpha=alpha, snr_db=float(snr), label=label)


lab.explore(send_figure, alpha=(0.05, 1.0), snr=(-10, 20), canvas=(0, 23))

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# At low rates about half of the lit patches touch the digit, three times as many as by chance, and
# the answer often survives. At high rates the gate adds blank patches, which cost air time and say
# little. Below 0 dB the answer goes whatever is sent: the code is linear and has no error correction.
#
# </details>

# %% [markdown]
# ## 5 · Accuracy against rate
#
# All methods start from one network and see equally many canvases. The horizontal axis is the rate
# *really spent*: a threshold may spend another rate than it was asked for.

# %%
names = [
    n
    for n in ("gate", "gate_topk", "class_attention", "random", "merging", "magnitude")
    if pick(tables["curves"], method=n)
]
base = tables["base"][0]["accuracy"]
lab.show(figures.accuracy_curves(tables["curves"], methods=names, base=base))

# %% [markdown]
# **Predict.** Exactly a fifth of the tokens for everybody. By how many points is the gate better
# than random tokens, and is it better than the class token's attention, which nobody trained to
# choose?


# %%
def at_a_fifth(names):
    for name in names:
        cell = over_seeds(tables["curves"], name, 0.2)
        said = f"accuracy {cell['accuracy']:.3f}, precision {cell['precision']:.2f}"
        print(f"{name:16s} {said} (spent {cell['spent']:.2f}, seeds: {cell['seeds']})")


at_a_fifth([n for n in names if n != "gate"] + ["predictor"])

# %% [markdown]
# A-ViT's halting knows one rate only, the one it was trained for. Is one network for every rate as
# good as a specialist?

# %%
at_a_fifth(["halting", "gate_fixed_topk", "gate_topk"])

# %% [markdown]
# The specialist that halts is better at its rate; what it cannot do is serve another. The gate that
# was trained for this rate alone is worse than the one for all rates, and its precision says why:
# below chance, it found blank patches that carry the answer (section 7).

# %% [markdown]
# ## 6 · Asked and spent

# %%
budgets = result.config["budgets"]
lab.show(figures.asked_spent(arrays["spent"], budgets))

# %% [markdown]
# ## 7 · Do kept tokens hold the digit?
#
# Precision: of the tokens kept, how many hold ink of the labelled digit. A selector that knew the
# digit would not reach one: some digits are thin. The scores of digit, clutter and blank tokens show
# how well a *linear* score after one block can tell them apart.

# %%
place = budgets.index(0.2)
drawn = (arrays["scores"][place], arrays["thresholds"][place], arrays["kinds"])
print(f"best possible precision at a fifth: {best_precision(arrays['kinds'], 0.2):.2f}")
lab.show(figures.score_histogram(*drawn, budget=0.2))

# %%
lab.show(figures.precision_bars(tables["curves"], budget=0.2, chance=share))

# %% [markdown]
# **Two traps.** *The leak*: the device's class token has read every patch. Sent for free it answers
# by itself, so here a fresh one joins at the server. *Dead choices*: in the first block blank patches
# have read the canvas too; trained all at once, they learn to carry the answer before the scores have
# chosen, and scores of dropped tokens with no gradient (section 3) never recover. So here dropped
# tokens keep a gradient, scores start on a resting network and learn at exactly the rate asked, while
# thresholds learn to spend it. Compare the precision of "all trained at once".

# %%
at_a_fifth(["gate_topk", "gate_sent_topk", "gate_joint_topk"])
for row in pick(tables["curves"], method="class_alone"):
    print(f"class token alone, one token of 49: accuracy {row['accuracy']:.3f}")
print(f"whole network on the device, {np.log2(10):.1f} bits sent: accuracy {base:.3f}")

# %% [markdown]
# ## 8 · Noise and time

# %%
lab.show(figures.noise_curves(tables["noise"]))

# %%
from labcore.tokens.link import LinkBudget

link = LinkBudget(symbols_per_second=100_000)
lab.show(figures.noise_map(tables["noise"], link=link))
print(f"largest rate for 7 ms: {link.max_budget(0.007):.2f}")

# %%
lab.show(figures.latency_bars(link.latency(10), tokens=10))

# %% [markdown]
# ## 9 · A photograph
#
# Class attention of a real ViT-S needs no training. A quarter of the patches:

# %%
for name in ("china", "flower"):
    found = (arrays[f"photo/{name}"], arrays[f"attention/{name}"])
    lab.show(figures.photo_patches(*found, share=0.25, name=name))

# %% [markdown]
# ## Exercises
#
# **P09.1** (10 min, difficulty 2). Given complex symbols `(b, n, k)` and which tokens are sent
# `(b, n)`, return the symbols scaled to mean power 1 over what is sent, image by image, and the
# variance of the noise in *each real part* at `snr_db`.


# %% tags=["exercise:P09.1"]
def power_and_noise(symbols, keep, snr_db):
    # SOLUTION
    energy = symbols.abs().square().mean(-1)  # (b, n)
    mean = (energy * keep).sum(-1) / keep.sum(-1)
    return symbols / mean.sqrt()[:, None, None], 10 ** (-snr_db / 10) / 2
    # END SOLUTION


# %% tags=["check:P09.1"]
lab.check("P09.1", power_and_noise)

# %% [markdown] tags=["hint:P09.1"]
# Average over the symbols of a token first, then over the tokens that are sent.

# %% [markdown] tags=["solution-text:P09.1"]
# Loud tokens stay louder than others: one scale an image. With one scale a token every token would
# be hit by the same noise, whatever it says.

# %% [markdown]
# **P09.2** (10 min, difficulty 2). One query, some keys, some of them dropped by setting them to
# zero. How much softmax mass (logits divided by the root of the head size) do the dropped ones get?


# %% tags=["exercise:P09.2"]
def leak(query, keys, keep):
    # SOLUTION
    logits = (keys * keep[:, None]) @ query / query.shape[-1] ** 0.5
    return logits.softmax(-1)[~keep].sum()
    # END SOLUTION


# %% tags=["check:P09.2"]
lab.check("P09.2", leak)

# %% [markdown] tags=["hint:P09.2"]
# What is the logit of a key that is all zeros? And its exponential?

# %% [markdown]
# **P09.3** (10 min, difficulty 2). Without autograd: the value of the hard gate and its
# straight-through gradient (width 0.1) at given margins $h - \theta$.


# %% tags=["exercise:P09.3"]
def step_and_gradient(margin):
    # SOLUTION
    soft = torch.sigmoid(margin / 0.1)
    return (margin > 0).to(margin.dtype), soft * (1 - soft) / 0.1
    # END SOLUTION


# %% tags=["check:P09.3"]
lab.check("P09.3", step_and_gradient)

# %% [markdown] tags=["hint:P09.3"]
# The derivative of a sigmoid is $s(1 - s)$; then the chain rule.

# %% [markdown]
# **P09.4** (10 min, difficulty 1). For `tokens` patches, rate `alpha`, `symbols` complex symbols a
# token and a link of `rate` symbols a second: tokens sent, symbols sent, microseconds in the air.


# %% tags=["exercise:P09.4"]
def in_the_air(tokens, alpha, symbols, rate):
    # SOLUTION
    sent = int(np.ceil(alpha * tokens - 1e-9))
    return sent, sent * symbols, sent * symbols / rate * 1e6
    # END SOLUTION


# %% tags=["check:P09.4"]
lab.check("P09.4", in_the_air)

# %% [markdown] tags=["hint:P09.4"]
# For 49 tokens and 0.2: ten tokens, 160 symbols, 160 microseconds at a million symbols a second.

# %% [markdown]
# **P09.5** (10 min, difficulty 2). From measured rates and accuracies: the smallest rate whose
# accuracy is at most `loss` below the best one. Then look at the gate's own curve.


# %% tags=["exercise:P09.5"]
def cheapest_rate(rates, accuracy, loss=0.02):
    # SOLUTION
    good = accuracy >= accuracy.max() - loss - 1e-12
    return float(rates[good].min())
    # END SOLUTION


# %% tags=["check:P09.5"]
lab.check("P09.5", cheapest_rate)

# %% [markdown] tags=["hint:P09.5"]
# First say which rates are good enough, then take the smallest of those.

# %% [markdown]
# **P09.6** (10 min, difficulty 2). Attention of one query `(d,)` over keys `(n, d)` and values
# `(n, e)` that does not see the dropped ones at all.


# %% tags=["exercise:P09.6"]
def attend_without(query, keys, values, keep):
    # SOLUTION
    logits = keys @ query / query.shape[-1] ** 0.5
    return logits.masked_fill(~keep, -torch.inf).softmax(-1) @ values
    # END SOLUTION


# %% tags=["check:P09.6"]
lab.check("P09.6", attend_without)

# %% [markdown] tags=["hint:P09.6"]
# Minus infinity as logit is weight zero, and the others still add up to one.

# %% [markdown]
# ## Where this goes
#
# **Back:** transformers for images are in B11, class attention as a selector in P05. **On:** P10 asks
# how much of a network each input needs; P06 asks the same question of keys in a cache.
#
# **Sources:** Devoto et al., arXiv 2405.02330; Rao et al., DynamicViT, arXiv 2106.02034; Liang et
# al., EViT, arXiv 2202.07800; Bolya et al., ToMe, arXiv 2210.09461.
#
# **Open question.** The rate is learned on average. Could a gate be made to spend *exactly* what was
# asked over a second of video, and still less on easy frames?
