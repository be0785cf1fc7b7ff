"""The order in which channels are removed: the lowest score first, and in steps that leave widths devices like."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from datafree.networks.pruning_surgery import Group


class Cut(NamedTuple):
    """Channels of one group that are removed together."""

    group: int
    """index of the group"""
    channels: tuple[int, ...]
    """indices of the channels within the group"""


def least_widths(groups: Sequence[Group], min_kept: Sequence[int], multiple: int = 1) -> list[int]:
    """Return the smallest width that each group can have.

    Args:
        groups: Channel groups.
        min_kept: Number of channels that each group keeps at least.
        multiple: A group that loses channels keeps a multiple of this number. A group without such a width loses none.
    """
    widths = []
    for group, kept in zip(groups, min_kept, strict=True):
        width = -(-max(1, kept) // multiple) * multiple
        widths.append(min(len(group), width) if group.removable else len(group))
    return widths


def cuts_in_order(
    groups: Sequence[Group], scores: Sequence[Tensor], min_kept: Sequence[int], multiple: int = 1
) -> list[Cut]:
    """Return everything that can be removed, the lowest mean score of a channel first.

    Within a group, channels go in the order of their scores. The first cut of a group leaves a multiple of `multiple`, each
    further one takes as many channels.

    Args:
        groups: Channel groups.
        scores: One tensor per group with one score per channel.
        min_kept: Number of channels that each group keeps at least.
        multiple: See `least_widths`.
    """
    cuts: list[tuple[float, int, int, Cut]] = []
    for number, (values, least) in enumerate(zip(scores, least_widths(groups, min_kept, multiple), strict=True)):
        order, plain = values.argsort(stable=True).tolist(), values.tolist()
        width = len(groups[number])
        while width > least:
            narrower = max(least, (width - 1) // multiple * multiple)
            channels = order[len(order) - width : len(order) - narrower]
            score = sum(plain[channel] for channel in channels) / len(channels)
            first = channels[0] if len(channels) == 1 else 0  # equal scores keep the order of the channels
            cuts.append((score, number, first, Cut(number, tuple(channels))))
            width = narrower
    return [cut for *_, cut in sorted(cuts, key=lambda entry: entry[:3])]


def selected(cuts: Sequence[Cut], groups: int) -> list[list[int]]:
    """Return, for each of a number of groups, the indices of the channels that cuts remove."""
    channels: list[list[int]] = [[] for _ in range(groups)]
    for cut in cuts:
        channels[cut.group] += cut.channels
    return channels


def cuts_for(cuts: Sequence[Cut], groups: Sequence[Group], filters: int) -> int:
    """Return how many of the first cuts remove at least a number of filters; all cuts if they do not.

    Args:
        cuts: In order.
        groups: Channel groups. Removing one channel removes one filter of each of the group's writers.
        filters: Number of filters to remove.
    """
    for count, cut in enumerate(cuts):
        if filters <= 0:
            return count
        filters -= len(cut.channels) * len(groups[cut.group].writers)
    return len(cuts)
