"""`datafree methods`: the list of methods, from the table of options, so that it does not wait for torch."""

from datafree.commands.options.table import methods


def show_methods(_: list[str]) -> None:
    """`datafree methods`."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from datafree.commands.console.output import current
    from datafree.progress import Output

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    table.add_column("paper")
    table.add_column("the teacher\nmust have")
    table.add_column("passes\nper image", justify="right", no_wrap=True)
    for name, method in methods().items():
        table.add_row(name, method.paper, ", ".join(method.needs) or "-", f"{method.passes:,.0f}")
    console = Output()
    console.use(current.mode, current.stream)  # type: ignore[arg-type]
    console.print(table)
