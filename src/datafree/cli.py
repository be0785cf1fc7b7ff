"""The command `datafree`: finds the verb, and imports nothing heavy to do so."""

import sys

from datafree.verbs import INTERRUPTED, VERBS

USAGE = """usage: datafree VERB [OPTIONS]

Compress a trained image classifier when its training data is gone.

{verbs}

`datafree VERB --help` lists the options of a verb.
Synthetic images may reveal the teacher's training data; see the privacy note of every report."""


def main(arguments: list[str] | None = None) -> int:
    """Runs a verb. Exit codes: 0 done, 2 unusable input, 70 diverged, 75 interrupted and resumable."""
    given = sys.argv[1:] if arguments is None else arguments
    verb = given[0] if given else "--help"
    if verb in ("-h", "--help", "help"):
        width = max(map(len, VERBS))
        print(USAGE.format(verbs="\n".join(f"  {name:<{width}}  {what}" for name, what in VERBS.items())))
        return 0
    if verb == "--version":
        from datafree import __version__

        print(f"datafree {__version__}")
        return 0
    if verb not in VERBS:
        from difflib import get_close_matches

        near = get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else "`datafree --help` lists them."
        print(f"datafree: {verb!r} is no verb; {hint}", file=sys.stderr)
        return 2
    try:
        from datafree.commands import carry_out
    except KeyboardInterrupt:
        print("datafree: interrupted; start it again", file=sys.stderr)
        return INTERRUPTED
    return carry_out(verb, given[1:])


if __name__ == "__main__":
    sys.exit(main())
