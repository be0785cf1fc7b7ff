"""The tables of colour photographs: CIFAR-10 at 32 x 32 and at 16 x 16 pixels, on thin residual networks.

`photographs` compares all methods for equal student steps, `photographs-time` for equal seconds with synthesis. The tables of
16 x 16 are the same at a quarter of the cost, and `photographs-16-parts` switches off one part of the recipe at a time.
"""

from datafree.benchmarks.photographs.costs import SIXTEEN, THIRTY_TWO, Costs
from datafree.benchmarks.photographs.rows import equal_seconds, equal_steps, part_rows
from datafree.benchmarks.table import Benchmark, Row
from datafree.runs.training import TrainingConfig
from datafree.synthesis.augmentation import Augmentation

NETWORK = "resnet10_cifar_w16"
COLUMNS = ("seconds", "images_synthesized", "real_images_seen")


def photographs(title: str, costs: Costs, rows: dict[str, Row], teacher: tuple[str, str], steps: int) -> Benchmark:
    """Return a table of one image size.

    Args:
        title: What is compared.
        costs: The image size.
        rows: The rows.
        teacher: Folder and SHA-256 of the teacher that comes with the table.
        steps: Training steps of the teacher.
    """
    side = costs.side
    return Benchmark(
        title=f"CIFAR-10 at {side} x {side}, a thin ResNet-10 to one of half its width: {title}",
        data="cifar10",
        teacher=NETWORK,
        student=NETWORK,
        input=(3, side, side),
        stored_teacher=teacher[0],
        stored_sha256=teacher[1],
        training=TrainingConfig(
            steps=steps, lr=5e-3, weight_decay=5e-2, augment=Augmentation(shift=side // 8, flip=True)
        ),
        rows=rows,
        columns=COLUMNS,
        evaluation_interval=0.0,
    )


TEACHER_16 = ("cifar10-16", "3d2e1013f1b2998742029b9a3646357c1d04ea053f1d41276875568038265afa")
TEACHER_32 = ("cifar10-32", "191648e47cb1223f3cac3444cee07b61ee6f17570de0c4a7af1293634f08c9a8")

PHOTOGRAPHS = photographs("equal student steps", THIRTY_TWO, equal_steps(THIRTY_TWO), TEACHER_32, 10_000)
PHOTOGRAPHS_TIME = photographs("equal seconds", THIRTY_TWO, equal_seconds(THIRTY_TWO), TEACHER_32, 10_000)
PHOTOGRAPHS_16 = photographs("equal student steps", SIXTEEN, equal_steps(SIXTEEN), TEACHER_16, 2500)
PHOTOGRAPHS_16_TIME = photographs("equal seconds", SIXTEEN, equal_seconds(SIXTEEN), TEACHER_16, 2500)
PHOTOGRAPHS_16_PARTS = photographs("one part at a time", SIXTEEN, part_rows(SIXTEEN), TEACHER_16, 2500)
