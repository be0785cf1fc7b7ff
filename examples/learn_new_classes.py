"""A network that knows the digits 0 to 4 learns 5 to 9. Of the first five it sees synthesized images only."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from datafree import METHODS, Batch, Classifier, Schedule, Stream, create, extend, widen
from datafree.applications.continual import RECIPES


def some(classes: range, size: int = 64) -> Iterator[Batch]:
    """Real images of these classes, which count from 0, without end."""
    places = torch.tensor([place for place in range(1300) if labels[place] in classes])
    while True:
        chosen = places[torch.randint(len(places), (size,))]
        yield Batch(images[chosen], labels[chosen] - classes.start, {})


def trained() -> Classifier:
    """Stands for the network you have."""
    network = create("convnet_w16", classes=list("01234"), shape=(1, 8, 8), mean=[0.3], std=[0.38])
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    for batch, _ in zip(some(range(5)), range(150), strict=False):
        optimizer.zero_grad()
        F.cross_entropy(network(batch.images), batch.targets).backward()
        optimizer.step()
    return network.eval()


torch.set_num_threads(1)  # networks this small are fastest on one thread
torch.manual_seed(0)
digits = load_digits()
images, labels = torch.tensor(digits.images[:, None] / 16).float(), torch.tensor(digits.target)

teacher = trained()
method = replace(METHODS["deep-inversion"], batch_size=128, steps=(150,), jitter=1)
old = Stream(method.build(teacher), None, Schedule(warmup_batches=2, refresh_every=0, pool_batches=2, batch_size=64))
config = replace(RECIPES["abd"], steps=300, lr=5e-3, features=0.5)
student = extend(widen(deepcopy(teacher), list("56789")), teacher, old, some(range(5, 10)), config)

for name, model in {"teacher": teacher, "student": student}.items():
    with torch.no_grad():
        right = model(images[1300:]).argmax(1) == labels[1300:]
    old_part, new_part = (right[part].float().mean() for part in (labels[1300:] < 5, labels[1300:] >= 5))
    print(f"{name}  {old_part:.1%} of the held-out digits from 0 to 4, {new_part:.1%} of those from 5 to 9")
