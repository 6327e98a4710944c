"""Every policy by name, and how one is built."""

from collections.abc import Callable, Mapping
from typing import Any

from deft.errors import ConfigError, nearest
from deft.policies.bc import BC, BCConfig
from deft.policies.contract import normalizer_stats
from deft.policies.contrastive_rl import ContrastiveRL, ContrastiveRLConfig
from deft.policies.flow import Flow, FlowConfig
from deft.policies.gc_bc import GCBC, GCBCConfig
from deft.policies.gc_ddpm_bc import GCDDPMBC, GCDDPMBCConfig
from deft.policies.gc_iql import GCIQL, GCIQLConfig
from deft.policies.interface import Policy
from deft.policies.lc_bc import LCBC, LCBCConfig
from deft.spec import Spec, Stats

POLICIES: dict[str, type[Any]] = {
    "bc": BCConfig,
    "contrastive_rl": ContrastiveRLConfig,
    "flow": FlowConfig,
    "gc_bc": GCBCConfig,
    "gc_ddpm_bc": GCDDPMBCConfig,
    "gc_iql": GCIQLConfig,
    "lc_bc": LCBCConfig,
}
"""Family name to config class."""

_CLASSES: dict[type[Any], Callable[[Any, Spec, Mapping[str, Stats] | None], Policy]] = {
    BCConfig: BC,
    ContrastiveRLConfig: ContrastiveRL,
    FlowConfig: Flow,
    GCBCConfig: GCBC,
    GCDDPMBCConfig: GCDDPMBC,
    GCIQLConfig: GCIQL,
    LCBCConfig: LCBC,
}


def config_class(name: str) -> type[Any]:
    """The config class of a family. Raises `ConfigError` for an unknown name."""
    if name not in POLICIES:
        raise ConfigError(
            f"There is no policy '{name}'. {nearest(name, POLICIES)}\n"
            f"Fix: choose one of {', '.join(POLICIES)}."
        )
    return POLICIES[name]


def family(config: Any) -> str:
    """The name under which a config's class is in `POLICIES`."""
    for name, cls in POLICIES.items():
        if type(config) is cls:
            return name
    raise ConfigError(
        f"{type(config).__name__} is no policy's config.\n"
        f"Fix: build the config of one of {', '.join(POLICIES)}."
    )


def build(config: Any, spec: Spec, stats: Mapping[str, Stats] | None) -> Policy:
    """A policy with fresh weights from torch's global generator.

    Args:
        config: an instance of one of `POLICIES`' classes.
        spec: from `contract`.
        stats: by feature name, for the normaliser; None when a state dict is loaded next.

    Raises:
        ConfigError: `config` is no policy's, or does not fit the spec.
        SpecError: statistics of a feature are missing or of another size.
    """
    family(config)
    if stats is not None:
        stats = normalizer_stats(config.normalize, spec, stats)
    return _CLASSES[type(config)](config, spec, stats)
