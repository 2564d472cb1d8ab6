"""From an ONNX node to an Operation with whole attributes: one module a family, the table in operators.py."""
