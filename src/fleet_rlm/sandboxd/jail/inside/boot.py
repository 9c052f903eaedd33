"""Loads this package under the name `inside`, without the rest of fleet_rlm. Started as a file by the server:
`python -P -s -S boot.py <fd>`; nothing of the server's environment, modules or open files comes along."""

import importlib
import importlib.util
import sys
from pathlib import Path


def main() -> None:
    """Run the warm process on the control socket whose number is the first argument."""
    here = Path(__file__).parent
    spec = importlib.util.spec_from_file_location(
        "inside", here / "__init__.py", submodule_search_locations=[str(here)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["inside"] = package
    spec.loader.exec_module(package)
    importlib.import_module("inside.zygote").main(int(sys.argv[1]))


if __name__ == "__main__":
    main()
