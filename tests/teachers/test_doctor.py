"""What the doctor finds in a teacher."""

import toys
from torch import nn

from datafree.classifier import Classifier
from datafree.methods import METHODS
from datafree.teachers.doctor import diagnose, usable_methods


class TestDiagnosis:
    def test_finds_the_capabilities_of_a_teacher(self, teacher: Classifier):
        assert diagnose(teacher).capabilities == {"batch-norm statistics", "last layer"}
        assert usable_methods(teacher) == list(METHODS)

    def test_untrained_statistics_do_not_count(self):
        fresh = toys.conv_net()
        assert diagnose(fresh).batch_norms == diagnose(fresh).untrained_batch_norms == 2
        assert "deep-inversion" not in usable_methods(fresh)

    def test_methods_that_refuse_the_teacher_are_not_usable(self):
        single_block = toys.classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
        assert usable_methods(single_block) == [
            name for name in METHODS if name not in ("group-stack", "deep-inversion", "adi")
        ]

    def test_counts_parameters_classes_and_batch_norms(self, plain_teacher: Classifier):
        diagnosis = diagnose(plain_teacher)
        assert (diagnosis.parameters, diagnosis.shape, diagnosis.classes, diagnosis.batch_norms) == (
            596,
            toys.SHAPE,
            4,
            0,
        )
