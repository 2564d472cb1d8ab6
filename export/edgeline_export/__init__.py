"""Edgeline's exporter: from a trained network to a checked artefact that a device can load."""
