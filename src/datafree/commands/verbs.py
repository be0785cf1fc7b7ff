"""The commands, what each does in one line, and the exit codes. Light, so that `--help` answers at once."""

VERBS = {
    "demo": (
        "tables:run_demo",
        "distil scikit-learn's digits with several methods, with floor and ceiling; one to four minutes",
    ),
    "distill": ("experiments:distill", "train a smaller student from a teacher, without its training data"),
    "extend": ("experiments:extend", "teach a network new classes, without images of the classes it knows"),
    "amalgamate": (
        "experiments:amalgamate",
        "merge several teachers into one student, over any choice of their labels",
    ),
    "prune": ("experiments:prune", "remove filters from a network, without its training data"),
    "synthesize": ("images:synthesize", "synthesize images from a teacher and save them"),
    "statistics": (
        "networks:measure_statistics",
        "measure feature statistics on a few real images, for a teacher without batch norm",
    ),
    "train": ("networks:train_teacher", "train an example teacher on real images"),
    "evaluate": ("networks:evaluate_network", "evaluate a network on real images"),
    "crosscheck": ("images:crosscheck", "count how many synthesized images another network recognises"),
    "bench": ("tables:run_bench", "run a benchmark table: bench digits, bench mnist, ..."),
    "methods": ("tables:show_methods", "list the methods: paper, requirements, cost"),
    "report": ("runs:show_report", "show the table of a finished run and the path of its page"),
    "resume": ("runs:resume_run", "continue an interrupted run"),
}
"""command: the function that runs it, and its line in the help"""

INTERRUPTED = 75
"""exit code of a run that can be resumed"""
DIVERGED = 70
"""exit code of a run whose loss became non-finite"""
