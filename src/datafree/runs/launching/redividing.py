"""The states of the streams of several processes, divided among another number of processes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datafree.synthesis.storage import BORROWED


def redivided(states: Sequence[Any], rank: int, count: int) -> Any:
    """Return the state of the stream of one process of another number of processes.

    The images in pools are divided again. A batch in progress is dropped: the next one takes its place. Everything else is the
    same in all processes.

    Args:
        states: The states of all processes, in order.
        rank: The number of this process.
        count: The number of processes.
    """
    first = states[0]
    if isinstance(first, Mapping):
        merged = {name: redivided([state[name] for state in states], rank, count) for name in first}
        if "descent" in first:
            merged["descent"] = None
        if "pool" in first and "is_whole" in first:
            parts = [state["pool"] for state in (states[:1] if first["is_whole"] else states)]
            borrowed = BORROWED in parts[0].get("store", {})  # every process reads all of the images where they are
            stays_whole = borrowed or bool(parts[0]["newest_size"] * len(parts) % count)
            merged["pool"] = whole_pool(parts) if stays_whole else divided_pool(parts, rank, count)
            merged["is_whole"] = count == 1 or stays_whole
        return merged
    if isinstance(first, list):
        return [redivided(list(entries), rank, count) for entries in zip(*states, strict=True)]
    return first


def whole_pool(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a pool that every process has as a whole."""
    return dict(parts[0]) if BORROWED in parts[0].get("store", {}) else divided_pool(parts, 0, 1)


def divided_pool(parts: Sequence[Mapping[str, Any]], rank: int, count: int) -> dict[str, Any]:
    """Return the part of one process of a pool: of each batch, its share of the images.

    Args:
        parts: The parts of the processes before.
        rank: The number of this process.
        count: The number of processes now.
    """
    first = parts[0]
    size = first["newest_size"]
    if not size:
        return dict(first)
    share = size * len(parts) // count
    counts = {name: first[name] // size * share for name in ("written", "size")}
    if any("shards" in part.get("store", {}) for part in parts):  # read when the pool is restored, batch by batch
        return {**counts, "newest_size": share, "store": {"divide": list(parts), "rank": rank, "count": count}}
    stored = [stored_tensors(part) for part in parts]
    tensors = {name: _share([part[name] for part in stored], size, share, rank) for name in stored[0]}
    store = {"blocks": [tensors], "device": first.get("store", first)["device"]}
    return {**counts, "newest_size": share, "store": store}


def stored_tensors(pool: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a pool that lies in memory, also of the state of an earlier version."""
    if "tensors" in pool:
        return dict(pool["tensors"])
    blocks = pool["store"]["blocks"]
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def _share(parts: Sequence[Tensor], size: int, share: int, rank: int) -> Tensor:
    """Return the rows of one process: its share of each batch, of which every process had `size` rows before."""
    batches = [torch.cat([part[start : start + size] for part in parts]) for start in range(0, len(parts[0]), size)]
    return torch.cat([batch[rank * share : (rank + 1) * share] for batch in batches])
