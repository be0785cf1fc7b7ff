"""A network of your own becomes a smaller student. Real images train the network here; the student sees none."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from datafree import METHODS, Classifier, DistillationConfig, Schedule, Stream, distill, measure, student_of


def trained_network() -> nn.Module:
    """Stands for the network you have: any module from normalised images to logits."""
    conv = [nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64)]
    network = nn.Sequential(*conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    for _ in range(150):
        chosen = torch.randint(1300, (128,))
        optimizer.zero_grad()
        F.cross_entropy(network((images[chosen] - 0.3) / 0.38), labels[chosen]).backward()
        optimizer.step()
    return network.eval()


torch.set_num_threads(1)  # networks this small are fastest on one thread
torch.manual_seed(0)
digits = load_digits()
images, labels = torch.tensor(digits.images[:, None] / 16).float(), torch.tensor(digits.target)

teacher = Classifier(trained_network(), shape=(1, 8, 8), classes=10, mean=[0.3], std=[0.38])
student = student_of(teacher, "convnet_w16")
method = replace(METHODS["deep-inversion"], batch_size=128, steps=(100,), jitter=1)
batches = Stream(method.build(teacher), student, Schedule(warmup_batches=2, refresh_every=0, pool_batches=2))
student = distill(student, teacher, batches, DistillationConfig(steps=400, lr=1e-2))

for name, model in {"teacher": teacher, "student": student}.items():
    with torch.no_grad():
        right = (model(images[1300:]).argmax(1) == labels[1300:]).float().mean()
    print(f"{name}  {measure(model).parameters:6,} parameters  {right:.1%} of the held-out digits")
