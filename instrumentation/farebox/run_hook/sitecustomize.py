"""Start metering where `.pth` files are not read, then let the app's own `sitecustomize` run.

`farebox run` puts this folder in front of PYTHONPATH; it takes it away again here for this interpreter, and leaves it
in the environment for the app's children. The folder of the `farebox` package's parent is appended only when the app's
own environment does not have farebox.
"""

import importlib.machinery
import importlib.util
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is not loaded this early
sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != _here]  # noqa: PTH100

try:
    if importlib.util.find_spec("farebox") is None:
        sys.path.append(os.path.dirname(os.path.dirname(_here)))  # noqa: PTH120
    import farebox

    farebox.begin()
except Exception as error:  # noqa: BLE001 - the app must start whatever happens here
    sys.stderr.write(f"farebox: metering could not be started: {error}\n")

_spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
if _spec is not None and _spec.loader is not None:
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["sitecustomize"] = _module
    _spec.loader.exec_module(_module)
