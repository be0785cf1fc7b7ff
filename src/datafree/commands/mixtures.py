"""The options of a mixture as a dataclass: for each part, the settings of its method and of its schedule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, ClassVar, get_type_hints

from datafree.commands.options.mixtures import DEFAULT_BATCH_SIZE, SCHEDULE, is_mixture, parse_mixture
from datafree.synthesis import Method, Schedule
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import InputError


@dataclass(frozen=True, kw_only=True)
class MixtureSize:
    """What a mixture has in place of a schedule: its parts have one each."""

    batch_size: int = DEFAULT_BATCH_SIZE
    """images per student step, drawn from the parts in proportion to their shares"""


@dataclass(frozen=True, kw_only=True)
class MixtureOptions:
    """The base of the dataclass that `mixture_options` makes; its fields are the parts."""

    preset: ClassVar[Mixture]
    """the parts with their default settings"""

    def mixture(self, batch_size: int = DEFAULT_BATCH_SIZE) -> Mixture:
        """Return the mixture that the options describe.

        Args:
            batch_size: Images per student step.

        Raises:
            InputError: If a setting is invalid; the message names the part.
        """
        parts = [_as_part(part, getattr(self, field_name(part.name))) for part in self.preset.parts]
        return Mixture(parts=tuple(parts), batch_size=batch_size)


def preset(name: str, methods: Mapping[str, Method]) -> Method:
    """Return a method by name, or the mixture that is written so, with the default settings of its parts.

    Raises:
        InputError: If the mixture has less than two parts, or a name or a share is invalid.
    """
    if not is_mixture(name, list(methods)):
        return methods[name]
    parts = parse_mixture(name, list(methods))
    return Mixture(parts=tuple(Part(name=part, method=methods[part], share=share) for part, share in parts))


def mixture_options(mixture: Mixture, *, schedules: bool = True) -> type[MixtureOptions]:
    """Return a dataclass with a field for each part, whose fields are those of its method and of its schedule.

    Args:
        mixture: The parts and their defaults.
        schedules: Whether the command has schedules.
    """
    parts = [
        (field_name(part.name), kind := _part_options(part, schedules), field(default_factory=kind))
        for part in mixture.parts
    ]
    namespace = {"preset": mixture}
    return make_dataclass("Options", parts, bases=(MixtureOptions,), namespace=namespace, frozen=True, kw_only=True)


def field_name(part: str) -> str:
    """Return the name of a part as that of a field."""
    return part.replace("-", "_")


def _part_options(part: Part, schedules: bool) -> type[Any]:
    settings = _fields_of(part.method, [f.name for f in fields(part.method)])
    if schedules:
        settings += _fields_of(part.own_schedule, scheduled())
    return make_dataclass("PartOptions", settings, frozen=True, kw_only=True)


def _fields_of(defaults: Any, names: Sequence[str]) -> list[tuple[str, Any, Any]]:
    hints = get_type_hints(type(defaults), include_extras=True)
    return [(name, hints[name], field(default=getattr(defaults, name))) for name in names]


def scheduled() -> list[str]:
    """Return the fields of the schedule that each part has on its own."""
    return [option.removeprefix("--").replace("-", "_") for option in SCHEDULE]


def _as_part(part: Part, options: Any) -> Part:
    settings = {f.name: getattr(options, f.name) for f in fields(part.method)}
    schedule = {name: getattr(options, name) for name in scheduled() if hasattr(options, name)}
    try:
        method = type(part.method)(**settings)
        return Part(
            name=part.name, method=method, share=part.share, schedule=Schedule(**schedule) if schedule else None
        )
    except InputError as fault:
        raise InputError(f"{part.name} in the mixture: {fault}") from fault
