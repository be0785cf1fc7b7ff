"""Networks that the user's own code builds: their arguments, their weights, and teachers and students made of them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from datafree.classifier import Classifier, frozen, last_layer, logits_in, probe_images
from datafree.functions import FunctionNetwork
from datafree.networks.building import require_bounded
from datafree.networks.head_surgery import widen
from datafree.networks.pruning_surgery import layers_of, narrow, widths_of
from datafree.randomness import RandomNumbers
from datafree.synthesis.outputs import inspect_outputs
from datafree.teachers.code.running import find, kept_settings, user_code
from datafree.types import InputError, Preprocessing, suggestion
from datafree.weights.containers import Description
from datafree.weights.matching import Matching, require_finite
from datafree.weights.matching import match as matching
from datafree.weights.reading import read_checkpoint


def load_code(
    spec: str,
    *,
    weights: str | Path = "",
    classes: Sequence[str] | int | None = None,
    shape: tuple[int, int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preprocessing: Preprocessing | None = None,
    arguments: Mapping[str, Any] | None = None,
    multi_label: bool = False,
    match: str = "names",
) -> Classifier:
    """Build a classifier by the user's own code, in evaluation mode.

    Args:
        spec: `FILE.py:function` or `package.module:function`. The function returns a module, another function of images, or a
            `Classifier`. It may be a class, or the network itself.
        weights: File of weights for the network; if empty, it has the weights that the function gives it.
        classes: Names or number of the classes; default: as many as the network has outputs.
        shape: Channels, height and width of an image.
        mean: Mean of the pixels, per channel; default: 0.
        std: Standard deviation of the pixels, per channel; default: 1.
        preprocessing: How image files of another size are resized and cropped.
        arguments: Arguments of the function. `num_classes` and `in_chans` are passed if they are known and it takes them.
        multi_label: Whether an image can have several labels.
        match: `names`, or `order` to match the tensors of a file with those of the network by their order and shapes.

    Raises:
        InputError: If the code fails, with its file and line; if the function returns no network, or the weights do not fit.
    """
    settings: dict[str, Any] = {"classes": classes, "shape": shape, "mean": mean, "std": std}
    settings |= {"preprocessing": preprocessing, "multi_label": multi_label or None}
    checkpoint = read_checkpoint(weights) if weights else None
    facts = checkpoint.description if checkpoint else Description()
    given = {name: value for name, value in settings.items() if value is not None}
    classifier = classifier_of(spec, described(facts) | given, arguments or {}, given)
    if checkpoint:
        with user_code(spec):
            classifier.notes += fit_to_weights(classifier, checkpoint.tensors, str(weights))
        by = cast(Matching, match or "names")
        found = matching(classifier.model, checkpoint.tensors, str(weights), by=by, keys=checkpoint.keys)
        classifier.model.load_state_dict(found.weights)
        classifier.notes += (*checkpoint.notes, *found.notes)
    else:
        classifier.notes += (
            f"no weights file is given for {spec}: the network has the weights that its code gives it",
        )
    require_finite(classifier, spec)
    inspect_outputs(classifier, spec)
    return classifier.eval()


def fit_to_weights(classifier: Classifier, tensors: Mapping[str, Tensor], source: str) -> tuple[str, ...]:
    """Narrow the layers of a network to those of a weights file, and widen its head, in place.

    A student that datafree has pruned, or extended by classes, is another network than its code builds.

    Args:
        classifier: A classifier that the user's code has built.
        tensors: Of the file, by name. Nothing is changed unless they have the names of the network's.
        source: The file, for the notes.

    Returns:
        Notes about what was changed.

    Raises:
        InputError: If layers cannot be narrowed together.
    """
    model, notes = classifier.model, []
    expected = model.state_dict()
    if set(tensors) != set(expected) or any(tensors[name].ndim != tensor.ndim for name, tensor in expected.items()):
        return ()
    layers = layers_of(model)
    rows = {name: len(tensors[f"{name}.weight"]) for name in layers if f"{name}.weight" in tensors}
    head = next((name for name, layer in layers.items() if layer is last_layer(model)), "")
    added = rows.get(head, 0) - widths_of(model).get(head, 0)
    if added > 0 and len(classifier.classes) == rows[head]:
        classifier.classes, new = classifier.classes[:-added], classifier.classes[-added:]
        widen(classifier, new)
        notes.append(f"the last layer has {added} more classes than the code builds, as {source} says")
    narrower = {name: count for name, count in rows.items() if count < widths_of(model)[name] and name != head}
    if narrower:
        narrow(model, classifier.shape, narrower)
        notes.append(f"{len(narrower)} layers are narrower than the code builds them, as {source} says")
    return tuple(notes)


def described(facts: Description) -> dict[str, Any]:
    """Return the settings of a classifier that the container of a weights file says."""
    shape = (facts.channels, *facts.size) if facts.channels and facts.size else None
    found = {"classes": facts.class_names or facts.classes, "shape": shape, "mean": facts.mean, "std": facts.std}
    return {name: value for name, value in found.items() if value}


def create_student(spec: str, teacher: Classifier, arguments: Mapping[str, Any]) -> Classifier:
    """Build a student by the user's own code, in training mode.

    Args:
        spec: As for `load_code`.
        teacher: The student gets its input shape, classes, normalisation and preprocessing, unless the function returns a
            `Classifier`.
        arguments: Arguments of the function.

    Raises:
        InputError: As for `load_code`; also if the network has no weights to train, or does not fit the teacher.
    """
    settings: dict[str, Any] = {"classes": teacher.classes, "shape": teacher.shape}
    settings |= {"mean": teacher.mean.flatten().tolist(), "std": teacher.std.flatten().tolist()}
    settings |= {"preprocessing": teacher.preprocessing, "multi_label": teacher.multi_label or None}
    settings = {name: value for name, value in settings.items() if value is not None}
    student = classifier_of(spec, settings, arguments, {})
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise InputError(f"{spec} returns a network without weights to train; return a torch.nn.Module with parameters")
    if student.multi_label != teacher.multi_label:
        raise InputError("one of teacher and student is multi-label and the other is not; both must be the same")
    with user_code(spec):
        outputs = count_outputs(spec, student.model, student.shape)
    if outputs != len(teacher.classes):
        raise InputError(
            f"{spec} returns {outputs} outputs, but the teacher has {len(teacher.classes)} classes; let it take num_classes, "
            "or write it for this number"
        )
    if student.shape[0] != teacher.shape[0]:
        raise InputError(
            f"{spec} takes images of {student.shape[0]} channels, but the teacher of {teacher.shape[0]}; they must be equal"
        )
    require_finite(student, spec)
    student.notes += (f"the student starts from the weights that {spec} gives it",)
    return student.train()


def classifier_of(
    spec: str, settings: Mapping[str, Any], arguments: Mapping[str, Any], options: Mapping[str, Any]
) -> Classifier:
    """Run the user's code, and return what it builds as a classifier.

    Args:
        spec: As for `load_code`.
        settings: Arguments of `Classifier` that are known.
        arguments: Arguments of the function.
        options: Those of the settings that the user gave. If the function returns a classifier, it has its own settings; these
            are refused, the others ignored.

    Raises:
        InputError: If the code fails or returns no network.
    """
    classes, shape = settings.get("classes"), settings.get("shape")
    count = classes if isinstance(classes, int) or classes is None else len(classes)
    require_bounded(shape, count)
    known = {"num_classes": count, "in_chans": shape[0] if shape else None}
    seed = int(
        torch.randint(2**62, ())
    )  # what the code draws or seeds leaves the random numbers of the run as they are
    with RandomNumbers(seed), kept_settings(), user_code(spec):
        target, files = find(spec)
        network = build(spec, target, arguments, {name: number for name, number in known.items() if number is not None})
    classifier = as_classifier(spec, network, options if isinstance(network, Classifier) else settings)
    classifier.code, classifier.code_arguments, classifier.dependencies = spec, dict(arguments), files
    hashes = ", ".join(f"{name} with SHA-256 {digest[:16]}..." for name, digest in files.items())
    classifier.notes += (f"{spec} is built by its own code ({hashes})",) if hashes else ()
    if not isinstance(network, Classifier) and (
        missing := [word for word in ("mean", "std") if not settings.get(word)]
    ):
        classifier.notes += (
            f"{' and '.join(missing)} of {spec} {'are' if len(missing) == 2 else 'is'} not known: "
            f"{'it gets pixels in [0, 1] unchanged' if len(missing) == 2 else 'the default is 0 for mean and 1 for std'}; "
            f"give {' and '.join(f'--{word}' for word in missing)} if it was trained with others",
        )
    return classifier


def build(spec: str, target: Any, arguments: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    """Call a function that builds a network, with the arguments that it takes.

    Args:
        spec: What an error message calls it.
        target: The function; or the network itself, which is not called.
        arguments: All of them must be taken.
        known: Those that it does not take are left out.

    Raises:
        InputError: If the function does not take an argument, or needs one that is missing.
        Exception: Whatever the function raises.
    """
    if isinstance(target, nn.Module) or not callable(target):
        if arguments:
            raise InputError(f"{spec} is no function and takes no arguments; remove {', '.join(arguments)}")
        return deepcopy(target)  # teacher and student may be of one file
    parameters = inspect.signature(target).parameters.values()
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for name in arguments:
        if name not in named and not takes_any:
            raise InputError(
                f"{spec} takes no argument {name!r}{suggestion(name, named)}; it takes {', '.join(named) or 'none'}"
            )
    passed = {name: value for name, value in known.items() if name in named} | dict(arguments)
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if missing := [name for name in required if name not in passed]:
        raise InputError(
            f"{spec} needs {', '.join(missing)}; give them as arguments, or write a function without arguments"
        )
    return target(**passed)


def as_classifier(spec: str, network: Any, settings: Mapping[str, Any]) -> Classifier:
    """Return what the user's code built as a classifier.

    Raises:
        InputError: If it is no network, a setting is missing, or it is a classifier, which has these settings.
    """
    if isinstance(network, Classifier):
        if settings:
            raise InputError(f"{spec} returns a Classifier, which defines {', '.join(settings)}; remove these options")
        return network
    if not callable(network):
        raise InputError(f"{spec} returns a {type(network).__name__}; return a torch.nn.Module")
    if not settings.get("shape"):
        raise InputError(f"the size of the images of {spec} is not known; give it: --input CHANNELS HEIGHT WIDTH")
    with user_code(spec):
        classes = settings.get("classes") or count_outputs(spec, network, settings["shape"])
        return Classifier(network, **{**settings, "classes": classes})


def count_outputs(spec: str, network: Callable[..., Any], shape: tuple[int, int, int]) -> int:
    """Run a network once and return the number of its outputs. If it returns several values, one of them is a tensor.

    Raises:
        InputError: If it does not return one row of numbers per image.
        Exception: Whatever the network raises.
    """
    module = network if isinstance(network, nn.Module) else FunctionNetwork(network, probe_images(shape, 2))
    device = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    with frozen(module), torch.no_grad(), RandomNumbers(0):
        output = module(probe_images(shape, 2).to(device))
    logits = logits_in(output, 0)  # no tensor is chosen by the number of classes, which is not known yet
    if logits is not None and logits.ndim == 2 and len(logits) == 2:
        return logits.shape[1]
    what = f"type {type(output).__name__}" if logits is None else f"shape {tuple(logits.shape)}"
    raise InputError(f"{spec} returns outputs of {what} for 2 images, which have no classes; give --classes")
