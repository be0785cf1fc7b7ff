"""The contract that every method fulfils."""

import copy
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
import toys

import datafree
from datafree.applications import APPLICATIONS
from datafree.classifier import Classifier, batch_norms
from datafree.methods import METHODS
from datafree.methods.dafl import DAFLConfig
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.networks.zoo import ConvNet
from datafree.synthesis import Method, Schedule, Stream
from datafree.synthesis.augmentation import Augmentation
from datafree.teachers.inspection import require_capabilities
from datafree.types import InputError


@pytest.mark.parametrize("method", toys.TINY.values(), ids=toys.TINY)
class TestEveryMethod:
    def test_returns_images_of_the_right_shape_in_the_unit_range(
        self, method: Method, teacher: Classifier, student: Classifier
    ):
        images = toys.synthesize(method, teacher, student).images
        assert images.shape == (8, *toys.SHAPE) and images.dtype == torch.float32
        assert images.min() >= 0 and images.max() <= 1 and images.std() > 0.01

    def test_returns_one_valid_target_per_image(self, method: Method, teacher: Classifier, student: Classifier):
        targets = toys.synthesize(method, teacher, student).targets
        assert len(targets) == 8
        assert (
            set(targets.tolist()) <= set(range(4))
            if targets.ndim == 1
            else torch.allclose(targets.sum(1), torch.ones(8))
        )

    def test_returns_detached_tensors(self, method: Method, teacher: Classifier, student: Classifier):
        batch = toys.synthesize(method, teacher, student)
        assert not batch.images.requires_grad
        assert all(term.isfinite() and not term.requires_grad for term in batch.terms.values())

    @pytest.mark.parametrize("training", [True, False])
    def test_leaves_teacher_and_student_as_they_were(
        self, method: Method, teacher: Classifier, student: Classifier, training: bool
    ):
        student.train(training)
        next(student.parameters()).requires_grad_(False)
        before = toys.snapshot(teacher), toys.snapshot(student)
        toys.synthesize(method, teacher, student)
        assert toys.same((toys.snapshot(teacher), toys.snapshot(student)), before)

    def test_is_deterministic_given_the_seed(self, method: Method, teacher: Classifier, student: Classifier):
        first, again = (toys.synthesize(method, teacher, student, seed=7) for _ in range(2))
        assert torch.equal(first.images, again.images) and torch.equal(first.targets, again.targets)

    def test_differs_with_the_seed(self, method: Method, teacher: Classifier, student: Classifier):
        assert not torch.equal(*(toys.synthesize(method, teacher, student, seed).images for seed in (1, 2)))

    def test_neither_prints_nor_seeds(
        self, method: Method, teacher: Classifier, student: Classifier, capfd: pytest.CaptureFixture[str]
    ):
        toys.synthesize(method, teacher, student, seed=3)
        assert torch.initial_seed() == 3
        assert capfd.readouterr() == ("", "")

    def test_needs_no_student(self, method: Method, teacher: Classifier):
        assert len(toys.synthesize(method, teacher, None)) == 8

    def test_depends_on_the_student_only_if_it_is_adaptive(self, method: Method, teacher: Classifier):
        students = [toys.conv_net((4, 4)), toys.conv_net((4, 4))]
        with torch.no_grad():
            students[0].model.head.weight.mul_(10)  # type: ignore[union-attr]
        batches = [toys.synthesize(method, teacher, student) for student in students]
        adaptive = getattr(method, "compete", 0) or getattr(method, "adversary", 0)
        assert method.adaptive == bool(adaptive)
        assert toys.same(*(dict(batch.terms) | {"images": batch.images} for batch in batches)) != bool(adaptive)

    def test_logits_of_a_batch_are_those_of_the_teacher(self, method: Method, teacher: Classifier, student: Classifier):
        batch = toys.synthesize(method, teacher, student)
        if batch.teacher_logits is not None:
            assert torch.allclose(teacher(batch.images), batch.teacher_logits, atol=1e-4)
            assert not batch.teacher_logits.requires_grad

    @pytest.mark.parametrize("name", APPLICATIONS)
    def test_feeds_every_application(self, method: Method, teacher: Classifier, student: Classifier, name: str):
        application: Any = replace(APPLICATIONS[name], steps=4)  # type: ignore[type-var]
        learner, seen, more = toys.application_inputs(name, teacher, student)
        stream = Stream(
            method.build(teacher), seen, Schedule(warmup_batches=1, refresh_every=2, pool_batches=2, batch_size=8)
        )
        before = toys.snapshot(teacher)
        result = application.build()(learner, teacher, stream, **more)
        assert result(torch.rand(2, *toys.SHAPE)).isfinite().all()
        assert toys.same(toys.snapshot(teacher), before)

    def test_resumes_from_its_state(self, method: Method, teacher: Classifier, student: Classifier):
        original, restored = method.build(teacher), method.build(teacher)
        original.synthesize(student)
        restored.load_state_dict(copy.deepcopy(original.state_dict()))
        images = []
        for synthesizer in (original, restored):
            torch.manual_seed(5)
            images.append(synthesizer.synthesize(student).images)
        assert torch.equal(*images)

    def test_supports_a_teacher_without_batch_norm_or_names_the_methods_that_do(
        self, method: Method, plain_teacher: Classifier
    ):
        if "batch-norm statistics" in method.needs:
            with pytest.raises(
                InputError, match=r"no batch-norm statistics; methods that work with it: noise, deep-dream"
            ):
                require_capabilities(plain_teacher, method)
            with pytest.raises(InputError, match="no batch-norm statistics; use a method that needs none"):
                method.build(plain_teacher)
        else:
            require_capabilities(plain_teacher, method)
            assert toys.synthesize(method, plain_teacher, None).images.isfinite().all()

    def test_refuses_settings_out_of_range(self, method: Method):
        for f in fields(method):
            if isinstance(getattr(method, f.name), (int, float)) and not isinstance(getattr(method, f.name), bool):
                with pytest.raises(InputError, match=f.name.replace("_", "-")):
                    replace(method, **{f.name: -1})

    def test_refuses_unknown_choices(self, method: Method):
        """Without the type checker of the tests, which would refuse them first."""
        for f in fields(method):
            if get_origin(f.type) is Literal:
                invalid, word = copy.copy(method), get_args(f.type)[0]
                object.__setattr__(invalid, f.name, f"{word}s")
                with pytest.raises(
                    InputError, match=f"{f.name.replace('_', '-')} '{word}s' is unknown; did you mean {word}"
                ):
                    invalid.__post_init__()

    def test_has_a_paper_a_cost_and_a_schedule(self, method: Method):
        assert method.paper and method.passes >= 0 and isinstance(method.schedule, Schedule)

    def test_its_repr_evaluates_to_itself(self, method: Method):
        assert eval(repr(method), {kind.__name__: kind for kind in (type(method), Augmentation)}) == method  # noqa: S307

    def test_supports_several_channels_and_images_that_are_not_square(self, method: Method):
        teacher = Classifier(
            ConvNet(num_classes=3, in_chans=4, widths=(4,)),
            shape=(4, 8, 12),
            classes=3,
            mean=(0.1, 0.2, 0.3, 0.4),
            std=(0.5,),
        )
        batch_norms(teacher)[0].running_mean.fill_(0.1)  # type: ignore[union-attr]
        images = toys.synthesize(method, teacher.eval(), None).images
        assert images.shape == (8, 4, 8, 12) and images.min() >= 0 and images.max() <= 1


def test_presets_have_the_classes_that_type_checkers_are_told():
    inversion: DeepInversionConfig = METHODS["adi"]
    generator: DAFLConfig = METHODS["fast"]
    assert (inversion.compete, generator.reset_every) == (10.0, 200)
    assert all(isinstance(method, Method) for _, method in METHODS.items())


SOURCE, DOCS = Path(datafree.__file__).parent, Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("folder", ["methods", "applications"])
def test_differences_from_a_paper_are_listed_once(folder: str):
    """On the page that the module names; two lists would differ sooner or later."""
    for path in (SOURCE / folder).glob("*.py"):
        text = path.read_text()
        assert "Differences from the paper" not in text
        for page in re.findall(r"are listed (?:in|on)\D*?`docs/(\S+)`", text):
            assert "## Differences from the paper" in (DOCS / page).read_text()
    assert sum("are listed" in path.read_text() for path in (SOURCE / "methods").glob("*.py")) == 6
