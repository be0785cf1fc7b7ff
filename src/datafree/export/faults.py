"""Networks that an exporter cannot take: which layer or operator is at fault, as a part of a sentence."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO

from torch import nn
from torch.export import ExportedProgram


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the messages of an exporter inside a `with` block: what matters is checked, or becomes one sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def layer_at_fault(model: nn.Module, fault: BaseException) -> str:
    """Return a phrase that names the innermost layer in whose code an exception was raised; empty if it is in none."""
    names = {id(module): name for name, module in model.named_modules()}
    found, trace = "", fault.__traceback__
    while trace:
        module = trace.tb_frame.f_locals.get("self")
        if isinstance(module, nn.Module) and names.get(id(module)):
            found = f"layer {names[id(module)]!r} ({type(module).__name__})"
        trace = trace.tb_next
    return found or type(model).__name__


def reason(fault: BaseException) -> str:
    """Return why a network cannot be traced, as a part of a sentence."""
    text = str(fault)
    if "data-dependent" in text:
        return "its code depends on the values that it computes"
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(fault).__name__)
    return first[:200].rstrip(".!")


def operator_at_fault(program: ExportedProgram, fault: BaseException) -> str:
    """Return a phrase that names the operator that could not be translated, and its layer."""
    operator = layer = ""
    cause: BaseException | None = fault
    while cause is not None:
        text = str(cause)
        if named := re.search(r"OpOverload\(op='([\w.]+)'", text):
            operator = named[1]
        if node := re.search(r"translating node %(\w+)", text):
            layer = _layer_of(program, node[1], operator)
        cause = cause.__cause__
    layer = layer or _layer_of(program, "", operator)
    return f"the operator {operator or 'of an unknown name'}" + (f" in layer {layer!r}" if layer else "")


def _layer_of(program: ExportedProgram, node_name: str, operator: str) -> str:
    """Return the name of the layer that a node of a graph comes from; empty if it is unknown.

    The exporter replaces operators by simpler ones first, so that the node may only have the name of the operator in its own.
    """
    word = operator.rpartition(".")[2]
    for node in program.graph.nodes:
        if node.name == node_name or (word and word in str(node.target)):
            stack = node.meta.get("nn_module_stack") or {}
            names = [path for path, _ in stack.values() if path]
            return names[-1].removeprefix("model.") if names else ""
    return ""
