"""Large inputs: many files, and texts that are never whole in memory."""

import resource
import subprocess
import sys
import tracemalloc

from fleet_rlm.runtime.content.citations import find_citations
from fleet_rlm.runtime.content.contexts import ContextStore

LINE = b"the quick brown fox jumps over the lazy dog, \xc3\xa9 0123456789\n"
PIECE = LINE * 16_000


def pieces(count: int):
    for _ in range(count):
        yield bytes(PIECE)


def test_a_large_text_streams(tmp_path):
    """200 MB go in, are cited and read with a bound on memory that does not grow with them."""
    store = ContextStore(tmp_path)
    tracemalloc.start()
    try:
        ref = store.add_stream("big.log", pieces(200))
        (citation,) = find_citations("big.log:3100000", [ref], store)
        assert store.lines(ref.sha256, "big.log", ref.lines, ref.lines) == [LINE.decode().rstrip()]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (ref.bytes, ref.lines) == (200 * len(PIECE), 3_200_000)
    assert citation.quote == LINE.decode().rstrip()
    assert peak < 24_000_000


def test_a_large_file_streams_in_a_process_of_little_memory(tmp_path):
    """The same by path, with an address space that could not hold the file beside the interpreter."""
    path = tmp_path / "big.txt"
    with path.open("wb") as file:
        file.writelines(pieces(300))
    code = (
        "import sys, resource\nfrom pathlib import Path\nfrom fleet_rlm.runtime.content.contexts import ContextStore\n"
        "store = ContextStore(Path(sys.argv[1]))\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)\n"
        "ref = store.add_path(Path(sys.argv[2]))\nprint(ref.lines, store.lines(ref.sha256, 'big.txt', 4_000_000, 4_000_000))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "home", path], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"4800000 {[LINE.decode().rstrip()]}\n"
    assert path.stat().st_size > 250_000_000


def test_one_endless_line_streams(tmp_path):
    store = ContextStore(tmp_path)
    tracemalloc.start()
    try:
        ref = store.add_stream("line.json", (b"x" * (1 << 20) for _ in range(64)))
        (citation,) = find_citations("line.json:1", [ref], store)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (ref.lines, citation.end, len(citation.quote)) == (1, 64 << 20, 300)
    assert peak < 24_000_000


def test_ten_thousand_files(tmp_path):
    root = tmp_path / "many"
    for folder in range(100):
        (root / f"d{folder:02}").mkdir(parents=True)
        for number in range(100):
            (root / f"d{folder:02}/f{number:02}.txt").write_text(f"file {folder} {number}\nword\n")
    store = ContextStore(tmp_path / "home")
    before = resource.getrusage(resource.RUSAGE_SELF)
    ref = store.add_path(root)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert (ref.files, ref.lines) == (10_000, 20_000)
    places = [f"d{n:02}/f{n:02}.txt:1" for n in range(50)]
    found = find_citations(" ".join(places), [ref], store)
    assert [f"{c.path}:{c.line}" for c in found] == places
    assert [c.quote for c in found] == [f"file {n} {n}" for n in range(50)]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert (
        cpu < 30
    )  # a few seconds on an idle machine; what must not come back is work per file that grows with the set


def test_a_gigabyte_in_a_process_of_little_memory(tmp_path):
    """From standard input to a line near its end, with an address space that could not hold a tenth of it."""
    code = (
        "import sys, resource\nfrom pathlib import Path\nfrom fleet_rlm.runtime.content.contexts import ContextStore\n"
        "store = ContextStore(Path(sys.argv[1]))\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)\n"
        "ref = store.add_stream('big.log', iter(lambda: sys.stdin.buffer.read(1 << 20), b''))\n"
        "print(ref.bytes, ref.lines, store.lines(ref.sha256, 'big.log', ref.lines - 1, ref.lines - 1))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "home"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False
    )
    assert process.stdin is not None
    process.stdin.writelines(pieces(1_150))
    out, _ = process.communicate(timeout=600)
    size, lines, shown = out.decode().split(maxsplit=2)
    assert process.returncode == 0 and int(size) == 1_150 * len(PIECE) > 1_000_000_000
    assert int(lines) == 1_150 * 16_000 and shown.strip() == str([LINE.decode().rstrip()])
