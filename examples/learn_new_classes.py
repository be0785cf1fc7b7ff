"""Teach a network of the digits 0 to 4 the digits 5 to 9. Of the first five it sees synthesized images only."""

from copy import deepcopy
from dataclasses import replace

import torch

from datafree import METHODS, Augmentation, Schedule, Stream, create, evaluate, extend, widen
from datafree.applications.continual import RECIPES
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.runs.training import TrainingConfig, train

torch.set_num_threads(1)  # networks this small are fastest on one thread
torch.manual_seed(0)
ledger = Ledger()

# The network you have; here it is trained first.
old = open_real("digits:0-4", "train", "teacher training", ledger)
teacher = create("convnet_w16", classes=old.classes, shape=old.shape, mean=[0.3], std=[0.38])
train(teacher, old, TrainingConfig(steps=150, lr=1e-2))

method = replace(METHODS["deep-inversion"], batch_size=256, steps=(60,), lr=0.15, jitter=1)
schedule = Schedule(warmup_batches=8, refresh_every=0, pool_batches=8, batch_size=64)
batches = Stream(method.build(teacher), None, schedule)
new = open_real("digits:5-9", "train", "student training (new classes)", ledger)
student = widen(deepcopy(teacher), new.classes)
config = replace(RECIPES["abd"], steps=600, lr=5e-3, feature_weight=1.0, augment=Augmentation(shift=0.5))
student = extend(student, teacher, batches, new.random_batches(64), config)

test = open_real("digits", "test", "evaluation", ledger)
for name, model in {"teacher": teacher, "student": student}.items():
    result = evaluate(model, teacher, test.batches())
    print(f"{name}  {result.old_classes_accuracy:.1%} of the held-out digits 0 to 4,", end=" ")
    print(f"{result.new_classes_accuracy:.1%} of the held-out digits 5 to 9")
