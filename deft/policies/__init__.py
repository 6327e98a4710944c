"""Policies: one file per algorithm, one interface for all."""

from deft.policies.bc import BC, BCConfig
from deft.policies.contract import check_rows, contract, saliency_features, takes
from deft.policies.contrastive_rl import ContrastiveRL, ContrastiveRLConfig
from deft.policies.flow import Flow, FlowConfig
from deft.policies.gc_bc import GCBC, GCBCConfig
from deft.policies.gc_ddpm_bc import GCDDPMBC, GCDDPMBCConfig
from deft.policies.gc_iql import GCIQL, GCIQLConfig
from deft.policies.interface import Policy, Prefix
from deft.policies.lc_bc import LCBC, LCBCConfig
from deft.policies.table import POLICIES, build, config_class, family

__all__ = [
    "BC",
    "GCBC",
    "GCDDPMBC",
    "GCIQL",
    "LCBC",
    "POLICIES",
    "BCConfig",
    "ContrastiveRL",
    "ContrastiveRLConfig",
    "Flow",
    "FlowConfig",
    "GCBCConfig",
    "GCDDPMBCConfig",
    "GCIQLConfig",
    "LCBCConfig",
    "Policy",
    "Prefix",
    "build",
    "check_rows",
    "config_class",
    "contract",
    "family",
    "saliency_features",
    "takes",
]
