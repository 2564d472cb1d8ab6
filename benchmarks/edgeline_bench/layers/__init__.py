"""Work per layer from the graph, time per layer from each engine's own profiler, and the roof above each layer."""
