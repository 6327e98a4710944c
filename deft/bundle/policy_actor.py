"""A policy as an `Actor`: numpy in, numpy out."""

from collections.abc import Sequence

import numpy as np
import torch

from deft import nn
from deft.bundle.sentences import Sentences
from deft.errors import BundleError, ShapeError
from deft.policies import Policy
from deft.spec import GOAL, ActionChunk, Observation, Spec, check_observation
from deft.transforms import fit_pictures


class PolicyActor:
    """Asks a policy in this process; see `spec.Actor`.

    The policy is used as it stands: put it into eval mode and on its device before.

    Args:
        policy: of any family.
        seed: of the draws; with a request's key it decides the noise.
        sentences: vectors of instructions, for a policy that follows text.
    """

    def __init__(self, policy: Policy, seed: int = 0, sentences: Sentences | None = None) -> None:
        self._policy = policy
        self._seed = seed
        self._sentences = sentences
        self._calls = 0

    @property
    def spec(self) -> Spec:
        return self._policy.spec

    def reset(self) -> None:
        self._calls = 0

    def act(self, observation: Observation) -> ActionChunk:
        self._calls += 1
        return self.act_many([observation], [self._calls - 1])[0]

    def act_many(
        self, observations: Sequence[Observation], keys: Sequence[int]
    ) -> list[ActionChunk]:
        """All observations as one batch; pictures of a recorded size are resized as recorded.

        Raises:
            ShapeError, SpecError: an observation does not fit the contract, or holds a sentence
                that has no vector; none is run.
            BundleError: the policy answers NaN or infinity.
        """
        if len(observations) != len(keys):
            raise ShapeError(
                f"{len(observations)} observations come with {len(keys)} keys.\n"
                "Fix: give one key for each."
            )
        observations = [fit_pictures(each, self.spec) for each in observations]
        for index, observation in enumerate(observations):
            check_observation(observation, self.spec, f"Observation {index}")
        if not observations:
            return []
        actions = predict(self._policy, observations, keys, self._seed, self._sentences)
        wrong = np.flatnonzero(~np.isfinite(actions).all((1, 2)))
        if len(wrong):
            raise BundleError(
                f"The policy answers NaN or infinity to observation {wrong[0]} of {len(keys)}.\n"
                f"Found: draw key {keys[wrong[0]]}.\n"
                "Fix: look for observations far from the training data, or train again."
            )
        return [ActionChunk(rows) for rows in actions]


def predict(
    policy: Policy,
    observations: Sequence[Observation],
    keys: Sequence[int],
    seed: int,
    sentences: Sentences | None = None,
) -> np.ndarray:
    """Chunks for checked observations as one batch, float32 `B Tp A`, physical units.

    Raises `SpecError` for a sentence without a vector.
    """
    device = next(iter(policy.parameters())).device
    rows = torch.tensor(list(keys), dtype=torch.int64, device=device)
    batch = batch_of(policy.spec, observations, device, sentences)
    with torch.no_grad():
        chunks = policy.predict(batch, nn.Draws(seed, rows))
    return chunks.float().cpu().numpy()


def batch_of(
    spec: Spec,
    observations: Sequence[Observation],
    device: torch.device,
    sentences: Sentences | None = None,
) -> nn.Batch:
    """Checked observations as the batch that a policy of this contract takes.

    Raises `SpecError` for a sentence without a vector.
    """
    obs: dict[str, torch.Tensor] = {}
    goal: dict[str, torch.Tensor] = {}
    task: tuple[str, ...] = ()
    language: torch.Tensor | None = None
    for feature in spec.features:
        if feature.role == "action":
            continue
        values = [observation[feature.name] for observation in observations]
        if feature.dtype == "str":
            task = tuple(values)
            if sentences is not None:
                language = torch.from_numpy(sentences.of(task)).to(device)  # B L
            continue
        stacked = np.stack(values)  # B To ...
        if not feature.dtype.startswith("uint"):
            stacked = stacked.astype(np.float32, copy=False)
        tensor = torch.from_numpy(stacked).to(device)
        # Goal and sentence hold for all ticks: the one of now counts.
        if feature.role == "goal":
            goal[feature.name.removeprefix(GOAL)] = tensor[:, -1]  # B ...
        elif feature.role == "language":
            language = tensor[:, -1]  # B L
        else:
            obs[feature.name] = tensor
    return nn.Batch(obs=obs, goal=goal, task=task, language=language)
