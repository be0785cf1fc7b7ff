"""Tests of distillation."""

import itertools
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import toys
from torch import Tensor

from datafree.applications.distillation import DistillationConfig, Distiller, distill
from datafree.callback import Callback
from datafree.classifier import Classifier, batch_norms, record
from datafree.ensemble import EXCLUDED_LOGIT
from datafree.methods.noise import NoiseConfig
from datafree.synthesis import Schedule, Stream
from datafree.synthesis.augmentation import Augmentation
from datafree.synthesis.mixture import Mixed, Mixture, Part
from datafree.types import Batch, InputError, Terms

PLAIN = DistillationConfig(steps=150, lr=3e-2)


def forever(batch: Batch, size: int = 64) -> Iterator[Batch]:
    while True:
        indices = torch.randint(len(batch), (size,))
        yield replace(batch, images=batch.images[indices], targets=batch.targets[indices])


class Recorder(Callback):
    """Records the loss and the student's weights after each step."""

    def __init__(self, student: Classifier) -> None:
        self.student = student
        self.steps: list[int] = []
        self.weights: list[dict[str, Tensor]] = []
        self.losses: list[float] = []

    def log(self, step: int, terms: Terms) -> None:
        self.steps.append(step)
        self.weights.append({name: tensor.clone() for name, tensor in self.student.state_dict().items()})
        self.losses.append(float(terms["distillation"]))


def test_the_student_learns_to_predict_as_the_teacher_does(teacher: Classifier, student: Classifier, bars: Batch):
    recorder = Recorder(student)
    learned = distill(student, teacher, forever(bars), PLAIN, callback=recorder)
    assert (learned(bars.images).argmax(1) == teacher(bars.images).argmax(1)).float().mean() > 0.95
    assert sum(recorder.losses[-5:]) < 0.2 * sum(recorder.losses[:5])


def test_returns_the_student_itself_in_evaluation_mode(teacher: Classifier, student: Classifier, bars: Batch):
    student.train()
    assert distill(student, teacher, forever(bars), replace(PLAIN, steps=2)) is student
    assert not any(module.training for module in student.modules())


def test_the_loss_of_a_multi_label_teacher_is_summed_over_the_labels(teacher: Classifier, student: Classifier):
    several = Classifier(teacher.model, shape=toys.SHAPE, classes=4, multi_label=True).eval()
    images = torch.rand(3, *toys.SHAPE)
    p, q = (several(images) / 2).sigmoid(), (student.train()(images) / 2).sigmoid()
    divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    recorder = Recorder(student)
    batch = Batch(images, torch.zeros(3, 4), {})
    distill(student, several, [batch], DistillationConfig(steps=1, temperature=2.0), callback=recorder)
    assert recorder.losses[0] == pytest.approx(4 * divergence.sum(1).mean().item(), rel=1e-4)


def test_the_teacher_is_not_changed(teacher: Classifier, student: Classifier, bars: Batch):
    before = toys.snapshot(teacher)
    distill(student, teacher, forever(bars), replace(PLAIN, steps=5))
    assert toys.same(toys.snapshot(teacher), before)


def test_labels_are_not_used(teacher: Classifier, bars: Batch):
    wrong = replace(bars, targets=bars.targets.flip(0))
    results = []
    for batch in (bars, wrong):
        torch.manual_seed(4)
        results.append(distill(toys.conv_net((4, 4)), teacher, forever(batch), replace(PLAIN, steps=5)))
    assert toys.same(*(toys.snapshot(result)["weights"] for result in results))


def test_the_callback_receives_each_step_once(teacher: Classifier, student: Classifier, bars: Batch):
    recorder = Recorder(student)
    distill(student, teacher, forever(bars), replace(PLAIN, steps=7), callback=recorder)
    assert recorder.steps == [1, 2, 3, 4, 5, 6, 7]


def test_takes_one_batch_per_step(teacher: Classifier, student: Classifier, bars: Batch):
    stream = forever(bars)
    taken: list[Batch] = []

    def counted() -> Iterator[Batch]:
        for batch in stream:
            taken.append(batch)
            yield batch

    distill(student, teacher, counted(), replace(PLAIN, steps=4))
    assert len(taken) == 4


@pytest.mark.parametrize("kind", [list, tuple])
def test_takes_any_iterable_of_batches(teacher: Classifier, student: Classifier, bars: Batch, kind: type):
    batches: Iterable[Batch] = kind(itertools.islice(forever(bars), 3))
    distill(student, teacher, batches, replace(PLAIN, steps=3))


def test_too_few_batches_are_refused(teacher: Classifier, student: Classifier, bars: Batch):
    with pytest.raises(InputError, match="the batches ended after 2 of 5 steps"):
        distill(student, teacher, [bars, bars], replace(PLAIN, steps=5))


def test_the_moving_average_by_hand(teacher: Classifier, student: Classifier, bars: Batch):
    recorder = Recorder(student)
    averaged = distill(student, teacher, forever(bars), replace(PLAIN, steps=3, ema=0.75), callback=recorder)
    one, two, three = recorder.weights
    for name, average in averaged.state_dict().items():
        if average.is_floating_point() and "running" not in name:  # those are measured again, see below
            expected = 0.75 * (0.75 * one[name] + 0.25 * two[name]) + 0.25 * three[name]
            assert torch.allclose(average, expected, atol=1e-6), name
    assert not torch.allclose(averaged.model.head.weight, three["model.head.weight"])  # type: ignore[union-attr]


def test_statistics_of_the_moving_average_are_those_of_its_own_features(teacher: Classifier, bars: Batch):
    """With a batch that is always the same and a high decay, the average changes little over the measured steps."""
    student = toys.conv_net((4, 4))
    distill(student, teacher, itertools.repeat(bars), replace(PLAIN, steps=60, ema=0.99))
    norm = batch_norms(student)[0]
    with record(norm) as calls, torch.no_grad():
        student(bars.images)
    assert norm.running_mean is not None and norm.running_var is not None
    assert torch.allclose(norm.running_mean, calls[0].input.mean((0, 2, 3)), atol=0.02)
    assert torch.allclose(norm.running_var, calls[0].input.var((0, 2, 3)), rtol=0.1)


class TestSelect:
    def test_learns_from_one_of_several_candidates_per_image(
        self, teacher: Classifier, student: Classifier, bars: Batch
    ):
        sizes: list[int] = []
        handle = student.register_forward_hook(lambda model, inputs, _: sizes.append(len(inputs[0])))
        taken: list[int] = []

        def counted() -> Iterator[Batch]:
            for batch in forever(bars, 16):
                taken.append(len(batch))
                yield batch

        distill(student, teacher, counted(), replace(PLAIN, steps=2, select=3))
        handle.remove()
        assert taken == [16] * 6, "three batches per step"
        assert sizes == [48, 16, 48, 16], "all candidates are predicted, a third of them learned"

    def test_prefers_images_on_which_the_student_is_wrong(self, teacher: Classifier, bars: Batch):
        """A student that equals the teacher, except on half of the images."""
        half = Batch(torch.cat([bars.images[:32], 1 - bars.images[:32]]), bars.targets[:64], {})

        class Wrong(torch.nn.Module):
            def forward(self, images: Tensor) -> Tensor:
                logits = teacher(images)
                return torch.where(images.mean((1, 2, 3), keepdim=True)[:, :, 0, 0] > 0.5, logits.flip(1) * 3, logits)

        distiller = Distiller(toys.conv_net((4, 4)), teacher, replace(PLAIN, select=2))
        distiller.student = Wrong()
        chosen = distiller.select(half.images, teacher(half.images).detach())
        assert len(chosen) == len(set(chosen.tolist())) == 32
        assert (half.images[chosen].mean((1, 2, 3)) > 0.5).float().mean() > 0.9

    def test_uses_stored_logits_and_spares_the_teacher(self, teacher: Classifier, student: Classifier, bars: Batch):
        stored = Batch(bars.images, bars.targets, {}, teacher(bars.images).detach())
        calls = []
        handle = teacher.register_forward_hook(lambda *_: calls.append(1))
        distill(student, teacher, [stored] * 4, replace(PLAIN, steps=2, select=2))
        handle.remove()
        assert not calls

    def test_one_candidate_changes_no_number(self, teacher: Classifier, bars: Batch):
        results = []
        for config in (replace(PLAIN, steps=5), replace(PLAIN, steps=5, select=1)):
            torch.manual_seed(3)
            results.append(distill(toys.conv_net((4, 4)), teacher, forever(bars), config))
        assert toys.same(*(toys.snapshot(result)["weights"] for result in results))

    def test_a_stream_counts_the_steps_of_the_student(self, teacher: Classifier, student: Classifier):
        for refresh, expected in ((2, 1 + 2), (0, 1), (1, 10)):
            schedule = Schedule(warmup_batches=1, refresh_every=refresh, pool_batches=4, batch_size=8)
            stream = Stream.of(NoiseConfig(batch_size=8), teacher, student, schedule)
            distill(student, teacher, stream, replace(PLAIN, steps=5, select=2))
            assert stream.batch_count == expected

    def test_the_parts_of_a_mixture_count_the_steps_of_the_student_too(self, teacher: Classifier, student: Classifier):
        counts = []
        for select in (1, 3):
            schedule = Schedule(warmup_batches=1, refresh_every=2, pool_batches=4)
            part = Part(name="a", method=NoiseConfig(batch_size=8), share=1.0, schedule=schedule)
            mixture = Mixture(parts=(part, replace(part, name="b")), batch_size=8)
            stream = Stream.of(mixture, teacher, student)
            distill(student, teacher, stream, replace(PLAIN, steps=5, select=select))
            assert isinstance(stream.synthesizer, Mixed)
            counts.append([inner.batch_count for inner in stream.synthesizer.streams.values()])
        assert counts == [[3, 3], [3, 3]]

    def test_passes_are_counted(self, teacher: Classifier, student: Classifier):
        assert DistillationConfig().passes == 4, "forward twice, backward as much as two forward passes"
        config = DistillationConfig(select=2)
        assert config.passes == 2 + 2 + 3, "both networks predict two candidates, the student learns one"
        assert config.summarize(student, teacher) == {"select": 2, "passes_per_image": 7}
        assert DistillationConfig().summarize(student, teacher) == {}

    def test_too_few_batches_are_refused(self, teacher: Classifier, student: Classifier, bars: Batch):
        with pytest.raises(InputError, match="the batches ended after 1 of 2 steps"):
            distill(student, teacher, [bars] * 3, replace(PLAIN, steps=2, select=2))

    def test_zero_candidates_are_refused(self):
        with pytest.raises(InputError, match="select is 0, but it must be at least 1"):
            DistillationConfig(select=0)


def test_the_learning_rate_rises_and_then_falls_along_a_cosine():
    config = DistillationConfig(steps=100, lr_warmup=0.1)
    assert [config.lr_factor(step) for step in (0, 4, 9)] == pytest.approx([1 / 11, 5 / 11, 10 / 11])
    assert [config.lr_factor(step) for step in (10, 40, 55, 100)] == pytest.approx([1, 0.75, 0.5, 0])


def test_without_warmup_the_learning_rate_starts_at_its_peak():
    assert DistillationConfig(lr_warmup=0.0).lr_factor(0) == 1


def test_both_networks_see_the_same_augmented_images(teacher: Classifier, student: Classifier, bars: Batch):
    shown: list[Tensor] = []
    handles = [
        model.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0])) for model in (teacher, student)
    ]
    distill(student, teacher, [bars], replace(PLAIN, steps=1, augment=Augmentation(shift=2.0)))
    for handle in handles:
        handle.remove()
    assert torch.equal(shown[0], shown[1])
    assert not torch.allclose(shown[0], bars.images)


def test_the_temperature_softens_what_is_learned(teacher: Classifier, bars: Batch):
    losses = []
    for temperature in (1.0, 8.0):
        torch.manual_seed(0)
        student = toys.conv_net((4, 4))
        recorder = Recorder(student)
        distill(student, teacher, [bars], replace(PLAIN, steps=1, temperature=temperature), callback=recorder)
        losses += recorder.losses
    assert losses[0] != pytest.approx(losses[1], rel=0.01)


@pytest.mark.parametrize("name", ["sgd", "adam", "lamb"])
def test_takes_any_optimizer_of_timm(teacher: Classifier, student: Classifier, bars: Batch, name: str):
    before = student.model.head.weight.clone()  # type: ignore[union-attr,operator]
    distill(student, teacher, [bars], replace(PLAIN, steps=1, optimizer=name))
    assert not torch.equal(student.model.head.weight, before)  # type: ignore[union-attr,arg-type]


def test_an_unknown_optimizer_is_refused(teacher: Classifier, student: Classifier, bars: Batch):
    with pytest.raises(InputError, match="optimizer 'adamm' is unknown"):
        distill(student, teacher, [bars], replace(PLAIN, steps=1, optimizer="adamm"))


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"temperature": 0.0},
        {"ema": 1.0},
        {"ema": -0.1},
        {"lr_warmup": 1.5},
        {"weight_decay": -1.0},
    ],
)
def test_refuses_invalid_settings(bad: dict[str, float]):
    with pytest.raises(InputError, match=next(iter(bad)).replace("_", "-")):
        DistillationConfig(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_labels_that_a_batch_rules_out_get_no_probability(teacher: Classifier, student: Classifier, shift: float):
    images = torch.rand(4, *toys.SHAPE)
    with torch.no_grad():
        logits = teacher(images).index_fill(1, torch.tensor([1, 3]), EXCLUDED_LOGIT)
    config = DistillationConfig(temperature=20.0, augment=Augmentation(shift=shift))
    torch.manual_seed(1)
    terms = Distiller(deepcopy(student), teacher, config).step(Batch(images, torch.zeros(4).long(), {}, logits))
    torch.manual_seed(1)
    augmented = config.augment(images)
    expected = (teacher(augmented)[:, [0, 2]] / 20).softmax(1)
    log_q = (student(augmented) / 20).log_softmax(1)[:, [0, 2]]
    by_hand = 20**2 * (expected * (expected.log() - log_q)).sum(1).mean()
    assert terms["distillation"].item() == pytest.approx(by_hand.item(), rel=1e-4)
