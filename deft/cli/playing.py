"""Episodes in a simulator while a policy is trained; `train` takes them as an argument."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deft import train
    from deft.policies import Policy

FIRST_SEED = 200_000
"""Seeds of these episodes: neither those of demonstrations (below 100000) nor those that `deft
eval` measures with (from 100000), for whatever is looked at while training is chosen by."""


def player(
    val: "train.ValConfig", tracker: "train.Tracker | None" = None
) -> "Callable[[Policy, int], Mapping[str, float]] | None":
    """Plays `val.num_episodes` episodes of `val.env`; None when that is switched off.

    The first one is filmed for a tracker that is given and shows videos.
    """
    if not val.online_freq:
        return None
    from deft import bundle
    from deft import eval as evaluation
    from deft.cli.eval import EvalConfig, make_env

    config = EvalConfig(env=val.env, episodes=val.num_episodes)
    seeds = range(FIRST_SEED, FIRST_SEED + val.num_episodes)

    def play(policy: "Policy", step: int) -> Mapping[str, float]:
        actor = bundle.PolicyActor(policy)
        with tempfile.TemporaryDirectory() as folder:
            results = evaluation.rollouts(
                lambda: make_env(actor, config),
                actor,
                seeds,
                video_seeds=[] if tracker is None or not tracker.shows_videos else [FIRST_SEED],
                video_folder=Path(folder),
            )
            for film in Path(folder).glob("*.mp4"):
                assert tracker is not None
                tracker.video(step, "eval/video", film)
        found = evaluation.summarise(results)
        return {
            "success": found.success_rate,
            "max_reward": found.max_reward_mean,
            "sum_reward": found.sum_reward_mean,
            "steps": found.steps_mean,
        }

    return play
