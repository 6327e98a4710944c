"""Policies of BridgeData V2's JAX code: from its checkpoints to ours, weight by weight.

What a checkpoint holds says which algorithm it is and how large; what it does not hold (size of
pictures, statistics of the actions) is given. Nothing is guessed from the order of weights: every
one has a name on both sides, and one that is left over or missing is an error.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from deft import nn, policies, spec
from deft.errors import FormatError

_ENCODER = "modules_actor/encoder/encoder"
_MAP_CHANNELS = {18: 512, 34: 512, 50: 2048}

BRIDGE_ACTION = spec.Stats(
    mean=np.array(
        (
            *(1.9296819e-4, 1.3667766e-4, -1.4583133e-4),
            *(-1.8390431e-4, -3.0808983e-4, 2.742527e-4, 0.59716219),
        )
    ),
    std=np.array(
        (0.00912848, 0.0127196, 0.01229497, 0.02606696, 0.02875283, 0.07807977, 0.48710242)
    ),
    # Extremes were not published; five deviations, so that nothing that was learned is cut.
    min=np.array([-0.0454, -0.0635, -0.0616, -0.1305, -0.1441, -0.3901, 0.0]),
    max=np.array([0.0458, 0.0637, 0.0613, 0.1302, 0.1435, 0.3907, 1.0]),
    q01=np.array([-0.0212, -0.0295, -0.0287, -0.0608, -0.0673, -0.1814, 0.0]),
    q99=np.array([0.0216, 0.0297, 0.0285, 0.0605, 0.0667, 0.1819, 1.0]),
    count=1,
)
"""Mean and deviation of relabelled actions over all of BridgeData V2, as its configs have them."""

ACTION_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a checkpoint does not hold."""

    height: int = 256
    """Of pictures, pixels."""
    width: int = 256
    """Of pictures, pixels."""
    fps: float = 5.0
    """Ticks per second of the robot."""
    camera: str = "image_0"
    """Name of the picture in the contract."""
    obs_horizon: int = 1
    """Observed ticks."""
    pool: nn.Pool = "average"
    """Where weights do not tell: `average`, `max`, or `spatial_softmax`."""
    activation: nn.Activation = "swish"
    """Of the image network."""
    action: spec.Stats = BRIDGE_ACTION
    """Statistics that actions were normalised with; mean and deviation are used."""


def stats_from(path: Path) -> spec.Stats:
    """Mean and deviation of actions from a JSON file, as `{"mean": […], "std": […]}`; extremes
    where it has `min` and `max`, else five deviations.

    Raises `FormatError` for anything else.
    """
    try:
        values = json.loads(path.read_bytes())
        mean, std = (np.asarray(values[key], np.float64) for key in ("mean", "std"))
        low = np.asarray(values.get("min", mean - 5 * std), np.float64)
        high = np.asarray(values.get("max", mean + 5 * std), np.float64)
        if any(each.shape != (len(ACTION_NAMES),) for each in (mean, std, low, high)):
            raise ValueError(f"wanted {len(ACTION_NAMES)} numbers each")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(
            f"{path}: holds no statistics of actions.\nFound: {error}.\n"
            f'Fix: write {{"mean": [...], "std": [...]}} with {len(ACTION_NAMES)} numbers each.'
        ) from error
    return spec.Stats(mean=mean, std=std, min=low, max=high, q01=low, q99=high, count=1)


def policy_from(leaves: Mapping[str, Any], given: Given, where: str) -> policies.Policy:
    """The policy that a checkpoint holds, ready to answer.

    Args:
        leaves: the whole checkpoint by path, from `formats.flatten`.
        given: what it does not hold.
        where: the checkpoint's path, for messages.

    Raises:
        FormatError: it is no agent of BridgeData V2's code that Deft knows, or weights are left
            over, missing or of another shape; all of them are named.
    """
    params = _subtree(leaves, "params", where)
    agent = _read_agent(params, given, where)
    config = agent.config
    contract = policies.contract(config, _data_spec(agent, given))
    policy = policies.build(config, contract, _stats(given))
    state = policy.state_dict()
    # Diffusion samples with the averaged weights, everything else with the trained ones.
    averaged = agent.family == "gc_ddpm_bc"
    weights = _Weights(_subtree(leaves, "target_params", where) if averaged else params, state)
    _actor(weights, agent)
    problems = [*weights.problems, *weights.left()]
    found = dict(weights.found)
    if agent.family in ("gc_iql", "contrastive_rl"):
        targets = _Weights(_subtree(leaves, "target_params", where), state)
        if agent.family == "gc_iql":
            _iql_targets(targets, agent)
        else:
            _contrastive_critic(targets, "target", config)
        problems += targets.problems
        found |= targets.found
    learned = {name for name, _ in policy.named_parameters()}
    problems += [f"nothing for our '{name}'" for name in sorted(learned - found.keys())]
    if problems:
        raise FormatError(
            f"{where}: {len(problems)} weights do not fit a '{agent.family}' policy.\n"
            f"Found: {'; '.join(problems)}.\n"
            "Fix: say what the checkpoint was trained with (--pool, --obs-horizon, --image-size); "
            "other networks than the published ones are not read."
        )
    policy.load_state_dict({**state, **found})
    return policy.eval()


@dataclass(frozen=True)
class _Agent:
    """What the shapes of a checkpoint's weights say."""

    family: str
    config: Any
    pictures: int
    """Features of all pictures."""
    state: int
    """Numbers of the state."""

    def rows(self, before: int = 0, behind: int = 0) -> np.ndarray | None:
        """Inputs of theirs in the order of ours: the state stands behind the pictures' features
        in theirs and before them in ours; None without state, where nothing moves."""
        if not self.state:
            return None
        pictures = np.arange(self.pictures) + before
        state = np.arange(self.state) + before + self.pictures
        rest = np.arange(behind) + before + self.pictures + self.state
        return np.concatenate((np.arange(before), state, pictures, rest))


class _Weights:
    """Takes leaves one by one, in our layout, and notes what does not fit."""

    def __init__(self, leaves: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
        self._leaves = leaves
        self._state = state
        self._used: set[str] = set()
        self.found: dict[str, torch.Tensor] = {}
        self.problems: list[str] = []

    def has(self, path: str) -> bool:
        return any(name == path or name.startswith(path + "/") for name in self._leaves)

    def left(self) -> list[str]:
        """Leaves that nobody took."""
        return [f"'{name}' is left over" for name in self._leaves if name not in self._used]

    def dense(self, ours: str, theirs: str, rows: np.ndarray | None = None) -> None:
        """A linear layer; `rows` are the inputs of theirs in the order of ours."""
        self.take(
            f"{ours}.weight", f"{theirs}/kernel", lambda x: (x if rows is None else x[rows]).T
        )
        self.take(f"{ours}.bias", f"{theirs}/bias")

    def conv(self, ours: str, theirs: str) -> None:
        self.take(f"{ours}.weight", f"{theirs}/kernel", lambda x: x.transpose(3, 2, 0, 1))

    def norm(self, ours: str, theirs: str) -> None:
        self.take(f"{ours}.weight", f"{theirs}/scale")
        self.take(f"{ours}.bias", f"{theirs}/bias")

    def take(self, ours: str, theirs: str, turn: Any = lambda x: x) -> None:
        value = self._leaves.get(theirs)
        if not isinstance(value, np.ndarray):
            self.problems.append(f"'{theirs}' is missing")
            return
        self._used.add(theirs)
        wanted = tuple(self._state[ours].shape) if ours in self._state else None
        try:
            turned = np.array(turn(value), np.float32, order="C")
        except (IndexError, ValueError):
            turned = value
        if turned.shape != wanted:
            self.problems.append(f"'{theirs}' is {value.shape}, our '{ours}' {wanted}")
            return
        self.found[ours] = torch.from_numpy(turned)


def _actor(weights: _Weights, agent: _Agent) -> None:
    """Everything but the target copies."""
    config, encoder = agent.config, agent.config.encoder
    _image_encoder(weights, "encoder.images.0", _ENCODER, encoder)
    if weights.has("modules_actor/encoder/goal_encoder"):
        _image_encoder(
            weights, "encoder.goal_images.0", "modules_actor/encoder/goal_encoder", encoder
        )
    if isinstance(config, policies.GCDDPMBCConfig):
        _noise_net(weights, agent)
        return
    _trunk(weights, "head.trunk", "modules_actor/network", config.head.hidden, agent.rows())
    weights.dense("head.gaussian.mean", "modules_actor/Dense_0")
    if isinstance(config, policies.GCIQLConfig):
        for part in ("value", "critic"):
            _judge(weights, part, part, agent)
    if isinstance(config, policies.ContrastiveRLConfig):
        _contrastive_critic(weights, "critic", config)


def _iql_targets(weights: _Weights, agent: _Agent) -> None:
    encoder = agent.config.encoder
    _image_encoder(weights, "target_encoder.images.0", _ENCODER, encoder)
    if weights.has("modules_actor/encoder/goal_encoder"):
        theirs = "modules_actor/encoder/goal_encoder"
        _image_encoder(weights, "target_encoder.goal_images.0", theirs, encoder)
    _judge(weights, "target_value", "value", agent)


def _image_encoder(weights: _Weights, ours: str, theirs: str, config: nn.ObsEncoderConfig) -> None:
    depth = int(config.image.split("-")[1])
    body = f"{ours}.body"
    weights.conv(f"{body}.stem", f"{theirs}/conv_init")
    weights.norm(f"{body}.stem_norm", f"{theirs}/norm_init")
    kind = "BottleneckResNetBlock" if depth == 50 else "ResNetBlock"
    for i in range(sum(nn.STAGES[depth])):
        for k in range(3 if depth == 50 else 2):
            weights.conv(f"{body}.blocks.{i}.conv{k + 1}", f"{theirs}/{kind}_{i}/Conv_{k}")
            weights.norm(f"{body}.blocks.{i}.norm{k + 1}", f"{theirs}/{kind}_{i}/MyGroupNorm_{k}")
        if weights.has(f"{theirs}/{kind}_{i}/conv_proj"):
            weights.conv(f"{body}.blocks.{i}.shortcut.0", f"{theirs}/{kind}_{i}/conv_proj")
            weights.norm(f"{body}.blocks.{i}.shortcut.1", f"{theirs}/{kind}_{i}/norm_proj")
        if config.image.endswith("-film"):
            film = f"{theirs}/FilmConditioning_{i}"
            weights.dense(f"{body}.films.{i}.scale", f"{film}/Dense_0")
            weights.dense(f"{body}.films.{i}.shift", f"{film}/Dense_1")
    if config.pool == "spatial_embeddings":
        weights.take(
            f"{ours}.pool.kernel",
            f"{theirs}/SpatialLearnedEmbeddings_0/kernel",
            lambda x: x.transpose(2, 3, 0, 1),
        )
    if config.learn_temperature:
        path = f"{theirs}/SpatialSoftmax_0/softmax_temperature"
        weights.take(f"{ours}.pool.temperature", path, lambda x: x.reshape(()))


def _trunk(
    weights: _Weights,
    ours: str,
    theirs: str,
    hidden: tuple[int, ...],
    rows: np.ndarray | None = None,
    layer_norm: bool = False,
) -> None:
    for i in range(len(hidden)):
        weights.dense(f"{ours}.layers.{i}", f"{theirs}/Dense_{i}", rows if i == 0 else None)
        if layer_norm:
            weights.norm(f"{ours}.norms.{i}", f"{theirs}/LayerNorm_{i}")


def _judge(weights: _Weights, ours: str, theirs: str, agent: _Agent) -> None:
    """The value, or the critic, which has the action behind the features."""
    module, more = f"modules_{theirs}", len(ACTION_NAMES) if theirs == "critic" else 0
    hidden = agent.config.head.hidden
    _trunk(weights, f"{ours}.trunk", f"{module}/network", hidden, agent.rows(behind=more))
    weights.dense(f"{ours}.last", f"{module}/Dense_0")


def _contrastive_critic(weights: _Weights, ours: str, config: policies.ContrastiveRLConfig) -> None:
    theirs = "modules_critic"
    encoder = f"{ours}.encoder.images.0"
    _image_encoder(weights, encoder, f"{theirs}/encoder/encoder", config.encoder)
    for i in range(config.towers):
        mark = "" if i == 0 else str(i + 1)
        for k, (part, net) in enumerate((("acts", "sa_net"), ("aims", "g_net"))):
            tower = f"{ours}.{part}.{i}"
            hidden = config.head.hidden
            _trunk(weights, f"{tower}.0", f"{theirs}/{net}{mark}", hidden, layer_norm=True)
            weights.dense(f"{tower}.1", f"{theirs}/Dense_{2 * i + k}")


def _noise_net(weights: _Weights, agent: _Agent) -> None:
    config, theirs = agent.config, "modules_actor"
    reverse = f"{theirs}/reverse_network"
    weights.take("network.fourier.kernel", f"{theirs}/time_preprocess/kernel", lambda x: x[:, 0])
    weights.dense("network.time.layers.0", f"{theirs}/cond_encoder/Dense_0")
    weights.dense("network.time_out", f"{theirs}/cond_encoder/Dense_1")
    chunk = config.pred_horizon * len(ACTION_NAMES)
    rows = agent.rows(before=config.time_size, behind=chunk)
    weights.dense("network.first", f"{reverse}/Dense_0", rows)
    for i in range(config.blocks):
        block = f"{reverse}/MLPResNetBlock_{i}"
        weights.norm(f"network.norms.{i}", f"{block}/LayerNorm_0")
        weights.dense(f"network.wide.{i}", f"{block}/Dense_0")
        weights.dense(f"network.narrow.{i}", f"{block}/Dense_1")
    weights.dense("network.last", f"{reverse}/Dense_1")


def _read_agent(params: Mapping[str, Any], given: Given, where: str) -> _Agent:
    """Which policy it is, and how large."""

    def shape(path: str) -> tuple[int, ...]:
        value = params.get(path)
        if not isinstance(value, np.ndarray):
            names = ", ".join(sorted({name.split("/")[0] for name in params}))
            raise FormatError(
                f"{where}: is no agent of BridgeData V2 that Deft knows; '{path}' is missing.\n"
                f"Found: {names}.\n"
                "Fix: give a checkpoint of gc_bc, lc_bc, gc_ddpm_bc, gc_iql or contrastive_rl."
            )
        return value.shape

    diffuses = "modules_actor/time_preprocess/kernel" in params
    films = any(name.startswith(f"{_ENCODER}/FilmConditioning_0/") for name in params)
    family = (
        "gc_ddpm_bc"
        if diffuses
        else "contrastive_rl"
        if any(name.startswith("modules_critic/sa_net/") for name in params)
        else "gc_iql"
        if any(name.startswith("modules_value/") for name in params)
        else "lc_bc"
        if films
        else "gc_bc"
    )
    encoder = _read_encoder(params, shape(f"{_ENCODER}/conv_init/kernel")[2], films, given)
    size = _MAP_CHANNELS[int(encoder.image.split("-")[1])]
    if encoder.pool == "spatial_softmax":
        size *= 2
    if encoder.pool == "spatial_embeddings":
        size *= shape(f"{_ENCODER}/SpatialLearnedEmbeddings_0/kernel")[3]
    late = family not in ("lc_bc", "contrastive_rl") and encoder.goal_fusion == "late_concat"
    pictures = size * (given.obs_horizon + late)
    horizons: dict[str, Any] = {"obs_horizon": given.obs_horizon, "encoder": encoder}
    if diffuses:
        time = 2 * shape("modules_actor/time_preprocess/kernel")[0]
        first = shape("modules_actor/reverse_network/Dense_0/kernel")
        chunk = shape("modules_actor/reverse_network/Dense_1/kernel")[1]
        config: Any = policies.GCDDPMBCConfig(
            **horizons,
            pred_horizon=max(chunk // len(ACTION_NAMES), 1),
            width=first[1],
            blocks=_count(params, "modules_actor/reverse_network/MLPResNetBlock_"),
            time_size=time,
            clip=2.0,
        )
        return _Agent(family, config, pictures, first[0] - time - chunk - pictures)
    layers = _count(params, "modules_actor/network/Dense_")
    hidden = tuple(shape(f"modules_actor/network/Dense_{i}/kernel")[1] for i in range(layers))
    horizons["head"] = nn.ActionHeadConfig(hidden=hidden)
    if family == "lc_bc":
        horizons["language_size"] = shape(f"{_ENCODER}/FilmConditioning_0/Dense_0/kernel")[0]
    if family == "contrastive_rl":
        horizons["latent"] = shape("modules_critic/Dense_0/kernel")[1]
        horizons["towers"] = _count(params, "modules_critic/Dense_") // 2
    config = policies.config_class(family)(**horizons)
    inputs = shape("modules_actor/network/Dense_0/kernel")[0]
    return _Agent(family, config, pictures, inputs - pictures)


def _read_encoder(
    params: Mapping[str, Any], channels: int, films: bool, given: Given
) -> nn.ObsEncoderConfig:
    bottlenecks = _count(params, f"{_ENCODER}/BottleneckResNetBlock_")
    depth = 50 if bottlenecks else 18 if _count(params, f"{_ENCODER}/ResNetBlock_") == 8 else 34
    embeds = f"{_ENCODER}/SpatialLearnedEmbeddings_0/kernel"
    sharp = f"{_ENCODER}/SpatialSoftmax_0/softmax_temperature" in params
    pool = "spatial_embeddings" if embeds in params else "spatial_softmax" if sharp else given.pool
    return nn.ObsEncoderConfig(
        image=cast(nn.ImageNet, f"resnetv1-{depth}-bridge{'-film' if films else ''}"),
        coordinates=channels in (5, 8),
        activation=given.activation,
        pool=pool,
        keypoints=0,
        learn_temperature=sharp,
        spatial_blocks=params[embeds].shape[3] if embeds in params else 8,
        image_features=0,
        goal_fusion="early_concat" if channels in (6, 8) else "late_concat",
        shared_goal_encoder=not any(
            name.startswith("modules_actor/encoder/goal_encoder/") for name in params
        ),
    )


def _count(params: Mapping[str, Any], prefix: str) -> int:
    """How many numbers follow a prefix, as in `Dense_0`, `Dense_1`."""
    return len({name[len(prefix) :].split("/")[0] for name in params if name.startswith(prefix)})


def _subtree(leaves: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """The leaves below `params` or `target_params`, wherever the agent lies in the checkpoint."""
    marks = [path for path in leaves if f"/{name}/modules_" in f"/{path}"]
    roots = {path[: f"/{path}".index(f"/{name}/modules_") + len(name) + 1] for path in marks}
    if len(roots) != 1:
        top = ", ".join(sorted({path.split("/")[0] for path in leaves})[:8])
        raise FormatError(
            f"{where}: wanted one tree `{name}` with modules in it, found {len(roots)}.\n"
            f"Found: {top}.\nFix: give a checkpoint of BridgeData V2's training code."
        )
    (root,) = roots
    return {path[len(root) :]: leaf for path, leaf in leaves.items() if path.startswith(root)}


def _data_spec(agent: _Agent, given: Given) -> spec.Spec:
    size = (given.height, given.width, 3)
    features = [spec.Feature(name=given.camera, role="image", shape=size, dtype="uint8")]
    if agent.state > 0:
        state = spec.Feature(name="state", role="state", shape=(agent.state,), dtype="float32")
        features.append(state)
    if agent.family == "lc_bc":
        # The vectors are those of MUSE, which no checkpoint holds: whoever asks brings them.
        size = (agent.config.language_size,)
        features.append(
            spec.Feature(name="language_embedding", role="language", shape=size, dtype="float32")
        )
    action = spec.Feature(
        name="action",
        role="action",
        shape=(len(ACTION_NAMES),),
        dtype="float32",
        names=ACTION_NAMES,
    )
    return spec.Spec(features=(*features, action), fps=given.fps)


def _stats(given: Given) -> dict[str, spec.Stats]:
    """The JAX code normalises the state like the action, in so far as it does."""
    return {"action": given.action, "state": given.action}
