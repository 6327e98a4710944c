import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from deft import nn
from deft.errors import ConfigError
from deft.nn.augment_plan import ITEMS
from suites.augment import FEATURES, SEED, AugmentChecks, feature, made_up


def tensors(held):
    return {name: torch.from_numpy(array.copy()) for name, array in held.items()}


def keys(draws):
    return nn.Draws(SEED, torch.as_tensor(draws, dtype=torch.int64))


class TestAugment(AugmentChecks):
    def run(self, config, draws, obs, goal=None, next_obs=None):
        batch = nn.Batch(
            obs=tensors(obs), goal=tensors(goal or {}), next_obs=tensors(next_obs or {})
        )
        found = nn.Augment(config, FEATURES)(batch, keys(draws))
        groups = (found.obs, found.goal, found.next_obs)
        return tuple({name: each.numpy() for name, each in held.items()} for held in groups)

    def test_goals_may_come_without_a_time_axis(self):
        obs = made_up(2, ticks=1)
        augment = nn.Augment(nn.AugmentConfig(order=ITEMS), FEATURES)
        ticks, flat = tensors(obs), {name: each[:, 0] for name, each in tensors(obs).items()}
        found = augment(nn.Batch(obs=ticks, goal=flat), keys([1, 2]))
        for name, goal in found.goal.items():
            assert torch.equal(goal, found.obs[name][:, 0])

    def test_saliency_by_camera_moves_like_the_feature(self):
        obs = tensors(made_up(2))
        maps = {"front": obs["gaze"][..., 0]}
        config = nn.AugmentConfig(order=ITEMS)
        found = nn.Augment(config, FEATURES)(nn.Batch(obs=obs, saliency=maps), keys([1, 2]))
        assert torch.equal(found.saliency["front"], found.obs["gaze"][..., 0])
        assert not torch.equal(found.saliency["front"], maps["front"])
        left = nn.Augment(config, FEATURES[:2])(nn.Batch(obs=obs, saliency=maps), keys([1, 2]))
        assert torch.equal(left.saliency["front"], maps["front"])

    def test_the_batch_that_came_keeps_its_pictures(self):
        batch = nn.Batch(obs=tensors(made_up(2)))
        before = {name: each.clone() for name, each in batch.obs.items()}
        nn.Augment(nn.AugmentConfig(order=ITEMS), FEATURES)(batch, keys([1, 2]))
        assert all(torch.equal(batch.obs[name], each) for name, each in before.items())

    def test_autocast_does_not_lose_levels(self):
        augment = nn.Augment(nn.AugmentConfig(order=ITEMS), FEATURES[:1])
        batch = nn.Batch(obs=tensors({"front": made_up(2)["front"]}))
        plain = augment(batch, keys([1, 2])).obs["front"]
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(augment(batch, keys([1, 2])).obs["front"], plain)

    def test_few_passes_over_the_pictures(self):
        augment = nn.Augment(nn.AugmentConfig(order=ITEMS), FEATURES[:1])
        batch = nn.Batch(obs=tensors({"front": made_up(4)["front"]}))
        with Passes(batch.obs["front"].numel()) as passes:
            augment(batch, keys([1, 2, 3, 4]))
        assert len(passes.names) <= 6, passes.names

    def test_grey_cameras_can_be_cropped_only(self):
        grey = feature("grey", "image", 1, "uint8")
        nn.Augment(nn.AugmentConfig(order=ITEMS[:1]), [grey])
        with pytest.raises(ConfigError, match=r"'grey'.*1 channels.*\n.*random_resized_crop"):
            nn.Augment(nn.AugmentConfig(order=ITEMS), [grey])

    @pytest.mark.slow
    @pytest.mark.compile
    def test_compiled_it_does_the_same(self):
        # In a process of its own: the shape checks of this one cannot be traced.
        done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert int(done.stdout) <= 1

    @pytest.mark.gpu
    def test_a_gpu_agrees_with_the_cpu(self):
        augment = nn.Augment(nn.AugmentConfig(order=ITEMS), FEATURES)
        batch = nn.Batch(obs=tensors(made_up(8)))
        there = nn.Batch(obs={name: each.cuda() for name, each in batch.obs.items()})
        rows = torch.arange(8)
        here = augment(batch, nn.Draws(SEED, rows)).obs
        found = augment(there, nn.Draws(SEED, rows.cuda())).obs
        for name, each in here.items():
            apart = (found[name].cpu().double() - each.double()).abs().max()
            assert apart <= (0 if name == "depth" else 1), name


COMPILED = """
import torch
from deft import nn, spec
from deft.nn.augment_plan import ITEMS
feature = spec.Feature(name="front", role="image", shape=(20, 28, 3), dtype="uint8")
augment = nn.Augment(nn.AugmentConfig(order=ITEMS), [feature])
pictures = torch.randint(0, 256, (2, 2, 20, 28, 3), dtype=torch.uint8)
batch = nn.Batch(obs={"front": pictures})
plain = augment(batch, nn.Draws(3, torch.arange(2))).obs["front"]
found = torch.compile(augment, fullgraph=True)(batch, nn.Draws(3, torch.arange(2))).obs["front"]
print((found.int() - plain.int()).abs().max().item())
"""


class Passes(TorchDispatchMode):
    """Names of the operations that read or write at least as many elements as there are pixels;
    views do neither."""

    VIEWS = ("view", "reshape", "permute", "transpose", "expand", "alias", "slice", "empty")

    def __init__(self, pixels):
        super().__init__()
        self.names = []
        self._pixels = pixels

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        name = func.name().removeprefix("aten::").split(".")[0]
        sizes = [each.numel() for each in (*args, found) if isinstance(each, torch.Tensor)]
        if max(sizes, default=0) >= self._pixels and not any(v in name for v in self.VIEWS):
            self.names.append(name)
        return found
