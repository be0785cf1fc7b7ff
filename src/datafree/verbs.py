"""The verbs of the command, and how it ends. Light, so that `--help` answers at once."""

VERBS = {
    "demo": "the main job on scikit-learn's digits, with its floor and its ceiling; no network, a minute or two",
    "distill": "a smaller student from a teacher, without its training data",
    "extend": "new classes for a teacher, from their images and without those of the classes it knows",
    "amalgamate": "one student from several teachers, over any choice of their labels",
    "prune": "a teacher with fewer filters that answers as before, without its training data",
    "synthesize": "images from a teacher, as PNG files, tensors and a contact sheet",
    "statistics": "what a teacher's features look like on a few real images, where it has no batch norm to remember",
    "train": "an example teacher, on real images",
    "evaluate": "a classifier on real images",
    "verify": "how many synthesized images another network recognises; no real image is needed",
    "bench": "a table of methods with seeds, floor, ceiling and published figures: bench digits, bench mnist, ...",
    "methods": "the methods: paper, what a teacher must have, cost",
    "report": "the table of a finished run, and where its page is",
    "resume": "go on with a run that was interrupted",
}

INTERRUPTED = 75
"""exit code of a run that can be resumed"""
DIVERGED = 70
"""exit code of a run whose loss stopped being finite"""
