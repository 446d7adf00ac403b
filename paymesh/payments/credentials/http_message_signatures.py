"""Owns HTTP message signatures (RFC 9421): which of a request's signatures counts, and exactly what it covers.

Refuses a signature that leaves out what decides (method, target, body), a component whose value can be read in two
ways, and a body without a covered Content-Digest that is its own: a signature alone says nothing of the body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

import http_sf

from paymesh.payments.content_digest import Members, content_digest_problem, parse_dictionary, spells
from paymesh.payments.credentials.claim import (
    MAX_CREDENTIAL_CHARS,
    MAX_NONCE_CHARS,
    Asked,
    Authenticated,
    Claim,
    caller_of,
    invalid,
    unsupported,
)
from paymesh.payments.denial import Denial
from paymesh.payments.policy.callers import Algorithm, CredentialKey, KeyKind, KeyRef, Scheme
from paymesh.payments.policy.compiled import Route
from paymesh.payments.request import Request

WINDOW_S = 300
TAG = "paymesh"
"""Marks the signature meant for this gateway where a request has several (RFC 9421 section 7.2.2)."""
MAX_COMPONENTS = 32
"""Bounds the work done for strangers; RFC 9421's longest example has eight."""
MAX_QUERY_PARAMETERS = 200

_INPUT = "signature-input"
_SIGNATURE = "signature"
_DIGEST = "content-digest"
_MAX_TIME_S = 99_999_999_999
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+", re.ASCII)
_VALUE = re.compile(r"[\t\x20-\x7e]*", re.ASCII)
_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?", re.ASCII)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_ALGORITHMS: Mapping[str, Algorithm] = {
    str(algorithm): algorithm
    for algorithm in (
        Algorithm.RSA_SHA256,
        Algorithm.RSA_PSS_SHA512,
        Algorithm.ECDSA_P256_SHA256,
        Algorithm.ED25519,
        Algorithm.HMAC_SHA256,
    )
}
_P384 = "ecdsa-p384-sha384"
_KNOWN_PARAMETERS = frozenset({"sf", "key", "bs", "req", "tr", "name"})


class SignatureError(Exception):
    """The signature is not acceptable. The message names components and parameters of the RFC, never a value."""


class NotSupportedError(SignatureError):
    """Something that the RFC knows and this gateway does not."""


@dataclass(frozen=True, slots=True)
class Component:
    """One covered component (RFC 9421 section 2): a header's name, or a derived one, which begins with `@`."""

    name: str
    query_parameter: str | None = None
    """Of `@query-param`: the parameter's name, percent-encoded."""

    @property
    def identifier(self) -> str:
        name = http_sf.ser(self.name)
        return name if self.query_parameter is None else f"{name};name={http_sf.ser(self.query_parameter)}"


@dataclass(frozen=True, slots=True)
class MessageSignature:
    """The one signature of a request that counts."""

    components: tuple[Component, ...]
    """In the order in which they are signed."""
    parameters: Mapping[str, object]
    parameters_text: str
    """The last line's value: components and parameters, serialized again (RFC 9421 section 2.3)."""
    signature: bytes


class HttpMessageSignatures:
    scheme = Scheme.HTTP_SIGNATURE

    def recognises(self, request: Request) -> bool:
        return _INPUT in request.headers

    def read(self, request: Request, route: Route) -> Claim | Denial:  # noqa: ARG002
        signature_input, signature = request.header(_INPUT) or "", request.header(_SIGNATURE) or ""
        try:
            return _claim(request, read_signature(signature_input, signature))
        except NotSupportedError as error:
            return unsupported(str(error))
        except SignatureError as error:
            return invalid(str(error))

    async def accept(self, claim: Claim, key: CredentialKey, asked: Asked) -> Authenticated | Denial:  # noqa: ARG002
        return caller_of(claim, key)


def _claim(request: Request, found: MessageSignature) -> Claim:
    created, expires = _time(found.parameters, "created"), _time(found.parameters, "expires")
    if created is None:
        raise SignatureError("the signature has no created parameter")
    key_id, nonce = _required_text(found.parameters, "keyid"), _required_text(found.parameters, "nonce")
    if len(nonce) > MAX_NONCE_CHARS:
        raise SignatureError("nonce is too long")
    algorithm = _algorithm(found.parameters)
    _check_target_covered(request, found.components)
    _check_body_covered(request, found.components)
    return Claim(
        scheme=Scheme.HTTP_SIGNATURE,
        key=KeyRef(KeyKind.HTTP_SIGNATURE, key_id),
        algorithm=algorithm,
        signature=found.signature,
        signed=signature_base(request, found),
        timestamp_s=created,
        window_s=WINDOW_S,
        expires_at_s=expires,
        nonce=nonce,
    )


# -- the two headers -----------------------------------------------------------------------------------------------


def read_signature(signature_input: str, signature: str) -> MessageSignature:
    """The one signature that counts: tagged for us, or else the only one. Raises SignatureError."""
    if len(signature_input) > MAX_CREDENTIAL_CHARS or len(signature) > MAX_CREDENTIAL_CHARS:
        raise SignatureError("signature-input or signature is too long")
    inputs, signatures = parse_dictionary(signature_input), parse_dictionary(signature)
    if not inputs or not signatures:
        raise SignatureError("signature-input or signature is no dictionary in which each key stands once")
    if inputs.keys() != signatures.keys():
        raise SignatureError("signature-input and signature do not have the same labels")
    label = _label(inputs)
    items, parameters = inputs[label]
    value, _ = signatures[label]
    if not isinstance(items, list) or not isinstance(value, bytes):
        raise SignatureError("the signature is not an inner list and a byte sequence")
    if not spells(signature, value):
        raise SignatureError("the signature is not in canonical base64")
    if len(items) > MAX_COMPONENTS:
        raise SignatureError(f"more than {MAX_COMPONENTS} components are covered")
    components = tuple(_component(*item) for item in items)
    if len(set(components)) != len(components):
        raise SignatureError("a component is covered twice")
    try:
        parameters_text = http_sf.ser([(items, dict(parameters))])  # type: ignore[list-item]
    except ValueError:
        raise SignatureError("a parameter cannot be serialized") from None
    return MessageSignature(components, parameters, parameters_text, value)


def _label(inputs: Members) -> str:
    tags = {label: parameters["tag"] for label, (_, parameters) in inputs.items() if "tag" in parameters}
    if not all(isinstance(tag, str) for tag in tags.values()):
        raise SignatureError("a tag is not a string")
    tagged = [label for label, tag in tags.items() if tag == TAG]
    candidates = tagged or list(inputs)
    if len(candidates) != 1:
        raise SignatureError(f"there are several signatures, and not exactly one with tag={TAG}")
    return candidates[0]


def _component(name: object, parameters: Mapping[str, object]) -> Component:
    if not isinstance(name, str):
        raise SignatureError("a component's name is not a string")
    if name not in _DERIVED and name != "@query-param" and not _FIELD_NAME.fullmatch(name):
        # `@status` and `@signature-params` come here too: a request has neither to sign.
        raise SignatureError("a component is neither derived of a request nor a header's name in lower case")
    if name == "@query-param":
        parameter = parameters.get("name")
        if parameters.keys() != {"name"} or not isinstance(parameter, str):
            raise SignatureError("@query-param does not have exactly the parameter name")
        return Component(name, parameter)
    if parameters:
        known = min(parameters.keys() & _KNOWN_PARAMETERS, default=None)
        which = "an unknown component parameter" if known is None else f"the component parameter {known}"
        raise NotSupportedError(f"{which} is not supported")
    return Component(name)


# -- parameters ----------------------------------------------------------------------------------------------------


def _time(parameters: Mapping[str, object], name: str) -> int | None:
    value = parameters.get(name)
    # A bool is an int to isinstance.
    if value is not None and (type(value) is not int or not 0 <= value <= _MAX_TIME_S):
        raise SignatureError(f"{name} is no Unix time in seconds")
    return value


def _required_text(parameters: Mapping[str, object], name: str) -> str:
    value = parameters.get(name)
    if not isinstance(value, str) or not value:
        raise SignatureError(f"the signature has no {name} parameter that is a string")
    return value


def _algorithm(parameters: Mapping[str, object]) -> Algorithm | None:
    if "alg" not in parameters:
        return None
    value = parameters["alg"]
    algorithm = _ALGORITHMS.get(value) if isinstance(value, str) else None
    if algorithm is None and value == _P384:
        raise NotSupportedError(f"{_P384} is not supported")
    if algorithm is None:
        raise SignatureError("alg is no algorithm of RFC 9421")
    return algorithm


# -- what must be covered ------------------------------------------------------------------------------------------


def _check_target_covered(request: Request, components: tuple[Component, ...]) -> None:
    names = {component.name for component in components}
    if "@method" not in names:
        raise SignatureError("@method is not covered")
    if names & {"@target-uri", "@request-target"}:
        return
    if "@path" not in names:
        raise SignatureError("the target is not covered: @target-uri, @request-target, or @path and @query")
    if "?" in request.target and "@query" not in names:
        raise SignatureError("@query is not covered")


def _check_body_covered(request: Request, components: tuple[Component, ...]) -> None:
    if not _has_body(request):
        return
    if Component(_DIGEST) not in components:
        raise SignatureError("content-digest is not covered")
    digest = request.header(_DIGEST)
    problem = "there is no content-digest" if digest is None else content_digest_problem(digest, request.body)
    if problem is not None:
        raise SignatureError(problem)


def _has_body(request: Request) -> bool:
    """Also where a body was announced that we do not see: such a request must not pass as one without."""
    lengths = request.headers.get("content-length", ())
    announced = any(length != "0" for length in lengths) or "transfer-encoding" in request.headers
    return bool(request.body) or announced or _DIGEST in request.headers


# -- the signature base --------------------------------------------------------------------------------------------


def signature_base(request: Request, found: MessageSignature) -> bytes:
    """The bytes that are signed (RFC 9421 section 2.5). Raises SignatureError where a component has no one value."""
    needs_query = any(component.query_parameter is not None for component in found.components)
    query = _query_parameters(request.query) if needs_query else {}
    lines = [f"{component.identifier}: {_value(request, component, query)}" for component in found.components]
    return "\n".join([*lines, f'"@signature-params": {found.parameters_text}']).encode("ascii")


def _value(request: Request, component: Component, query: Mapping[str, list[str]]) -> str:
    if component.query_parameter is not None:
        values = query.get(component.query_parameter, [])
        if len(values) != 1:
            raise SignatureError("a query parameter is covered that does not stand exactly once in the query")
        value = values[0]
    elif component.name in _DERIVED:
        value = _DERIVED[component.name](request)
    else:
        value = _header(request, component.name)
    # A line break would let a value write further lines; the RFC allows ASCII only.
    if not _VALUE.fullmatch(value):
        raise SignatureError("a covered component has characters outside printable ASCII")
    return value


def _header(request: Request, name: str) -> str:
    """A field's lines, trimmed and joined (RFC 9421 section 2.1)."""
    values = request.headers.get(name)
    if values is None and name == "host":
        # Envoy keeps HTTP/1.1's Host as the authority, whatever the client's HTTP version.
        return _known(request.authority, "authority")
    if values is None:
        raise SignatureError("a header is covered that the request does not have")
    return ", ".join(value.strip(" \t") for value in values)


def _query_parameters(query: str) -> Mapping[str, list[str]]:
    """Every value by its parameter's name, decoded and encoded again (RFC 9421 section 2.2.8)."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_PARAMETERS)
    except ValueError:
        raise SignatureError(f"more than {MAX_QUERY_PARAMETERS} query parameters") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(_percent_encode(name), []).append(_percent_encode(value))
    return found


def _percent_encode(text: str) -> str:
    # The form encoding's own set leaves `*` alone and encodes `~`; Python's does neither.
    return quote(text, safe="*").replace("~", "%7E")


def _target_uri(request: Request) -> str:
    return f"{_scheme(request)}://{_known(request.authority, 'authority')}{request.target}"


def _scheme(request: Request) -> str:
    return _known(request.scheme, "scheme").lower()


def _authority(request: Request) -> str:
    """Lower case, without the scheme's default port (RFC 9421 section 2.2.3)."""
    authority = _known(request.authority, "authority").lower()
    match = _HOST.fullmatch(authority)
    if match is None:
        raise SignatureError("the authority is not well formed")
    host, port = match.groups()
    return host if not port or port == _DEFAULT_PORTS.get(request.scheme.lower()) else f"{host}:{port}"


def _known(value: str, what: str) -> str:
    if not value:
        raise SignatureError(f"the request's {what} is covered, and not known here")
    return value


_DERIVED: Mapping[str, Callable[[Request], str]] = {
    "@method": lambda request: request.method,
    "@target-uri": _target_uri,
    "@authority": _authority,
    "@scheme": _scheme,
    "@request-target": lambda request: request.target,
    "@path": lambda request: request.path or "/",
    "@query": lambda request: f"?{request.query}",
}
"""Every derived component without parameters that a request has (RFC 9421 section 2.2)."""
