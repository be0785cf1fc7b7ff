"""The command `datafree`: find the function of a command, and report every error of the user's in one sentence."""

import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from datafree.commands.help import help_text, usage
from datafree.commands.option_table import check
from datafree.commands.proposals import closest
from datafree.commands.verbs import DIVERGED, INTERRUPTED, VERB_SYNONYMS, VERBS, UsageError


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Exit codes: 0 done, 2 invalid input, 70 diverged, 75 interrupted and resumable."""
    words = sys.argv[1:] if arguments is None else arguments
    verb = words[0] if words else "--help"
    if verb in ("-h", "--help", "help"):
        print(usage())
        return 0
    if verb == "--version":
        from datafree import __version__

        print(f"datafree {__version__}")
        return 0
    if verb not in VERBS:
        near = VERB_SYNONYMS.get(verb) or closest(verb, VERBS)
        hint = f"did you mean {near}?" if near else "`datafree --help` lists the commands"
        return _fail(f"unknown command {verb!r}; {hint}", 2)
    try:
        if {"-h", "--help"} & set(words[1:]):
            print(help_text(verb, words[1:]))
            return 0
        check(verb, words[1:])
        return carry_out(verb, words[1:])
    except UsageError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:  # while modules are imported
        return _fail("interrupted; run the command again", INTERRUPTED)


def carry_out(verb: str, arguments: Sequence[str]) -> int:
    """Run a command whose options were checked, and return its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a terminated job says how to continue, too
    from safetensors import SafetensorError

    from datafree.commands.runs import how_to_continue, open_run
    from datafree.types import Diverged, InputError

    open_run.clear()
    module, _, function = VERBS[verb][0].partition(":")
    try:
        getattr(import_module(f"datafree.commands.{module}"), function)(list(arguments))
    except InputError as error:
        return _fail(str(error), 2)
    except Diverged as error:
        return _fail(str(error), DIVERGED)
    except KeyboardInterrupt:
        return _fail(f"interrupted; {how_to_continue()}", INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
    except (OSError, SafetensorError) as error:  # a full disk, a long name, a folder that was removed
        return _fail(f"a file could not be read or written ({error}); fix that, then {how_to_continue()}", 2)
    return 0


def _fail(message: str, code: int) -> int:
    printable = "".join(character if character.isprintable() else " " for character in message)
    print(f"datafree: {' '.join(printable.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
