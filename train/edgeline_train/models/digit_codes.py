"""The codes that LeNet-5's output units hold their input against: a picture of each digit, 7 x 12 pixels, +1 for ink.

The ten digits of Figure 3 of LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, after the
transcription in github.com/mattwang44/LeNet-from-Scratch; not held against the paper's own print. The figure draws the
full ASCII set so that what looks alike has codes alike: a bar tells 0, 2, 4 and 5 from o, z, y and s.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LENGTH = 84  # 12 rows of 7
_SEED = 1998
# Digits 0 to 4, then 5 to 9.
_PICTURES = (
    """
    .#####.  ...##..  .#####.  #######  .#####.
    .......  ..###..  .......  .....##  .......
    ..###..  .####..  .#####.  ....##.  .......
    .##.##.  ...##..  ##...##  ...##..  .##..##
    ##...##  ...##..  #....##  ..####.  .##..##
    ##...##  ...##..  ....##.  .....##  ###..##
    ##...##  ...##..  ..###..  .....##  ##...##
    ##...##  ...##..  .##....  .....##  ##...##
    .##.##.  ...##..  ##.....  ##...##  ##..###
    ..###..  .######  #######  .#####.  .######
    .......  .......  .......  .......  .....##
    .......  .......  .......  .......  .....##
    """,
    """
    .#####.  ..####.  #######  .#####.  .#####.
    .......  .##....  .....##  ##...##  ##..###
    #######  ##.....  .....##  ##...##  ##...##
    ##.....  ##.....  ....##.  ##...##  ##...##
    ##.....  ######.  ...##..  .#####.  ##..###
    .####..  ###..##  ...##..  ##...##  .######
    ..####.  ##...##  ..##...  ##...##  .....##
    .....##  ##...##  ..##...  ##...##  .....##
    ##...##  ###..##  ..##...  ##...##  ....##.
    .#####.  .#####.  ..##...  .#####.  .####..
    .......  .......  .......  .......  .......
    .......  .......  .......  .......  .......
    """,
)


def codes_for(classes: int) -> npt.NDArray[np.float32]:
    """Return a code of +1 and -1 for each class, float32 [classes, 84].

    Ten classes get the digits' pictures, row by row. Other numbers get codes drawn at random from a fixed seed, which
    is what the paper names as the plain alternative.
    """
    if classes != 10:
        return np.random.default_rng(_SEED).choice(np.array([-1, 1], np.float32), (classes, LENGTH))
    digits = []
    for picture in _PICTURES:
        rows = [line.split() for line in picture.split("\n") if line.strip()]
        digits += ["".join(column) for column in zip(*rows, strict=True)]
    return np.array([[1 if pixel == "#" else -1 for pixel in digit] for digit in digits], np.float32)
