"""Applications: what the synthesized images are used for. An application is one file and one entry in `APPLICATIONS`."""

from datafree.applications.amalgamation import AmalgamationConfig
from datafree.applications.base import Application
from datafree.applications.continual import ExtensionConfig
from datafree.applications.distillation import DistillationConfig
from datafree.applications.pruning import PruningConfig

APPLICATIONS: dict[str, Application] = {
    "distill": DistillationConfig(),
    "extend": ExtensionConfig(),
    "amalgamate": AmalgamationConfig(),
    "prune": PruningConfig(),
}
"""Default settings by the name of the command."""
