"""The five face-swap autoencoders of DFDM, and what it takes to train and use them.

They make training data with known truth for attribution: DFDM itself is gated, and what tells its
classes apart is which of these five networks drew the face. Networks, training samples, losses and
the conversion step are written from figures (layer sizes, constants, formulae) documented for
``deepfakes/faceswap`` at commit ``183aee37`` (2022-01-15); no code of it is used.

One crop frame runs through all modules, so that training, conversion and paste-back agree:

* *mean-face units* (MFU): the unit square of the mean face; eyes are 0.529 MFU apart.
* *span*: how many MFU a square crop covers; *centre*: which MFU point lies in its middle.
* Matrices map continuous coordinates, in which the centre of the first pixel is (0.5, 0.5); a matrix
  for another crop size is the same matrix times the ratio of the sizes.
"""
