"""The command `datafree`: find the function of a command, and report every error of the user's in one sentence.

Help, refusals and the first line of a run come before torch is imported. Everything is imported inside functions, so that an
interrupt is caught from the first moment.
"""

import signal
import sys
import time

SIGNALS = (signal.SIGINT, signal.SIGTERM)
CLEANING = 2.0
"""seconds after a signal in which another one does not disturb the end of the command"""


class Interrupt(KeyboardInterrupt):
    """What a signal raises. For KeyboardInterrupt itself, Python would end the process with the signal if it was raised in
    code that runs from a string, as dataclasses do while they are imported, whether it was caught or not."""


class Interruption:
    """Handler of Ctrl-C and of the signal that ends a job. It remembers the signal: a library may hide the exception."""

    def __init__(self) -> None:
        self.arrived = False
        self.last = -CLEANING

    def __call__(self, *_: object) -> None:
        now = time.monotonic()
        if now - self.last > CLEANING:
            self.arrived, self.last = True, now
            raise Interrupt


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return 0 if it is done, else one of the exit codes in the docs: 2, 70, 71, 75 or 76."""
    interruption = Interruption()
    before = [(number, signal.signal(number, interruption)) for number in SIGNALS]
    try:
        code = respond_leniently(sys.argv[1:] if arguments is None else arguments, interruption)
    except KeyboardInterrupt:
        code = _interrupted()
    for number, handler in before:  # of the program itself, only the end of the process is left
        signal.signal(number, signal.SIG_IGN if arguments is None else handler)
    return code


def respond_leniently(words: list[str], interruption: Interruption) -> int:
    """Run a command whose output may fail; return the exit code."""
    from datafree.files.streams import lenient_output, lost_output

    with lenient_output() as outputs:
        code = respond(words, interruption)
    if (fault := lost_output(outputs)) is None:
        return code
    return _fail(f"the command has ended, but its output could not be written ({fault}); write it to another file", 2)


def respond(words: list[str], interruption: Interruption) -> int:
    """Print the help or the version, refuse wrong words, or run the command; return the exit code."""
    from datafree.commands.console.advice import unfinished
    from datafree.commands.console.output import printing, take_options
    from datafree.commands.options.help import help_text, own_options, usage
    from datafree.commands.options.table import require_readable
    from datafree.commands.verbs import require_verb
    from datafree.errors import InputError

    unfinished.clear()
    verb = words[0] if words else "--help"
    try:
        if verb in ("-h", "--help", "help"):
            print(usage())
        elif verb == "--version":
            from datafree import __version__

            print(f"datafree {__version__}")
        else:
            require_readable(words)
            require_verb(verb)
            rest, mode = take_options(words[1:], own_options(verb))
            if {"-h", "--help"} & set(rest):
                print(help_text(verb, rest))
            else:
                with printing(mode):
                    return carry_out_or_fail(verb, rest, interruption)
    except InputError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _interrupted()
    return 0


def carry_out_or_fail(verb: str, words: list[str], interruption: Interruption) -> int:
    """Run a command; return the exit code, after a sentence if it failed."""
    from datafree.commands.console.advice import how_to_continue
    from datafree.commands.verbs import DIVERGED, LOST, OUT_OF_MEMORY
    from datafree.errors import Diverged, InputError, OutOfMemory, ProcessLost

    try:
        carry_out(verb, words, interruption)
    except OutOfMemory as error:
        return _fail(str(error), OUT_OF_MEMORY)
    except InputError as error:
        return _fail(str(error), 2)
    except Diverged as error:
        return _fail(str(error), DIVERGED)
    except ProcessLost as error:
        return _fail(f"{error}; {how_to_continue()}", LOST, of_any_process=True)
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as error:
        if interruption.arrived:  # a library has turned the interrupt into another exception
            return _interrupted()
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":  # such as a full disk
            return _fail(f"a file could not be read or written ({error}); fix that, then {how_to_continue()}", 2)
        raise
    return 0


def carry_out(verb: str, words: list[str], interruption: Interruption) -> None:
    """Check the options of a command and run it. Its first line is printed before anything heavy is imported.

    Raises:
        InputError: If an option or the input of the command is invalid.
        Diverged: If a loss or an image is not finite.
    """
    from importlib import import_module

    from datafree.commands.console.announcement import announce
    from datafree.commands.options.table import check
    from datafree.commands.verbs import VERBS, WITHOUT_TORCH
    from datafree.files.numbering import is_reserved, release

    given = check(verb, words)
    words, out = announce(verb, words, given)
    module, _, function = VERBS[verb][0].partition(":")
    try:
        command = getattr(import_module(f"datafree.commands.{module}"), function)
        if verb in WITHOUT_TORCH:
            return command(words)
        from datafree.commands.runs import print_in_mode
        from datafree.runs.hardware import plain_faults

        print_in_mode()
        if interruption.arrived:  # and was caught by a module that was being imported
            raise Interrupt
        with plain_faults(given.batch_sizes):
            command(words)
    finally:
        if out and is_reserved(out):
            release(out)


def _interrupted() -> int:
    from datafree.commands.console.advice import how_to_continue
    from datafree.commands.verbs import INTERRUPTED

    return _fail(f"interrupted; {how_to_continue()}", INTERRUPTED)


def _fail(message: str, code: int, *, of_any_process: bool = False) -> int:
    """Print why a command failed, and return its exit code. Of several processes the first one prints."""
    from datafree.commands import PROCESS
    from datafree.commands.console.output import print_event

    if PROCESS and not of_any_process:
        return code
    printable = "".join(character if character.isprintable() else " " for character in message)
    sentence = " ".join(printable.split())
    print(f"datafree: {sentence}", file=sys.stderr)
    print_event("error", message=sentence, code=code)
    return code


if __name__ == "__main__":
    sys.exit(main())
