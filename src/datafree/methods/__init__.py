"""One paper a file. A new method is one file and one line in this dict."""

from datafree.methods.dafl import DAFLConfig
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.methods.group_stack import GroupStackConfig
from datafree.methods.noise import NoiseConfig
from datafree.methods.zskd import ZSKDConfig
from datafree.synthesis import Method

METHODS: dict[str, Method] = {
    "noise": NoiseConfig(),
    "deep-dream": DeepInversionConfig(statistics=0.0),
    "deep-inversion": DeepInversionConfig(),
    "adi": DeepInversionConfig(compete=10.0),
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
        adversary=1.0,
        generator="subpixel",
        reset_every=200,
        discard_first=20,
        reuse_batch=True,
    ),
}
