"""Experiment trackers that a run writes to besides its own log: TensorBoard, Weights & Biases, Trackio."""

from datafree.runs.tracking.trackers import TRACKERS as TRACKERS
from datafree.runs.tracking.trackers import Tracker as Tracker
from datafree.runs.tracking.trackers import open_trackers as open_trackers
