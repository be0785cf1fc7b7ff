"""Amalgamate a network of the digits 0 to 4 and one of 5 to 9 into a network of all ten, without any image of a digit."""

from dataclasses import replace

import torch

from datafree import (
    METHODS,
    AmalgamationConfig,
    Classifier,
    Ensemble,
    Schedule,
    Stream,
    amalgamate,
    create,
    create_student,
    evaluate,
)
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.runs.training import TrainingConfig, train


def trained(data: str) -> Classifier:
    """Stands for the networks you have."""
    real = open_real(data, "train", "teacher training", ledger)
    network = create("convnet_w16", classes=real.classes, shape=real.shape, mean=[0.3], std=[0.38])
    return train(network, real, TrainingConfig(steps=150, lr=1e-2))


torch.set_num_threads(1)  # networks this small are fastest on one thread
torch.manual_seed(0)
ledger = Ledger()
ensemble = Ensemble([trained("digits:0-4"), trained("digits:5-9")]).eval()

student = create_student(ensemble, "convnet_w16")
# a generator that also matches the running statistics of the teachers' batch norm
method = replace(METHODS["fast"], statistics=1.0)
batches = Stream.of(method, ensemble, student, Schedule(refresh_every=4, pool_batches=128))
student = amalgamate(student, ensemble, batches, AmalgamationConfig(steps=1200, weight_decay=0.0, branch_points=(1, 1)))

test = open_real("digits", "test", "evaluation", ledger)
for name, model in {"ensemble": ensemble, "student": student}.items():
    print(f"{name}  {evaluate(model, ensemble, test.batches()).accuracy:.1%} of the held-out digits")
