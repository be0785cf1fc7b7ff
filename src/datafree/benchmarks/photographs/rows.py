"""The rows of the tables of photographs: methods of the papers, pictures drawn by program, and what is built on them."""

from dataclasses import replace

from datafree.applications.distillation import DistillationConfig
from datafree.benchmarks.photographs.costs import Costs
from datafree.benchmarks.photographs.recipe import AUTO, HINTED_CEILING, UNHINTED, drawn, hinted, mixture, optimized
from datafree.benchmarks.table import Row
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.runs.planning.auto import refinement
from datafree.synthesis import Method, Schedule
from datafree.synthesis.augmentation import Augmentation
from datafree.synthesis.inversion import StartChoice
from datafree.synthesis.mixture import Mixture

STEPS, BATCH_SIZE, LR = 1500, 128, 1e-2
"""steps of the student, their images, and the learning rate in every row"""
BATCHES, INVERSION_STEPS = 8, 100
"""batches that are refined, and their optimization steps, for equal student steps"""
TASK = {"student_args": ("width=8",)}
"""the student: half the width, a quarter of the parameters"""
POOL = drawn(BATCH_SIZE)


def application(costs: Costs) -> DistillationConfig:
    """Return how every student is trained."""
    augment = Augmentation(shift=costs.side // 8, flip=True, cutmix=0.5)
    return DistillationConfig(steps=STEPS, lr=LR, augment=augment)


def refined(costs: Costs, start: StartChoice = "procedural", batches: int = BATCHES) -> Mixture:
    """Return the recipe of `auto`, or with another start of the optimization."""
    method = replace(refinement((3, costs.side, costs.side)), start=start, flip=True, steps=(INVERSION_STEPS,))
    return mixture(method if start == "procedural" else replace(method, targets="balanced"), batches, BATCH_SIZE)


def paper_methods() -> dict[str, tuple[Method, Schedule]]:
    """Return the methods of the papers with as many optimization passes as the refined pictures, instead of the papers' own.

    Inversions take twice the steps for half of the images. A generator takes one step for each step of the student.
    """
    inversion = DeepInversionConfig(steps=(2 * INVERSION_STEPS,), flip=True)
    half = optimized(BATCHES // 2, BATCH_SIZE)
    adaptive = Schedule(warmup_batches=2, refresh_every=STEPS // 4, pool_batches=BATCHES, batch_size=BATCH_SIZE)
    dafl = replace(METHODS["dafl"], generator="subpixel", lr=0.02, batch_size=BATCH_SIZE, student_batch_size=BATCH_SIZE)
    fast, zskd = METHODS["fast"], METHODS["zskd"]
    return {
        "deep-dream": (replace(inversion, statistics=0.0), half),
        "deep-inversion": (inversion, half),
        "adi": (replace(inversion, compete=10.0, batch_size=BATCH_SIZE), adaptive),
        "dafl": (dafl, Schedule(batch_size=BATCH_SIZE)),
        "zskd": (zskd, replace(zskd.schedule, warmup_batches=40, pool_batches=40, batch_size=BATCH_SIZE)),
        "fast": (fast, replace(fast.schedule, batch_size=BATCH_SIZE)),
    }


def equal_steps(costs: Costs) -> dict[str, Row]:
    """Return the rows of equal student steps. The order is that in which they are run: the most telling ones first."""
    plain = application(costs)
    selected = replace(plain, select=2)
    noise = replace(METHODS["noise"], batch_size=BATCH_SIZE)
    rows = {
        "real images": (None, Schedule(batch_size=BATCH_SIZE), plain),
        "procedural": (METHODS["procedural"], POOL, plain),
        UNHINTED: (refined(costs), Schedule(batch_size=BATCH_SIZE), plain),
        "noise": (noise, Schedule(batch_size=BATCH_SIZE), plain),
        "procedural, with selection": (METHODS["procedural"], POOL, selected),
        f"{UNHINTED}, with selection": (refined(costs), Schedule(batch_size=BATCH_SIZE), selected),
        "refined from noise": (refined(costs, "noise"), Schedule(batch_size=BATCH_SIZE), plain),
        "refined from natural noise": (refined(costs, "natural"), Schedule(batch_size=BATCH_SIZE), plain),
        "noise, natural": (replace(noise, spectrum="natural"), Schedule(batch_size=BATCH_SIZE), plain),
    }
    papers = {f"{name}, shortened": (*source, plain) for name, source in paper_methods().items()}
    predicted = {
        name: Row(method=method, schedule=schedule, application=learning, task=TASK)
        for name, (method, schedule, learning) in {**rows, **papers}.items()
    }
    first = {
        "real images": predicted["real images"],
        HINTED_CEILING: hinted(predicted["real images"]),
        AUTO: hinted(predicted[UNHINTED]),
        UNHINTED: predicted[UNHINTED],
        "procedural, with hints": hinted(predicted["procedural"]),
        "procedural": predicted["procedural"],
        "auto, with selection": hinted(predicted[f"{UNHINTED}, with selection"]),
    }
    return first | predicted


def equal_seconds(costs: Costs) -> dict[str, Row]:
    """Return the rows of equal seconds: the counts that the budget has room for, by constant costs."""
    rows = {}
    for name, row in equal_steps(costs).items():
        if row.method is None:
            rows[name] = replace(row, application=replace(row.application, steps=costs.steps_alone(row.application)))
            continue
        fitted = costs.fitted(name.removesuffix(", shortened"), row.method, row.schedule, row.application)
        rows[name] = replace(
            row,
            method=fitted.method,
            schedule=fitted.schedule,
            application=replace(row.application, steps=fitted.steps),
        )
    return rows


def part_rows(costs: Costs) -> dict[str, Row]:
    """Return the recipe with one part switched off at a time.

    Parts of the drawing are measured on procedural pictures alone. Rows with the name of a row of equal steps are the same:
    with one `--out` they are run once.
    """
    rows = equal_steps(costs)
    whole, drawn = rows[AUTO], rows["procedural"]
    procedural = METHODS["procedural"]
    uncut = Augmentation(shift=costs.side // 8, flip=True)
    textures = dict.fromkeys(("sines", "noise", "fields", "horizons"), 0.0)
    drawings = {
        "without leaves": replace(procedural, leaves=0.0),
        "without objects": replace(procedural, objects=0.0),
        "only leaves and objects": replace(procedural, **textures),
        "levels not matched": replace(procedural, match_levels=False),
        "whole scenes": replace(procedural, view=1.0),
    }
    return {
        AUTO: whole,
        UNHINTED: rows[UNHINTED],
        "auto, without cutmix": replace(whole, application=replace(whole.application, augment=uncut)),
        "auto, with selection": rows["auto, with selection"],
        "auto, refined from noise": replace(whole, method=refined(costs, "noise")),
        "procedural, with hints": rows["procedural, with hints"],
        "procedural": drawn,
        "procedural, without cutmix": replace(drawn, application=replace(drawn.application, augment=uncut)),
        **{f"procedural, {name}": replace(drawn, method=method) for name, method in drawings.items()},
    }
