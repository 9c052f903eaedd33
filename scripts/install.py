"""Fill `.venv` with the locked versions, or (`--lock`) resolve them again, or (`--bench`) fill `.venv-bench` with the
peers that `make bench` measures beside us. Standard library only.

Needs Python >= 3.11 and pip. uv is taken from PATH when it is recent enough, else installed into `.venv/.uv` at the
version and hashes of scripts/installer.lock: with --target, which leaves alone a Python that its distribution manages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
BENCH_VENV = ROOT / ".venv-bench"
OLDEST_UV = (0, 6)
"""The first uv whose `pip compile` knows --group."""


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what tells the person so
        return fail(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    try:
        make_venv()
        uv = find_uv() or install_uv()
        if "--lock" in sys.argv[1:]:
            lock(uv)
        elif "--bench" in sys.argv[1:]:
            install_peers(uv)
        else:
            install(uv)
    except subprocess.CalledProcessError as error:
        return fail(f"`{Path(error.cmd[0]).name} {' '.join(error.cmd[1:4])} …` ended with status {error.returncode}")
    return 0


def make_venv() -> None:
    """A virtual environment without pip: it works where the distribution leaves ensurepip out."""
    if VENV_PYTHON.exists() and subprocess.run([VENV_PYTHON, "-c", ""], check=False).returncode == 0:
        return
    run(sys.executable, "-m", "venv", "--without-pip", "--clear", str(VENV))


def find_uv() -> str | None:
    for candidate in (shutil.which("uv"), str(VENV / ".uv" / "bin" / "uv")):
        if candidate is None or not Path(candidate).exists():
            continue
        answer = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"(\d+)\.(\d+)", answer.stdout)
        if answer.returncode == 0 and version and (int(version[1]), int(version[2])) >= OLDEST_UV:
            return candidate
    return None


def install_uv() -> str:
    target = VENV / ".uv"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--require-hashes", "--target", str(target), "--upgrade", "-r", str(ROOT / "scripts" / "installer.lock"))
    return str(target / "bin" / "uv")


def install(uv: str) -> None:
    target = ["--quiet", "--python", str(VENV_PYTHON)]
    # Compiled here, once: where Python may not write bytecode, each start would compile half a million lines again.
    run(uv, "pip", "sync", *target, "--compile-bytecode", "--require-hashes", "requirements.lock")
    # hatchling is among the locked versions, so nothing unlocked is fetched to build the editable install.
    run(uv, "pip", "install", *target, "--no-deps", "--no-build-isolation", "--editable", ".")
    run(VENV_PYTHON, "-m", "compileall", "-q", "src/fleet_rlm")


def install_peers(uv: str) -> None:
    python = BENCH_VENV / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", "--without-pip", "--clear", str(BENCH_VENV))
    run(uv, "pip", "sync", "--quiet", "--python", str(python), "--require-hashes", "bench/requirements.lock")


def lock(uv: str) -> None:
    compile_ = [uv, "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-emit-index-url"]
    compile_ += [word for word in sys.argv[1:] if word != "--lock"]
    # The names are relative and short because uv writes this command line into the file.
    extras = ["--extra", "science", "--extra", "documents", "--extra", "mcp"]
    run(*compile_, "--group", "dev", *extras, "-o", "requirements.lock", "pyproject.toml")
    run(*compile_, "-o", "scripts/installer.lock", "scripts/installer.in")
    run(*compile_, "--group", "bench", "-o", "bench/requirements.lock")
    if shutil.which("npm"):
        run("npm", "--prefix", "src/frontend", "install", "--package-lock-only", "--no-audit", "--no-fund")


def run(*command: str | Path) -> None:
    # A virtual environment that happens to be active must not become the target.
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONHOME")}
    subprocess.run([str(word) for word in command], cwd=ROOT, env=environment, check=True)


def fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
