"""Networks in integers: post-training quantisation by existing engines, calibrated on any images, and data-free recovery."""

from datafree.quantization.choosing import QuantizationConfig as QuantizationConfig
from datafree.quantization.choosing import quantize as quantize
from datafree.quantization.results import Quantized as Quantized
