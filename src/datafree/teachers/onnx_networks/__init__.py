"""Classifiers from ONNX files: as a network of torch, or forward-only by ONNX Runtime. The files are untrusted."""

from datafree.teachers.onnx_networks.loading import load_onnx as load_onnx
