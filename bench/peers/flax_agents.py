"""Makes checkpoints with real Flax, shaped and named as BridgeData V2's training code saves them.

Run by the peer test in the environment of `flax.sh`: `python flax_agents.py FOLDER`. For every
agent it leaves the checkpoint and inputs with the answers that Flax gives; one is there in Orbax's
layouts too. Weights are random, all of them: those that start at
zero too.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization
from flax.training import checkpoints
from orbax.checkpoint import msgpack_utils

PIXELS, ACTIONS, WORDS = 64, 7, 512


class MyGroupNorm(nn.GroupNorm):
    """Its name is part of the weights' names."""


class ResNetBlock(nn.Module):
    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        strides = (self.stride, self.stride)
        y = nn.Conv(self.channels, (3, 3), strides, use_bias=False)(x)
        y = nn.swish(MyGroupNorm(num_groups=4, epsilon=1e-5)(y))
        y = nn.Conv(self.channels, (3, 3), use_bias=False)(y)
        y = MyGroupNorm(num_groups=4, epsilon=1e-5)(y)
        return nn.swish(y + _shortcut(x, y, strides))


class BottleneckResNetBlock(nn.Module):
    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        strides = (self.stride, self.stride)
        y = nn.Conv(self.channels, (1, 1), use_bias=False)(x)
        y = nn.swish(MyGroupNorm(num_groups=4, epsilon=1e-5)(y))
        y = nn.Conv(self.channels, (3, 3), strides, use_bias=False)(y)
        y = nn.swish(MyGroupNorm(num_groups=4, epsilon=1e-5)(y))
        y = nn.Conv(4 * self.channels, (1, 1), use_bias=False)(y)
        y = MyGroupNorm(num_groups=4, epsilon=1e-5)(y)
        return nn.swish(y + _shortcut(x, y, strides))


def _shortcut(x: jax.Array, y: jax.Array, strides: tuple[int, int]) -> jax.Array:
    if x.shape == y.shape:
        return x
    x = nn.Conv(y.shape[-1], (1, 1), strides, use_bias=False, name="conv_proj")(x)
    return MyGroupNorm(num_groups=4, epsilon=1e-5, name="norm_proj")(x)


class FilmConditioning(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, words: jax.Array) -> jax.Array:
        scale = nn.Dense(x.shape[-1])(words)
        shift = nn.Dense(x.shape[-1])(words)
        return x * (1 + scale[:, None, None]) + shift[:, None, None]


class SpatialLearnedEmbeddings(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*x.shape[1:], 8)
        kernel = self.param("kernel", nn.initializers.normal(0.1), shape)
        return jnp.einsum("bhwc,hwck->bck", x, kernel).reshape(len(x), -1)


class SpatialSoftmax(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        heat = self.param("softmax_temperature", nn.initializers.ones, (1,))
        rows, height, width, channels = x.shape
        cells = x.transpose(0, 3, 1, 2).reshape(rows, channels, height * width)
        share = nn.softmax(cells / heat).reshape(rows, channels, height, width)
        across = (share.sum(2) * jnp.linspace(-1, 1, width)).sum(-1)
        down = (share.sum(3) * jnp.linspace(-1, 1, height)).sum(-1)
        return jnp.concatenate([across, down], -1)


class Encoder(nn.Module):
    depth: int = 18
    coordinates: bool = True
    pool: str = "avg"
    film: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, words: jax.Array | None = None) -> jax.Array:
        x = x.astype(jnp.float32) / 127.5 - 1
        if self.coordinates:
            line = jnp.linspace(-1, 1, x.shape[1])
            grid = jnp.stack(jnp.meshgrid(line, line, indexing="ij"), -1)
            x = jnp.concatenate([x, jnp.broadcast_to(grid, (len(x), *grid.shape))], -1)
        pads = [(3, 3), (3, 3)]
        x = nn.Conv(64, (7, 7), (2, 2), padding=pads, use_bias=False, name="conv_init")(x)
        x = nn.swish(MyGroupNorm(num_groups=4, epsilon=1e-5, name="norm_init")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        block = BottleneckResNetBlock if self.depth == 50 else ResNetBlock
        for stage, count in enumerate((2, 2, 2, 2) if self.depth == 18 else (3, 4, 6, 3)):
            for i in range(count):
                x = block(64 * 2**stage, 2 if stage and not i else 1)(x)
                if self.film:
                    x = FilmConditioning()(x, words)
        if self.pool == "embeddings":
            return SpatialLearnedEmbeddings()(x)
        if self.pool == "softmax":
            return SpatialSoftmax()(x)
        return x.mean((1, 2))


class Wrapper(nn.Module):
    """Puts observation and goal together, and the arm's numbers behind."""

    encoder: nn.Module
    goal_encoder: nn.Module | None = None
    late: bool = False

    def __call__(self, pair: tuple[dict[str, Any], dict[str, Any]]) -> jax.Array:
        seen, aim = pair
        if "language" in aim:
            return self.encoder(seen["image"], aim["language"])
        if self.late:
            parts = [self.encoder(seen["image"])]
            parts.append((self.goal_encoder or self.encoder)(aim["image"]))
            out = jnp.concatenate(parts, -1)
        else:
            out = self.encoder(jnp.concatenate([seen["image"], aim["image"]], -1))
        return jnp.concatenate([out, seen["proprio"]], -1) if "proprio" in seen else out


class MLP(nn.Module):
    sizes: Sequence[int]
    norm: bool = False
    last: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, size in enumerate(self.sizes):
            x = nn.Dense(size)(x)
            if i + 1 < len(self.sizes) or self.last:
                x = nn.swish(nn.LayerNorm()(x) if self.norm else x)
        return x


class Head(nn.Module):
    """A policy's mean, a value, or with actions a critic."""

    encoder: nn.Module
    network: nn.Module
    size: int

    @nn.compact
    def __call__(self, pair: Any, actions: jax.Array | None = None) -> jax.Array:
        x = self.encoder(pair)
        x = x if actions is None else jnp.concatenate([x, actions], -1)
        return nn.Dense(self.size)(self.network(x))


class ContrastiveCritic(nn.Module):
    encoder: nn.Module
    sa_net: nn.Module
    g_net: nn.Module
    sa_net2: nn.Module
    g_net2: nn.Module

    @nn.compact
    def __call__(self, pair: Any, actions: jax.Array) -> jax.Array:
        seen, aim = jnp.split(self.encoder(pair), 2, -1)
        towers = []
        for act, goal in ((self.sa_net, self.g_net), (self.sa_net2, self.g_net2)):
            done = nn.Dense(16)(act(jnp.concatenate([seen, actions], -1)))
            towers.append(done @ nn.Dense(16)(goal(aim)).T)
        return jnp.stack(towers)


class FourierFeatures(nn.Module):
    @nn.compact
    def __call__(self, step: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.normal(0.2), (16, 1))
        phase = 2 * jnp.pi * step @ kernel.T
        return jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], -1)


class MLPResNetBlock(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.swish(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1])(y)


class MLPResNet(nn.Module):
    out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(256)(x)
        for _ in range(3):
            x = MLPResNetBlock()(x)
        return nn.Dense(self.out)(nn.swish(x))


class ScoreActor(nn.Module):
    encoder: nn.Module
    time_preprocess: nn.Module
    cond_encoder: nn.Module
    reverse_network: nn.Module

    def __call__(self, pair: Any, chunk: jax.Array, step: jax.Array) -> jax.Array:
        time = self.cond_encoder(self.time_preprocess(step))
        x = jnp.concatenate([time, self.encoder(pair), chunk.reshape(len(chunk), -1)], -1)
        return self.reverse_network(x).reshape(chunk.shape)


class ModuleDict(nn.Module):
    modules: dict[str, nn.Module]

    @nn.compact
    def __call__(self, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        if name is None:
            return {key: self.modules[key](*value) for key, value in kwargs.items()}
        return self.modules[name](*args)


class TrainState(flax.struct.PyTreeNode):
    step: int
    params: Any
    target_params: Any
    opt_states: Any
    rng: Any


class Agent(flax.struct.PyTreeNode):
    state: TrainState


def shaken(tree: Any, key: jax.Array) -> Any:
    """Every weight moved a little, so that none stays at its special beginning."""
    leaves, kind = jax.tree_util.tree_flatten(tree)
    keys = jax.random.split(key, len(leaves))
    moved = [x + 0.03 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree_util.tree_unflatten(kind, moved)


def inputs(history: int = 0, proprio: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    held = {
        "image": rng.integers(0, 256, (3, PIXELS, PIXELS, 3), dtype=np.uint8),
        "goal": rng.integers(0, 256, (3, PIXELS, PIXELS, 3), dtype=np.uint8),
        "language": rng.normal(size=(3, WORDS)).astype(np.float32),
        "action": rng.normal(size=(3, ACTIONS)).astype(np.float32),
    }
    if proprio:
        held["proprio"] = rng.normal(size=(3, ACTIONS)).astype(np.float32)
    return held


def make(folder: Path, name: str, build: Callable[[], tuple[dict, dict]], **given: Any) -> None:
    """One agent: its checkpoint, its inputs and its answers.

    Args:
        build: gives the networks by name, and a function from inputs to each one's arguments.
    """
    networks, arguments = build()
    model, held = ModuleDict(networks), inputs(**given)
    args = {key: list(find(held)) for key, find in arguments.items()}
    params = model.init(jax.random.PRNGKey(0), **args)["params"]
    params = shaken(params, jax.random.PRNGKey(1))
    target = shaken(params, jax.random.PRNGKey(2))
    agent = Agent(TrainState(7, params, target, {"mu": params}, jax.random.PRNGKey(3)))
    place = folder / name
    place.mkdir(parents=True)
    checkpoints.save_checkpoint(str(place.resolve()), agent, 7, overwrite=True)
    if name == "gc_iql":
        _save_as_orbax(place, serialization.to_state_dict(agent))
    answers = {}
    for which, tree in (("params", params), ("target_params", target)):
        for key, value in args.items():
            out = model.apply({"params": tree}, *value, name=key)
            answers[f"{which}/{key}"] = np.asarray(out)
    np.savez(place / "answers.npz", **held, **answers)
    print(name, sum(x.size for x in jax.tree_util.tree_leaves(params)), flush=True)


def _save_as_orbax(place: Path, tree: Any) -> None:
    """Orbax's aggregate, by its own serialiser, and its sharded layout of today."""
    (place / "aggregate_7").mkdir()
    data = msgpack_utils.msgpack_serialize(jax.tree_util.tree_map(np.asarray, tree))
    (place / "aggregate_7" / "checkpoint").write_bytes(data)
    with ocp.PyTreeCheckpointer() as saver:
        saver.save(place.resolve() / "sharded_7", tree)


def pair(held: dict[str, np.ndarray]) -> tuple[dict, dict]:
    seen = {"image": held["image"]}
    if "proprio" in held:
        seen["proprio"] = held["proprio"]
    return seen, {"image": held["goal"]}


def cloning(wrapper: Callable[[], nn.Module]) -> Callable[[], tuple[dict, dict]]:
    def build() -> tuple[dict, dict]:
        head = Head(wrapper(), MLP((256, 256, 256)), ACTIONS)
        return {"actor": head}, {"actor": lambda held: (pair(held),)}

    return build


def language() -> tuple[dict, dict]:
    def spoken(held: dict[str, np.ndarray]) -> tuple[Any]:
        return (({"image": held["image"]}, {"language": held["language"]}),)

    head = Head(Wrapper(Encoder(film=True)), MLP((256, 256, 256)), ACTIONS)
    return {"actor": head}, {"actor": spoken}


def diffusion() -> tuple[dict, dict]:
    def noisy(held: dict[str, np.ndarray]) -> tuple[Any, ...]:
        return pair(held), held["action"][:, None], np.array([[3.0], [11.0], [19.0]], np.float32)

    actor = ScoreActor(
        Wrapper(Encoder()), FourierFeatures(), MLP((64, 32), last=False), MLPResNet(ACTIONS)
    )
    return {"actor": actor}, {"actor": noisy}


def iql() -> tuple[dict, dict]:
    wrapper = Wrapper(Encoder())
    networks = {
        "actor": Head(wrapper, MLP((256, 256, 256)), ACTIONS),
        "value": Head(wrapper, MLP((256, 256, 256)), 1),
        "critic": Head(wrapper, MLP((256, 256, 256)), 1),
    }
    alone = lambda held: (pair(held),)  # noqa: E731
    return networks, {
        "actor": alone,
        "value": alone,
        "critic": lambda held: (pair(held), held["action"]),
    }


def contrastive() -> tuple[dict, dict]:
    def net() -> MLP:
        return MLP((256, 256, 256), norm=True)

    critic = ContrastiveCritic(
        Wrapper(Encoder(coordinates=False), late=True), net(), net(), net(), net()
    )
    actor = Head(Wrapper(Encoder(coordinates=False)), MLP((256, 256, 256)), ACTIONS)
    return {"actor": actor, "critic": critic}, {
        "actor": lambda held: (pair(held),),
        "critic": lambda held: (pair(held), held["action"]),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    # As one msgpack file, which newer Flax does only when told so.
    flax.config.update("flax_use_orbax_checkpointing", False)
    make(folder, "gc_bc", cloning(lambda: Wrapper(Encoder(34))))
    make(folder, "gc_bc_50", cloning(lambda: Wrapper(Encoder(50))))
    make(folder, "gc_bc_proprio", cloning(lambda: Wrapper(Encoder())), proprio=True)
    late = Encoder(pool="embeddings")
    make(folder, "gc_bc_late", cloning(lambda: Wrapper(late, Encoder(pool="embeddings"), True)))
    make(folder, "gc_bc_softmax", cloning(lambda: Wrapper(Encoder(pool="softmax"))))
    make(folder, "lc_bc", language)
    make(folder, "gc_ddpm_bc", diffusion)
    make(folder, "gc_ddpm_bc_proprio", diffusion, proprio=True)
    make(folder, "gc_iql", iql)
    make(folder, "contrastive_rl", contrastive)


if __name__ == "__main__":
    main()
