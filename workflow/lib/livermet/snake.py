"""The only module that knows Snakemake: it connects a rule's script with its log file."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits


@contextmanager
def job_log(snakemake: Any) -> Iterator[None]:
    """Send log messages, output and traceback of a rule's script to the rule's log file.

    ``script:`` captures none of them. A ValueError is a message to the user: it is also printed on the terminal,
    without its traceback. BLAS and OpenMP work in one thread, since their thread count changes PCA and with it UMAP.
    """
    path = Path(str(snakemake.log[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    terminal = sys.stderr
    with path.open("w", encoding="utf-8", buffering=1) as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logger = logging.getLogger("livermet")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            with (
                redirect_stdout(stream),
                redirect_stderr(stream),
                threadpool_limits(limits=1),
            ):
                yield
        except BaseException as error:
            traceback.print_exc(file=stream)
            if isinstance(error, ValueError):
                print(f"\nlivermet, rule {snakemake.rule}:\n{error}\n", file=terminal)
            raise
        finally:
            logger.removeHandler(handler)
