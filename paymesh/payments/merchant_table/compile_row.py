"""Owns turning one row into a merchant with keys, by the same rules as a merchant of the documents. Does I/O: the files
that a row refers to. Refuses a whole row for any problem in it, as a policy is refused whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.bodies.limits import BodyLimits
from paymesh.payments.merchant_table.rows import MAX_DOCUMENT_CHARS, Row
from paymesh.payments.merchant_table.settings import MerchantTable
from paymesh.payments.policy.callers import CredentialKey, KeyRef, Merchant
from paymesh.payments.policy.compile import compile_merchant
from paymesh.payments.policy.compile_credentials import CredentialCompiler
from paymesh.payments.policy.credential_documents import AlipayCredentialDocument
from paymesh.payments.policy.documents import MerchantDocument
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.problems import DocumentPath, format_path
from paymesh.payments.policy.references import References
from paymesh.payments.policy.values import FileReference, SecretReference
from paymesh.payments.policy.yaml_source import Location, SourceTree

_LIMITS = BodyLimits(max_bytes=4 * MAX_DOCUMENT_CHARS)
_WORDS = {"missing": "is required", "extra_forbidden": "unknown key"}

FileState = tuple[int, int, int]
"""Modification time (ns), size, inode; zeros where there is no such file."""


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRow:
    merchant: Merchant
    keys: Mapping[KeyRef, tuple[CredentialKey, ...]]
    """Only those under which the merchant is registered in `merchant_keys`."""
    refs: frozenset[KeyRef]
    """Every name of the merchant: its keys' and its identities'."""
    contested: frozenset[KeyRef]
    """Of these: names under which other merchants are registered as well."""
    files: Mapping[Path, FileState]
    stamp: bytes


class BadRow(Exception):  # noqa: N818 - it names the thing, as Unavailable does
    """A row that cannot be used. `problems`: each `path: message`, without values of secrets."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


def compile_row(row: Row, settings: MerchantTable, environ: Mapping[str, str]) -> CompiledRow:
    """The merchant of a row. Raises BadRow with every problem of it. Reads files: call it in a thread."""
    document = read_document(row.document, environ)
    # Looked at before they are read: a file that changes meanwhile is read again at the next re-check.
    files = file_states(referenced_files(document, settings.folder))
    findings = _findings(settings.folder, environ)
    if document.id != row.id:
        findings.problem(("id",), "is not the row's id")
    merchant = compile_merchant(document, (), settings.limits, dict.fromkeys(settings.routes), findings)
    compiled = _credentials(document, merchant, settings.issuers, findings)
    if settings.sellers_required:
        _require_sellers(document, findings)
    for ref in compiled.identities:
        if ref not in row.claimants:
            # Otherwise a second merchant could claim the same identity, and neither would know of the other.
            findings.problem((), f"its {ref.kind} is not registered in merchant_keys")
    _refuse(findings)
    keys = {ref: found for ref, found in compiled.keys.items() if ref in row.claimants}
    refs = frozenset(compiled.identities).union(keys)
    contested = frozenset(ref for ref in refs if row.claimants[ref] > 1)
    return CompiledRow(merchant, keys, refs, contested, files, row.stamp)


def credential_refs(
    document: MerchantDocument, folder: Path, environ: Mapping[str, str], issuers: Iterable[str]
) -> frozenset[KeyRef]:
    """Every name of a merchant's keys and identities. Raises BadRow."""
    findings = _findings(folder, environ)
    compiled = _credentials(document, Merchant(document.id, {}), issuers, findings)
    _refuse(findings)
    return frozenset(compiled.keys).union(compiled.identities)


def read_document(text: str | None, environ: Mapping[str, str]) -> MerchantDocument:
    """The document in a row. Raises BadRow."""
    if text is None:
        raise BadRow([f"document: is not text of at most {MAX_DOCUMENT_CHARS} characters"])
    try:
        value = parse_json(text.encode("utf-8", "surrogatepass"), _LIMITS, object_only=True).value
        return MerchantDocument.model_validate(value, context={"environ": environ})
    except BodyError as error:
        raise BadRow([f"document: {error}"]) from None
    except ValidationError as error:
        items = error.errors(include_url=False, include_input=False, include_context=False)
        raise BadRow([_words(item, value) for item in items]) from None


def referenced_files(document: MerchantDocument, folder: Path) -> list[Path]:
    values = (
        getattr(credential, name) for credential in document.credentials for name in type(credential).model_fields
    )
    return [folder / v.file for v in values if isinstance(v, SecretReference | FileReference) and v.file is not None]


def file_states(files: Iterable[Path]) -> dict[Path, FileState]:
    return {file: _state(file) for file in files}


def _state(file: Path) -> FileState:
    try:
        status = file.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _findings(folder: Path, environ: Mapping[str, str]) -> Findings:
    # As if every row were a file of the policy's folder: references are relative to where it stands.
    tree = SourceTree(locations={(): Location(folder / "merchants", 0)})
    return Findings(tree, References(environ))


def _credentials(
    document: MerchantDocument, merchant: Merchant, issuers: Iterable[str], findings: Findings
) -> CredentialCompiler:
    compiler = CredentialCompiler(findings, dict.fromkeys(issuers))
    for number, credential in enumerate(document.credentials):
        compiler.add(credential, ("credentials", number), merchant)
    return compiler


def _require_sellers(document: MerchantDocument, findings: Findings) -> None:
    for number, credential in enumerate(document.credentials):
        if isinstance(credential, AlipayCredentialDocument) and credential.seller_id is None:
            path = ("credentials", number, "seller_id")
            findings.problem(path, "is required where a channel has Alipay notifications")


def _refuse(findings: Findings) -> None:
    if findings.problems:
        raise BadRow([f"{p.path}: {p.message}" if p.path else p.message for p in findings.problems])


def _words(item: ErrorDetails, value: object) -> str:
    """`path: message`, the path without pydantic's union tags."""
    message = _WORDS.get(item["type"], item["msg"].removeprefix("Value error, "))
    path = _path_in(item["loc"], value, named=item["type"] in _WORDS)
    return f"{format_path(path)}: {message}" if path else message


def _path_in(loc: Sequence[int | str], value: object, *, named: bool) -> DocumentPath:
    path: list[int | str] = []
    for index, part in enumerate(loc):
        inside = isinstance(value, dict) and part in value
        inside = inside or (isinstance(value, list) and isinstance(part, int) and part < len(value))
        if inside:
            value = value[part]  # type: ignore[index]
        elif not (named and index == len(loc) - 1):
            continue
        path.append(part)
    return tuple(path)
