"""The processes of this machine, as tests look at them."""

from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """Process id -> name of everything below a process."""
    parents: dict[int, tuple[int, str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = stat.read_text().rpartition(") ")
        except OSError:
            continue
        parents[int(stat.parent.name)] = (int(tail.split()[1]), head.partition("(")[2])
    found: dict[int, str] = {}
    level = {pid}
    while level:
        level = {child for child, (parent, _) in parents.items() if parent in level and child not in found}
        found.update({child: parents[child][1] for child in level})
    return found
