# %% [markdown]
# # B07 · Convolutional layers: look locally, share weights
#
# *The book, chapter 7: Scardapane, "Alice's Adventures in a differentiable wonderland",
# arXiv 2404.17625.*
#
# Reading: 30 min. Exercises: 75 min. Prerequisites: B05.
#
# **Goals**
# - Get from a dense layer to a convolution in two steps: locality, sharing.
# - See a convolution as a matrix, and count what a stack sees.
# - Measure what equivariance is worth when pictures move.

# %% tags=["setup"]
import labcore

lab = labcore.start("B07", seed=0)

# %%
import torch

from labcore.book.experiment import load_result

result = load_result()  # measurements that come with the lab
photo = torch.from_numpy(result.arrays["b07/photo"].copy()).double()  # (y, x), 0 to 255
print(
    "photograph:", tuple(photo.shape), "grey values from", int(photo.min()), "to", int(photo.max())
)

# %% [markdown]
# ## Recap
#
# A dense layer on an image of $H \times W$ pixels has $(HW)^2$ weights for one channel. *Locality*:
# an output looks at its $(2k+1)^2$ neighbours only. *Sharing*: all places use the same weights. What is
# left is a convolution,
#
# $$Y_{ij} = \sum_{i'=1}^{2k+1} \sum_{j'=1}^{2k+1} W_{i'j'}\, X_{i + i' - k - 1,\; j + j' - k - 1},$$
#
# which has $(2k+1)^2$ weights, whatever the size of the image. It is *equivariant*: move the input and
# the output moves along.

# %% [markdown]
# **Mind the convention.** The chapter writes the offset with two different signs; we use
# $i + i' - k - 1$, so the kernel is *not* flipped. Signal processing flips it and calls ours
# cross-correlation. Axes are (batch, channels, rows, columns).

# %% [markdown]
# ## 1 · Three lines
#
# Gather every neighbourhood, then one product. `unfold` makes a view: nothing is copied. The library's
# version adds padding, stride, dilation and groups.

# %%
from labcore.blocks.conv import conv2d


def conv_by_hand(x, w):
    windows = x.unfold(2, w.shape[2], 1).unfold(3, w.shape[3], 1)  # (b, c, u, v, p, q)
    return torch.einsum("bcuvpq,ocpq->bouv", windows, w)


x = torch.randn(2, 3, 10, 12, dtype=torch.float64, generator=lab.generator)
w = torch.randn(4, 3, 3, 3, dtype=torch.float64, generator=lab.generator)
torch.testing.assert_close(conv_by_hand(x, w), conv2d(x, w))
theirs = torch.nn.functional.conv2d(x, w, padding=1, stride=2)
torch.testing.assert_close(conv2d(x, w, padding=1, stride=2), theirs)
print("from", tuple(x.shape), "to", tuple(conv_by_hand(x, w).shape))

# %% [markdown]
# ## 2 · It is a matrix
#
# Whatever is linear is a matrix. **Predict.** For a filter $(1, 2, 3)$ on a signal of eight numbers with
# zeros outside: how many of the 64 entries are not zero? How many *different* ones are there?

# %%
from labcore.blocks.conv import conv_fft1d, toeplitz

filter3 = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
M = toeplitz(filter3, 8)
print(M.int())
signal = torch.randn(8, dtype=torch.float64, generator=lab.generator)
padded = torch.nn.functional.pad(signal, (1, 1))
torch.testing.assert_close(M @ signal, conv_fft1d(padded, filter3))
print(f"{int((M != 0).sum())} of {M.numel()} entries are not zero")

# %% [markdown]
# The last line computed the same through the Fourier transform, where a convolution is a product of
# numbers. For long filters this is the fast way; B13 uses it for whole sequences.
#
# ## The kernel
#
# **Change** the kernel, then the pixel, then the number of layers. **Watch** the response, and the square
# that a stack of such layers sees. Which kernels ignore the flat sky, and why?

# %% tags=["centrepiece"]
from labcore.book.figures_b07 import KERNELS, kernel_figure


def kernel_lab(kernel, layers, row, column):
    picture = result.arrays["b07/photo"]
    return kernel_figure(picture, KERNELS[kernel], row=row, column=column, layers=layers)


lab.explore(
    kernel_lab,
    kernel=["vertical edges", "identity", "blur", "horizontal edges", "ridge"],
    layers=(1, 10),
    row=(0, 119),
    column=(0, 146),
)

# %% [markdown]
# <details>
# <summary>What to conclude</summary>
#
# A convolution is a matrix of 17 640 × 17 640 entries of which each row has nine that are not zero, the
# same nine in every row. Kernels whose entries sum to zero give nothing where neighbours are equal. A
# stack of 3×3 layers sees two pixels more with each layer: without pooling or stride, seeing a whole
# picture takes many.
#
# </details>

# %% [markdown]
# ## 3 · Equivariance
#
# Move the photograph, then convolve; or convolve, then move. Away from the borders both are the same.
#
# **Predict.** And for pooling (the maximum of each 2×2 block), moved by 2 pixels? By 1?

# %%
kernel = torch.tensor(KERNELS["vertical edges"], dtype=torch.float64).reshape(1, 1, 3, 3)
image = photo[None, None]


def edges(x):
    return conv2d(x, kernel, padding=1)


def pool(x):
    return torch.nn.functional.max_pool2d(x, 2)


gap = edges(image.roll(5, -1)) - edges(image).roll(5, -1)
print(f"convolution, 5 pixels: {gap[..., 2:-2, 7:-7].abs().max():.1g}")
gap = pool(image.roll(2, -1)) - pool(image).roll(1, -1)
print(f"pooling, 2 pixels:     {gap[..., 4:-4].abs().max():.1g}")
one = (pool(image.roll(1, -1)) - pool(image))[..., 4:-4].abs().max()
print(f"pooling, 1 pixel:      {one:.0f} grey values at worst")

# %% [markdown]
# ## 4 · A classifier
#
# Two convolutions of 5×5 (16 and 32 channels), each followed by ReLU and pooling, then one linear layer:
# against a dense network with 128 hidden units. Both saw 6000 digits for two epochs. Then the test digits
# move to the right.
#
# **Predict.** By how much does each suffer from a shift of 2 pixels? Of 4?

# %%
for row in result.tables["b07/numbers"]:
    known = "" if row["expected"] is None else f"; known {row['expected']:.3f} ± {row['band']:.2f}"
    print(
        f"{row['what']:46s} {row['measured']:.3f} ± {row['spread']:.3f}  ({row['sample']}){known}"
    )
moved = [row for row in result.tables["b07/numbers"] if row["what"].startswith("accuracy, cnn, sh")]
print("the CNN's ± over seeds at 0, 2, 4 pixels:", [round(row["spread"], 3) for row in moved])

# %% [markdown]
# The known figures are those of one run. The further the digits move, the more one run differs from
# the next (the last line), so a mean of ours may lie five points from them where digits moved, and two
# where they did not.
#
# The convolutional network loses less, but it is *not* invariant: its last linear layer reads every place
# with its own weights. A global average (the row *pooled*) would forget the place; with this budget of
# two epochs it has only begun to learn. That is a lesson in budgets, not in pooling.
#
# How many numbers has each?

# %%
from labcore.book.b07 import network

for kind in ("cnn", "pooled", "mlp"):
    model = network(kind, seed=0)
    print(f"{kind:7s}{sum(p.numel() for p in model.parameters()):8,} parameters")

# %% [markdown]
# ## 5 · What a stack sees

# %%
from labcore.blocks.conv import receptive_field

for depth in (1, 2, 5, 10):
    plain = receptive_field([(3, 1, 1)] * depth)
    pooled = receptive_field([(3, 1, 1), (2, 2, 1)] * depth)
    print(f"{depth:2d} layers of 3x3: {plain:3d} pixels; with a 2x2 pool after each: {pooled}")

# %% [markdown]
# ## Exercises
#
# ### B07.1 · Your own convolution (20 min, difficulty 3)
#
# `x` is `(B, C, H, W)`, `w` is `(C', C, k, k)`. Return the convolution with zeros around, a stride and a
# dilation, without torch's convolutions.


# %% tags=["exercise:B07.1"]
def my_conv2d(x, w, padding, stride, dilation):
    """Two-dimensional convolution."""
    # SOLUTION
    x = torch.nn.functional.pad(x, (padding,) * 4)
    span = (w.shape[2] - 1) * dilation + 1
    windows = x.unfold(2, span, stride).unfold(3, span, stride)
    windows = windows[..., ::dilation, ::dilation]
    return torch.einsum("bcuvpq,ocpq->bouv", windows, w)
    # END SOLUTION


# %% tags=["check:B07.1"]
lab.check("B07.1", my_conv2d)

# %% [markdown] tags=["hint:B07.1"]
# Begin with the three lines of section 1 and pad first.

# %% [markdown] tags=["hint:B07.1"]
# A dilated kernel spans $(k-1)d + 1$ pixels: unfold that many, then take every $d$-th.

# %% [markdown] tags=["solution-text:B07.1"]
# Only the windows change; the product stays. Frameworks call this *im2col*, and on large images they do
# copy, because one dense product is the fastest thing that a processor can do.

# %% [markdown]
# ### B07.2 · The matrix (15 min, difficulty 2)
#
# For a filter of odd length and a signal of `n` numbers with zeros outside, return the matrix `(n, n)` of
# the convolution.


# %% tags=["exercise:B07.2"]
def matrix_of(w, n):
    """Toeplitz matrix of a filter."""
    # SOLUTION
    k = len(w) // 2
    M = torch.zeros(n, n, dtype=w.dtype)
    for i in range(n):
        for j, value in enumerate(w):
            if 0 <= i + j - k < n:
                M[i, i + j - k] = value
    return M
    # END SOLUTION


# %% tags=["check:B07.2"]
lab.check("B07.2", matrix_of)

# %% [markdown] tags=["hint:B07.2"]
# Row $i$ says what output $i$ reads: the filter's middle stands on column $i$.

# %% [markdown] tags=["solution-text:B07.2"]
# Its transpose is the layer's VJP (B06): a convolution with the flipped filter, known as *transposed
# convolution*.

# %% [markdown]
# ### B07.3 · Receptive field (10 min, difficulty 2)
#
# `layers` lists (kernel, stride) from the first layer on; pooling is a layer too. How many pixels, along
# one axis, does one output see?


# %% tags=["exercise:B07.3"]
def field_of(layers):
    """Receptive field along one axis."""
    # SOLUTION
    field, jump = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * jump
        jump *= stride
    return field
    # END SOLUTION


# %% tags=["check:B07.3"]
lab.check("B07.3", field_of)

# %% [markdown] tags=["hint:B07.3"]
# Keep two numbers: how much one output sees, and how far apart two neighbours' fields begin.

# %% [markdown] tags=["solution-text:B07.3"]
# Without strides it grows linearly with depth; with strides, or with dilation (B08), exponentially.

# %% [markdown]
# ### B07.4 · Depthwise, then pointwise (10 min, difficulty 2)
#
# Replace a full convolution (side `size`, `channels` in, `outputs` out) by a depthwise one (each channel
# alone) followed by 1×1. Return the new number of weights over the old one, without biases.


# %% tags=["exercise:B07.4"]
def saving(size, channels, outputs):
    """Share of the weights that is left."""
    # SOLUTION
    full = size**2 * channels * outputs
    return (size**2 * channels + channels * outputs) / full
    # END SOLUTION


# %% tags=["check:B07.4"]
lab.check("B07.4", saving)

# %% [markdown] tags=["hint:B07.4"]
# Three products; write them down before you divide.

# %% [markdown] tags=["solution-text:B07.4"]
# $1/c' + 1/s^2$: with 3×3 kernels and many channels about a ninth. Attention (B10) divides the work in
# the same way: mixing places is one step, mixing features another.

# %% [markdown]
# ### B07.5 · Measure it (15 min, difficulty 2)
#
# `f` maps images to images of the same size. Return the largest $\lvert f(\text{moved } x) -
# \text{moved } f(x) \rvert$ for a roll by `shift` columns, leaving out `shift + 1` pixels on every side.


# %% tags=["exercise:B07.5"]
def equivariance_error(f, x, shift):
    """How far f is from equivariance."""
    # SOLUTION
    gap = f(x.roll(shift, -1)) - f(x).roll(shift, -1)
    inside = slice(shift + 1, -(shift + 1))
    return gap[..., inside, inside].abs().max().item()
    # END SOLUTION


# %% tags=["check:B07.5"]
lab.check("B07.5", equivariance_error)

# %% [markdown] tags=["hint:B07.5"]
# Two ways to the same place: first move, then `f`; first `f`, then move.

# %% [markdown] tags=["solution-text:B07.5"]
# Zero for the convolution. Pooling is equivariant to moves by multiples of its stride only, which is why
# a moved digit can change what a pooled network says.

# %% [markdown]
# ## Where this goes
#
# **Back:** the dense layer is B05. **On:** B08 convolves text; B09 makes such stacks deep; P05 and P09 cut
# pictures into patches, which is a convolution with a stride as long as its kernel.
#
# **Sources:** LeCun et al., *Gradient-based learning applied to document recognition*, 1998; Azulay and
# Weiss, *Why do deep convolutional networks generalize so poorly to small image transformations?*,
# arXiv 1805.12177.
#
# **Open question.** A transformer on patches has neither locality nor sharing built in beyond its first
# layer. What does it pay for that freedom, and when does the freedom pay?
