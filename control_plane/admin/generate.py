"""Owns generating the admin API's Python from admin.proto. `--check` fails if what is committed is stale."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

_FOLDER = Path(__file__).parent
_OUTPUTS = ("admin_pb2.py", "admin_pb2_grpc.py", "admin_pb2.pyi")


def generate(into: Path) -> None:
    """Write the generated files into `into`. Raises RuntimeError if protoc refuses the file."""
    from grpc_tools import protoc  # type: ignore[import-untyped]  # only developers have it

    well_known = resources.files("grpc_tools") / "_proto"
    code = protoc.main(
        [
            "protoc",
            f"--proto_path={_FOLDER}",
            f"--proto_path={well_known}",
            f"--python_out={into}",
            f"--pyi_out={into}",
            f"--grpc_python_out={into}",
            "admin.proto",
        ]
    )
    if code != 0:
        raise RuntimeError("protoc refused admin.proto")
    stub = into / "admin_pb2_grpc.py"
    # protoc writes an import from the top level; the file lives in a package.
    stub.write_text(stub.read_text().replace("import admin_pb2 as", "from control_plane.admin import admin_pb2 as"))


def main(arguments: Sequence[str]) -> int:
    if "--check" not in arguments:
        generate(_FOLDER)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = [name for name in _OUTPUTS if (Path(folder) / name).read_text() != (_FOLDER / name).read_text()]
    if stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run python -m control_plane.admin.generate\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
