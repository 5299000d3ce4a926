"""Calibrated class probabilities from any large language model, inside scikit-learn.

The names most used are here, imported at their first use; ``__init__.pyi`` lists them. All others
are in ``metrics``, ``calibrators``, ``calibration``, ``display``, ``decisions``, ``operations``,
``backends`` and ``signals``.
"""

import lazy_loader

from skllm_calib._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
