"""Networks of timm, of torchvision and of the papers, on the meta device."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from datafree.networks.building import blueprint, sketch

TORCHVISION = "torchvision:"
"""prefix of the name of a network that torchvision builds"""


def known_networks() -> Iterator[str]:
    """Yield the names of all architectures: those of timm, with the papers' networks, and those of torchvision."""
    import timm
    from torchvision.models import list_models

    import datafree.networks.zoo  # noqa: F401  registers networks in timm

    yield from timm.list_models()
    yield from (f"{TORCHVISION}{name}" for name in list_models(module=_torchvision_classifiers()))


def _torchvision_classifiers() -> Any:
    import torchvision

    return torchvision.models


def known_blueprint(name: str, **arguments: Any) -> nn.Module:
    """Create a network without memory for its weights, with its auxiliary heads.

    Args:
        name: A timm name, or `torchvision:NAME`.
        arguments: Arguments of the network, checked; torchvision's networks have no `in_chans`.

    Raises:
        InputError: If the network is too large.
        Exception: Whatever timm, torchvision and the network raise.
    """
    if not name.startswith(TORCHVISION):
        return blueprint(name, **arguments)
    from torchvision.models import get_model

    settings = {**_settings(name), **arguments}
    return sketch(lambda: get_model(name.removeprefix(TORCHVISION), weights=None, **settings))


def _settings(name: str) -> dict[str, Any]:
    """Return the arguments that keep torchvision from initialising weights for minutes, and from a warning about it."""
    return {"init_weights": False} if name.removeprefix(TORCHVISION) in ("googlenet", "inception_v3") else {}
