"""Methods that synthesize images, one paper per file. `METHODS` holds the presets by name.

A new method is one file here and one entry in `METHODS`.
"""

from typing import Literal, overload

from datafree.methods.dafl import DAFLConfig
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.methods.group_stack import GroupStackConfig
from datafree.methods.noise import NoiseConfig
from datafree.methods.procedural import ProceduralConfig
from datafree.methods.zskd import ZSKDConfig
from datafree.synthesis import Method


class Presets(dict[str, Method]):
    """A dictionary of methods. Type checkers know the class behind each built-in name."""

    @overload
    def __getitem__(self, name: Literal["noise"], /) -> NoiseConfig: ...
    @overload
    def __getitem__(self, name: Literal["procedural"], /) -> ProceduralConfig: ...
    @overload
    def __getitem__(self, name: Literal["deep-dream", "deep-inversion", "adi", "refine"], /) -> DeepInversionConfig: ...
    @overload
    def __getitem__(self, name: Literal["dafl", "dafl-authors", "fast"], /) -> DAFLConfig: ...
    @overload
    def __getitem__(self, name: Literal["zskd"], /) -> ZSKDConfig: ...
    @overload
    def __getitem__(self, name: Literal["group-stack"], /) -> GroupStackConfig: ...
    @overload
    def __getitem__(self, name: str, /) -> Method: ...
    def __getitem__(self, name: str, /) -> Method:
        return super().__getitem__(name)


METHODS = Presets(
    {
        "noise": NoiseConfig(),
        "deep-dream": DeepInversionConfig(statistics=0.0),
        "deep-inversion": DeepInversionConfig(),
        "adi": DeepInversionConfig(compete=10.0),
        "refine": DeepInversionConfig(
            steps=(100,),
            lr=0.1,
            cosine=True,
            statistics=3.0,
            prior=1.0,
            start="procedural",
            targets="nearest",
        ),
        "dafl": DAFLConfig(),
        "dafl-authors": DAFLConfig(units="authors", activation=0.1, entropy=5.0, reuse_batch=True),
        "zskd": ZSKDConfig(),
        "group-stack": GroupStackConfig(),
        "fast": DAFLConfig(
            batch_size=128,
            lr=1e-2,
            units="authors",
            activation=0.05,
            entropy=5.0,
            statistics=1.0,
            adversary=1.0,
            generator="subpixel",
            reset_every=200,
            discard_first=20,
            reuse_batch=True,
        ),
        "procedural": ProceduralConfig(),
    }
)
"""the methods of the papers with their published settings, and our own recipes `refine` and `fast`"""
