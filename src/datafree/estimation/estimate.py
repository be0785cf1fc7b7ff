"""Estimate how much of its teacher's accuracy a student keeps, without data."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from datafree.callback import Callback, silent
from datafree.classifier import Classifier, frozen
from datafree.ensemble import Ensemble
from datafree.estimation.agreement import Agreement, weighted_agreement
from datafree.estimation.cache import Cache, cache_folder, key_of
from datafree.estimation.families import FAMILIES, LAST_RESORT, Source, families_of, is_known, sources, without
from datafree.estimation.planning import IMAGES, measure_speed, plan, seconds_for
from datafree.estimation.pools import ROBUST, Pool, examined, is_fragile, synthesize_all
from datafree.estimation.result import (
    Estimate,
    interval,
    is_often_overrated,
    lost_classes,
    not_estimated,
    sentence_for,
    word_for,
)
from datafree.estimation.stability import BATCH
from datafree.evaluation import agreement, class_places
from datafree.matching import resized_to
from datafree.methods import METHODS
from datafree.randomness import RandomNumbers
from datafree.synthesis import Method
from datafree.types import Batch, Labels, require_at_least, require_one_of, require_seed

CacheUse = Literal["use", "renew", "off"]
FEWEST_IMAGES, FEWEST_FAMILIES, FEWEST_PER_CLASS = 200, 2, 10
"""least images and families of an estimate, and least images per class for the retention of each class"""

FRAGILE_REASON = "the teacher's decisions do not survive small changes of an image"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the pools of an estimate are made."""

    images: int = IMAGES
    """synthesized images of each family, if time allows"""
    seconds: float = 60.0
    """time for pools that are not there yet"""
    seed: int = 0
    """random seed of the pools"""
    cache: CacheUse = "use"
    """use: read the pools of this teacher from disk and store new ones; renew: make them again; off: neither"""
    folder: Path | None = None
    """folder of all pools; default: see `cache_folder`"""

    def __post_init__(self) -> None:
        require_at_least(1, images=self.images)
        require_at_least(0, seconds=self.seconds)
        require_seed(self.seed)
        require_one_of(("use", "renew", "off"), cache=self.cache)


def estimate(
    student: Classifier,
    teacher: Classifier,
    *,
    method: Method | str | None,
    accuracy: float | None = None,
    real: Iterable[Batch] | None = None,
    settings: Settings | None = None,
    callback: Callback = silent,
) -> Estimate:
    """Estimate how much of its teacher's accuracy a student keeps, without real images.

    Teacher and student are compared on pools of synthesized images of several families, without those that the student was
    trained on. How much an image counts depends on how stable the teacher's decision on it is; see
    `datafree.estimation.agreement`. Neither network nor torch's global random state is changed.

    The estimate is meant for students that were trained from random weights on synthesized images. Those that saw real
    images, or started from other weights, are underrated.

    Args:
        student: The student. It may have more classes than the teacher; these are not judged.
        teacher: The teacher, with one label per image; an ensemble counts as one teacher.
        method: How the student's images were synthesized: a method, or the name of one or of several, separated by commas;
            None if they were not synthesized.
        accuracy: The accuracy of the teacher, if it is known, from 0 to 1.
        real: Unlabelled real pictures, as batches whose targets are not used. The agreement on them is said besides.
        settings: How the pools are made.
        callback: Shows the progress.

    Raises:
        InputError: If the name of the method is unknown, or the classes of both networks do not fit.
    """
    teacher, student = in_single_precision(teacher), in_single_precision(student)
    found = on_pools(student, teacher, named_method(method), accuracy, settings or Settings(), callback)
    return found if real is None else with_real(found, student, teacher, real)


def on_pools(
    student: Classifier,
    teacher: Classifier,
    method: Method | None,
    accuracy: float | None,
    settings: Settings,
    callback: Callback,
) -> Estimate:
    """Estimate a student on pools of synthesized images, or say why it is not estimated."""
    if teacher.multi_label or student.multi_label:
        return not_estimated("the images of the teacher have several labels each, for which no estimate was tested")
    if method is None:
        return not_estimated("the student saw real images, and such students are underrated by 20 points and more")
    places, start = class_places(teacher, student), time.monotonic()
    known = families_for(teacher, settings.seed)
    pools = pools_for(teacher, without(known, families_of(method)), settings, callback)
    images = sum(pool.synthesized for pool in pools.values())
    found = {"images": images, "pools": {name: pool.synthesized for name, pool in pools.items()}}
    if images < FEWEST_IMAGES or len(pools) < FEWEST_FAMILIES:
        what = f"{images:,} pool images of {len(pools)} {'family' if len(pools) == 1 else 'families'} are too few"
        return not_estimated(f"{what}; make more of them with `datafree estimate` and more --seconds", **found)
    if is_fragile(pools | last_resort(teacher, known, pools, settings)):
        return not_estimated(f"{FRAGILE_REASON}, and for such teachers estimates were wrong in the benchmark", **found)
    own = own_pools(teacher, known, families_of(method), settings, start, callback)
    own_agreement = compare(student, places, own, teacher).total if own else None
    result = judge(compare(student, places, pools, teacher), teacher, accuracy, found, own_agreement)
    if not is_known(method):
        note = " Images of the student's own kind could not be left out: its method is not one of datafree's."
        result = replace(result, sentence=result.sentence + note)
    return result


def in_single_precision(classifier: Classifier) -> Classifier:
    """Return a classifier itself, or a copy in float32 if its weights are float64, as after a run in `64-true`."""
    doubles = any(weight.dtype is torch.float64 for weight in classifier.parameters())
    return deepcopy(classifier).float() if doubles else classifier


def named_method(method: Method | str | None) -> Method | None:
    """Return a method, given itself or by name. Of several names, separated by commas, a method with all their families.

    Raises:
        InputError: If a name is unknown.
    """
    if not isinstance(method, str):
        return method
    names = [word.partition(":")[0].strip() for word in method.split(",")]
    for name in names:
        require_one_of(tuple(METHODS), method=name)
    if len(names) == 1:
        return METHODS[names[0]]
    from datafree.synthesis.mixture import Mixture, Part

    return Mixture(parts=tuple(Part(name=name, method=METHODS[name], share=1.0) for name in names))


def families_for(teacher: Classifier, seed: int = 0) -> dict[str, tuple[Source, ...]]:
    """Return all families of a teacher. No random number of the global generator is drawn."""
    with RandomNumbers(seed):  # a method draws the first weights of its generator when it is built
        return sources(teacher)


def pools_for(
    teacher: Classifier,
    families: Mapping[str, Sequence[Source]],
    settings: Settings,
    callback: Callback = silent,
) -> dict[str, Pool]:
    """Return the pools of a teacher by family: those on disk, and new ones as far as time allows.

    Args:
        teacher: The teacher. Not changed.
        families: The families, with their sources.
        settings: How the pools are made.
        callback: Shows the progress.
    """
    cache = None
    if settings.cache != "off":
        cache = Cache(settings.folder or cache_folder(), key_of(teacher, settings.seed))
    stored = {name: cache.read(name, teacher) for name in families} if cache and settings.cache == "use" else {}
    pools = {name: pool for name, pool in stored.items() if pool}
    missing = {name: each for name, each in families.items() if size(pools.get(name)) < settings.images}
    for name, pool in new_pools(missing, teacher, settings, pools, callback):
        pools[name] = pool
        if cache:
            cache.write(name, pool)
    return {name: pools[name] for name in families if name in pools}


def pools_are_stored(teacher: Classifier) -> bool:
    """Return whether all pools of a teacher are on disk, so that a student is estimated at once.

    Args:
        teacher: The teacher. Not changed.
    """
    settings, teacher = Settings(), in_single_precision(teacher)
    cache = Cache(cache_folder(), key_of(teacher, settings.seed))
    return all(size(cache.read(name, teacher)) >= settings.images for name in families_for(teacher, settings.seed))


def own_pools(
    teacher: Classifier,
    known: Mapping[str, Sequence[Source]],
    own: frozenset[str],
    settings: Settings,
    start: float,
    callback: Callback = silent,
) -> dict[str, Pool]:
    """Return the pools of the student's own families, as far as there is time left since `start`."""
    left = max(0.0, settings.seconds - (time.monotonic() - start))
    families = {name: each for name, each in known.items() if name in own}
    return pools_for(teacher, families, replace(settings, seconds=left), callback)


def last_resort(
    teacher: Classifier, known: Mapping[str, Sequence[Source]], pools: Mapping[str, Pool], settings: Settings
) -> dict[str, Pool]:
    """Return a pool of procedural pictures if only these can tell whether the teacher is fragile; nothing optimizes them."""
    if ROBUST in pools or LAST_RESORT in pools or LAST_RESORT not in known:
        return {}
    stored = pools_for(teacher, {LAST_RESORT: known[LAST_RESORT]}, replace(settings, seconds=0.0))
    return stored or {LAST_RESORT: new_pool(LAST_RESORT, known[LAST_RESORT], teacher, settings.images, settings.seed)}


def new_pools(
    missing: Mapping[str, Sequence[Source]],
    teacher: Classifier,
    settings: Settings,
    stored: Mapping[str, Pool],
    callback: Callback = silent,
) -> Iterator[tuple[str, Pool]]:
    """Yield new pools by family, as far as time allows. After each, the time that is left is divided again.

    Args:
        missing: The families whose pools are not there, or too small.
        teacher: The teacher.
        settings: How the pools are made.
        stored: Pools that are kept if time does not allow larger ones.
        callback: Shows the progress.
    """
    if not missing or not settings.seconds:
        return
    deadline, left = time.monotonic() + settings.seconds, dict(missing)
    speed = measure_speed(teacher)
    for name in callback.track(list(missing), "estimate"):
        counts = plan(left, speed, deadline - time.monotonic(), settings.images)
        each, count = left.pop(name), counts.get(name, 0)
        if count and count > size(stored.get(name)):
            start = time.monotonic()
            yield name, new_pool(name, each, teacher, count, settings.seed)
            speed = speed.corrected(time.monotonic() - start, seconds_for(each, count, speed))


def size(pool: Pool | None) -> int:
    """Return the number of synthesized images of a pool that may be missing."""
    return 0 if pool is None else pool.synthesized


def new_pool(family: str, each: Sequence[Source], teacher: Classifier, count: int, seed: int) -> Pool:
    """Synthesize the pool of a family. It depends on the seed, and not on the other families."""
    with RandomNumbers(len(FAMILIES) * seed + FAMILIES.index(family)):
        images = synthesize_all(each, teacher, count)
    with RandomNumbers(seed):  # the stability of a pool depends on its images only, however they were made
        return examined(images, teacher)


def compare(student: Classifier, places: Tensor, pools: Mapping[str, Pool], teacher: Classifier) -> Agreement:
    """Compare a student with its teacher on pools.

    Args:
        student: The student. Not changed.
        places: The index of each of the teacher's classes among those of the student.
        pools: The pools by family.
        teacher: The teacher.
    """
    answers = torch.cat([predictions(student, pool, places) for pool in pools.values()])
    decisions = torch.cat([pool.decisions for pool in pools.values()])
    kept = torch.cat([pool.kept for pool in pools.values()])
    families = family_numbers(pools)
    return weighted_agreement(answers == decisions, decisions, kept, len(teacher.classes), families=families)


def family_numbers(pools: Mapping[str, Pool]) -> Int[Tensor, " n"]:
    """Return for each image of some pools the number of its pool."""
    return torch.cat([torch.full((len(pool.kept),), number) for number, pool in enumerate(pools.values())])


def predictions(student: Classifier, pool: Pool, places: Tensor) -> Labels:
    """Return the student's decision on each image of a pool, among the classes of the teacher."""
    with frozen(student), torch.no_grad():
        logits = [
            student(resized_to(pixels.to(student.device), student)).cpu()[:, places]
            for pixels in pool.pixels.split(BATCH)
        ]
    return torch.cat(logits).argmax(1)


def judge(
    found: Agreement,
    teacher: Classifier,
    accuracy: float | None,
    counts: Mapping[str, object],
    own: float | None = None,
) -> Estimate:
    """Put an agreement into words; `own` is the agreement on the student's own kind of images."""
    total, ends = found.total, interval(found.total, found.error)
    images = int(counts["images"])  # type: ignore[call-overload]  # without copies
    per_class = list(found.per_class) if images >= FEWEST_PER_CLASS * len(teacher.classes) else []
    lost = lost_classes(per_class, teacher.classes) if per_class else []
    word, known = word_for(total, own), None if accuracy is None else total * accuracy
    grey = teacher.shape[0] == 1
    overrated = is_often_overrated(total, several=isinstance(teacher, Ensemble), grey=grey)
    return Estimate(
        retention=total,
        low=ends[0],
        high=ends[1],
        word=word,
        accuracy=known,
        per_class=per_class,
        lost_classes=lost,
        own_agreement=own,
        often_overrated=overrated,
        sentence=sentence_for(total, ends, word, lost, known, images, often_overrated=overrated, grey=grey, own=own),
        **counts,  # type: ignore[arg-type]
    )


def with_real(found: Estimate, student: Classifier, teacher: Classifier, real: Iterable[Batch]) -> Estimate:
    """Return an estimate with the agreement on unlabelled real pictures."""
    share, count = agreement(student, teacher, real)
    sentence = f" On {count:,} real pictures, both predict the same for {100 * share:.1f} %."
    return replace(found, real_agreement=share, real_images=count, sentence=found.sentence + sentence)
