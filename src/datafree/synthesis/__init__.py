"""How images are synthesized: the interface of methods, the schedule and the stream of batches, and shared building blocks."""

from datafree.synthesis.method import Method as Method
from datafree.synthesis.method import Synthesizer as Synthesizer
from datafree.synthesis.method import descend as descend
from datafree.synthesis.method import half_cosine as half_cosine
from datafree.synthesis.method import loss_scaler as loss_scaler
from datafree.synthesis.method import total as total
from datafree.synthesis.schedule import Schedule as Schedule
from datafree.synthesis.stream import Stream as Stream
