"""Where the images of a row come from: settings that several tables share."""

from dataclasses import replace

from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.synthesis import Method, Schedule
from datafree.synthesis.augmentation import Augmentation

CIFAR10_AUGMENTATION = Augmentation(shift=4, flip=True)


def image_sources(inversion: DeepInversionConfig, schedule: Schedule) -> dict[str, tuple[Method | None, Schedule]]:
    """Return method and schedule of the floor, of DeepDream and DeepInversion, and of the ceiling.

    Args:
        inversion: The settings of DeepInversion; DeepDream differs only in the weight of the batch-norm statistics.
        schedule: When both synthesize images. Its batch size is that of all rows.
    """
    batch_size = schedule.batch_size
    return {
        "noise": (replace(METHODS["noise"], batch_size=batch_size), Schedule()),
        "deep-dream": (replace(inversion, statistics=0.0), schedule),
        "deep-inversion": (inversion, schedule),
        "real images": (None, Schedule(batch_size=batch_size)),
    }
