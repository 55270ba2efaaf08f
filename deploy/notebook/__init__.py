"""fedrad in a notebook: read a site, simulate a federation, look at results, use a model.

Reached as `fedrad.read_site`, `fedrad.simulate` and so on; docs/python.md shows a whole session.
Each module imports only what its functions need, so that tables are read without PyTorch and
Flower. Importing any of them switches the usage reports of Flower, Ray and Hugging Face off in this
process, unless the caller's environment says otherwise; nothing else of the process changes.
"""

from os import PathLike

from fedrad.system.no_telemetry import disable_usage_reports

disable_usage_reports()

AnyPath = str | PathLike[str]
"""A file or folder, as text or as a path."""
