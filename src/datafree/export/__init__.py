"""Networks in the formats that other tools and devices run, each compared with the network of torch before it is written."""

from datafree.export.onnx_file import export_onnx as export_onnx
from datafree.export.results import Exported as Exported
