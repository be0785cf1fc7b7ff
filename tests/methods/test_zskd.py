"""ZSKD: class similarity by hand, soft labels, impressions."""

import math

import pytest
import torch
import toys
from torch import nn

from datafree.classifier import Classifier
from datafree.methods import METHODS
from datafree.methods.zskd import ZSKD, ZSKDConfig, class_similarity
from datafree.teachers.inspection import require_capabilities
from datafree.types import InputError


class TestZSKD:
    def test_class_similarity_by_hand(self):
        similarity = class_similarity(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]))
        middle = 1 / math.sqrt(2)  # the cosine of the neighbours; the outer two are orthogonal
        assert similarity[0].tolist() == pytest.approx([1, middle, 0], abs=1e-6)
        assert similarity[1].tolist() == pytest.approx([0, 1, 0], abs=1e-6)

    def test_class_similarity_has_a_one_on_the_diagonal_and_a_zero_in_each_row(self):
        similarity = class_similarity(torch.randn(6, 20))
        assert torch.allclose(similarity.diagonal(), torch.ones(6)) and (similarity.amin(1) == 0).all()

    @pytest.mark.parametrize("weights", [[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[1.0], [2.0], [0.5]]])
    def test_a_class_without_weights_or_with_those_of_all_others_is_only_similar_to_itself(
        self, weights: list[list[float]]
    ):
        similarity = class_similarity(torch.tensor(weights))
        assert similarity[0].tolist() == [1, 0, 0] and similarity.isfinite().all()

    def test_soft_labels_are_probabilities_that_prefer_their_class(self, teacher: Classifier):
        labels = ZSKD(teacher, ZSKDConfig()).soft_labels(4000)
        assert torch.allclose(labels.sum(1), torch.ones(4000), atol=1e-5) and labels.min() >= 0
        for kind in range(4):
            assert labels[kind::4].mean(0).argmax() == kind

    @pytest.mark.parametrize(("classes", "batches"), [(1000, 10), (150, 3), (10, 1), (7, 7)])
    def test_every_class_and_every_scale_has_its_turn_over_the_whole_set(self, classes: int, batches: int):
        head = nn.Linear(4, classes)
        teacher = Classifier(nn.Sequential(nn.Flatten(), head), shape=(1, 2, 2), classes=classes)
        method = ZSKD(teacher, ZSKDConfig(batch_size=200))
        turns = [method.turns(200) for _ in range(batches)]
        pairs = torch.cat([kinds + classes * (scales < 0.5) for kinds, scales in turns])
        counts = torch.bincount(pairs, minlength=2 * classes)
        assert counts.max() - counts.min() <= (200 * batches % (2 * classes) > 0)

    def test_a_checkpoint_holds_whose_turn_it_is(self, teacher: Classifier):
        method, restored = (ZSKD(teacher, ZSKDConfig()) for _ in range(2))
        method.turns(5)
        restored.load_state_dict(method.state_dict())
        assert restored.turns(3)[0].tolist() == [1, 2, 3]

    def test_a_smaller_scale_makes_labels_more_certain(self, teacher: Classifier):
        certainty = [ZSKD(teacher, ZSKDConfig(scales=(s,))).soft_labels(2000).amax(1).mean() for s in (10.0, 1.0, 0.1)]
        assert certainty[0] < certainty[1] < certainty[2]

    @pytest.mark.parametrize("smooth", [True, False])
    def test_optimization_brings_impressions_closer_to_their_targets(self, teacher: Classifier, smooth: bool):
        def residual(steps: int) -> float:
            method = ZSKDConfig(batch_size=64, steps=steps, temperature=4.0, smooth=smooth, lr=0.1)
            return float(toys.synthesize(method, teacher, None).terms["residual"])

        assert residual(60) < 0.7 * residual(1)

    def test_refuses_a_teacher_without_an_accessible_last_layer(self):
        headless = toys.classifier(nn.Sequential(nn.Conv2d(1, 4, 8), nn.Flatten()))
        with pytest.raises(InputError, match="no last layer"):
            require_capabilities(headless, METHODS["zskd"])
        with pytest.raises(InputError, match="no last layer"):
            METHODS["zskd"].build(headless)


def test_refuses_a_black_box_teacher(plain_teacher: Classifier):
    with pytest.raises(InputError, match="no last layer; methods that work with it: noise, deep-dream, refine, dafl"):
        require_capabilities(toys.classifier(toys.BlackBox(plain_teacher)), toys.TINY["zskd"])
