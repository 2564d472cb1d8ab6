"""A model repository for Triton Inference Server, written from an artefact. Nothing here runs a server."""
