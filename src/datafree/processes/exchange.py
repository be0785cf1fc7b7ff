"""Rows that move between processes: the images that one process has and another one needs."""

from dataclasses import dataclass

import torch
import torch.distributed as distributed
from torch import Tensor

from datafree.processes.division import count, layout, rank, rows_of


def gather(rows: Tensor) -> Tensor:
    """Return the rows of all processes in the order of the whole batch, without gradient."""
    if count() == 1:
        return rows
    own = rows.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(count())]
    distributed.all_gather(parts, own)
    joined = torch.cat(parts)
    if len(layout(len(rows))) == 1:
        return joined
    whole = torch.empty_like(joined)
    whole[_whole_rows(len(rows)).to(whole.device)] = joined
    return whole


def _whole_rows(rows: int) -> Tensor:
    """Return the row of the whole batch of each row of each process."""
    return torch.cat([rows_of(process, rows) for process in range(count())])


@dataclass(frozen=True)
class Exchange:
    """Which rows this process sends, and in which order it wants those that it receives."""

    sent: Tensor
    """its own rows that are sent, in the order of the processes that want them"""
    sent_counts: list[int]
    """number of rows for each process"""
    received_counts: list[int]
    """number of rows from each process"""
    order: Tensor
    """the place of each received row"""

    @classmethod
    def of(cls, owners: Tensor, places: Tensor, wanted_by: Tensor) -> "Exchange":
        """Return the exchange after which every process has the rows it wants, in order.

        Args:
            owners: The process that has each wanted row; the same in every process, as the other arguments.
            places: Where it has the row.
            wanted_by: The process that wants it.
        """
        owned, own = owners == rank(), wanted_by == rank()
        sent = [places[owned & (wanted_by == process)] for process in range(count())]
        received = [int((own & (owners == process)).sum()) for process in range(count())]
        return cls(torch.cat(sent), list(map(len, sent)), received, owners[own].argsort(stable=True))

    def move(self, outgoing: Tensor) -> Tensor:
        """Send rows, and return those that this process wants.

        Args:
            outgoing: The rows `sent`.
        """
        outgoing = outgoing.detach().contiguous()
        incoming = outgoing.new_empty(sum(self.received_counts), *outgoing.shape[1:])
        distributed.all_to_all_single(incoming, outgoing, self.received_counts, self.sent_counts)
        result = torch.empty_like(incoming)
        result[self.order.to(result.device)] = incoming
        return result


def fetch(rows: Tensor, wanted: Tensor) -> Tensor:
    """Return rows of the whole batch, wherever they are, without gradient.

    Args:
        rows: The rows of this process.
        wanted: Indices of rows of the whole batch, the same in every process. Each process gets its part of them.
    """
    if count() == 1:
        return rows[wanted.to(rows.device)]
    whole = _whole_rows(len(rows))
    index = torch.empty_like(whole)
    index[whole] = torch.arange(len(whole))
    index = index[wanted.cpu()]
    exchange = Exchange.of(index // len(rows), index % len(rows), wanted_by(len(wanted)))
    return exchange.move(rows[exchange.sent.to(rows.device)])


def wanted_by(rows: int) -> Tensor:
    """Return the process that has each row of a whole batch with this number of rows."""
    processes = torch.empty(rows, dtype=torch.long)
    for process in range(count()):
        processes[rows_of(process, rows // count())] = process
    return processes


def permuted(rows: Tensor) -> Tensor:
    """Return the rows of the whole batch in random order, the part of this process."""
    return fetch(rows, torch.randperm(len(rows) * count(), device=rows.device))
