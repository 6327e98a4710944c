"""Noise schedules, and the way back from noise."""

import pytest
import torch

from deft.nn import Diffusion, Draws, FourierFeatures, betas
from suites.golden_losses import cosine_kept


def rows(count: int) -> Draws:
    return Draws(0, torch.arange(count))


def test_the_cosine_schedule_is_the_published_one() -> None:
    kept = Diffusion("cosine", 20).kept
    torch.testing.assert_close(kept, torch.tensor(cosine_kept(20)))
    for step, wanted in ((0, 0.9920), (9, 0.4938), (18, 0.00606)):
        assert abs(float(kept[step]) - wanted) < 5e-5
    # Values of the `squaredcos_cap_v2` schedule with 100 steps.
    kept = Diffusion("cosine", 100).kept
    for step, wanted in ((0, 0.9993687), (1, 0.9982525), (50, 0.4782646), (99, 2.42854e-7)):
        assert float(kept[step]) == pytest.approx(wanted, rel=2e-5)
    for step, wanted in ((0, 0.00063128), (50, 0.03154634), (99, 0.999)):
        assert float(betas("cosine", 100)[step]) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "vp"])
def test_noise_grows_with_the_step(schedule: str) -> None:
    kept = Diffusion(schedule, 20).kept  # type: ignore[arg-type]
    assert (kept[1:] < kept[:-1]).all()
    assert 0 < kept[-1] < kept[0] < 1


@pytest.mark.parametrize("within", [None, (torch.tensor([-3.0]), torch.tensor([3.0]))])
def test_a_perfect_network_leads_to_the_data(within: tuple[torch.Tensor, torch.Tensor]) -> None:
    diffusion = Diffusion("cosine", 50)
    data = torch.tensor([1.5, -2.0, 0.3, 0.0])[:, None, None]  # B 1 1

    def network(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        kept = diffusion.kept[step][:, None, None]
        return (x - kept.sqrt() * data) / (1 - kept).sqrt()

    start = rows(4).normal("start", 1, 1)
    chunk = diffusion.denoise(network, start, rows(4), within=within)
    torch.testing.assert_close(chunk, data, atol=1e-3, rtol=0)


def test_limits_of_the_clean_chunk_hold() -> None:
    diffusion = Diffusion("cosine", 20)
    low, high = torch.tensor([-0.5, 0.0]), torch.tensor([0.5, 0.1])
    chunk = diffusion.denoise(
        lambda x, _: -x, rows(64).normal("start", 3, 2), rows(64), within=(low, high)
    )
    assert (chunk >= low).all()
    assert (chunk <= high).all()
    cut = diffusion.denoise(lambda x, _: -x, rows(64).normal("start", 3, 2), rows(64), clip=0.7)
    assert cut.abs().max() <= 0.7


def test_steps_are_drawn_evenly() -> None:
    steps = Diffusion("cosine", 5).sample_steps(rows(5000))
    counts = torch.bincount(steps, minlength=5)
    assert counts.shape == (5,)
    assert (counts - 1000).abs().max() < 130  # more than 4 standard deviations


def test_fourier_features_are_cosines_then_sines() -> None:
    features = FourierFeatures(4)
    torch.nn.init.constant_(features.kernel, 0.25)
    out = features(torch.tensor([1.0]))
    torch.testing.assert_close(out, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), atol=1e-6, rtol=0)
