"""Runs a command as an unprivileged user, from root: `python as_user.py UID COMMAND...`.

This Python and this repository may lie in folders that only root can enter; in a private mount namespace they
are shown to that user at the same paths, and nothing else of those folders is.
"""

import os
import sys
from pathlib import Path

from fleet_rlm.sandboxd.jail.inside import kernel


def hidden_ancestor(path: Path) -> Path | None:
    """The first folder on the way that others may not enter."""
    for folder in [*reversed(path.parents)]:
        if not folder.stat().st_mode & 0o001:
            return folder
    return None


def main() -> None:
    uid, command = int(sys.argv[1]), sys.argv[2:]
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("", "/", kernel.MS_REC | kernel.MS_PRIVATE)
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), Path(__file__).resolve().parents[3]}
    shown = {path: ancestor for path in sorted(needed) if (ancestor := hidden_ancestor(path))}
    trees = {path: kernel.clone_tree(str(path), 0) for path in shown}
    for ancestor in set(shown.values()):
        kernel.mount("tmpfs", str(ancestor), 0, "mode=755,size=1m")
    for path, tree in trees.items():
        path.mkdir(parents=True, exist_ok=True)
        kernel.attach(tree, os.open(path, os.O_PATH))
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
