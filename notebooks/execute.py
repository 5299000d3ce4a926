"""Execute the notebooks of this folder, as CI does: any error or warning fails.

python notebooks/execute.py                execute all of them, and keep nothing
python notebooks/execute.py --write DIR    also store the executed ones there, to read them
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
SECONDS_A_CELL = 600


class ThisPython(AsyncKernelManager):
    """Starts the kernel with the Python that runs this script, whatever is registered."""

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", self.connection_file]
        return [*command, "--log-level=ERROR", *(extra_arguments or [])]


def main() -> int:
    """Run every notebook and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="only these (default: all)")
    parser.add_argument("--write", type=Path, metavar="DIR", help="store the executed ones there")
    args = parser.parse_args()
    failed = 0
    for path in args.notebooks or sorted(HERE.glob("*.ipynb")):
        start = time.perf_counter()
        notebook = nbformat.read(path, as_version=4)
        problems = list(outputs_kept(notebook)) + execute(notebook)
        seconds = time.perf_counter() - start
        print(f"{path.name}: {'failed' if problems else 'passed'} in {seconds:.0f} seconds")
        for problem in problems:
            print(f"  {problem}")
        failed += bool(problems)
        if args.write:
            args.write.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, args.write / path.name)
    return int(failed > 0)


def execute(notebook: Any) -> list[str]:
    """Execute a notebook in place, in a copy of this folder, and return what went wrong."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "notebooks")
        shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns("*.py", ".*"))
        client = NotebookClient(
            notebook,
            timeout=SECONDS_A_CELL,
            kernel_manager_class=ThisPython,
            resources={"metadata": {"path": str(folder)}},
        )
        try:
            client.execute()
        except CellExecutionError as e:
            return [str(e)]
    return list(warnings_in(notebook))


def outputs_kept(notebook: Any) -> Iterator[str]:
    """Outputs are not kept in the repository: they would change with every run."""
    if any(cell.get("outputs") for cell in notebook.cells):
        yield "it holds outputs: clear them before it is committed"


def warnings_in(notebook: Any) -> Iterator[str]:
    """What a cell wrote to stderr is a warning that a reader should not meet."""
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                yield f"cell {number} wrote to stderr: {output['text'].strip()}"


if __name__ == "__main__":
    sys.exit(main())
