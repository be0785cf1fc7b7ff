"""One paper a file. A new method is one file and one line in this dict."""

from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.methods.noise import NoiseConfig
from datafree.synthesis import Method

METHODS: dict[str, Method] = {
    "noise": NoiseConfig(),
    "deep-dream": DeepInversionConfig(statistics=0.0),
    "deep-inversion": DeepInversionConfig(),
    "adi": DeepInversionConfig(compete=10.0),
}
