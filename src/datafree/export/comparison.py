"""The comparison of what two engines compute: on drawn pictures and random pixels, with the time that both take."""

import statistics
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from datafree.classifier import Classifier
from datafree.export.deployment import Deployed
from datafree.randomness import RandomNumbers
from datafree.synthesis.drawings import Artist
from datafree.types import Images, InputError

TOLERANCE = 1e-4
"""largest difference of a logit, relative to the largest logit of torch if that is above 1"""
VALUES, FEWEST, MOST = 2**22, 16, 128
"""pixel values of the images that are compared, and the bounds of their number for each kind"""
SECONDS, ROUNDS = 1.0, 5
"""time that is spent on measuring the latency, and the fewest measurements of each engine"""
ROUNDINGS = 4
"""largest difference of a logit, relative to that of torch in float32 from float64, if the network amplifies rounding"""
Engine = Callable[[Tensor], Tensor]
"""computes the logits of a batch of images"""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far two engines differ."""

    max_difference: float
    largest_logit: float
    agreement: float

    @property
    def is_equal(self) -> bool:
        """Whether the engines compute the same up to rounding."""
        return self.max_difference <= TOLERANCE * max(1.0, self.largest_logit)


def images_for(classifier: Classifier, saved: Images | None = None) -> dict[str, Tensor]:
    """Return the images of a comparison by their kind, in [0, 1]: synthesized ones and random pixels.

    Args:
        classifier: Defines their shape.
        saved: Synthesized images of the user; default: procedural pictures are drawn.
    """
    channels, height, width = classifier.shape
    count = min(MOST, max(FEWEST, VALUES // (channels * height * width)))
    with RandomNumbers(0):
        synthetic = Artist(classifier).draw(count).cpu() if saved is None else saved[:count].cpu()
        return {"synthetic": synthetic, "random": torch.rand(count, channels, height, width)}


def compare(classifier: Classifier, reference: Engine, engine: Engine, images: Mapping[str, Tensor]) -> Comparison:
    """Compare the logits and the predictions of two engines.

    Args:
        classifier: Turns logits into predictions.
        reference: The engine that the other one has to equal.
        engine: The other one.
        images: What both get, by kind.
    """
    ours, theirs = (torch.cat([run(batch) for batch in images.values()]) for run in (reference, engine))
    if ours.shape != theirs.shape:
        raise InputError(
            f"the exported network returns outputs of shape {tuple(theirs.shape)}, not {tuple(ours.shape)}"
        )
    equal = classifier.predict(ours) == classifier.predict(theirs)
    return Comparison(
        max_difference=float((ours - theirs).abs().max()),
        largest_logit=float(ours.abs().max()),
        agreement=float(equal.float().mean()),
    )


def rounding_of(network: Deployed, images: Mapping[str, Tensor]) -> float:
    """Return the largest difference of a logit between float32 and float64 in torch."""
    exact = deepcopy(network).double()
    with torch.no_grad():
        return max(float((network(batch) - exact(batch.double())).abs().max()) for batch in images.values())


def require_rounding(found: Comparison, rounding: float, engine: str, other: str) -> None:
    """Check that an engine differs from torch no more than rounding explains.

    Args:
        found: The comparison.
        rounding: Difference of torch in float32 from torch in float64.
        engine: Name of the engine.
        other: What to do instead, for the error message.

    Raises:
        InputError: If it differs more.
    """
    if found.max_difference > ROUNDINGS * rounding:
        raise InputError(
            f"{engine} computes another function than torch: logits differ by up to {found.max_difference:.2g} (allowed: "
            f"{TOLERANCE:g} of the largest, {found.largest_logit:.3g}), agreement {100 * found.agreement:.1f} %; {other}"
        )


def verified(
    classifier: Classifier,
    network: Deployed,
    engines: Mapping[str, Engine],
    *,
    saved: Images | None = None,
    other: str = "",
) -> dict[str, Any]:
    """Compare what an engine computes with torch, and measure the time that both take.

    Args:
        classifier: The classifier that was exported.
        network: The same as one module, which torch runs.
        engines: The other engine, by its name.
        saved: Synthesized images of the user; default: procedural pictures are drawn.
        other: What to do if the engine computes another function, for the error message.

    Returns:
        The fields of `Exported` about the comparison.

    Raises:
        InputError: If the engine computes another function.
    """

    def by_torch(batch: Tensor) -> Tensor:
        with torch.no_grad():
            return network(batch)

    ((name, engine),) = engines.items()
    taken = {kind: network.taken(batch) for kind, batch in images_for(classifier, saved).items()}
    found = compare(classifier, by_torch, engine, taken)
    rounding = None
    if not found.is_equal:
        rounding = rounding_of(network, taken)
        require_rounding(found, rounding, name, other)
    return {
        **asdict(found),
        "rounding": rounding,
        "images": {kind: len(batch) for kind, batch in taken.items()},
        "milliseconds": milliseconds({"torch": by_torch, name: engine}, taken["synthetic"][:1]),
        "threads": torch.get_num_threads(),
    }


def milliseconds(engines: Mapping[str, Engine], image: Images) -> dict[str, float]:
    """Return the median time of one image in each engine. The engines take turns, so that other load affects all of them.

    Args:
        engines: By name.
        image: A batch of one image.
    """
    for run in engines.values():
        run(image)
    times: dict[str, list[float]] = {name: [] for name in engines}
    start = time.perf_counter()
    while len(next(iter(times.values()))) < ROUNDS or time.perf_counter() - start < SECONDS:
        for name, run in engines.items():
            before = time.perf_counter()
            run(image)
            times[name].append(time.perf_counter() - before)
    return {name: 1000 * statistics.median(measured) for name, measured in times.items()}
