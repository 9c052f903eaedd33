"""When this run is root's: these tests again as an unprivileged user, and, where Python lies in a folder that only
root may enter, as root on the second rung with that folder opened."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
USER = 65534


@pytest.mark.as_root
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("user", "rungs", "at_least"),
    [(USER, "namespaces,landlock", 150), (0, "landlock", 60)],
    ids=["a normal user on both rungs", "root on the second rung"],
)
def test_all_of_it(user: int, rungs: str, at_least: int) -> None:
    # A folder that the user may enter: pytest's own is root's alone.
    folder = Path(f"/tmp/jail-as-{user}-{os.getpid()}")
    folder.mkdir(mode=0o711)
    os.chown(folder, user, user)
    environment = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(folder),
        "HOME": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "JAIL_RUNGS": rungs,
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE), f"--basetemp={folder}/t"]
    command.append(f"{HERE.parent}/test_hostile_sandbox.py::test_degraded_isolation_end_to_end")
    command += ["--ignore", __file__]
    try:
        done = subprocess.run(
            [sys.executable, str(HERE / "as_user.py"), str(user), *command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=390,
        )
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=False)
    print(done.stdout[-12000:], done.stderr[-3000:])
    assert done.returncode == 0
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > at_least
