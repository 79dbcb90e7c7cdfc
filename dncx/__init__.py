"""dncx: the Differentiable Neural Computer (Graves et al., Nature 538, 2016) in JAX.

The names below are loaded at their first use, so that `dncx --help` need not wait for JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dncx import cli as cli
    from dncx import debugging as debugging
    from dncx import explore as explore
    from dncx import interop as interop
    from dncx import kernels as kernels
    from dncx import networks as networks
    from dncx import reporting as reporting
    from dncx import rl as rl
    from dncx import runs as runs
    from dncx import settings as settings
    from dncx import sharing as sharing
    from dncx import tasks as tasks
    from dncx import training as training
    from dncx.access import AccessState as AccessState
    from dncx.access import AccessTrace as AccessTrace
    from dncx.access import MemoryAccess as MemoryAccess
    from dncx.addressing import ContentAddressing as ContentAddressing
    from dncx.addressing import Freeness as Freeness
    from dncx.addressing import MaskedContentAddressing as MaskedContentAddressing
    from dncx.addressing import NoLinkage as NoLinkage
    from dncx.addressing import TemporalLinkage as TemporalLinkage
    from dncx.addressing import TemporalLinkageState as TemporalLinkageState
    from dncx.addressing import content_weights as content_weights
    from dncx.config import DNCConfig as DNCConfig
    from dncx.controllers import LSTM as LSTM
    from dncx.controllers import DeepLSTM as DeepLSTM
    from dncx.controllers import FeedForward as FeedForward
    from dncx.controllers import LSTMState as LSTMState
    from dncx.dnc import DNC as DNC
    from dncx.dnc import DNCState as DNCState
    from dncx.dnc import DNCTrace as DNCTrace
    from dncx.exporting import export as export
    from dncx.interface import Interface as Interface
    from dncx.parts import AccessLike as AccessLike
    from dncx.parts import ContentLike as ContentLike
    from dncx.parts import ControllerLike as ControllerLike
    from dncx.parts import FreenessLike as FreenessLike
    from dncx.parts import LinkageLike as LinkageLike
    from dncx.runs.directory import load_run as load_run
    from dncx.sequence import explain as explain
    from dncx.sequence import unroll as unroll
    from dncx.sequence import unroll_with_trace as unroll_with_trace
    from dncx.stepping import Stepper as Stepper

__version__ = "0.2.0"

_PACKAGES = (
    "cli", "debugging", "explore", "interop", "kernels", "networks", "reporting", "rl", "runs",
    "settings", "sharing", "tasks", "training",
)  # fmt: skip
_HOMES = {
    "access": ("AccessState", "AccessTrace", "MemoryAccess"),
    "addressing": (
        "ContentAddressing",
        "Freeness",
        "MaskedContentAddressing",
        "NoLinkage",
        "TemporalLinkage",
        "TemporalLinkageState",
        "content_weights",
    ),
    "config": ("DNCConfig",),
    "controllers": ("LSTM", "DeepLSTM", "FeedForward", "LSTMState"),
    "dnc": ("DNC", "DNCState", "DNCTrace"),
    "exporting": ("export",),
    "interface": ("Interface",),
    "parts": ("AccessLike", "ContentLike", "ControllerLike", "FreenessLike", "LinkageLike"),
    "runs.directory": ("load_run",),
    "sequence": ("explain", "unroll", "unroll_with_trace"),
    "stepping": ("Stepper",),
}


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"dncx.{name}")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"dncx.{home}"), name)
    raise AttributeError(f"module 'dncx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["__version__", *_PACKAGES, *(name for names in _HOMES.values() for name in names)]
