"""Compare the images of two methods: a contact sheet of each, and signals of collapse that need no real images."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from datafree import METHODS, health, load_folder
from datafree.runs.training import TrainingConfig, example_teacher
from datafree.sets.contact_sheet import contact_sheet

out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/look")
if not (out / "teacher").is_dir():
    example_teacher(network="convnet_w64", data="digits", out=out / "teacher", training=TrainingConfig(steps=150))
teacher = load_folder(out / "teacher").eval()

for name in ("deep-dream", "deep-inversion"):
    torch.manual_seed(0)
    method = replace(METHODS[name], batch_size=64, steps=(60,), jitter=1)
    batch = method.build(teacher).synthesize()
    contact_sheet(batch).save(out / f"{name}.png")
    signals = {signal: f"{value:.3g}" for signal, value in health(teacher, None, batch).items()}
    print(f"{out / name}.png", *(f"{signal} {value}" for signal, value in signals.items()))
