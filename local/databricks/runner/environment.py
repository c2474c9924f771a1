"""Prepares what a run sees: a Python environment of its own, and environment variables as on the cluster."""

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from .request import Request

__all__ = ["make_python", "notebook_environment"]

RUNTIME_VERSION = "18.2"

# What belongs to the machine's owner or to the control plane, and would not be there on a cluster.
_FOREIGN = (
    *("APPLICATIONINSIGHTS_", "ARM_", "AZURE_", "AZURITE_", "DATABRICKS_", "FUNCTIONS_", "IDENTITY_", "IPYTHON"),
    *(
        "JUPYTER",
        "MLFLOW_",
        "MPL",
        "MSI_",
        "OTEL_",
        "PYSPARK_",
        "PYTEST_",
        "PYTHON",
        "SPARK_",
        "TIDEGATE_",
        "VIRTUAL_ENV",
    ),
)


def make_python(folder: Path) -> Path:
    """Create an environment layered over the one that runs now; return its interpreter.

    It is what `python -m venv` makes, with a .pth file that appends the cluster's packages: they are all there, what
    `%pip` installs comes first, and pip never touches the cluster's own. Takes a few milliseconds.
    """
    own = Path(sys.executable)
    cluster_packages = sysconfig.get_path("purelib")
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages, binaries = folder / "lib" / name / "site-packages", folder / "bin"
    packages.mkdir(parents=True)
    binaries.mkdir()
    real = own.resolve()
    for link in ("python", "python3", name):
        (binaries / link).symlink_to(real)
    configuration = f"home = {real.parent}\ninclude-system-site-packages = false\nversion = {sys.version.split()[0]}\n"
    (folder / "pyvenv.cfg").write_text(configuration, encoding="utf-8")
    (packages / "cluster.pth").write_text(f"import site; site.addsitedir({cluster_packages!r})\n", encoding="utf-8")
    return binaries / "python"


def notebook_environment(
    request: Request, *, inherited: Mapping[str, str], python: Path, scratch: Path
) -> dict[str, str]:
    """Return the environment variables of the notebook's process.

    The machine's own are kept (PATH, proxies, certificates, threads), those that a cluster would not have are not.
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith(_FOREIGN)}
    return (
        kept
        | {
            "DATABRICKS_HOST": request.host,
            "DATABRICKS_RUNTIME_VERSION": RUNTIME_VERSION,
            "DATABRICKS_TOKEN": request.token,
            "IPYTHONDIR": str(scratch / "ipython"),
            "MLFLOW_REGISTRY_URI": "databricks-uc",
            "MLFLOW_TRACKING_URI": "databricks",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "MPLCONFIGDIR": str(request.spark_jars_dir.parent / "matplotlib"),  # keeps its font cache
            "PATH": os.pathsep.join([str(python.parent), kept.get("PATH", os.defpath)]),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_COMPILE": "1",  # what is imported is compiled then; the rest need not be
            "PIP_NO_INPUT": "1",
            "PYSPARK_PYTHON": str(python),
            "PYTHONUNBUFFERED": "1",
            "TZ": "UTC",
            "VIRTUAL_ENV": str(python.parent.parent),
        }
        | request.env
    )
