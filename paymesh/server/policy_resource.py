"""Owns the policy as an xDS resource: how its files become one, and the version by which both ends name it."""

from __future__ import annotations

import hashlib

from paymesh.server import policy_documents_pb2 as pb

TYPE_URL = "type.googleapis.com/paymesh.policy.v1.PolicyDocuments"
NAME = "policy"
Documents = tuple[tuple[str, str], ...]
"""Names and texts, in the order in which lists are joined."""


def encode_documents(documents: Documents) -> bytes:
    message = pb.PolicyDocuments(files=[pb.PolicyFile(name=name, text=text) for name, text in documents])
    return bytes(message.SerializeToString(deterministic=True))


def decode_documents(data: bytes) -> Documents:
    """Raises google.protobuf.message.DecodeError."""
    return tuple((file.name, file.text) for file in pb.PolicyDocuments.FromString(data).files)


def version_of(documents: Documents) -> str:
    """A hash of the content."""
    return hashlib.sha256(encode_documents(documents)).hexdigest()[:16]
