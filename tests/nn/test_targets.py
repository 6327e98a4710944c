"""Copies that follow."""

import torch

from deft.nn import follow, frozen_copy


def test_a_copy_is_saved_but_not_trained() -> None:
    online = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    target = frozen_copy(online)
    x = torch.randn(4, 2)
    assert torch.equal(target(x), online(x))
    assert list(target.parameters()) == []
    assert target.state_dict().keys() == online.state_dict().keys()


def test_it_moves_by_a_share_of_the_way() -> None:
    online = torch.nn.Linear(2, 3)
    target = frozen_copy(online)
    before = target.weight.clone()
    with torch.no_grad():
        online.weight.add_(1.0)
    follow(target, online, 0.25)
    torch.testing.assert_close(target.weight, before + 0.25)
