"""Several processes that divide every batch among them, so that together they compute what one process computes."""

from datafree.processes.batch_norm import whole_batch_layers as whole_batch_layers
from datafree.processes.division import Processes as Processes
from datafree.processes.division import arranged as arranged
from datafree.processes.division import count as count
from datafree.processes.division import divided as divided
from datafree.processes.division import draw_rows as draw_rows
from datafree.processes.division import layout as layout
from datafree.processes.division import part as part
from datafree.processes.division import rank as rank
from datafree.processes.division import share as share
from datafree.processes.division import undivided as undivided
from datafree.processes.exchange import fetch as fetch
from datafree.processes.exchange import gather as gather
from datafree.processes.exchange import permuted as permuted
from datafree.processes.reduction import average_gradients as average_gradients
from datafree.processes.reduction import largest as largest
from datafree.processes.reduction import mean as mean
from datafree.processes.reduction import mean_terms as mean_terms
from datafree.processes.reduction import moments as moments
from datafree.processes.reduction import overflow_together as overflow_together
from datafree.processes.reduction import total as total
from datafree.processes.sharding import gathered as gathered
from datafree.processes.sharding import is_sharded as is_sharded
from datafree.processes.sharding import local as local
