"""Git repositories at a ref: what is read, and that nothing of the repository runs."""

import os
import subprocess
from pathlib import Path

import pytest

from content.documents import pdf
from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.content.contexts import ContextStore
from fleet_rlm.runtime.content.sources import add_named

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
}  # fmt: skip


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def store(tmp_path) -> ContextStore:
    return ContextStore(tmp_path / "home")


@pytest.fixture
def repository(tmp_path) -> Path:
    root = tmp_path / "proj"
    (root / "src").mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    (root / "src/a.py").write_text("print('one')\n")
    (root / "src/empty.py").write_text("")
    (root / "plan.pdf").write_bytes(pdf(["the plan"]))
    (root / "pic.png").write_bytes(b"\x89PNG\0")
    (root / ".hidden").write_text("x")
    (root / "link").symlink_to("/etc/passwd")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "one")
    git(root, "tag", "v1")
    (root / "src/a.py").write_text("print('two')\n")
    (root / "b.txt").write_text("bee\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "two")
    (root / "b.txt").write_text("not committed\n")
    return root


def paths(store, ref) -> list[str]:
    return [entry.path for entry in store.index(ref.sha256).files]


def test_a_ref_gives_its_files(store, repository):
    ref = add_named(store, f"{repository}@v1")
    assert (ref.name, ref.kind) == ("proj@v1", "tree")
    assert paths(store, ref) == ["plan.pdf", "src/a.py", "src/empty.py"]
    index = store.index(ref.sha256)
    assert index.skipped == 3  # .hidden, link, pic.png
    assert index.source == f"git commit {git(repository, 'rev-parse', 'v1')} of {repository}"
    assert store.lines(ref.sha256, "src/a.py", 1, 1) == ["print('one')"]
    assert store.file(ref.sha256, "plan.pdf").origin.place(2) == "page 1"
    head = add_named(store, f"{repository}@main")
    assert store.lines(head.sha256, "b.txt", 1, 1) == ["bee"]
    assert store.lines(head.sha256, "src/a.py", 1, 1) == ["print('two')"]


def test_every_way_to_write_it(store, repository, tmp_path):
    bare = tmp_path / "copy.git"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(bare))
    commit = git(repository, "rev-parse", "v1")
    names = [
        f"{repository}@v1",
        f"{repository}@{commit}",
        f"{repository}@{commit[:10]}",
        f"{repository}@main~1",
        f"{repository}@HEAD@{{1}}",
        f"{bare}@v1",
        f"git+file://{repository}@v1",
    ]
    assert len({add_named(store, name).sha256 for name in names}) == 1
    assert paths(store, add_named(store, f"git+file://{bare}")) == ["b.txt", "plan.pdf", "src/a.py", "src/empty.py"]
    assert paths(store, add_named(store, f"{repository}/src@v1")) == ["a.py", "empty.py"]
    (tmp_path / "at@home").mkdir()
    (tmp_path / "at@home/x.txt").write_text("x")
    assert add_named(store, f"{tmp_path}/at@home").name == "at@home"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{proj}@nothing", "has no commit 'nothing'"),
        ("{proj}@--upload-pack=x", "has no commit"),
        ("{proj}@-h", "has no commit"),
        ("{proj}@", "is no git ref"),
        ("{proj}@main\n", "is no git ref"),
        ("{tmp}@main", "is no git repository"),
        ("{tmp}/none@main", "does not exist"),
        ("git+file://{tmp}/none@main", "does not exist"),
        ("git+https://example.org/x@main", "no repository on this machine"),
        ("git+ext::sh -c x", "no repository on this machine"),
    ],
)
def test_bad_names_are_one_clear_line(store, repository, tmp_path, name, said):
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(InvalidInput) as caught:
        add_named(store, name.format(proj=repository, tmp=outside))
    assert said in caught.value.message
    assert "\n" not in str(caught.value)


def test_nothing_of_a_hostile_repository_runs(store, repository, tmp_path):
    """Each way in which git runs a repository's programs leaves a mark here if it is taken."""
    mark = tmp_path / "ran"
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    script.chmod(0o755)
    (repository / ".gitattributes").write_text("*.py filter=evil diff=evil export-ignore\n*.txt export-subst\n")
    (repository / "src/a.py").write_text("print('three')\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "three")
    lost = git(repository, "rev-parse", "HEAD:b.txt")
    for name, value in {
        "filter.evil.smudge": script, "filter.evil.clean": script, "filter.evil.process": script,
        "filter.evil.required": "true", "diff.evil.textconv": script, "core.fsmonitor": script,
        "core.hooksPath": tmp_path, "core.pager": script, "core.sshCommand": script, "core.askPass": script,
        "core.gitProxy": script, "alias.rev-parse": f"!{script}", "credential.helper": f"!{script}",
        "remote.origin.url": f"ext::{script}", "remote.origin.promisor": "true", "protocol.ext.allow": "always",
        "remote.origin.partialclonefilter": "blob:none", "extensions.partialClone": "origin",
        "core.repositoryformatversion": "1", "uploadpack.packObjectsHook": script,
    }.items():  # fmt: skip
        git(repository, "config", name, str(value))
    mark.unlink(missing_ok=True)
    ref = add_named(store, f"{repository}@HEAD")
    assert store.lines(ref.sha256, "src/a.py", 1, 1) == ["print('three')"]
    assert not mark.exists()
    (repository / ".git/objects" / lost[:2] / lost[2:]).unlink()  # now git would fetch it from the hostile remote
    with pytest.raises(InvalidInput, match="git stopped at object"):
        add_named(store, f"{repository}@HEAD")
    assert not mark.exists()


def test_the_persons_own_settings_do_not_matter(store, repository, monkeypatch, tmp_path):
    config = tmp_path / "config"
    config.write_text("[core]\n\tquotePath = true\n[alias]\n\tls-tree = !false\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert add_named(store, f"{repository}@v1").files == 3
