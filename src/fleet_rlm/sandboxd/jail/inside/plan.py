"""What the server tells the warm process: once about the system, then about each jail."""

import enum
import json
from dataclasses import asdict, dataclass, field
from typing import Any

TEMPORARY = ".tmp"  # what follows the workspace's name in that of the folder that stands for /tmp on the host


class Rung(enum.StrEnum):
    """How model-written code is kept in, the strongest first."""

    NAMESPACES = "namespaces"
    LANDLOCK = "landlock"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class System:
    """What every jail sees of the host. `binds`: host path to path in the jail, read-only; `links`: symlinks
    (path in the jail to text); `stage`: an empty host folder, on which a jail builds its tree (in its own mount
    namespace); `import_path`: where the offered packages lie, the same on both sides; `programs`: the host folder
    with this Python as `python3`, for code that stays in the host's tree."""

    binds: dict[str, str]
    links: dict[str, str]
    stage: str
    import_path: str
    programs: str
    preload: list[str]
    scripts: dict[str, str]  # sha256 hex to source

    @classmethod
    def read(cls, text: str) -> "System":
        """From the text that `write` made."""
        return cls(**json.loads(text))

    def write(self) -> str:
        """As text for the other side."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Shape:
    """What a first process must know of its jail before it has the plan; jails of one shape can be begun ahead."""

    rung: Rung
    own_users: bool  # in a user namespace
    tmp_mb: int

    @classmethod
    def read(cls, message: dict[str, Any]) -> "Shape":
        """From a message's fields."""
        return cls(rung=Rung(message.pop("rung")), **message)


@dataclass(frozen=True, slots=True)
class Plan:
    """One jail. `uid` is the host id to drop to (None: stay this user); `groups` are its extra groups;
    `shared`: what it makes in mounts is for the group; `mounts` are (host path, path in the jail, read-only);
    `control_group` is the file through which it joins its memory group."""

    id: str
    rung: Rung
    uid: int | None
    groups: list[int]
    shared: bool
    control_group: str | None
    workspace: str
    mounts: list[tuple[str, str, bool]]
    memory_mb: int
    processes: int
    open_files: int
    file_size_mb: int
    tmp_mb: int
    cpu_s: int | None

    @property
    def shape(self) -> Shape:
        """Of the first process that can take this plan."""
        return Shape(self.rung, self.rung is Rung.NAMESPACES and self.uid is None, self.tmp_mb)

    @classmethod
    def read(cls, message: dict[str, Any]) -> "Plan":
        """From a message's fields."""
        mounts = [(str(a), str(b), bool(c)) for a, b, c in message.pop("mounts")]
        return cls(mounts=mounts, rung=Rung(message.pop("rung")), **message)


@dataclass(slots=True)
class Start:
    """One process to start in a jail. `stdio` are the received fds for 0, 1, 2 (None: /dev/null) and any after.
    `first`: no warm script has been started in this jail before."""

    argv: list[str] | None
    script: str | None
    env: dict[str, str]
    cwd: str
    tty: bool
    stdio: list[int | None] = field(default_factory=list[int | None])
    first: bool = True
