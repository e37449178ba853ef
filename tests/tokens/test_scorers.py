"""The baselines: EViT's fused token, DynamicViT's predictor, A-ViT's halting, ToMe's matching."""

import pytest
import torch

from labcore.tokens import scorers
from tests.tokens.conftest import semantic, tiny

G = torch.Generator


def test_class_attention_is_the_row_of_the_whole_matrix() -> None:
    block = tiny().blocks[0]
    x = torch.randn(2, 17, 16, generator=G().manual_seed(0))
    with torch.no_grad():
        ours = scorers.class_attention_selection(block, x, 16)
        whole = block.attention(x)[:, :, 0, 1:].mean(1)
    torch.testing.assert_close(ours, whole)


def test_fused_rest_is_the_weighted_mean_and_absent_when_all_is_kept(images) -> None:
    tokens = torch.randn(2, 5, 3, generator=G().manual_seed(0))
    keep = torch.tensor([[True, False, False, True, True], [True] * 5])
    scores = torch.rand(2, 5, generator=G().manual_seed(1))
    fused, there = scorers.fuse_rest(tokens, keep, scores)
    w = scores[0, 1:3]
    torch.testing.assert_close(fused[0, 0], (w[:, None] * tokens[0, 1:3]).sum(0) / w.sum())
    assert there.flatten().tolist() == [True, False]
    plain = semantic(select="topk", scorer="class_attention")
    fusing = semantic(select="topk", scorer="class_attention", fuse_rest=True)
    with torch.no_grad():
        torch.testing.assert_close(fusing(images, 1.0).logits, plain(images, 1.0).logits)
        assert (fusing(images, 0.5).rates == 9 / 16).all()


def test_the_predictor_reads_only_kept_tokens_for_its_global_half() -> None:
    predictor = scorers.TokenPredictor(16, generator=G().manual_seed(0))
    tokens = torch.randn(2, 6, 16, generator=G().manual_seed(1))
    keep = torch.tensor([[1.0, 1, 1, 0, 0, 1]]).expand(2, -1)
    other = tokens.clone()
    other[:, 3:5] = torch.randn(2, 2, 16, generator=G().manual_seed(2))
    with torch.no_grad():
        one, two = predictor(tokens, keep), predictor(other, keep)
    torch.testing.assert_close(one[:, :3], two[:, :3])
    assert (one[:, 3] - two[:, 3]).abs().min() > 1e-4


def test_halting_by_hand() -> None:
    scores = torch.tensor([[0.3, 0.995], [0.5, 0.9], [0.4, 0.9]])[:, None]
    going, ponder = scorers.a_vit_halting(scores)
    assert going[:, 0].tolist() == [[True, False], [True, False], [False, False]]
    assert ponder.item() == pytest.approx(((3 + (1 - 0.8)) + (1 + 1)) / 2)
    with pytest.raises(ValueError, match="no layer"):
        scorers.a_vit_halting(torch.zeros(0, 1, 2))
    first = torch.zeros(1, 2, 4)
    first[0, 1, 0] = 2.0
    torch.testing.assert_close(
        scorers.halting_scores(first), torch.sigmoid(torch.tensor([[-3.0, 7.0]]))
    )


def reference_merge(x, metric, size, r):
    """Bipartite matching token by token, in Python."""
    m = metric / metric.norm(dim=-1, keepdim=True)
    even, odd = list(range(0, len(x), 2)), list(range(1, len(x), 2))
    edges = []
    for e in even:
        sims = [float(m[e] @ m[o]) for o in odd]
        best = max(range(len(odd)), key=lambda i: sims[i])
        edges.append((sims[best], e, odd[best]))
    edges.sort(key=lambda t: -t[0])
    total = {o: x[o] * size[o] for o in odd}
    weight = {o: size[o].clone() for o in odd}
    for _, e, o in edges[:r]:
        total[o] = total[o] + x[e] * size[e]
        weight[o] = weight[o] + size[e]
    stay = [e for _, e, _ in edges[r:]]
    rows = [x[e] for e in stay] + [total[o] / weight[o] for o in odd]
    return torch.stack(rows), torch.stack([size[e] for e in stay] + [weight[o] for o in odd])


@pytest.mark.parametrize(("t", "r"), [(10, 3), (11, 5), (8, 4), (9, 1)])
def test_merging_equals_the_reference_matching(t: int, r: int) -> None:
    x = torch.randn(2, t, 5, generator=G().manual_seed(0)).double()
    metric = torch.randn(2, t, 3, generator=G().manual_seed(1)).double()
    size = torch.randint(1, 4, (2, t), generator=G().manual_seed(2)).double()
    tokens, _, sizes = scorers.token_merging(x, metric, size, r)
    for b in range(2):
        wanted, weights = reference_merge(x[b], metric[b], size[b], r)
        torch.testing.assert_close(tokens[b], wanted)
        torch.testing.assert_close(sizes[b], weights)
    torch.testing.assert_close(  # nothing is lost
        (tokens * sizes[..., None]).sum(1), (x * size[..., None]).sum(1)
    )


def test_merging_down_to_a_count() -> None:
    x = torch.randn(2, 49, 5, generator=G().manual_seed(0))
    for target in (1, 10, 30, 49):
        tokens, size = scorers.merge_to(x, x, target)
        assert tokens.shape == (2, target, 5)
        torch.testing.assert_close(size.sum(1), torch.full((2,), 49.0))
    with pytest.raises(ValueError, match="target=50"):
        scorers.merge_to(x, x, 50)
    with pytest.raises(ValueError, match="at most half"):
        scorers.token_merging(x, x, torch.ones(2, 49), 25)
