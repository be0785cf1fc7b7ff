"""The images of a quantisation: those that calibrate, and those of another method on which networks are compared."""

from dataclasses import replace

import torch

from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.methods import METHODS
from datafree.methods.procedural import ProceduralConfig
from datafree.randomness import RandomNumbers
from datafree.runs.quantizing.auto import CalibrationConfig
from datafree.sets.collecting import Sources, Wanted, collect
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Method
from datafree.synthesis.mixture import Mixture
from datafree.teachers.inspection import require_capabilities
from datafree.types import Images

DREAM_STEPS = 50
"""steps of DeepDream, by which networks are compared that are calibrated on procedural pictures"""
OTHER_SEED = 1000
"""added to the seed for the images on which networks are compared"""


def resolved(method: Method, classifier: Classifier, count: int, callback: Callback) -> Method:
    """Return a method itself, or what `auto` chooses for a network; the choice is said."""
    if not isinstance(method, CalibrationConfig):
        return method
    chosen, reason = method.chosen(classifier, count)
    callback.note(f"images: {count:,} procedural pictures, {reason}")
    return chosen


def synthesized(method: Method, classifier: Classifier, count: int, seed: int, callback: Callback) -> Images:
    """Return images of a method in random order; of a saved set, as many as it has at most.

    Raises:
        InputError: If the method does not support the network, or a saved set does not fit it.
    """
    require_capabilities(classifier, method)
    numbers = RandomNumbers(seed)
    if isinstance(method, SavedConfig):
        saved = method.build(classifier)
        with numbers:
            return saved.rows(torch.randperm(saved.count)[:count] % len(saved), ("images",))["images"].cpu()
    sources = Sources(teacher=classifier, student=None, callback=callback, note=callback.note, numbers=numbers)
    images = collect(method, sources, Wanted(images=count)).batch.images
    with numbers:
        return images[torch.randperm(len(images))[:count]].detach().cpu()


def other_method(method: Method) -> tuple[str, Method]:
    """Return the method of the images on which networks are compared, with its name: not the one of the calibration."""
    drawn = [part.method for part in method.parts] if isinstance(method, Mixture) else [method]
    if any(isinstance(each, ProceduralConfig) for each in drawn):
        return "deep-dream", replace(METHODS["deep-dream"], steps=(DREAM_STEPS,), lr=0.1, start="natural")
    return "procedural", METHODS["procedural"]


def held_out(method: Method, classifier: Classifier, count: int, seed: int, callback: Callback) -> tuple[str, Images]:
    """Return images of another method than that of the calibration, and its name."""
    name, other = other_method(method)
    if other.missing(classifier):
        name, other = "noise", replace(METHODS["noise"], spectrum="natural")
    other = replace(other, batch_size=min(other.batch_size, max(count, 2)))
    return name, synthesized(other, classifier, count, seed + OTHER_SEED, callback)
