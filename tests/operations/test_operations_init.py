import subprocess
import sys

from skllm_calib import operations

QUEUE_ALONE = """
import sys
from skllm_calib.operations.queue import ReviewQueue
heavy = {"jinja2", "matplotlib", "openai", "skllm_calib.operations.report", "skllm_calib.evidence"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_every_name_is_there():
    for name in operations.__all__:
        assert getattr(operations, name).__module__.startswith("skllm_calib.operations.")
    assert set(operations.__all__) <= set(dir(operations))


def test_the_queue_does_not_load_the_report():
    subprocess.run([sys.executable, "-c", QUEUE_ALONE], check=True)
