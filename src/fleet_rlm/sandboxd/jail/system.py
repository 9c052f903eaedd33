"""What a jail sees of the host: the system, this Python without its environment's packages, and a few
packages that are offered on purpose."""

import hashlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fleet_rlm.sandboxd.jail.inside.plan import System
from fleet_rlm.sandboxd.jail.spec import SpecError

PROGRAMS = "/opt/sandbox/bin"
# In a virtual environment `sys.executable` would bring the environment along; this one does not.
EXECUTABLE: str = sys._base_executable  # pyright: ignore[reportAttributeAccessIssue]
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ssl", "pki", "ca-certificates", "alternatives", "localtime")
_MAX_SCRIPT = 1 << 20
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# One arena of malloc: each further one takes 64 MiB of the bounded address space, and 16 threads would use it up.
ONE_THREAD = dict.fromkeys((*_THREADS, "MALLOC_ARENA_MAX"), "1")


def describe(data_dir: Path, preload: Sequence[str], scripts: Sequence[Path]) -> System:
    """The system part of every jail. Makes the folders of the offered packages and of the
    stage in `data_dir`."""
    binds: dict[str, str] = {}
    links: dict[str, str] = {f"{PROGRAMS}/{name}": EXECUTABLE for name in ("python3", "python")}
    for path in map(Path, (*_SYSTEM, *(f"/etc/{name}" for name in _ETC))):
        if path.is_symlink() and str(path) in _SYSTEM:
            links[str(path)] = str(path.readlink())
        elif path.exists():
            binds[str(path)] = str(path)
    binds |= {prefix: prefix for prefix in _python_prefixes()}
    farm = data_dir / "packages"
    for name, source in _offered(preload).items():
        _point(farm / name, source)
        binds[str(source)] = f"{farm}/{name}"
    programs = host_programs(data_dir)
    stage = data_dir / "stage"
    stage.mkdir(mode=0o700, exist_ok=True)
    sources = dict(_read_script(path) for path in scripts)
    return System(binds, links, str(stage), str(farm), programs, list(preload), sources)


def environment(import_path: str, extra: Mapping[str, str], home: str, programs: str) -> dict[str, str]:
    """The whole environment of a jail's processes: nothing comes from the host's. `programs` is the folder
    with this Python as `python3`."""
    base = {
        "PATH": f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": home,
        "USER": "sandbox",
        "LOGNAME": "sandbox",
        "SHELL": "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108  the jail's own
        **ONE_THREAD,
    }
    joined = f"{extra['PYTHONPATH']}:{import_path}" if extra.get("PYTHONPATH") else import_path
    return {**base, **extra, "PYTHONPATH": joined}


def host_programs(data_dir: Path) -> str:
    """A host folder with this Python as `python3`, for code that runs without a jail."""
    folder = data_dir / "bin"
    for name in ("python3", "python"):
        _point(folder / name, Path(EXECUTABLE))
    return str(folder)


def _python_prefixes() -> list[str]:
    """Where this interpreter's own files lie, unless a part of the system: as named, and with links resolved."""
    named = (Path(sys.base_prefix), Path(sys.base_exec_prefix), Path(EXECUTABLE).resolve().parent.parent)
    found = {name for path in named for name in (str(path), str(path.resolve()))}
    if any(path.startswith("/nix/store/") for path in found):
        return ["/nix/store"]
    for path in found:
        if path in ("/", str(Path.home())):
            raise SpecError(f"Python's prefix {path} cannot be shown to a sandbox: use a Python in a folder of its own")
    outside = sorted(path for path in found if not _below(path, _SYSTEM))
    return [path for path in outside if not _below(path, [other for other in outside if other != path])]


def _offered(names: Iterable[str]) -> dict[str, Path]:
    """Top-level files and folders of these distributions and what they require, where installed."""
    found: dict[str, Path] = {}
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # optional: the report of the warm process says what was loaded
        for file in distribution.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__", "bin"):
                found[top] = Path(str(distribution.locate_file(top))).resolve()
        waiting += [m[0] for r in distribution.requires or () if "extra" not in r and (m := re.match(r"[\w.-]+", r))]
    return {name: path for name, path in found.items() if path.exists()}


def _point(link: Path, source: Path) -> None:
    """A symlink to the source; replaced when it points elsewhere (another environment, an upgrade)."""
    if not link.parent.is_dir():
        link.parent.mkdir(mode=0o755, parents=True)
    link.parent.chmod(0o755)  # nothing but links; who may come here at all is decided above
    if link.is_symlink() and link.readlink() == source:
        return
    fresh = link.with_name(f"{link.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(source)
    fresh.rename(link)


def _read_script(path: Path) -> tuple[str, str]:
    data = path.read_bytes()
    if len(data) > _MAX_SCRIPT:
        raise SpecError(f"warm script {path} has {len(data)} bytes; at most {_MAX_SCRIPT}")
    try:
        text = data.decode()
        compile(text, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise SpecError(f"warm script {path} is not Python: {error}") from error
    return hashlib.sha256(data).hexdigest(), text


def _below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)
