"""What each verb of the command does: its options are dataclasses, its errors one sentence."""

import signal
import sys
from collections.abc import Callable, Sequence

from safetensors import SafetensorError

from datafree.commands.amalgamate import amalgamate
from datafree.commands.distill import distill
from datafree.commands.evaluate import evaluate_model
from datafree.commands.extend import extend
from datafree.commands.prune import prune
from datafree.commands.runs import how_to_go_on, resume_run, show_report
from datafree.commands.statistics import measure_statistics
from datafree.commands.synthesize import synthesize
from datafree.commands.tables import run_bench, run_demo, show_methods
from datafree.commands.train import train_teacher
from datafree.commands.verify import verify_images
from datafree.types import Diverged, InputError
from datafree.verbs import DIVERGED, INTERRUPTED


def carry_out(verb: str, arguments: Sequence[str]) -> int:
    """Runs a verb and turns what a user can cause into one sentence and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job that is ended says how to go on, too
    try:
        COMMANDS[verb](list(arguments))
    except InputError as fault:
        return _fail(str(fault), 2)
    except Diverged as fault:
        return _fail(str(fault), DIVERGED)
    except KeyboardInterrupt:
        return _fail(f"interrupted; {how_to_go_on()}", INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
    except (OSError, SafetensorError) as fault:  # a full disk, a name too long, a folder that went away
        return _fail(f"a file could not be read or written ({fault}); mend that, and {how_to_go_on()}", 2)
    return 0


def _fail(message: str, code: int) -> int:
    printable = "".join(character if character.isprintable() else " " for character in message)
    print(f"datafree: {' '.join(printable.split())}", file=sys.stderr)
    return code


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "demo": run_demo,
    "distill": distill,
    "amalgamate": amalgamate,
    "extend": extend,
    "prune": prune,
    "synthesize": synthesize,
    "statistics": measure_statistics,
    "train": train_teacher,
    "evaluate": evaluate_model,
    "verify": verify_images,
    "bench": run_bench,
    "methods": show_methods,
    "report": show_report,
    "resume": resume_run,
}
