"""The data sets: where their four IDX files may lie, how they are read, how pixels become a network's input.

Nothing here needs torch but `edgeline_train.data.pixels` and the download.
"""

from edgeline_train.data.datasets import (
    DATASETS,
    Dataset,
    dataset_from_name,
    find_files,
    load_split,
    preprocessing_for,
)
from edgeline_train.data.idx import Split

__all__ = ["DATASETS", "Dataset", "Split", "dataset_from_name", "find_files", "load_split", "preprocessing_for"]
