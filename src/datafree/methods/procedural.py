r"""Procedural pictures: the teacher answers on pictures that small programs draw.

.. math:: x = \operatorname{clip}_{[0, 1]}(g \cdot d(\theta) + o), \quad \theta \sim p(\theta), \quad y = \arg\max f_T(x)

with a program :math:`d` of a random family and its random parameters :math:`\theta`. Gain :math:`g` and offset :math:`o` give
the pictures the mean and the standard deviation of the teacher's normalisation. The teacher is only run forward: no
gradient, batch norm or layer of it is needed. The differences from the papers are listed in
`docs/methods/procedural.md`.

References:
    | Learning to See by Looking at Noise (Baradad et al., 2021), https://arxiv.org/abs/2106.05963
    | Procedural Image Programs for Representation Learning (Baradad et al., 2022), https://arxiv.org/abs/2211.16412
    | Pre-training without Natural Images (Kataoka et al., 2020), https://arxiv.org/abs/2101.08515
    | Extrapolating from a Single Image to a Thousand Classes using Distillation (Asano and Saeed, 2023)
    | https://arxiv.org/abs/2112.00725
    | Data-Free Knowledge Distillation Using Adversarially Perturbed OpenGL Shader Images (Frank and Davis, 2023)
    | https://arxiv.org/abs/2310.13782
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from datafree import processes
from datafree.classifier import Classifier, frozen
from datafree.synthesis import Method, Schedule, Synthesizer
from datafree.synthesis.augmentation import Augmentation
from datafree.synthesis.drawings import DRAWINGS, Artist
from datafree.synthesis.drawings.levels import has_plain_ground
from datafree.types import Batch, InputError, require_at_least, require_at_most


@dataclass(frozen=True, kw_only=True)
class ProceduralConfig(Method):
    """The share of each family of pictures; shares are relative to their sum. The defaults are our choice."""

    paper: ClassVar[str] = "Baradad et al. 2021, arXiv 2106.05963; Asano and Saeed 2023, arXiv 2112.00725"

    leaves: float = 4.0
    """share of dead leaves: up to twelve shapes that cover each other"""
    objects: float = 4.0
    """share of objects: compounds of up to six shapes near the middle"""
    sines: float = 1.0
    """share of random sine networks of the coordinates"""
    noise: float = 1.0
    """share of coloured noise with the spectrum of photographs"""
    fields: float = 1.0
    """share of fields: two colours that vary along a gradient, a wave or noise"""
    horizons: float = 1.0
    """share of backgrounds, half of them with a horizon"""
    strokes: float = 12.0
    """share of pen strokes on plain ground; drawn only where `ground` says so"""
    ground: Literal["auto", "plain", "textured"] = "auto"
    """plain: draw strokes; textured: draw none; auto: draw them if the teacher takes grey images, or its normalisation is
    that of images with dark or light ground"""
    match_levels: bool = True
    """give pictures the mean and the standard deviation of the teacher's normalisation; off: leave them as they are drawn"""
    view: float = 0.0
    """smallest side of the visible part of a scene, as a fraction of its side, where it is larger than that of a family (0.35;
    strokes 0.75); 1: whole scenes"""

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = {name: getattr(self, name) for name in DRAWINGS}
        require_at_least(0, **shares, view=self.view)
        require_at_most(1, view=self.view)
        if not sum(shares.values()):
            raise InputError("the shares of all families are 0; give at least one family a share")

    @property
    def schedule(self) -> Schedule:
        return Schedule(warmup_batches=16, refresh_every=32, pool_batches=64)

    @property
    def passes(self) -> float:
        return 0

    @property
    def distillation(self) -> Mapping[str, Any]:
        """Shifts by up to an eighth of the side, and rectangles from other pictures: half of the images have one."""
        return {"augment": Augmentation(relative_shift=0.125, cutmix=0.5)}

    def families_for(self, teacher: Classifier) -> dict[str, float]:
        """Return the families with a share, for a teacher.

        Raises:
            InputError: If only strokes have a share, and the teacher gets none.
        """
        plain = has_plain_ground(teacher) if self.ground == "auto" else self.ground == "plain"
        names = [name for name, family in DRAWINGS.items() if plain or not family.on_plain_ground]
        families = {name: share for name in names if (share := getattr(self, name))}
        if not families:
            raise InputError("only strokes have a share, but this teacher gets none; set ground to plain")
        return families

    def build(self, teacher: Classifier) -> "Procedural":
        return Procedural(teacher, self)


class Procedural(Synthesizer):
    """Draws pictures and asks the teacher. Its state are the levels, which are measured once on drawn pictures."""

    divides = True

    def __init__(self, teacher: Classifier, config: ProceduralConfig) -> None:
        self.teacher, self.config = teacher, config
        families = config.families_for(teacher)
        self.artist = Artist(teacher, families, match=config.match_levels, view=config.view)

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        pictures = processes.part(self.artist.draw(self.config.batch_size))
        with frozen(self.teacher), torch.no_grad():
            logits = self.teacher(pictures)
        return Batch(pictures, self.teacher.predict(logits), {}, logits)

    def state_dict(self) -> dict[str, Any]:
        return self.artist.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.artist.load_state_dict(state)
