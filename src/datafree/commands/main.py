"""The command `datafree`: finds the function of a command, and turns what a user can cause into one sentence."""

import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from datafree.commands.verbs import DIVERGED, INTERRUPTED, VERBS

USAGE = """usage: datafree COMMAND [OPTIONS]

Compress a trained image classifier without its training data.

{commands}

`datafree COMMAND --help` lists the options of a command.
Synthetic images may reveal the teacher's training data; see the privacy note in every report."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Exit codes: 0 done, 2 invalid input, 70 diverged, 75 interrupted and resumable."""
    given = sys.argv[1:] if arguments is None else arguments
    verb = given[0] if given else "--help"
    if verb in ("-h", "--help", "help"):
        width = max(map(len, VERBS))
        print(USAGE.format(commands="\n".join(f"  {name:<{width}}  {what}" for name, (_, what) in VERBS.items())))
        return 0
    if verb == "--version":
        from datafree import __version__

        print(f"datafree {__version__}")
        return 0
    if verb not in VERBS:
        from difflib import get_close_matches

        near = get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`datafree --help` lists the commands."
        return _fail(f"unknown command {verb!r}; {hint}", 2)
    try:
        return carry_out(verb, given[1:])
    except KeyboardInterrupt:  # while modules are imported
        return _fail("interrupted; run the command again", INTERRUPTED)


def carry_out(verb: str, arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a terminated job says how to continue, too
    from safetensors import SafetensorError

    from datafree.commands.runs import how_to_continue
    from datafree.types import Diverged, InputError

    module, _, function = VERBS[verb][0].partition(":")
    try:
        getattr(import_module(f"datafree.commands.{module}"), function)(list(arguments))
    except InputError as fault:
        return _fail(str(fault), 2)
    except Diverged as fault:
        return _fail(str(fault), DIVERGED)
    except KeyboardInterrupt:
        return _fail(f"interrupted; {how_to_continue()}", INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
    except (OSError, SafetensorError) as fault:  # a full disk, a long name, a folder that was removed
        return _fail(f"a file could not be read or written ({fault}); fix that, then {how_to_continue()}", 2)
    return 0


def _fail(message: str, code: int) -> int:
    printable = "".join(character if character.isprintable() else " " for character in message)
    print(f"datafree: {' '.join(printable.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
