"""The example notebook in a real kernel: the tree is drawn while the task runs, and the answer stands in its cell."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


class ThisPython(AsyncKernelManager):
    """A kernel of the Python that runs the tests; no kernel needs to be installed for it."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, language="python", display_name="tests")


class Watching(NotebookClient):
    """Keeps every message of the kernel, for a notebook keeps only the last state of an output."""

    seen: list[tuple[str, dict[str, Any]]] = []

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        self.seen.append((msg["msg_type"], msg["content"]))
        return super().process_message(msg, cell, cell_index)


def executed(notebook: Any, home: Path) -> Watching:
    client = Watching(
        notebook, timeout=100, kernel_manager_class=ThisPython, resources={"metadata": {"path": str(home)}}
    )
    client.seen = []
    client.execute(env={**os.environ, "IPYTHONDIR": str(home / "ipython"), "JUPYTER_RUNTIME_DIR": str(home / "run")})
    return client


def text_of(cell: Any) -> str:
    return "".join(out.get("text", "") or out.get("data", {}).get("text/plain", "") for out in cell.outputs)


def html_of(cell: Any) -> list[str]:
    return [out["data"]["text/html"] for out in cell.outputs if "text/html" in out.get("data", {})]


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "run"))


def test_the_tree_grows_in_the_cell_and_the_answer_stands_there(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = executed(notebook, tmp_path)
    run, streamed, kept = [cell for cell in notebook.cells if cell.cell_type == "code"]

    opened = [content for kind, content in client.seen if kind == "display_data"]
    updates = [content for kind, content in client.seen if kind == "update_display_data"]
    assert len(opened) == 1, "one place for the tree"
    assert {update["transient"]["display_id"] for update in updates} == {opened[0]["transient"]["display_id"]}
    drawn = [update["data"]["text/html"] for update in updates]
    assert any("which pump of unit 7" in markup and "◌" in markup for markup in drawn), drawn
    assert drawn[-1] == "", "the result shows itself"

    assert "the pump of unit 7 stopped at 04:12" in html_of(run)[-1] and "ok · " in html_of(run)[-1]
    assert text_of(streamed).split()[0] == "run.started" and text_of(streamed).split()[-1] == "turn.finished"
    assert "which pump of unit 7 stopped? -> ok" in text_of(kept) and "units are counted from 1" in text_of(kept)


def test_the_notebook_is_kept_without_its_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
