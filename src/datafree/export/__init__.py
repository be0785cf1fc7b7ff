"""Networks and image sets in the formats of other tools. A network is compared with torch before it is written."""

from datafree.export.calibration import CalibrationReader as CalibrationReader
from datafree.export.calibration import calibration_reader as calibration_reader
from datafree.export.onnx_file import export_onnx as export_onnx
from datafree.export.results import Exported as Exported
from datafree.export.torch_program import export_torch as export_torch
from datafree.export.writing import export as export
