"""Push-T: a round agent pushes a T-shaped block onto its goal, in the plane.

Source: Florence et al. 2021, arXiv:2109.00137; Chi et al. 2023, arXiv:2303.04137; package
`gym-pusht` 0.1.8, whose physics replays the human demonstrations of the latter exactly.
"""

import warnings
from typing import Any

import numpy as np

from deft.envs.simulation import Outcome, Traits
from deft.errors import need
from deft.spec import Feature

TASK = "push the T-shaped block onto the T-shaped goal"
STATE_NAMES = ("agent.x", "agent.y", "block.x", "block.y", "block.angle")
WINDOW = 512
"""Height and width of the world, in its pixels; the walls stand at 5 and 506."""
SUCCESS_COVERAGE = 0.95
_FPS = 10.0
_MAX_STEPS = 300


def new_world() -> Any:
    """A fresh `gym_pusht` environment. Raises `MissingPackageError` without the package."""
    with warnings.catch_warnings():
        # Deprecations inside pygame and gymnasium are not ours to fix.
        warnings.simplefilter("ignore", DeprecationWarning)
        return need("gym_pusht.envs.pusht", "sim").PushTEnv()


class PushT:
    """Push-T as a `Simulator`, with the features of the published demonstrations.

    - `state`: agent x, y, block x, y in window pixels (0 to 512, y down), block angle in radians,
      0 to 2 pi.
    - `image`: the window, without the mark of the last action, as in the demonstrations.
    - `action`: where the agent shall go, window pixels, 0 to 512; a PD controller at 100 Hz pulls
      it there.

    Reward is the covered share of the goal divided by 0.95, at most 1; success is coverage above
    0.95. The scene of a seed is gym-pusht's own; seeds of older papers give other scenes.

    Raises:
        MissingPackageError: gym-pusht is not installed.
    """

    def __init__(self) -> None:
        self._env = new_world()
        self._traits = Traits(
            name="pusht",
            task=TASK,
            fps=_FPS,
            max_steps=_MAX_STEPS,
            numbers=(
                Feature(name="state", role="state", shape=(5,), dtype="float32", names=STATE_NAMES),
            ),
            action=Feature(
                name="action",
                role="action",
                shape=(2,),
                dtype="float32",
                unit="px",
                names=("x", "y"),
            ),
            action_low=np.zeros(2, np.float32),
            action_high=np.full(2, WINDOW, np.float32),
        )

    @property
    def traits(self) -> Traits:
        return self._traits

    @property
    def agent(self) -> np.ndarray:
        """Position of the agent now, float64 `2`."""
        return np.array(self._env.agent.position)

    @property
    def block(self) -> np.ndarray:
        """Pose of the block now: x, y, angle (not wrapped); float64 `3`."""
        return np.array([*self._env.block.position, self._env.block.angle])

    def reset(self, seed: int) -> None:
        """Set the scene of a seed."""
        self._env.reset(seed=seed)
        self._env._last_action = None  # else `poster` marks an action of the last episode

    def place(self, state: np.ndarray) -> None:
        """Put everything at rest as in one `state` vector `5`, to replay a recorded episode."""
        agent_x, agent_y, block_x, block_y, angle = (float(value) for value in state)
        env = self._env
        env._setup()
        env._last_action = None
        env.agent.position = (agent_x, agent_y)
        # The block turns about its centre of mass: only with the angle set first does the position
        # stay as it is given.
        env.block.angle = angle
        env.block.position = (block_x, block_y)
        for body in (env.agent, env.block):
            env.space.reindex_shapes_for_body(body)

    def step(self, action: np.ndarray) -> Outcome:
        """Run one tick."""
        _, reward, _, _, info = self._env.step(action.astype(np.float64))
        # The area of an intersection of polygons varies in its last bits from process to process.
        return Outcome(
            reward=round(float(reward), 9), success=bool(info["coverage"] > SUCCESS_COVERAGE)
        )

    def read(self, name: str) -> np.ndarray:
        """`state` as it is now."""
        return self._env.get_obs().astype(np.float32)

    def picture(self, height: int, width: int) -> np.ndarray:
        """The window."""
        return self._env._get_img(self._env._draw(), width=width, height=height)

    def poster(self, height: int, width: int) -> np.ndarray:
        """The window with a red cross where the last action pulls the agent."""
        window = self._env._draw()
        return self._env._get_img(window, width=width, height=height, render_action=True)

    def close(self) -> None:
        """Free the simulator."""
        self._env.close()
