"""One part of a multipart body: found where every reader finds it, refused where two readers could differ."""

from __future__ import annotations

import email

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.bodies.multipart import MAX_PARTS, MultipartError, boundary_of, single_part

PART = b'Content-Disposition: form-data; name="data"\r\n\r\n{"a":1}'
FILE = b'Content-Disposition: form-data; name="file"; filename="data.png"\r\nContent-Type: image/png\r\n\r\n\x89PNG'


def body(*parts: bytes, boundary: bytes = b"B") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"


# -- boundary_of -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("multipart/form-data; boundary=B", b"B"),
        ("Multipart/Form-Data;BOUNDARY=B", b"B"),
        ('multipart/form-data; boundary="a b"', b"a b"),
        ('multipart/form-data; charset=utf-8; boundary="B"; x=y', b"B"),
        ("multipart/form-data; boundary=" + "B" * 70, b"B" * 70),
        ("multipart/form-data; boundary=a'()+_,-./:=?", b"a'()+_,-./:=?"),
        ("application/json", None),
        ("multipart/mixed; boundary=B", None),
        ("multipart/form-datax; boundary=B", None),
        ("", None),
    ],
)
def test_boundaries(content_type: str, expected: bytes | None) -> None:
    assert boundary_of(content_type) == expected


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "boundary=",
        'boundary=""',
        "boundary=B; boundary=B",
        "boundary=B; boundary=C",
        "boundary=a b",
        'boundary="a"b',
        "boundary=a,b;c boundary=d",
        "boundary=" + "B" * 71,
        'boundary="\\"',
        "xboundary=B",
        "boundary*=utf-8''B",
    ],
)
def test_no_single_boundary(parameters: str) -> None:
    with pytest.raises(MultipartError):
        boundary_of(f"multipart/form-data; {parameters}")


# -- single_part -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ((PART,), b'{"a":1}'),
        ((PART, FILE), b'{"a":1}'),
        ((FILE, PART), b'{"a":1}'),
        ((PART.replace(b"form-data;", b"form-data; x=y;"),), b'{"a":1}'),
        ((PART.replace(b"{", b"Content-Type: x\r\n\r\n{"),), b'Content-Type: x\r\n\r\n{"a":1}'),
        ((PART.replace(b"{", b"\r\n--X\r\n{"),), b'\r\n--X\r\n{"a":1}'),
        ((PART.replace(b'{"a":1}', b""),), b""),
        ((b'content-DISPOSITION:form-data;name="data"\r\nContent-Transfer-Encoding: Binary\r\n\r\nx',), b"x"),
    ],
)
def test_found(parts: tuple[bytes, ...], content: bytes) -> None:
    assert single_part(body(*parts), b"B", "data") == content
    assert single_part(body(*parts).removesuffix(b"\r\n"), b"B", "data") == content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"--B--",
        b"--B--\r\n",
        b"--B\r\n--B--",
        body(),
        body(FILE),
        body(PART, PART),
        body(PART).replace(b"--B--", b"--B"),
        body(PART).replace(b"--B--", b"--C--"),
        body(PART, boundary=b"C"),
        b"preamble\r\n" + body(PART),
        body(PART) + b"epilogue",
        body(PART) + b"\r\n",
        body(PART).replace(b"\r\n", b"\n"),
        body(PART.replace(b"\r\n\r\n", b"\r\n")),
        body(PART.replace(b"name", b"Name")),
        body(PART.replace(b'"data"', b"data")),
        body(PART.replace(b'"data"', b"'data'")),
        body(PART.replace(b'"data"', b'"data"; name="x"')),
        body(PART.replace(b'"data"', b"\"data\"; name*=utf-8''x")),
        body(PART.replace(b'"data"', b'"da\\ta"')),
        body(PART.replace(b"form-data; ", b"form-data;\r\n ")),
        body(PART.replace(b"Content", b" Content", 1)),
        body(PART.replace(b"Content-Disposition", b"Content-Disposition ")),
        body(b"Content-Disposition: form-data\r\n" + PART),
        body(b"Content-Transfer-Encoding: base64\r\n" + PART),
        body(b"Content-Transfer-Encoding: quoted-printable\r\n" + PART),
        body(b"no header\r\n" + PART),
        body(PART.replace(b"{", b"\n--B\r\n{")),
        body(PART.replace(b"{", b"\n--B--\n{")),
        body(PART.replace(b"{", b"\r--B\r{")),
        body(PART.replace(b"{", b"--B{")),
        body(PART.replace(b"{", b"\r\n--B \r\n{")),
        body(PART.replace(b"{", b"\r\n--Bx\r\n{")),
        body(*([FILE] * MAX_PARTS), PART),
    ],
)
def test_refused(content: bytes) -> None:
    with pytest.raises(MultipartError):
        single_part(content, b"B", "data")


@given(
    pieces=st.lists(
        st.sampled_from(
            [
                b"--B",
                b"--B--",
                b"\r\n",
                b"\n",
                b"\r",
                PART,
                FILE,
                b'; name="data"',
                b"Content-Disposition: form-data",
                b" ",
            ]
        )
        | st.binary(max_size=4),
        max_size=12,
    )
)
def test_anything_is_refused_or_found_where_the_standard_library_finds_it(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    for candidate in (content, b"--B\r\n" + PART + content + b"\r\n--B--", body(PART, content)):
        try:
            found = single_part(candidate, b"B", "data")
        except MultipartError:
            continue
        head = b"Content-Type: multipart/form-data; boundary=B\r\n\r\n"
        parts = email.message_from_bytes(head + candidate).get_payload()
        assert isinstance(parts, list)
        named = [
            part.get_payload(decode=True)  # type: ignore[union-attr]
            for part in parts
            if part.get_param("name", header="content-disposition") == "data"  # type: ignore[union-attr]
        ]
        assert named == [found]


@given(content_type=st.text(max_size=60) | st.text('multipart/form-data; boundary="\\Bx', max_size=60))
def test_any_content_type(content_type: str) -> None:
    for text in (content_type, f"multipart/form-data;{content_type}", f"multipart/form-data; boundary={content_type}"):
        try:
            boundary_of(text)
        except MultipartError:
            continue
