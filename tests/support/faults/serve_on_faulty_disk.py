"""A real server on a disk with faults: `python -m tests.support.faults.serve_on_faulty_disk FOLDER serve …`.

FOLDER is read at every write and sync: see `tests.support.faults.disk.Fault`. Everything else is
`bandit-server`.
"""

import sys
from pathlib import Path

from server.__main__ import main
from tests.support.faults.apsw_driver import drive_sqlalchemy
from tests.support.faults.disk import Disk

if __name__ == "__main__":
    disk = Disk("faulty-disk", Path(sys.argv.pop(1)), has_history=False)
    drive_sqlalchemy(disk.name)
    main()
