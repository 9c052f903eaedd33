"""The text of a document on its way to a file: bounded, in sections whose first lines are kept."""

from __future__ import annotations

from types import TracebackType

from fleet_rlm.runtime.content.extract.protocol import Fault


class Sink:
    """Writes UTF-8 with "\\n" line ends. Errors: Fault above `max_bytes`."""

    def __init__(self, path: str, max_bytes: int) -> None:
        self._file = open(path, "wb")  # noqa: SIM115, PTH123 - closed by __exit__
        self._max_bytes = max_bytes
        self._fresh = True
        self.bytes = 0
        self.lines = 0
        self.starts: list[int] = []
        self.names: list[str] = []

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def section(self, label: str, name: str | None = None) -> None:
        """Begin a page, sheet or cell on a line of its own, which says so to the model."""
        label, name = _one_line(label), None if name is None else _one_line(name)
        self.end_line()
        self.starts.append(self.lines + 1)
        if name is not None:
            self.names.append(name)
        self.text(f"=== {label} ===\n")

    def text(self, text: str) -> None:
        """Append text; NULs and halves of surrogate pairs, which no text holds, become replacement characters."""
        if not text:
            return
        text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
        self.lines += text.count("\n")
        self._fresh = text.endswith("\n")
        self.data(text.encode("utf-8", "replace"))

    def data(self, data: bytes) -> None:
        """Append bytes as they are."""
        self.bytes += len(data)
        if self.bytes > self._max_bytes:
            raise Fault(f"it holds more than {self._max_bytes / 1e9:g} GB; attach a part of it", too_large=True)
        self._file.write(data)

    def end_line(self) -> None:
        """A line that was begun ends here."""
        if not self._fresh:
            self.text("\n")


def _one_line(words: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in words).split())[:200]
