"""Owns generating the Python of the services' own APIs from their .proto files. `--check` fails if what is committed is
stale."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PROTOS = (
    "control_plane/admin/admin.proto",
    "control_plane/config/config.proto",
    "control_plane/releases/releases.proto",
    "ext_authz/admin/limits.proto",
    "paymesh/server/admin_audit.proto",
    "paymesh/server/policy_documents.proto",
)


def generate(proto: Path, into: Path) -> None:
    """Write the generated files into `into`. Raises RuntimeError if protoc refuses the file."""
    from grpc_tools import protoc  # type: ignore[import-untyped]  # only developers have it

    well_known = resources.files("grpc_tools") / "_proto"
    folder = _ROOT / proto.parent
    outputs = (f"--python_out={into}", f"--pyi_out={into}", f"--grpc_python_out={into}")
    code = protoc.main(["protoc", f"--proto_path={folder}", f"--proto_path={well_known}", *outputs, proto.name])
    if code != 0:
        raise RuntimeError(f"protoc refused {proto}")
    name, package = proto.stem, ".".join(proto.parent.parts)
    stub = into / f"{name}_pb2_grpc.py"
    # protoc writes an import from the top level; the file lives in a package.
    stub.write_text(stub.read_text().replace(f"import {name}_pb2 as", f"from {package} import {name}_pb2 as"))


def _stale(proto: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        generate(proto, Path(folder))
        outputs = [proto.parent / f"{proto.stem}{suffix}" for suffix in ("_pb2.py", "_pb2_grpc.py", "_pb2.pyi")]
        return [str(path) for path in outputs if (Path(folder) / path.name).read_text() != _read(_ROOT / path)]


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def main(arguments: Sequence[str]) -> int:
    protos = [Path(name) for name in _PROTOS]
    if "--check" not in arguments:
        for proto in protos:
            generate(proto, _ROOT / proto.parent)
        return 0
    stale = [name for proto in protos for name in _stale(proto)]
    if stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run python -m paymesh.cli.generate_apis\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
