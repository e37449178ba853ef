"""The linear map by oneDNN: the same numbers and gradients, and torch's own where it cannot."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labcore.blocks import fast_linear as module
from labcore.blocks.cost import saved_activation_bytes
from labcore.blocks.fast_linear import fast_linear, fast_linears, linear_in_use

needs_onednn = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="this torch has no oneDNN",
)


def drawn(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def by_onednn(out):
    return out.grad_fn is not None and out.grad_fn.name() == "_LinearBackward"


@needs_onednn
@pytest.mark.parametrize("shape", [(800,), (16, 50), (2, 8, 50)])
@pytest.mark.parametrize("biased", [True, False])
def test_output_and_gradients_are_those_of_the_usual_map(shape, biased):
    torch.manual_seed(0)
    given = [drawn(*shape, 96), drawn(192, 96), *([drawn(192)] if biased else [])]
    out = fast_linear(*given)
    assert by_onednn(out)
    grad = torch.randn_like(out)
    exact = [t.detach().double().requires_grad_() for t in given]
    wanted = F.linear(*exact)
    torch.testing.assert_close(out, wanted.float(), atol=1e-4, rtol=1e-5)
    ours = torch.autograd.grad(out, given, grad)
    for found, true in zip(ours, torch.autograd.grad(wanted, exact, grad.double()), strict=True):
        torch.testing.assert_close(found, true.float(), atol=1e-3, rtol=1e-5)


@needs_onednn
@pytest.mark.filterwarnings("ignore:Input #.* requires gradient and is not a double precision")
def test_gradients_and_their_gradients_against_differences(monkeypatch):
    monkeypatch.setattr(module, "_SMALLEST", 0)
    torch.manual_seed(0)
    given = (drawn(2, 3, 4), drawn(5, 4), drawn(5))
    assert by_onednn(fast_linear(*given))
    close = {"eps": 1e-2, "atol": 5e-3, "rtol": 1e-2}  # single precision; the map is bilinear
    assert torch.autograd.gradcheck(fast_linear, given, **close)
    assert torch.autograd.gradgradcheck(fast_linear, given, **close)


@needs_onednn
def test_only_wanted_gradients_are_computed():
    x, weight = torch.randn(800, 96), drawn(192, 96)
    fast_linear(x, weight).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(0).expand(192, -1), atol=1e-3, rtol=1e-4)
    x.requires_grad_()
    fast_linear(x, weight.detach()).sum().backward()
    torch.testing.assert_close(x.grad, weight.detach().sum(0).expand(800, -1), atol=1e-3, rtol=1e-4)


@needs_onednn
@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_what_it_cannot_take_goes_torchs_way():
    x, weight = drawn(800, 96), drawn(192, 96)
    assert by_onednn(fast_linear(x, weight))
    assert not by_onednn(fast_linear(x[:8], weight)), "too small to gain"
    assert not by_onednn(fast_linear(x.double(), weight.double()))
    with torch.backends.mkldnn.flags(enabled=False):
        assert not by_onednn(fast_linear(x, weight))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fast_linear(x, weight).dtype == torch.bfloat16
    for bad in ((x, weight[:, :50]), (x, weight, torch.zeros(3))):
        with pytest.raises(RuntimeError, match=r"shape|size"):
            fast_linear(*bad)


@needs_onednn
def test_a_model_uses_it_only_while_it_is_asked_to():
    model, x = nn.Sequential(nn.Linear(96, 192), nn.GELU(), nn.Linear(192, 96)), drawn(800, 96)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    usual = model(x)
    with fast_linears():
        inside = model(x)
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append((model(x), linear_in_use())))
        thread.start()
        thread.join()
    assert by_onednn(inside)
    assert not by_onednn(elsewhere[0][0])
    assert elsewhere[0][1] is linear_in_use() is F.linear
    assert not by_onednn(model(x))
    with fast_linears(enabled=False):
        assert not by_onednn(model(x))
    torch.testing.assert_close(inside, usual, atol=1e-5, rtol=1e-5)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_error_inside_closes_it():
    with pytest.raises(RuntimeError), fast_linears():
        F.linear(torch.ones(2, 3), torch.ones(4, 5))
    assert linear_in_use() is F.linear


@needs_onednn
@pytest.mark.parametrize("trained", ["x", "weight", "both"])
def test_it_saves_no_more_for_backward_than_the_usual_map(trained):
    x, weight = drawn(800, 96), drawn(192, 96)
    x.requires_grad_(trained != "weight")
    weight.requires_grad_(trained != "x")
    totals = []
    for run in (F.linear, fast_linear):
        with saved_activation_bytes() as saved:
            run(x, weight)
        totals.append(saved.total)
    assert totals[0] == totals[1] > 0
