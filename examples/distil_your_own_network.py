"""Distil a network of your own into a smaller one. Real images train the network here; the student sees none."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from datafree import METHODS, Augmentation, Classifier, DistillationConfig, Schedule, Stream, create_student, distill


def trained_network() -> nn.Module:
    """Stands for the network you have: any module from normalised images to logits."""
    layers: list[nn.Module] = []
    for before, after in ((1, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.AvgPool2d(2)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, 150)
    for chosen in torch.randint(1300, (150, 128)):
        optimizer.zero_grad()
        F.cross_entropy(network((images[chosen] - 0.3) / 0.38), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


torch.set_num_threads(1)  # networks this small are fastest on one thread
torch.manual_seed(0)
images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
images = images.float().view(-1, 1, 8, 8) / 16
teacher = Classifier(trained_network(), shape=(1, 8, 8), classes=10, mean=[0.3], std=[0.38])
student = create_student(teacher, "convnet_w16")  # timm's own networks all have more parameters than this teacher
method = replace(METHODS["deep-inversion"], batch_size=256, steps=(80,), lr=0.15, jitter=1).build(teacher)
batches = Stream(method, student, Schedule(warmup_batches=8, refresh_every=0, pool_batches=8))
config = DistillationConfig(steps=1200, lr=1e-2, augment=Augmentation(shift=1.0, mix=0.25))
for name, model in {"teacher": teacher, "student": distill(student, teacher, batches, config)}.items():
    accuracy = (model(images[1300:]).argmax(1) == labels[1300:]).float().mean()
    print(f"{name}  {sum(p.numel() for p in model.parameters()):6,} parameters  {accuracy:.1%} of held-out digits")
