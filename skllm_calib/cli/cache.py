"""Show where the replies of the models are kept, how many there are, or remove them."""

from __future__ import annotations

import argparse

from skllm_calib.cli.console import note, say
from skllm_calib.evidence.cache import ResponseCache

HELP = "show or empty the cache of replies"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--path", help="another cache than the usual one")
    parser.add_argument("--clear", action="store_true", help="remove all replies")
    parser.add_argument("--yes", action="store_true", help="do not ask before removing them")


def run(args: argparse.Namespace) -> int:
    """Show the cache, or empty it."""
    cache = ResponseCache(args.path)
    stats = cache.stats()
    if not args.clear:
        say(f"path     {stats.path}")
        say(f"replies  {stats.n_replies:,}")
        say(f"size     {stats.n_bytes / 1e6:,.1f} MB")
        return 0
    if not args.yes and not _confirmed(stats.n_replies, stats.path):
        note("Nothing was removed.")
        return 1
    say(f"Removed {cache.clear():,} replies from {stats.path}")
    return 0


def _confirmed(n_replies: int, path: str) -> bool:
    note(f"Remove all {n_replies:,} replies from {path}?")
    note("They cost time or money to get again. [y/N]")
    try:
        return input().strip().lower() in ("y", "yes")
    except EOFError:  # nobody there to ask
        note("Without a terminal, confirm with --yes.")
        return False
