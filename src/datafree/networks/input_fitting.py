"""Any timm network for any size of image: which of its arguments have to change, and whether it then takes the images."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from datafree.classifier import Classifier, frozen
from datafree.randomness import RandomNumbers
from datafree.types import InputError

GRID = 8
"""patches along the shorter side of an image, at least: with fewer a transformer or a mixer has little to mix"""


def arguments_for(name: str, size: tuple[int, int], given: Mapping[str, Any]) -> dict[str, Any]:
    """What timm must be told so that a network takes images of this height and width.

    Networks that take any size are told nothing. Transformers and mixers are made for one size: they are told this one,
    and, if timm lets them be, a patch that leaves at least 8 patches along the shorter side where their own would leave
    fewer.

    Args:
        name: As in `timm.list_models()`.
        size: Height and width.
        given: What the user wants; it is kept.
    """
    import timm

    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.fixed_input_size or cfg.input_size[1:] == size:
        return dict(given)
    found = {"img_size": list(size), **given}
    if "patch_size" in given:
        return found
    with RandomNumbers(0):  # what is only looked at draws no number from the student
        own = own_patch(timm.create_model(name))
        patch = patch_for(size, own) if own else None
        if patch != own and takes(name, **found, patch_size=patch):
            found["patch_size"] = patch
    return found


def takes(name: str, **arguments: Any) -> bool:
    """Whether timm lets a network be told these: some mixers have their patch for good."""
    import timm

    try:
        timm.create_model(name, **arguments)
    except TypeError:
        return False
    return True


def own_patch(model: nn.Module) -> int | None:
    """The side of a network's patches; None where they are not square or not to be seen."""
    patches = [module.patch_size for module in model.modules() if hasattr(module, "patch_size")]
    patch = patches[0] if patches else None
    sides = set(patch) if isinstance(patch, (tuple, list)) else {patch}
    return sides.pop() if len(sides) == 1 else None  # type: ignore[return-value]


def patch_for(size: tuple[int, int], own: int) -> int:
    """The largest patch that divides both sides, is not over the network's own, and leaves enough patches."""
    most = max(1, min(own, min(size) // GRID))
    return max(side for side in range(1, most + 1) if size[0] % side == 0 and size[1] % side == 0)


def require_plain(arguments: Mapping[str, Any], source: str) -> None:
    """Refuses arguments of a network that are more than numbers: what a file says must not choose files or code.

    Raises:
        InputError: Naming the first.
    """
    for name, value in arguments.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        if not all(isinstance(one, (bool, int, float)) for one in values) and name != "global_pool":
            raise InputError(f"{source} sets {name} to {value!r}; only numbers can be set")


def require_answer(model: Classifier, name: str) -> None:
    """Refuses a network that cannot answer images of its shape.

    Raises:
        InputError: Saying why.
    """
    images = torch.zeros(2, *model.shape, device=model.device)
    try:
        with frozen(model), torch.no_grad():
            answers = model(images)
        why = f"it answers {tuple(answers.shape)} numbers" if answers.shape != (2, len(model.classes)) else ""
    except Exception as fault:  # whatever a layer says of a size that it was not made for
        why = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
    if why:
        raise InputError(f"network {name!r} cannot take images of {model.shape} ({why}); choose another student")
