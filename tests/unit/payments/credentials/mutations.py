"""Systematic changes of a genuine request: plain functions from a request to labelled requests, nothing of a scheme.

A scheme's test says where its texts stand (slots); what is done to them is the same for all. Nothing here knows which
change must be refused: that is judged by what the message then means.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote_to_bytes

from paymesh.payments.request import Request


@dataclass(frozen=True)
class Mutant:
    label: str
    request: Request


@dataclass(frozen=True)
class Slot:
    """A place of a text in a request. `write` puts any number of values there: none removes it, two repeat it."""

    name: str
    read: Callable[[Request], str]
    write: Callable[[Request, Sequence[str]], Request]


# -- places ------------------------------------------------------------------------------------------------------------


def header(name: str) -> Slot:
    def write(request: Request, values: Sequence[str]) -> Request:
        others = {key: value for key, value in request.headers.items() if key != name}
        return replace(request, headers=others | ({name: tuple(values)} if values else {}))

    return Slot(f"header {name}", lambda request: request.headers[name][0], write)


def part_of(place: Slot, name: str, separator: str, prefix: str) -> Slot:
    """One `prefix...` of a list: `name="value"` or `name=value` in a header, one dot-separated part of a token."""

    def at(request: Request) -> tuple[list[str], int]:
        parts = place.read(request).split(separator)
        return parts, next(number for number, part in enumerate(parts) if part.rpartition(" ")[2].startswith(prefix))

    def read(request: Request) -> str:
        parts, number = at(request)
        return parts[number].partition(prefix)[2].strip('"')

    def write(request: Request, values: Sequence[str]) -> Request:
        parts, number = at(request)
        before, _, after = parts[number].partition(prefix)
        mark = '"' if after.startswith('"') else ""
        written = [f"{prefix}{mark}{value}{mark}" for value in values]
        if before and not values:
            # The first field stands after the header's type, which stays.
            following = parts[number + 1 :]
            return place.write(request, [separator.join([before + following[0], *following[1:]])])
        written[:1] = [before + one for one in written[:1]]
        return place.write(request, [separator.join([*parts[:number], *written, *parts[number + 1 :]])])

    return Slot(f"{place.name}, {name}", read, write)


def field_of(name: str, of: str = "authorization") -> Slot:
    """`name="value"` or `name=value` between commas in a header."""
    return part_of(header(of), name, ",", f"{name}=")


# -- any text ----------------------------------------------------------------------------------------------------------


def text_mutants(request: Request, slot: Slot) -> Iterator[Mutant]:
    """A text gone, empty, twice, or not quite the same."""
    value = slot.read(request)
    for label, values in (
        ("dropped", []),
        ("twice", [value, value]),
        ("twice, the other first", [other(value), value]),
        ("twice, the other last", [value, other(value)]),
        *((label, [text]) for label, text in _texts(value)),
    ):
        yield Mutant(f"{slot.name}: {label}", slot.write(request, values))


def _texts(value: str) -> Iterator[tuple[str, str]]:
    yield "emptied", ""
    yield "in upper case", value.upper()
    yield "in lower case", value.lower()
    yield "in swapped case", value.swapcase()
    yield "first character changed", other(value[:1]) + value[1:]
    yield "middle character changed", value[: len(value) // 2] + "~" + value[len(value) // 2 + 1 :]
    yield "last character changed", other(value)
    yield "first character gone", value[1:]
    yield "last character gone", value[:-1]
    yield "only half", value[: len(value) // 2]
    yield "doubled", value * 2
    yield "in quotes", f'"{value}"'
    yield "in other quotes", f"'{value}'"
    yield "a zero before", f"0{value}"
    yield "a zero after", f"{value}0"
    yield "a sign before", f"+{value}"
    yield "full-width", "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in value)
    yield "percent-encoded", "".join(f"%{byte:02X}" for byte in value.encode())
    yield "very long", value + "A" * 9000
    for name, blank in (("space", " "), ("tab", "\t"), ("NUL", "\0"), ("line break", "\n"), ("CRLF", "\r\n")):
        yield f"{name} before", blank + value
        yield f"{name} after", value + blank
    for name, more in (("comma", ","), ("equals sign", "="), ("semicolon", ";x"), ("backslash", "\\"), ("é", "é")):
        yield f"{name} after", value + more


def other(text: str) -> str:
    """The same but for its last character, which stays of its kind."""
    return text[:-1] + {"0": "1", "A": "B", "a": "b"}.get(text[-1:], "0" if text[-1:].isdigit() else "A")


def exchanged(request: Request, slot: Slot, values: Iterable[str]) -> Iterator[Mutant]:
    """Other names that the protocol, or a forger, may know: of algorithms, charsets, versions."""
    for value in values:
        yield Mutant(f"{slot.name} is {value!r}", slot.write(request, [value]))


# -- signatures --------------------------------------------------------------------------------------------------------


def signature_mutants(request: Request, slot: Slot) -> Iterator[Mutant]:
    """A signature spelled otherwise, or another one. Hex or base64: what it is decides."""
    value = slot.read(request)
    is_hex = re.fullmatch(r"[0-9a-f]{64}", value) is not None
    raw = bytes.fromhex(value) if is_hex else base64.b64decode(value)
    spell = bytes.hex if is_hex else lambda signature: base64.b64encode(signature).decode()
    for label, signature in _signatures(raw):
        yield Mutant(f"signature: {label}", slot.write(request, [spell(signature)]))
    for label, text in (
        ("without padding", value.rstrip("=")),
        ("more padding", value + "="),
        ("a whole group of padding", value + "===="),
        ("another last digit of the same bytes", _not_canonical(value)),
        ("url-safe", base64.urlsafe_b64encode(raw).decode()),
        ("as base64", base64.b64encode(raw).decode()),
        ("as base64 of hex", base64.b64encode(raw.hex().encode()).decode()),
        ("as hex", raw.hex()),
        ("as upper-case hex", raw.hex().upper()),
        ("as hex with 0x", f"0x{raw.hex()}"),
        ("a line break inside", f"{value[:32]}\n{value[32:]}"),
        ("a space inside", f"{value[:32]} {value[32:]}"),
        ("a plus as a space", value.replace("+", " ", 1)),
        ("something after it", f"{value}AAAA"),
        ("a foreign character inside", f"{value[:32]}*{value[32:]}"),
        ("as a structured field", f":{value}:"),
    ):
        # A base64 without plus, or of a length without padding, has no such other spelling.
        if text != value:
            yield Mutant(f"signature: {label}", slot.write(request, [text]))


def _signatures(raw: bytes) -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    yield "one byte", raw[:1]
    yield "zeros", bytes(len(raw))
    yield "ones", b"\xff" * len(raw)
    yield "one", bytes(len(raw) - 1) + b"\x01"
    yield "backwards", raw[::-1]
    yield "first bit", bytes([raw[0] ^ 0x80]) + raw[1:]
    yield "last bit", raw[:-1] + bytes([raw[-1] ^ 1])
    yield "first byte gone", raw[1:]
    yield "last byte gone", raw[:-1]
    yield "zero before", b"\0" + raw
    yield "zero after", raw + b"\0"
    yield "twice", raw + raw


def _not_canonical(text: str) -> str:
    """Other spare bits in the last digit: sloppy decoders take them for the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    bare = text.rstrip("=")
    if bare == text:
        return text
    turned = bare[:-1] + alphabet[alphabet.index(bare[-1]) ^ 1] + text[len(bare) :]
    assert binascii.a2b_base64(turned) == binascii.a2b_base64(text)
    return turned


# -- a header of fields ------------------------------------------------------------------------------------------------


def field_list_mutants(request: Request, name: str = "authorization") -> Iterator[Mutant]:
    """Order, separators and type of `Type a="1",b="2"`."""
    slot = header(name)
    value = slot.read(request)
    kind, _, rest = value.partition(" ")
    fields = rest.split(",")
    for label, text in (
        ("fields backwards", f"{kind} {','.join(fields[::-1])}"),
        ("fields sorted", f"{kind} {','.join(sorted(fields))}"),
        *(
            (f"field {number} first", f"{kind} {','.join([fields[number], *fields[:number], *fields[number + 1 :]])}")
            for number in range(1, len(fields))
        ),
        ("spaces after commas", f"{kind} {', '.join(fields)}"),
        ("spaces before commas", f"{kind} {' ,'.join(fields)}"),
        ("tabs after commas", f"{kind} {','.join(fields[:1])},\t{','.join(fields[1:])}"),
        ("line breaks after commas", f"{kind} " + ",\n".join(fields)),
        ("semicolons", f"{kind} {';'.join(fields)}"),
        ("spaces for commas", f"{kind} {' '.join(fields)}"),
        ("spaces around equals", f"{kind} {rest.replace('=', ' = ')}"),
        ("a comma after", f"{value},"),
        ("a comma before", f"{kind} ,{rest}"),
        ("an empty field", f"{kind} {',,'.join(fields)}"),
        ("a field nobody knows", f'{value},extra="1"'),
        ("a bare field nobody knows", f"{kind} extra=1,{rest}"),
        ("without quotes", value.replace('"', "")),
        ("other quotes", value.replace('"', "'")),
        ("quotes where there are none", re.sub(r'=([^",]+)', r'="\1"', value)),
        ("names in upper case", kind + " " + re.sub(r"([a-z_]+)=", lambda found: found[0].upper(), rest)),
        ("the whole twice", f"{value}, {value}"),
        ("two spaces after the type", f"{kind}  {rest}"),
        ("a tab after the type", f"{kind}\t{rest}"),
        ("no space after the type", f"{kind}{rest}"),
        ("no type", rest),
        ("the type in lower case", f"{kind.lower()} {rest}"),
        ("the type twice", f"{kind} {value}"),
        ("the type of nobody", f"None {rest}"),
        ("Bearer", f"Bearer {rest}"),
    ):
        yield Mutant(f"header {name}: {label}", slot.write(request, [text]))


# -- the request line, the body ----------------------------------------------------------------------------------------


def line_mutants(request: Request) -> Iterator[Mutant]:
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "", request.method.lower(), request.method + " "):
        if method != request.method:
            yield Mutant(f"method {method!r}", replace(request, method=method))
    path, mark, query = request.target.partition("?")
    for label, target in (
        ("another path", f"{path}x{mark}{query}"),
        ("a slash after the path", f"{path}/{mark}{query}"),
        ("two slashes", f"/{request.target}"),
        ("a dot segment", f"/.{request.target}"),
        ("the path in upper case", f"{path.upper()}{mark}{query}"),
        ("the path encoded", f"{path[:2]}%{ord(path[2]):02X}{path[3:]}{mark}{query}"),
        ("a parameter of the path", f"{path};x=1{mark}{query}"),
        ("a fragment", f"{request.target}#x"),
        ("an empty query", f"{path}?"),
        ("no query", path),
        ("a query more", f"{request.target}{'&' if mark else '?'}injected=1"),
        ("a second question mark", f"{path}?{mark}{query}"),
        ("the query backwards", f"{path}{mark}{'&'.join(query.split('&')[::-1])}"),
        ("the query's encoding", f"{path}{mark}{query.replace('%20', '+')}"),
        ("a space after", f"{request.target} "),
        ("absolute", f"https://pay.example.com{request.target}"),
        ("nothing", ""),
    ):
        if target != request.target:
            yield Mutant(f"target: {label}", replace(request, target=target))


def body_mutants(request: Request) -> Iterator[Mutant]:
    body = request.body
    middle = len(body) // 2
    for label, changed in (
        ("gone", b""),
        ("first byte", bytes([body[0] ^ 1]) + body[1:] if body else b"x"),
        ("middle byte", body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else b"y"),
        ("last byte", body[:-1] + bytes([body[-1] ^ 1]) if body else b"z"),
        ("first byte gone", body[1:]),
        ("last byte gone", body[:-1]),
        ("half", body[:middle]),
        ("twice", body + body),
        ("byte order mark", b"\xef\xbb\xbf" + body),
        ("no UTF-8 after", body + b"\xff"),
        ("{} after", body + b"{}"),
        ("upper case", body.upper()),
        ("swapped case", body.swapcase()),
        ("compact JSON", _rewritten(body, (",", ":"))),
        ("spaced JSON", _rewritten(body, (" , ", " : "))),
        *(
            (f"{name} {where}", blank + body if where == "before" else body + blank)
            for name, blank in (
                ("space", b" "),
                ("tab", b"\t"),
                ("line feed", b"\n"),
                ("CRLF", b"\r\n"),
                ("NUL", b"\0"),
                ("no-break space", b"\xc2\xa0"),
            )
            for where in ("before", "after")
        ),
    ):
        if changed != body:
            yield Mutant(f"body: {label}", replace(request, body=changed))


def _rewritten(body: bytes, separators: tuple[str, str]) -> bytes:
    try:
        return json.dumps(json.loads(body), separators=separators, ensure_ascii=False).encode()
    except ValueError:
        return body


# -- parameters of a query and of a form -------------------------------------------------------------------------------

Part = tuple[str, str]
"""Where it stands (`query`, `body`), and its text as it stands there."""


def parameter(name: str) -> Slot:
    """The value of one parameter, decoded as Latin-1, which keeps every byte."""

    def read(request: Request) -> str:
        part = next(text for _, text in parts_of(request) if text.partition("=")[0] == name)
        return unquote_to_bytes(part.partition("=")[2].replace("+", " ")).decode("latin-1")

    def write(request: Request, values: Sequence[str]) -> Request:
        found: list[Part] = []
        for place, text in parts_of(request):
            if text.partition("=")[0] == name:
                found += [(place, f"{name}={quote(value.encode('utf-8'), safe='')}") for value in values]
            else:
                found.append((place, text))
        return with_parts(request, found)

    return Slot(f"parameter {name}", read, write)


def parts_of(request: Request) -> list[Part]:
    in_query = request.query.split("&") if request.query else []
    in_body = request.body.decode("latin-1").split("&") if request.body else []
    return [*(("query", text) for text in in_query), *(("body", text) for text in in_body)]


def with_parts(request: Request, parts: Sequence[Part]) -> Request:
    query = "&".join(text for place, text in parts if place == "query")
    body = "&".join(text for place, text in parts if place == "body").encode("latin-1", "replace")
    target = f"{request.path}?{query}" if query else request.path
    headers = request.headers
    if body and not request.body:
        headers = {**headers, "content-type": ("application/x-www-form-urlencoded",)}
    return replace(request, target=target, body=body, headers=headers)


def form_mutants(request: Request) -> Iterator[Mutant]:
    """Everything done to each parameter, and to their order."""
    parts = parts_of(request)
    for number, (place, text) in enumerate(parts):
        before, after = parts[:number], parts[number + 1 :]
        name = text.partition("=")[0]
        for label, put in _parameter(place, text):
            yield Mutant(f"parameter {name}: {label}", with_parts(request, [*before, *put, *after]))
    yield from _orders(request, parts)
    yield from _run_together(request, parts)


def _parameter(place: str, text: str) -> Iterator[tuple[str, list[Part]]]:
    name, _, value = text.partition("=")
    elsewhere = "query" if place == "body" else "body"
    changed = f"{name}={other(value)}"
    yield "dropped", []
    yield "moved", [(elsewhere, text)]
    for where, label in ((place, ""), (elsewhere, " in the other place")):
        yield f"twice{label}", [(place, text), (where, text)]
        yield f"twice{label}, the other first", [(where, changed), (place, text)]
        yield f"twice{label}, the other last", [(place, text), (where, changed)]
        yield f"twice{label}, the empty one first", [(where, f"{name}="), (place, text)]
        yield f"twice{label}, the empty one last", [(place, text), (where, f"{name}=")]
    for label, written in (
        *((f"name {label}", f"{spelled}={value}") for label, spelled in _names(name)),
        *((f"value {label}", f"{name}={spelled}") for label, spelled in _values(value)),
        ("no equals sign", name),
        ("only a value", f"={value}"),
        ("two equals signs", f"{name}=={value}"),
        ("an encoded equals sign", f"{name}%3D{value}"),
        ("changed", changed),
    ):
        yield label, [(place, written)]


def _names(name: str) -> Iterator[tuple[str, str]]:
    yield "in upper case", name.upper()
    yield "in lower case", name.lower()
    yield "with a capital", name[:1].upper() + name[1:]
    yield "with its first letter encoded", f"%{ord(name[0]):02X}{name[1:]}"
    yield "with its first letter encoded in lower hex", f"%{ord(name[0]):02x}{name[1:]}"
    yield "as a list", f"{name}[]"
    yield "with a space after", f"{name}+"
    yield "with a space before", f"%20{name}"
    yield "with a NUL", f"{name}%00"
    yield "with a broken escape", f"{name}%"
    yield "longer", f"{name}2"


def _values(value: str) -> Iterator[tuple[str, str]]:
    yield "emptied", ""
    yield "with spaces as %20", value.replace("+", "%20")
    yield "with spaces as +", value.replace("%20", "+")
    yield "with escapes in lower hex", re.sub("%..", lambda found: found[0].lower(), value)
    yield "with every character encoded", "".join(f"%{byte:02X}" for byte in _decoded(value))
    yield "with nothing but separators encoded", _decoded(value).decode("latin-1").translate(_SEPARATORS)
    yield "encoded twice", value.replace("%", "%25").replace("+", "%2B")
    yield "first character changed", other(value[:1]) + value[1:]
    yield "last character gone", value[:-1]
    for label, more in (
        ("a broken escape", "%"),
        ("half an escape", "%4"),
        ("an escape of no hex", "%zz"),
        ("an escape of Unicode", "%u4e2d"),
        ("a space", "+"),
        ("a line break", "%0D%0A"),
        ("a NUL", "%00"),
        ("a bare NUL", "\0"),
        ("a bare line break", "\r\n"),
        ("an invisible character", "%E2%80%8B"),
        ("no UTF-8", "%FF"),
        ("half a GBK character", "%81"),
        ("a plus", "%2B"),
        ("a hash", "#"),
        ("a semicolon", ";x=1"),
    ):
        yield f"with {label} after", value + more
    yield "with a space before", f"+{value}"


_SEPARATORS = {ord(one): f"%{ord(one):02X}" for one in "%&+=#; \0\r\n"}


def _decoded(value: str) -> bytes:
    return unquote_to_bytes(value.replace("+", " "))


def _orders(request: Request, parts: list[Part]) -> Iterator[Mutant]:
    place = parts[0][0]
    for label, found in (
        ("backwards", parts[::-1]),
        ("sorted", sorted(parts, key=lambda part: part[1])),
        ("all in the query", [("query", text) for _, text in parts]),
        ("all in the body", [("body", text) for _, text in parts]),
        ("every second moved", [(("query", "body")[number % 2], text) for number, (_, text) in enumerate(parts)]),
        ("an empty part inside", [*parts[:1], (place, ""), *parts[1:]]),
        ("an empty part first", [(place, ""), *parts]),
        ("an empty part last", [*parts, (parts[-1][0], "")]),
        ("one more", [*parts, (place, "injected=1")]),
        ("one more, first", [(place, "aaa=1"), *parts]),
        ("one more, empty", [*parts, (place, "injected=")]),
        ("one more, without value", [*parts, (place, "injected")]),
        ("two hundred more", [*parts, *((place, f"x{number}=") for number in range(200))]),
        ("none", []),
    ):
        yield Mutant(f"parameters: {label}", with_parts(request, found))
    whole = "&".join(text for _, text in parts)
    for label, text in (("by semicolons", whole.replace("&", ";")), ("by &amp;", whole.replace("&", "&amp;"))):
        yield Mutant(f"parameters: {label}", with_parts(request, [(place, text)]))


def _run_together(request: Request, parts: list[Part]) -> Iterator[Mutant]:
    """A parameter that swallows those after it in sorted order: the un-encoded text to sign stays the same."""
    named = {text.partition("=")[0]: (place, text) for place, text in parts}
    names = sorted(named)
    for number, name in enumerate(names):
        for length in (2, 3, 5):
            run = [one for one in names[number : number + length] if one not in ("sign", "signature")]
            if len(run) < 2 or run[0] != name:
                continue
            place, text = named[name]
            swallowed = "".join("%26" + named[one][1].replace("=", "%3D", 1) for one in run[1:])
            rest = [part for one, part in named.items() if one not in run]
            yield Mutant(f"{' and '.join(run)} run together", with_parts(request, [*rest, (place, text + swallowed)]))
