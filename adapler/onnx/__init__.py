"""AdapLeR as ONNX graphs, which drop tokens for real and run without PyTorch.

graph is the forward pass as the exporter can read it, checking compares a graph with PyTorch, export writes the folder.
"""
