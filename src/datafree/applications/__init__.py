"""One use of the images a file. A new application is one file and one line in this dict."""

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
