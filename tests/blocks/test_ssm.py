"""Scans agree with the loop, in value and gradient; layers agree with their other form."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labcore.blocks import ssm
from labcore.blocks.ssm import LRU, compose, impulse_response, linear_attention, lru, scan

FAST = ("doubling", "chunked")


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@given(length=st.integers(1, 300), dtype=st.sampled_from([torch.float64, torch.complex128]))
def test_scans_equal_the_loop_at_any_length(length: int, dtype: torch.dtype) -> None:
    a, b = 0.7 * draw(2, length, 3, dtype=dtype), draw(2, length, 3, dtype=dtype, seed=1)
    wanted = scan(a, b, method="loop")
    for method in FAST:
        torch.testing.assert_close(scan(a, b, method=method), wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("method", ssm.METHODS)
def test_known_answers(method: str) -> None:
    ones = torch.ones(1, 37, dtype=torch.float64)
    assert torch.equal(scan(ones, ones, method=method)[0], torch.arange(1, 38).double())
    assert scan(ones[:, :0], ones[:, :0], method=method).shape == (1, 0)
    halved = scan(torch.tensor(0.5), torch.ones(4), method=method, dim=0)
    assert halved.tolist() == [1.0, 1.5, 1.75, 1.875]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradients_of_the_chunked_scan(dtype: torch.dtype) -> None:
    a = (0.5 * draw(2, 37, 2, dtype=dtype)).requires_grad_()
    b = draw(2, 37, 2, dtype=dtype, seed=1).requires_grad_()
    first = draw(2, 2, dtype=dtype, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: scan(x[0], x[1], initial=x[2]), (a, b, first))
    short = [x[:1, :19, :1].detach().requires_grad_() for x in (a, b)]
    assert torch.autograd.gradgradcheck(scan, short)


def errors(length: int, seed: int) -> tuple[float, float]:
    """Largest float32 error of the chunks and of the loop; drawn as the bench draws."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(1, length, 64, generator=generator) * 0.5 + 0.5
    b = torch.randn(1, length, 64, generator=generator)
    true = scan(a.double(), b.double(), method="loop")
    chunks, loop = ((scan(a, b, method=m) - true).abs().max() for m in ("chunked", "loop"))
    return chunks.item(), loop.item()


@pytest.mark.parametrize("length", [1024, 1025, 4096, 16384])
def test_float32_error_is_not_larger_than_the_loops(length: int) -> None:
    chunks, loop = errors(length, seed=length)
    assert chunks <= loop


@pytest.mark.parametrize("length", [1, 16, 17, 300, 1024])
def test_float32_error_over_seeds_is_not_larger_than_the_loops(length: int) -> None:
    chunks, loop = np.mean([errors(length, seed) for seed in range(12)], axis=0)
    assert chunks <= loop


@pytest.mark.parametrize("method", ssm.METHODS)
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_time_may_stand_on_any_axis(method: str, dim: int) -> None:
    a, b = 0.5 * draw(5, 30, 4), draw(5, 30, 4, seed=1)
    states = scan(a, b, dim=dim, method=method)
    along = scan(a.movedim(dim, 1), b.movedim(dim, 1), method="loop").movedim(1, dim)
    torch.testing.assert_close(states, along)


def test_time_first_without_a_batch() -> None:
    a, b = 0.5 * draw(30, 4), draw(30, 4, seed=1)
    wanted = scan(a[None], b[None], method="loop")[0]
    torch.testing.assert_close(scan(a, b, dim=0), wanted)


def test_a_long_sequence_in_two_parts() -> None:
    a, b = 0.5 * draw(2, 90, 4), draw(2, 90, 4, seed=1)
    first = scan(a[:, :50], b[:, :50])
    second = scan(a[:, 50:], b[:, 50:], initial=first[:, -1])
    torch.testing.assert_close(torch.cat((first, second), 1), scan(a, b))


def test_inputs_stay_as_they_were() -> None:
    a, b = draw(1, 100, 3), draw(1, 100, 3, seed=1)
    before = a.clone(), b.clone()
    scan(a, b)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


def test_constant_factor_is_a_convolution() -> None:
    b = draw(1, 200, 1)
    h = scan(torch.tensor(0.9, dtype=torch.float64), b)[0, :, 0]
    kernel = 0.9 ** np.arange(200)
    spectrum = np.fft.rfft(kernel, 400) * np.fft.rfft(b[0, :, 0].numpy(), 400)
    np.testing.assert_allclose(h, np.fft.irfft(spectrum)[:200], rtol=1e-9, atol=1e-12)


def test_the_operator_is_associative_and_gives_the_states() -> None:
    steps = [(draw(3, 3, seed=s), draw(3, seed=s + 9)) for s in range(3)]
    left = compose(compose(steps[0], steps[1]), steps[2])
    right = compose(steps[0], compose(steps[1], steps[2]))
    h = torch.zeros(3, dtype=torch.float64)
    for a, b in steps:
        h = a @ h + b
    for x, y in zip(left, right, strict=True):
        torch.testing.assert_close(x, y)
    torch.testing.assert_close(left[1], h)


def test_impulse_response_of_the_specification() -> None:
    response = impulse_response(0.9 * np.exp(0.5j), 5).real
    wanted = [1, 0.789824, 0.437645, 0.051567, -0.273034]
    np.testing.assert_allclose(response, wanted, atol=1e-6)


def test_linear_attention_has_two_equal_forms() -> None:
    q, k, v = draw(2, 40, 8), draw(2, 40, 8, seed=1), draw(2, 40, 5, seed=2)
    parallel, recurrent = (linear_attention(q, k, v, recurrent=r) for r in (False, True))
    torch.testing.assert_close(parallel, recurrent, rtol=1e-12, atol=1e-13)
    weights = (ssm.elu_plus_one(q) @ ssm.elu_plus_one(k).mT).tril()
    torch.testing.assert_close(parallel, weights / weights.sum(-1, keepdim=True) @ v)


@pytest.mark.parametrize("method", ssm.METHODS)
def test_selective_scan_equals_its_definition(method: str) -> None:
    x, delta = draw(2, 25, 3), draw(2, 25, 3, seed=1).exp()
    rates, skip = -draw(3, 4, seed=2).exp(), draw(3, seed=5)
    write, read = draw(2, 25, 4, seed=3), draw(2, 25, 4, seed=4)
    y = ssm.selective_scan(x, delta, rates, write, read, skip, method=method)
    h, wanted = torch.zeros(2, 3, 4, dtype=torch.float64), []
    for t in range(25):
        step = delta[:, t, :, None]
        h = (step * rates).exp() * h + step * write[:, t, None] * x[:, t, :, None]
        wanted.append((h * read[:, t, None]).sum(-1) + skip * x[:, t])
    torch.testing.assert_close(y, torch.stack(wanted, 1))


def test_selective_scan_equals_mambapy() -> None:
    mamba = pytest.importorskip("mambapy.mamba")
    config = mamba.MambaConfig(d_model=4, n_layers=1, d_state=3, expand_factor=2)
    block = mamba.MambaBlock(config).double()
    x, delta = draw(2, 20, 8), draw(2, 20, 8, seed=1).exp()
    rates, skip = -draw(8, 3, seed=2).exp(), draw(8, seed=5)
    write, read = draw(2, 20, 3, seed=3), draw(2, 20, 3, seed=4)
    theirs = block.selective_scan_seq(x, delta, rates, write, read, skip)
    ours = ssm.selective_scan(x, delta, rates, write, read, skip)
    torch.testing.assert_close(ours, theirs)


def test_a_step_of_zero_keeps_the_state_and_a_large_one_forgets() -> None:
    x = torch.tensor([[[1.0], [5.0], [7.0], [0.0]]]).double()
    delta = torch.tensor([[[1.0], [0.0], [50.0], [0.0]]]).double()
    ones = torch.ones(1, 4, 1).double()
    y = ssm.selective_scan(x, delta, -torch.ones(1, 1).double(), ones, ones)[0, :, 0]
    assert y.tolist() == pytest.approx([1.0, 1.0, 350.0, 350.0])


def test_lru_equals_its_loop() -> None:
    params = LRU(
        draw(4) - 2,
        draw(4, seed=1),
        draw(4, 3, dtype=torch.complex128, seed=2),
        draw(2, 4, dtype=torch.complex128, seed=3),
        draw(2, 3, seed=4),
    )
    x = draw(2, 30, 3, seed=5)
    lam = params.eigenvalues
    assert bool((lam.abs() < 1).all())
    s, wanted = torch.zeros(2, 4, dtype=torch.complex128), []
    for t in range(30):
        s = lam * s + (1 - lam.abs() ** 2).sqrt() * (x[:, t].to(s.dtype) @ params.B.T)
        wanted.append((s @ params.C.T).real + x[:, t] @ params.D.T)
    torch.testing.assert_close(lru(x, params), torch.stack(wanted, 1))


def test_bad_inputs_are_named() -> None:
    b = draw(2, 5, 3)
    with pytest.raises(ValueError, match="does not broadcast"):
        scan(draw(2, 4, 3), b)
    with pytest.raises(ValueError, match="method must be one of"):
        scan(b, b, method="fast")
    with pytest.raises(ValueError, match="floating point"):
        scan(b, torch.ones(2, 5, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="dim=3"):
        scan(b, b, dim=3)
    with pytest.raises(ValueError, match="one state is"):
        scan(b, b, initial=draw(2, 4))
    with pytest.raises(ValueError, match="one shape"):
        linear_attention(draw(5, 3), draw(5, 4), draw(5, 2))
    with pytest.raises(ValueError, match="n must be"):
        impulse_response(0.5, 0)
    one = draw(1, 3, 1)
    with pytest.raises(ValueError, match="delta must be"):
        ssm.selective_scan(one, -one.abs(), -torch.ones(1, 1).double(), one, one)
    with pytest.raises(ValueError, match=r"delta must be \(1, 3, 1\), got \(1, 3, 2\)"):
        ssm.selective_scan(one, draw(1, 3, 2), -torch.ones(1, 1).double(), one, one)
    with pytest.raises(ValueError, match=r"C must be \(1, 3, 1\), got \(1, 2, 1\)"):
        ssm.selective_scan(one, one.abs(), -torch.ones(1, 1).double(), one, one[:, :2])
    maps = (draw(2, 3, dtype=torch.complex128), draw(2, 2, dtype=torch.complex128), draw(2, 3))
    with pytest.raises(ValueError, match="take 3 features, x has 1"):
        lru(one, LRU(draw(2), draw(2), *maps))
