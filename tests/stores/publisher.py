"""Writers to be killed: `python publisher.py INDEX` starts one for each line on its input, and says its process id.

A writer publishes generations without end. Generation g holds g % 5 + 1 documents, and every text names that number,
so that a reader can tell a mixture. Writers are forked, so that each is at work at once.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path

import chromadb  # noqa: F401

from branchwise.stores.errors import IndexLocked
from branchwise.stores.manifest import Manifest
from branchwise.stores.staging import stage
from tests.stores.conftest import fill


def publish_without_end(path: Path) -> None:
    """One writer."""
    while True:
        try:
            with stage(path) as staging:
                count = staging.generation % 5 + 1
                fill(staging, [f"text {i} of {count} in all" for i in range(count)])
                staging.publish(Manifest(title=str(count)))
        except IndexLocked:  # the system has not yet closed the files of the writer that was killed
            time.sleep(0.01)


def main(path: Path) -> None:
    """Start a writer whenever asked to."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))  # Chroma, killed, once wrote 65 GB
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        process = os.fork()
        if process == 0:
            publish_without_end(path)
        print(process, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
