"""The commands, one line on each, and the exit codes. Imports nothing heavy, so that `--help` answers at once."""

from datafree.commands.options.proposals import closest
from datafree.errors import InputError

VERBS = {
    "demo": (
        "tables:run_demo",
        "compare several methods on scikit-learn's digits, with a floor and a ceiling; one to four minutes",
    ),
    "distill": ("experiments:distill", "train a smaller student from a teacher, without the training data"),
    "extend": ("experiments:extend", "teach a network new classes, without images of its old classes"),
    "amalgamate": ("experiments:amalgamate", "merge several teachers into one student, without the training data"),
    "prune": ("experiments:prune", "remove filters from a network, without the training data"),
    "inspect": ("teachers:inspect_teacher", "examine a teacher, and list the methods that support it"),
    "import": ("teachers:import_checkpoint", "make a folder from a checkpoint, for every other command"),
    "export": ("exports:export_network", "write a network for other tools and devices: ONNX, torch.export or timm"),
    "compress": (
        "integers.compressing:compress_network",
        "distil, prune, quantise and export in one command, on images that are made once",
    ),
    "quantize": (
        "integers.quantizing:quantize_command",
        "write a network in integers for devices, calibrated without data",
    ),
    "synthesize": ("images:synthesize", "synthesize images from a teacher and save them"),
    "statistics": (
        "networks:measure_statistics",
        "measure feature statistics on a few real images, for a teacher without batch norm",
    ),
    "train": ("networks:train_teacher", "train an example teacher on real images"),
    "evaluate": ("networks:evaluate_network", "evaluate a network on real images"),
    "estimate": (
        "estimates:estimate_student",
        "estimate a student without data: how much of its teacher's accuracy it keeps",
    ),
    "crosscheck": ("images:crosscheck", "count how many synthesized images other networks recognise"),
    "bench": ("tables:run_bench", "run a benchmark table, for example `datafree bench digits`"),
    "methods": ("listing:show_methods", "list the methods with their paper, requirements and cost"),
    "report": (
        "results.reports:show_report",
        "show the results of a finished run and rewrite its report, or compare several runs",
    ),
    "resume": ("runs:resume_run", "continue an interrupted run"),
}
"""command: the function that runs it, and its line in the help"""

WITHOUT_TORCH = ("methods", "report")
"""commands that use no network"""

VERB_SYNONYMS = {
    "doctor": "inspect",
    "diagnose": "inspect",
    "check": "inspect",
    "info": "inspect",
    "convert": "import",
    "verify": "crosscheck",
    "generate": "synthesize",
    "invert": "synthesize",
    "merge": "amalgamate",
    "continue": "resume",
    "test": "evaluate",
    "quantise": "quantize",
    "int8": "quantize",
    "onnx": "export",
    "deploy": "export",
    "eval": "evaluate",
}
"""words of earlier versions or other tools: the command to propose"""

INTERRUPTED = 75
"""exit code of a run that can be resumed"""
LOST = 76
"""exit code of a run of which one process was lost; it can be resumed"""
OUT_OF_MEMORY = 71
"""exit code of a command for which the memory is not sufficient"""
DIVERGED = 70
"""exit code of a run whose loss became non-finite"""


def require_verb(verb: str) -> None:
    """Check the name of a command.

    Raises:
        InputError: If there is no such command.
    """
    if verb not in VERBS:
        near = VERB_SYNONYMS.get(verb) or closest(verb, VERBS)
        hint = f"did you mean {near}?" if near else "`datafree --help` lists the commands"
        raise InputError(f"unknown command {verb!r}; {hint}")
