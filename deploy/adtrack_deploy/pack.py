"""Packs a program as a Lambda package, reproducibly."""

import hashlib
import sys
import zipfile
from pathlib import Path

# The earliest date that a zip can hold.
EPOCH = (1980, 1, 1, 0, 0, 0)
UNIX = 3
# A regular file, readable and executable by all: Lambda runs it as another user.
MODE = 0o100755


def pack(program, package):
    """Writes `package` with `program` as its bootstrap. Returns its size and SHA-256."""
    entry = zipfile.ZipInfo("bootstrap", EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = UNIX
    entry.external_attr = MODE << 16
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr(entry, Path(program).read_bytes(), compresslevel=9)
    content = Path(package).read_bytes()
    return len(content), hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    size, digest = pack(*sys.argv[1:3])
    print(f"{sys.argv[2]}  {size / 1e6:.2f} MB  sha256 {digest}")
