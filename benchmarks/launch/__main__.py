"""Run the command line: `python -m benchmarks.launch`."""

import logging

import structlog

from benchmarks.launch.command import main

if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    main()
