"""A network and a file of its weights: which network it is, what the file says about it, and loading it.

What is used is first what the user says, then what the file says, then what the shapes of its tensors say, and last the
network's own defaults. A default normalisation is never silent.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from datafree.classifier import Classifier
from datafree.networks import known
from datafree.networks.building import blueprint, require_known_network, require_plain_arguments
from datafree.networks.input_fitting import own_size_arguments
from datafree.networks.known.digests import names_digest, order_digest
from datafree.networks.zoo import NETWORKS
from datafree.teachers.creation import create, preprocessing_from_config
from datafree.teachers.libraries import torchvision_networks
from datafree.types import InputError, Preprocessing
from datafree.weights.containers import Checkpoint, Description
from datafree.weights.matching import Match, Matching, match
from datafree.weights.names import copies, unwrapped
from datafree.weights.settings import infer_settings

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.", "timm_model.")
"""prefixes under which a network may be found in a file that does not say which network it is"""
LISTED = 8
"""networks that a message lists"""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known about a network: from the user, from a file, or from the shapes of tensors. The rest is empty."""

    classes: Sequence[str] | int | None = None
    channels: int | None = None
    size: tuple[int, int] | None = None
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    preprocessing: Preprocessing | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    multi_label: bool = False

    def over(self, other: "Facts") -> "Facts":
        """Return these facts, completed by others. Names of classes complete their number."""
        values = {
            entry.name: getattr(self, entry.name) or getattr(other, entry.name)
            for entry in fields(self)
            if entry.name not in ("arguments", "classes")
        }
        classes = self.classes if self.classes is not None else other.classes
        if isinstance(classes, int) and not isinstance(other.classes, int) and classes == len(other.classes or ()):
            classes = other.classes
        return Facts(classes=classes, arguments={**other.arguments, **self.arguments}, **values)

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width of an image, if both are known."""
        return (self.channels, *self.size) if self.channels and self.size else None


def facts_of(
    *,
    classes: Sequence[str] | int | None = None,
    shape: tuple[int, int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preprocessing: Preprocessing | None = None,
    arguments: Mapping[str, Any] | None = None,
    multi_label: bool = False,
) -> Facts:
    """Return facts for the arguments of `teachers.create`."""
    return Facts(
        classes=classes if isinstance(classes, int) or not classes else tuple(classes),
        channels=shape[0] if shape else None,
        size=(shape[1], shape[2]) if shape else None,
        mean=tuple(mean or ()),
        std=tuple(std or ()),
        preprocessing=preprocessing,
        arguments=arguments or {},
        multi_label=multi_label,
    )


def described_by(description: Description, network: str) -> Facts:
    """Return what the container of a file says, for one network. The arguments of another one are left out."""
    same = (
        description.architecture.partition(".")[0]
        == network.removeprefix(torchvision_networks.PREFIX).partition(".")[0]
    )
    resizing = {"crop_pct": description.crop_pct, "interpolation": description.interpolation}
    return Facts(
        classes=description.class_names or description.classes,
        channels=description.channels,
        size=description.size,
        mean=description.mean,
        std=description.std,
        preprocessing=preprocessing_from_config(resizing) if any(resizing.values()) else None,
        arguments=description.arguments if same else {},
    )


def load_network(
    name: str, checkpoint: Checkpoint, source: str, facts: Facts, by: Matching = "names", *, complete: bool = False
) -> Classifier:
    """Create a network and load the weights of a file into it.

    Args:
        name: A timm name, or `torchvision:NAME`.
        checkpoint: The file.
        source: What a message calls the file.
        facts: What is known of the network besides its file.
        by: Match tensors by their names, or by their order.
        complete: Whether the facts say everything that the shapes of the tensors could tell.

    Returns:
        The classifier. What was chosen, guessed or left out is in its notes.

    Raises:
        InputError: If the network is unknown, or the weights do not match it.
    """
    facts = facts.over(described_by(checkpoint.description, name))
    tensors = _for(name, checkpoint.tensors)
    if not complete and (sketch := _sketch(name, facts)) is not None:
        facts = facts.over(_inferred(tensors, sketch))
    found: list[Match] = []

    def fits(network: nn.Module) -> None:
        found[:] = [match(network, tensors, source, by=by, keys=checkpoint.keys, ordered=checkpoint.ordered)]

    classifier = create(
        name,
        classes=facts.classes,
        shape=facts.shape or _completed_shape(name, facts),
        mean=facts.mean or None,
        std=facts.std or None,
        preprocessing=facts.preprocessing,
        arguments=facts.arguments,
        multi_label=facts.multi_label,
        fits=fits,
    )
    classifier.model.load_state_dict(found[0].weights)
    others = _others_in_order(name, checkpoint) if by == "order" else ()
    classifier.notes += (*checkpoint.notes, *found[0].notes, *others, *_guesses(name, facts, classifier.shape))
    return classifier


def _others_in_order(name: str, checkpoint: Checkpoint) -> Iterator[str]:
    """Yield a sentence if the sequence of shapes is also that of other networks."""
    others = [other for other in _proposed(checkpoint, "shapes") if other != name.partition(".")[0]]
    if others:
        rest = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
        listed = ", ".join(others[:LISTED]) + rest
        yield f"the shapes of {name} in this order are also those of {listed}, which may compute another function"


def _for(name: str, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the tensors without those of heads that torchvision's networks use in training only."""
    is_torchvision = name.startswith(torchvision_networks.PREFIX)
    return torchvision_networks.without_auxiliary_heads(tensors) if is_torchvision else tensors


def _sketch(name: str, facts: Facts) -> nn.Module | None:
    """Return a network with the known arguments, without memory for its weights; None if it cannot be created so.

    Raises:
        InputError: If the network is unknown, or an argument is no number or word.
    """
    require_plain_arguments(facts.arguments, name)
    if name.startswith(torchvision_networks.PREFIX):
        bare = torchvision_networks.described(name)[0]
    else:
        bare = ""
        require_known_network(name)
    try:
        return torchvision_networks.blueprint(bare, **facts.arguments) if bare else blueprint(name, **facts.arguments)
    except Exception:  # `create` says what is wrong
        return None


def _inferred(tensors: Mapping[str, Tensor], sketch: nn.Module) -> Facts:
    """Return what the shapes of the tensors say."""
    inferred = infer_settings(tensors, sketch)
    return Facts(classes=inferred.classes, channels=inferred.channels, size=inferred.size, arguments=inferred.arguments)


def _completed_shape(name: str, facts: Facts) -> tuple[int, int, int] | None:
    """Return the shape of an image if only its channels or its size are known; the rest is the network's default."""
    if not facts.channels and not facts.size:
        return None
    channels, *size = default_shape(name)
    return (facts.channels or channels, *(facts.size or size))  # type: ignore[return-value]


def default_shape(name: str) -> tuple[int, int, int]:
    """Return the shape of images that a network is made for."""
    import timm

    if name.startswith(torchvision_networks.PREFIX):
        side = torchvision_networks.described(name)[1].transforms().crop_size[0]
        return (torchvision_networks.CHANNELS, side, side)
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    channels, height, width = cfg.input_size if cfg else (3, 224, 224)
    return channels, height, width


def _guesses(name: str, facts: Facts, shape: tuple[int, int, int]) -> Iterator[str]:
    """Yield a sentence if the normalisation is not known but the network's default, and one if the image size is."""
    home = "datafree" if name in NETWORKS else "torchvision" if name.startswith("torchvision:") else "timm"
    bare = name.removeprefix(torchvision_networks.PREFIX)
    if not facts.size and not _has_fixed_size(name):
        channels, height, width = shape
        yield (
            f"the image size of the teacher, {height} x {width}, is {home}'s default for {bare}, not read from the file; "
            f"give --input {channels} HEIGHT WIDTH if it was trained on another"
        )
    missing = [word for word in ("mean", "std") if not getattr(facts, word)]
    if missing:
        words, options = " and ".join(missing), " and ".join(f"--{word}" for word in missing)
        pronoun = "are" if len(missing) > 1 else "is"
        yield (
            f"{words} of the teacher {pronoun} {home}'s default{'s' if len(missing) > 1 else ''} for {bare}, "
            f"not read from the file; give {options} if it was trained with others"
        )


def _has_fixed_size(name: str) -> bool:
    """Return whether the tensors of a network fit images of one size only, so that its default is no guess."""
    import timm

    if name.startswith(torchvision_networks.PREFIX):
        return name.removeprefix(torchvision_networks.PREFIX).startswith(tuple(torchvision_networks.SIZE_ARGUMENTS))
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return name in NETWORKS or bool(cfg and cfg.fixed_input_size)


def load_unnamed(checkpoint: Checkpoint, source: str, facts: Facts, by: Matching = "names") -> Classifier:
    """Load a weights file without the name of its network: what the file says it is, or the one network that it fits.

    Arguments and errors are those of `load_network`.

    Raises:
        InputError: Also if no known network has these tensors, or several have.
    """
    stated = _stated(checkpoint)
    if stated:
        classifier = load_network(stated, checkpoint, source, facts, by)
        classifier.notes = (f"{source} says that its network is {stated}", *classifier.notes)
        return classifier
    name = identify(checkpoint, source, facts, by)
    classifier = load_network(name, checkpoint, source, facts, by)
    how = "the order and shapes" if by == "order" else "the names and shapes"
    others = _others_by_name(name, checkpoint) if by == "names" else ()
    classifier.notes = (
        f"{source} has {how} of the weights of {name}, so it is taken for one",
        *others,
        *classifier.notes,
    )
    return classifier


def _others_by_name(name: str, checkpoint: Checkpoint) -> Iterator[str]:
    """Yield a sentence if networks of other libraries have tensors of the same names and shapes."""
    others = [other for other in _proposed(checkpoint, "names") if other != name]
    if others:
        rest = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
        yield (
            f"{', '.join(others[:LISTED])}{rest} {'has' if len(others) == 1 else 'have'} tensors of these names too; to use "
            f"{'it' if len(others) == 1 else 'one of them'}, name it and give the file with --weights"
        )


def _stated(checkpoint: Checkpoint) -> str:
    """Return the network that the container names, as of `teachers.create`; empty if it names none that is known."""
    import timm

    name = checkpoint.description.architecture
    known = [f"{torchvision_networks.PREFIX}{name}"] if name in torchvision_networks.names() else []
    if name and timm.is_model(name.partition(".")[0]):
        known = [name, *known]
    fitting = [network for network in known if network in set(_proposed(checkpoint, "names"))]
    return next(iter([*fitting, *known]), "")


def identify(checkpoint: Checkpoint, source: str, facts: Facts, by: Matching = "names") -> str:
    """Return the one known network that the tensors of a file fit.

    One of the papers' networks comes before one of torchvision's, and that before one of timm's.

    Raises:
        InputError: If there is none, or several are equally good. The message lists them.
    """
    proposed = _proposed(checkpoint, "shapes" if by == "order" else "names")
    groups: list[Callable[[str], bool]] = [
        lambda name: name in NETWORKS,
        lambda name: name.startswith(torchvision_networks.PREFIX),
        lambda name: name not in NETWORKS and not name.startswith(torchvision_networks.PREFIX),
    ]
    if by == "order":
        groups = [lambda _: True]
    for group in groups:
        fitting = [name for name in proposed if group(name) and _fits(name, checkpoint, source, facts, by)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            listed = ", ".join(fitting[:LISTED]) + (
                f" and {len(fitting) - LISTED} more" if len(fitting) > LISTED else ""
            )
            raise InputError(
                f"{source} fits {len(fitting)} networks ({listed}), which may compute different functions; "
                f"name one of them, and give the file with --weights {source}{' --match order' if by == 'order' else ''}"
            )
    if prefixes := copies(checkpoint.tensors):
        raise InputError(
            f"{source} contains the same names {len(prefixes)} times, under the prefixes {' and '.join(prefixes[:4])}; save "
            "the state dict of the one to be used"
        )
    raise InputError(
        f"{source} does not say which network it belongs to, and its tensors ({_some_names(checkpoint)}) fit no known one; "
        f"name its network, or the code that builds it (FILE.py:FUNCTION), and give the file with --weights {source}"
        f"{_by_order(checkpoint, by)}"
    )


def _some_names(checkpoint: Checkpoint) -> str:
    shown = [name[:60] for name in list(checkpoint.tensors)[:5]]
    return ", ".join(shown) + (", ..." if len(checkpoint.tensors) > len(shown) else "")


def _by_order(checkpoint: Checkpoint, by: Matching) -> str:
    """Return a hint if networks have tensors of the same shapes under other names."""
    similar = _proposed(checkpoint, "shapes") if by == "names" else []
    return f"; {' and '.join(similar[:LISTED])} have tensors of these shapes, see --match order" if similar else ""


def _proposed(checkpoint: Checkpoint, by: Any) -> list[str]:
    """Return the networks that the index proposes for the tensors, with or without a prefix."""
    found: dict[str, None] = {}
    for tensors in _under_prefixes(unwrapped(checkpoint.tensors)):
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        names, order = names_digest(shapes), order_digest(shapes)
        for name, (own_names, own_order) in _index().items():
            # The papers' networks are known under other names too.
            by_shapes = own_order == order and checkpoint.ordered and (by == "shapes" or name in NETWORKS)
            if by_shapes or (by == "names" and own_names == names):
                found[name] = None
    return list(found)


@cache
def _index() -> Mapping[str, Sequence[str]]:
    """Return the digests of the known architectures, by their names."""
    path = Path(known.__file__).with_name("index.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _under_prefixes(tensors: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """Yield tensors as they are, and those under each prefix without it."""
    if tensors:
        yield tensors
    for prefix in PREFIXES:
        inner = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if inner:
            yield from _under_prefixes(inner)


def _fits(name: str, checkpoint: Checkpoint, source: str, facts: Facts, by: Matching) -> bool:
    """Return whether the tensors of a file match a network, with the settings that fit best."""
    tensors = _for(name, checkpoint.tensors)
    try:
        facts = facts.over(described_by(checkpoint.description, name))
        sketch = _sketch(name, replace(facts, arguments={}))
        if sketch is None:
            return False
        facts = facts.over(_inferred(tensors, sketch))
        match(_fitted(name, facts), tensors, source, by=by, keys=checkpoint.keys, ordered=checkpoint.ordered)
    except Exception:  # the network may raise anything for these settings
        return False
    return True


def _fitted(name: str, facts: Facts) -> nn.Module:
    """Return the blueprint of a network with everything that is known about it."""
    classes = facts.classes if isinstance(facts.classes, int) else len(facts.classes or ())
    numbers = {"num_classes": classes} if classes else {}
    shape = facts.shape or _completed_shape(name, facts)
    if name.startswith(torchvision_networks.PREFIX):
        shape, bare = shape or default_shape(name), name.removeprefix(torchvision_networks.PREFIX)
        sizes = torchvision_networks.size_arguments(bare, shape)
        return torchvision_networks.blueprint(bare, channels=shape[0], **numbers, **{**sizes, **facts.arguments})
    numbers |= {"in_chans": shape[0]} if shape else {}
    return blueprint(
        name, **(own_size_arguments(name, shape[1:], facts.arguments) if shape else facts.arguments), **numbers
    )
