"""The table of quantisation as data, as Markdown, on the console and as a bar chart."""

import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree.benchmarks.quantization.cases import NOTHING
from datafree.benchmarks.results import earlier_table
from datafree.files.validation import from_plain
from datafree.quantization.sessions import instruction_set
from datafree.runs.reporting import drawing


def collect(cases: Mapping[str, Any], *, command: str, seeds: Sequence[int], threads: int) -> dict[str, Any]:
    """Return the results as data.

    Args:
        cases: For each network its title, the float network, and for each row the results of each seed.
        command: The command that made the table.
        seeds: The random seeds.
        threads: CPU threads.
    """
    networks = {}
    for name, case in cases.items():
        rows = {
            row: {bits: summarised([each[bits] for each in runs]) for bits in runs[0]}
            for row, runs in case["rows"].items()
            if runs
        }
        networks[name] = {"title": case["title"], "float": case["float"], "labelled": case["labelled"], "rows": rows}
    return {
        "title": "quantisation, by the images that it is calibrated on",
        "command": command,
        "seeds": list(seeds),
        "networks": networks,
        "environment": {
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
            "threads": threads,
            "instruction_set": instruction_set(),
        },
    }


def with_earlier_networks(result: dict[str, Any], file: Path, order: Sequence[str]) -> dict[str, Any]:
    """Return the results with the networks of an earlier file that were not run now, if their seeds are the same.

    Args:
        result: The results of some networks.
        file: The JSON file; it need not exist.
        order: The names of all networks of the table.

    Raises:
        InputError: If the file is damaged.
    """
    found = earlier_table(file)
    if found is None or found[1] != result["seeds"]:
        return result
    earlier = from_plain(dict[str, dict[str, Any]], found[0].get("networks"), f"{file}: networks")
    networks = earlier | result["networks"]
    return {**result, "networks": {name: networks[name] for name in order if name in networks}}


def summarised(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean and spread over the seeds of one row; fractions in %."""
    first = runs[0]

    def each(key: str) -> list[float] | None:
        values = [run[key] for run in runs]
        return None if None in values else [round(100 * value, 2) for value in values]

    def spread(key: str) -> dict[str, Any] | None:
        values = each(key)
        if values is None:
            return None
        sd = round(statistics.stdev(values), 2) if len(values) > 1 else None
        return {"mean": round(statistics.mean(values), 2), "sd": sd, "each": values}

    ratios = [run["milliseconds"]["quantized"] / run["milliseconds"]["float"] for run in runs]
    return {
        "accuracy": spread("accuracy"),
        "agreement": spread("agreement"),
        "agreement_drawn": spread("agreement_drawn"),
        "agreement_noise": spread("agreement_noise") if "agreement_noise" in first else None,
        "bytes": first["bytes"],
        "latency_ratio": round(statistics.median(ratios), 2),
        "forms": sorted({run["form"] for run in runs}),
        "observers": sorted({run["observer"] for run in runs if run.get("observer")}),
        "saturation": first.get("saturation"),
        "kernel_difference": first.get("kernel_difference"),
    }


def markdown(result: Mapping[str, Any]) -> str:
    """Return the table as Markdown, with its command and its environment."""
    environment = result["environment"]
    lines = [
        f"{seeds_of(result)}, in %. Agreement with the float network is measured on "
        "held-out real images, on drawn pictures of another seed and, without labels, on noise with the spectrum of "
        "photographs. Latency is relative to the float ONNX file, measured in turns.",
    ]
    for network in result["networks"].values():
        lines += ["", f"## {network['title']}", "", float_sentence(network), ""]
        for bits in bits_of(network):
            lines += [f"### {bits}", "", *rows_of(network, bits), ""]
        lines += filter(None, [saturation_sentence(network)])
    lines += [
        "",
        f"Command: `{result['command']}`. torch {environment['torch']}, {environment['threads']} thread(s), "
        f"{environment['machine']}, {environment['instruction_set']}.",
        "",
    ]
    return "\n".join(lines)


def seeds_of(result: Mapping[str, Any]) -> str:
    """Return the number of seeds that are finished, and what the numbers are, in words."""
    counts = {
        len(entry["agreement"]["each"])
        for network in result["networks"].values()
        for name, row in network["rows"].items()
        for entry in row.values()
        if name != NOTHING
    }
    if not counts or max(counts) == 1:
        return "One seed"
    several = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(max(counts))
    return f"{several} seeds, mean ± standard deviation"


def float_sentence(network: Mapping[str, Any]) -> str:
    """Return one sentence about the float network."""
    floating = network["float"]
    accuracy = "" if floating["accuracy"] is None else f", accuracy {100 * floating['accuracy']:.2f} %"
    return f"Float: {floating['bytes']:,} bytes{accuracy} (SHA-256 of the weights `{floating['sha256'][:16]}`)."


def rows_of(network: Mapping[str, Any], bits: str) -> list[str]:
    """Return the rows of one network and one number of bits."""
    columns = {"accuracy": "accuracy"} if network["labelled"] else {}
    columns |= {"agreement": "agreement", "agreement_drawn": "agreement, drawn"}
    columns |= {} if network["labelled"] else {"agreement_noise": "agreement, noise"}
    header = ["calibrated on", *columns.values(), "bytes", "latency", "weights", "observer"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for name, row in network["rows"].items():
        entry = row[bits]
        cells = [name, *(shown(entry[key]) for key in columns)]
        cells += [f"{entry['bytes']:,}", f"{entry['latency_ratio']:.2f}", ", ".join(entry["forms"])]
        lines.append(f"| {' | '.join([*cells, ', '.join(entry['observers']) or '-'])} |")
    return lines


def bits_of(network: Mapping[str, Any]) -> list[str]:
    """Return the bits for which a network has rows."""
    return list(dict.fromkeys(bits for row in network["rows"].values() for bits in row))


def shown(value: Mapping[str, Any] | None) -> str:
    """Return a mean with its spread."""
    if value is None:
        return "-"
    return f"{value['mean']:.2f}" + ("" if value["sd"] is None else f" ± {value['sd']:.2f}")


def saturation_sentence(network: Mapping[str, Any]) -> str:
    """Return what signed weights of 8 bits would do on other processors; empty if no row knows."""
    found = [row["w8a8"]["saturation"] for name, row in network["rows"].items() if name != NOTHING]
    known = [each for each in found if each]
    if not known:
        return ""
    worst = max(known, key=lambda each: each["logit_difference"])
    changed = 100 * (1 - worst["agreement"])
    return (
        "With signed weights of 8 bits, sums of two products would saturate on processors with AVX2 but without VNNI: logits "
        f"would differ by up to {worst['logit_difference']:.2f}, and {changed:.1f} % of the predictions on calibration images "
        "would change (worked out from the integers). The forms in the table cannot saturate, so the rows hold on other "
        "processors."
    )


def console_table(result: Mapping[str, Any]) -> Table:
    """Return the main columns for a terminal of 80 columns."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("network", overflow="fold")
    table.add_column("calibrated on", overflow="fold")
    columns = list(dict.fromkeys(bits for network in result["networks"].values() for bits in bits_of(network)))
    for bits in columns:
        table.add_column(f"{bits},\nagreement", justify="right", no_wrap=True)
    for name, network in result["networks"].items():
        for row, entry in network["rows"].items():
            table.add_row(name, row, *(shown(entry[bits]["agreement"]) if bits in entry else "-" for bits in columns))
    return table


def plot(result: Mapping[str, Any]) -> str:
    """Return a bar chart of the agreement with 8 bits as SVG."""
    bars = [
        {"model": f"{name}, {row}", "accuracy": entry["w8a8"]["agreement"]["mean"] / 100}
        for name, network in result["networks"].items()
        for row, entry in network["rows"].items()
    ]
    return drawing.bar_chart(bars)
