"""Sets of chosen classes, counted by class, and of the parts of a mixture."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toys

from datafree.callback import silent
from datafree.classifier import Classifier
from datafree.methods import METHODS
from datafree.randomness import RandomNumbers
from datafree.runs.synthesizing import job
from datafree.sets import image_set
from datafree.sets.collecting import PATIENCE, Collected, Sources, Wanted, collect
from datafree.sets.contact_sheet import labels_of
from datafree.synthesis import Method
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import InputError

AIMED = replace(METHODS["deep-inversion"], batch_size=64, steps=(2,))
MIXTURE = Mixture(
    parts=(
        Part(name="noise", method=toys.TINY["noise"], share=0.6),
        Part(name="inversion", method=AIMED, share=0.4),
    )
)


def collected(method: Method, teacher: Classifier, wanted: Wanted) -> Collected:
    notes: list[str] = []
    sources = Sources(teacher=teacher, student=None, callback=silent, note=notes.append, numbers=RandomNumbers(0))
    return collect(method, sources, wanted)


@pytest.mark.parametrize("name", ["deep-inversion", "zskd", "fast", "noise"])
def test_images_of_chosen_classes(name: str, teacher: Classifier):
    try:
        batch = collected(toys.TINY[name], teacher, Wanted(images=5, classes=(1, 3))).batch
    except InputError as refusal:  # all noise is of one class
        assert name == "noise" and f"among {8 * PATIENCE}" in str(refusal)
        return
    assert len(batch) == 5 and set(labels_of(batch).tolist()) <= {1, 3}


@pytest.mark.parametrize("classes", [(), (3, 1), (2,)])
def test_images_counted_by_class(classes: tuple[int, ...], teacher: Classifier):
    batch = collected(AIMED, teacher, Wanted(images=1, classes=classes, per_class=3)).batch
    chosen = classes or (0, 1, 2, 3)
    assert torch.bincount(batch.targets, minlength=4).tolist() == [3 * (label in chosen) for label in range(4)]


def test_the_targets_of_a_batch_are_balanced_over_the_chosen_classes(teacher: Classifier):
    teacher.target_classes = (3, 1)
    try:
        assert torch.bincount(teacher.sample_targets(9), minlength=4).sort().values.tolist() == [0, 0, 4, 5]
    finally:
        teacher.target_classes = ()


def test_a_batch_smaller_than_the_number_of_classes_reaches_all_of_them(teacher: Classifier):
    teacher.target_classes = (3, 1, 0)
    try:
        seen = {int(label) for _ in range(40) for label in teacher.sample_targets(2)}
        assert seen == {3, 1, 0} and all(len(set(teacher.sample_targets(2).tolist())) == 2 for _ in range(9))
    finally:
        teacher.target_classes = ()


def test_further_labels_of_a_multi_label_teacher_are_chosen_ones(teacher: Classifier):
    several = Classifier(teacher.model, shape=toys.SHAPE, classes=toys.CLASSES, multi_label=True).eval()
    several.target_classes = (0, 2)
    targets = several.sample_targets(50, extra_label_probability=0.9)
    assert targets[:, [1, 3]].sum() == 0 and targets.sum() > 75
    batch = collected(AIMED, several_without_choice(several), Wanted(images=4, classes=(0, 2))).batch
    assert len(batch) == 4 and batch.targets[:, [1, 3]].sum() == 0


def several_without_choice(teacher: Classifier) -> Classifier:
    teacher.target_classes = ()
    return teacher


def test_images_of_several_labels_are_not_counted_by_class(teacher: Classifier):
    several = Classifier(teacher.model, shape=toys.SHAPE, classes=toys.CLASSES, multi_label=True).eval()
    with pytest.raises(InputError, match="images of a multi-label teacher can have several classes; give --images"):
        collected(AIMED, several, Wanted(images=1, per_class=2))


def test_a_class_that_a_method_never_makes_is_named(teacher: Classifier):
    predicted = collected(toys.TINY["noise"], teacher, Wanted(images=64)).batch.targets
    missing = next(label for label in range(4) if label not in predicted.tolist())
    with pytest.raises(InputError, match=f"made no image of class '{toys.CLASSES[missing]}' among .* aims at classes"):
        collected(toys.TINY["noise"], teacher, Wanted(images=4, classes=(missing,)))


def test_a_mixture_writes_the_part_of_each_image(teacher: Classifier):
    result = collected(MIXTURE, teacher, Wanted(images=10))
    assert result.parts == ("noise", "inversion") and result.part_of is not None
    assert result.part_of.tolist() == [0] * 6 + [1] * 4 and len(result.batch) == 10


def test_a_share_of_less_than_one_image_is_refused(teacher: Classifier):
    with pytest.raises(
        InputError, match="the share of inversion is less than one image of each class; give more images"
    ):
        collected(MIXTURE, teacher, Wanted(images=10, per_class=1))


def test_a_set_of_a_mixture_is_read_back_with_its_parts(digits_teacher: Path, tmp_path: Path):
    out, spec = tmp_path / "set", f"local-dir:{digits_teacher}"
    count = job.synthesize(MIXTURE, teacher=spec, out=out, images=10, format=("folder", "parquet"), device="cpu")
    read = image_set.read(out)
    assert count == 10 and read.part_names == ["noise"] * 6 + ["inversion"] * 4
    assert len([*out.glob("png/*/*-noise.png")]) == 6 and len([*out.glob("png/*/*-inversion.png")]) == 4
    assert "6 by `noise`, 4 by `inversion`" in (out / "README.md").read_text()
    from pyarrow import parquet

    assert parquet.read_table(out / "parquet")["part"].to_pylist() == read.part_names


def test_classes_by_name_and_by_index(digits_teacher: Path, tmp_path: Path):
    spec = f"local-dir:{digits_teacher}"
    job.synthesize(AIMED, teacher=spec, out=tmp_path / "a", only=("7", "3"), per_class=2, format=())
    assert torch.bincount(image_set.read(tmp_path / "a").batch.targets, minlength=10).nonzero().flatten().tolist() == [
        3,
        7,
    ]
    with pytest.raises(InputError, match="there is no class '12'; give an index from 0 to 9, or a name among 0, 1"):
        job.synthesize(AIMED, teacher=spec, out=tmp_path / "b", only=("12",))
