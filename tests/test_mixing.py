"""mixup and cutmix against their papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from zoo.errors import UsageError
from zoo.train.mixup import check_cutmix, mix


def test_mixup_is_the_formula_for_maps_and_for_rows_of_features() -> None:
    for shape in ((6, 3, 8, 8), (6, 40)):
        inputs = torch.rand(shape)
        before = inputs.clone()
        mixed, partner, share = mix(inputs, ("mix", 0, 1), mixup=0.4)
        assert sorted(partner) == list(range(6))
        assert 0 < share < 1
        wanted = share * inputs + (1 - share) * inputs[partner.tolist()]
        torch.testing.assert_close(mixed, wanted)
        assert torch.equal(inputs, before)


def test_cutmix_pastes_one_box_and_its_share_is_the_area() -> None:
    numbers = torch.arange(5.0)[:, None, None, None].expand(5, 3, 17, 31)
    shares = []
    for step in range(200):
        mixed, partner, share = mix(numbers, ("mix", 1, step), cutmix=1.0)
        pasted = mixed != numbers
        for row in range(5):
            if partner[row] == row:
                assert not pasted[row].any()
                continue
            assert (mixed[row][pasted[row]] == float(partner[row])).all()
            area = int(pasted[row, 0].sum())
            assert share == pytest.approx(1 - area / (17 * 31))
            down, across = pasted[row, 0].any(1), pasted[row, 0].any(0)
            assert area == int(down.sum()) * int(across.sum())  # a box, whole
            assert torch.equal(pasted[row, 0], pasted[row, 2])
        shares.append(share)
    assert 0.5 < np.mean(shares) < 0.8  # Beta(1, 1) has 0.5; boxes are clipped at the border


def test_shares_are_drawn_from_the_beta_distribution() -> None:
    inputs = torch.zeros(2, 1)
    for alpha in (0.2, 1.0, 4.0):
        shares = np.array([mix(inputs, ("mix", step), mixup=alpha).share for step in range(2000)])
        assert shares.mean() == pytest.approx(0.5, abs=0.03)
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.01)


def test_the_key_alone_decides() -> None:
    inputs = torch.rand(8, 3, 6, 6)
    first = mix(inputs, (3, 1, 0), mixup=0.2, cutmix=1.0)
    torch.rand(3)
    again = mix(inputs, (3, 1, 0), mixup=0.2, cutmix=1.0)
    assert torch.equal(first.inputs, again.inputs)
    assert first.partner.tolist() == again.partner.tolist()
    assert first.share == again.share
    assert first.share != mix(inputs, (3, 1, 1), mixup=0.2, cutmix=1.0).share


def test_a_coin_takes_one_of_the_two() -> None:
    inputs = torch.arange(4.0)[:, None, None, None].expand(4, 1, 8, 8)
    kinds = []
    for step in range(200):
        mixed, partner, share = mix(inputs, ("mix", step), mixup=1.0, cutmix=1.0)
        if 0.05 < share < 0.95 and partner[0] != 0:
            kinds.append(len(mixed[0].unique()) == 1)  # mixup leaves a flat picture flat
    assert 0.3 < np.mean(kinds) < 0.7


def test_the_mixed_loss_is_the_soft_labels() -> None:
    """share * loss(a) + (1 - share) * loss(b) is the cross-entropy with the mixed label."""
    scores, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    _, partner, share = mix(torch.rand(6, 5), (1,), mixup=1.0)
    ours = share * functional.cross_entropy(scores, labels) + (
        1 - share
    ) * functional.cross_entropy(scores, labels[partner.tolist()])
    hot = functional.one_hot(labels, 4).float()
    soft = share * hot + (1 - share) * hot[partner.tolist()]
    torch.testing.assert_close(ours, functional.cross_entropy(scores, soft))


def test_cutmix_without_a_picture_is_refused() -> None:
    check_cutmix((960, 7, 7))
    for shape in ((1280,), (512, 1, 1)):
        with pytest.raises(UsageError, match="no picture to paste in"):
            check_cutmix(shape)
    with pytest.raises(UsageError, match="40"):
        mix(torch.rand(6, 40), (0,), cutmix=1.0)


def test_a_mixed_batch_keeps_its_layout_and_type() -> None:
    inputs = torch.rand(4, 3, 8, 8, dtype=torch.float64).to(memory_format=torch.channels_last)
    for alphas in ({"mixup": 1.0}, {"cutmix": 1.0}):
        mixed = mix(inputs, (1,), **alphas).inputs
        assert mixed.dtype == torch.float64
        assert mixed.is_contiguous(memory_format=torch.channels_last)
