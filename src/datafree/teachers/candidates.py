"""Networks that may be the student of a teacher, for users who name none: of the papers and of timm, by image size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datafree.classifier import Classifier
from datafree.evaluation import count_macs
from datafree.networks.input_fitting import require_accepts_images
from datafree.randomness import RandomNumbers
from datafree.teachers.creation import create
from datafree.teachers.inspection import count_parameters
from datafree.types import InputError

AUTO = "auto"
"""name of a student that is chosen"""
RATIO = 0.25
"""parameters of a chosen student, at most, as a fraction of those of the teacher"""
LISTED = 3
"""candidates that `datafree inspect` lists"""
TINY, SMALL = 16, 64
"""smallest side of an image, in pixels, from which the next group of networks is meant"""

GROUPS: dict[str, tuple[str, ...]] = {
    "tiny": ("convnet_w16", "resnet_w16", "convnet_w64", "convnet_mnist_deep"),
    "small": (
        *(
            "convnet_mnist",
            "convnet_mnist_deep",
            "lenet5_bn",
            "resnet10_cifar_w16",
            "wrn_16_1",
            "resnet18_cifar_w16",
            "wrn_40_1",
        ),
        *("wrn_16_2", "wrn_40_2", "resnet18_cifar", "resnet34_cifar"),
    ),
    "large": (
        *("test_efficientnet", "lcnet_050", "mobilenetv3_small_050", "mobilenetv3_small_100", "mobilenetv4_conv_small"),
        *("efficientnet_lite0", "resnet10t", "resnet18", "resnet34", "resnet50"),
    ),
}
"""networks for images of a size, all with batch norm, so that a student can be a teacher in turn"""


@dataclass(frozen=True)
class Candidate:
    """A network that accepts the images of a teacher."""

    name: str
    """timm name"""
    parameters: int
    """number of learned parameters"""
    macs: int
    """multiply-accumulate operations for one image"""


def candidates(
    teacher: Classifier, max_parameters: int = 0, max_macs: int = 0, ratio: float = RATIO
) -> list[Candidate]:
    """Return the networks that may be the student of a teacher, the largest first.

    Args:
        teacher: The teacher.
        max_parameters: Most parameters; 0: `ratio` times those of the teacher.
        max_macs: Most multiply-accumulate operations for one image; 0: no limit.
        ratio: Most parameters as a fraction of those of the teacher, where `max_parameters` is 0.

    Raises:
        InputError: If no network is small enough. The message names the smallest one.
    """
    limit = max_parameters or int(ratio * count_parameters(teacher))
    found = sorted(usable(teacher), key=lambda candidate: candidate.parameters, reverse=True)
    small = [one for one in found if one.parameters <= limit and (not max_macs or one.macs <= max_macs)]
    if not small:
        raise InputError(
            _why_none(teacher, found, limit, max_macs, "--max-parameters" if max_parameters else "--ratio")
        )
    return small


def _why_none(teacher: Classifier, found: Sequence[Candidate], limit: int, max_macs: int, option: str) -> str:
    """Say that no network is small enough, and which of the limits the smallest one exceeds.

    Args:
        teacher: The teacher.
        found: Networks that accept its images, the largest first.
        limit: Most parameters.
        max_macs: Most multiply-accumulate operations; 0: no limit.
        option: The option that sets the most parameters.
    """
    images = f"images of {'x'.join(map(str, teacher.shape))}"
    if not found:
        return f"no network of the list takes {images}; name one with --student"
    least = found[-1]
    exceeded = [option] * (least.parameters > limit) + ["--max-macs"] * (0 < max_macs < least.macs)
    bounds = f"{limit:,} parameters" + (f" and {max_macs:,} operations" if max_macs else "")
    return (
        f"no network within {bounds} is known for {images}; the smallest is {least.name} with {least.parameters:,} "
        f"parameters and {least.macs:,} operations; name one with --student, or raise {' and '.join(exceeded) or option}"
    )


def usable(teacher: Classifier) -> Iterator[Candidate]:
    """Yield the networks for the teacher's image size that accept its images."""
    side = min(teacher.shape[1:])
    group = "tiny" if side < TINY else "small" if side < SMALL else "large"
    for name in GROUPS[group]:
        try:
            with RandomNumbers(0):
                student = create(name, classes=teacher.classes, shape=teacher.shape)
                require_accepts_images(student, name)
        except InputError:  # another size, or another number of channels
            continue
        yield Candidate(name, count_parameters(student), count_macs(student))
