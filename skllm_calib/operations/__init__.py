"""A calibrated classifier at work: the review queue, the monitor, the report.

Names are imported at their first use, as at the top level; ``__init__.pyi`` lists them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
