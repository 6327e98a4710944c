"""Checkpoints of BridgeData V2's JAX code, made by real Flax."""

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deft import bundle, formats, policies
from deft.cli.main import main
from deft.errors import FormatError
from deft.recipes import jaxrl

ROOT = Path(__file__).parents[2]
PEER = Path(os.environ.get("DEFT_PEERS", ROOT / ".peers")) / "flax" / "bin" / "python"

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(
        not PEER.exists(), reason="real Flax is not installed: bash bench/peers/flax.sh .peers/flax"
    ),
]

SMALL = {"height": 64, "width": 64}
AGENTS = (
    "gc_bc",
    "gc_bc_50",
    "gc_bc_proprio",
    "gc_bc_late",
    "gc_bc_softmax",
    "lc_bc",
    "gc_ddpm_bc",
    "gc_ddpm_bc_proprio",
    "gc_iql",
    "contrastive_rl",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ready = os.environ.get("DEFT_FLAX_AGENTS")
    if ready:
        return Path(ready)
    folder = tmp_path_factory.mktemp("flax")
    subprocess.run([PEER, ROOT / "bench/peers/flax_agents.py", folder], check=True, timeout=1200)
    return folder


def load(folder: Path, name: str, step: str = "checkpoint_7") -> policies.Policy:
    path = folder / name / step
    leaves = formats.flatten(formats.read_flax(path))
    return jaxrl.policy_from(leaves, jaxrl.Given(**SMALL), str(path))


@pytest.mark.parametrize("name", AGENTS)
@torch.no_grad()
def test_answers_are_those_of_flax(made: Path, name: str) -> None:
    policy: Any = load(made, name)
    held = dict(np.load(made / name / "answers.npz"))
    tensors = {key: torch.from_numpy(value) for key, value in held.items()}
    obs = {"image_0": tensors["image"][:, None]}
    if "proprio" in tensors:
        stats = jaxrl.BRIDGE_ACTION
        physical = (held["proprio"] * stats.std + stats.mean).astype(np.float32)
        obs["state"] = torch.from_numpy(physical)[:, None]
    asked: dict[str, Any] = {"goal": {"image_0": tensors["goal"]}}
    if name == "lc_bc":
        asked = {"language": tensors["language"]}
    features = policy.encoder(obs, **asked)
    action = tensors["action"]

    def compare(ours: torch.Tensor, theirs: str) -> None:
        np.testing.assert_allclose(ours.numpy(), held[theirs], atol=1e-4, rtol=1e-4)

    if name.startswith("gc_ddpm_bc"):
        steps = torch.tensor([3, 11, 19])
        compare(policy.network(action[:, None], steps, features), "target_params/actor")
        return
    compare(policy.head(features)[0][:, 0], "params/actor")
    if name == "gc_iql":
        done = torch.cat((features, action), -1)
        compare(policy.value(features)[:, None], "params/value")
        compare(policy.critic(done)[:, None], "params/critic")
        later = policy.target_value(policy.target_encoder(obs, **asked))
        compare(later[:, None], "target_params/value")
    if name == "contrastive_rl":
        for critic, theirs in ((policy.critic, "params"), (policy.target, "target_params")):
            aim = critic.encoder({"image_0": tensors["goal"][:, None]})
            compare(critic(critic.encoder(obs), action, aim), f"{theirs}/critic")


def test_orbax_in_one_file_is_read_and_shards_are_refused(made: Path) -> None:
    whole, apart = load(made, "gc_iql"), load(made, "gc_iql", "aggregate_7")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, apart.state_dict()[name]), name
    with pytest.raises(FormatError, match="sharded"):
        formats.read_flax(made / "gc_iql" / "sharded_7")
    with pytest.raises(FormatError, match=r"(?s)no Flax checkpoint.*checkpoint_7"):
        formats.read_flax(made / "gc_iql")


def test_every_weight_that_does_not_fit_is_named(made: Path) -> None:
    leaves = formats.flatten(formats.read_flax(made / "gc_bc_proprio" / "checkpoint_7"))
    prefix = "state/params/modules_actor"
    del leaves[f"{prefix}/network/Dense_1/bias"]
    leaves[f"{prefix}/surplus"] = np.zeros(3, np.float32)
    leaves[f"{prefix}/Dense_0/kernel"] = np.zeros((256, 6), np.float32)
    with pytest.raises(FormatError) as caught:
        jaxrl.policy_from(leaves, jaxrl.Given(**SMALL), "here")
    for part in ("network/Dense_1/bias", "surplus", "Dense_0/kernel", "(256, 6)"):
        assert part in str(caught.value)


def test_the_command_writes_a_bundle_that_opens(made: Path, tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    stats.write_text('{"mean": [0, 0, 0, 0, 0, 0, 0.5], "std": [1, 1, 1, 1, 1, 1, 0.5]}')
    words = ["--from", "jaxrl", "--image-size", "64x64", "--golden", "2", "--stats", str(stats)]
    assert main(["export", str(made / "lc_bc/checkpoint_7"), str(tmp_path / "out"), *words]) == 0
    opened = bundle.load(tmp_path / "out")
    assert opened.info["provenance"]["action_stats"] == "stats.json"
    held = dict(np.load(made / "lc_bc/answers.npz"))
    seen = {"image_0": held["image"][:1], "language_embedding": held["language"][:1]}
    chunk = bundle.actor(opened).act(seen)
    wanted = held["params/actor"][0] * [1, 1, 1, 1, 1, 1, 0.5] + [0, 0, 0, 0, 0, 0, 0.5]
    np.testing.assert_allclose(chunk.actions[0], wanted, atol=1e-4, rtol=1e-4)
