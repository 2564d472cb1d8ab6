"""Edgeline's training side: the networks, the data sets, the recipes and the training loop.

Importing this package imports no torch; its modules do.
"""
