"""CheckRequest to Request: repeated headers stay apart, bytes stay bytes, nothing of the client's is taken for ours."""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2

from ext_authz.wire import read_request
from paymesh.payments.internal_names import ROUTE_EXTENSION


def message(**raw: list[bytes]) -> external_auth_pb2.CheckRequest:
    request = external_auth_pb2.CheckRequest()
    request.attributes.context_extensions[ROUTE_EXTENSION] = "payments"
    request.attributes.source.address.socket_address.address = "192.0.2.7"
    http = request.attributes.request.http
    http.id, http.method, http.path = "4711", "POST", "/v1/payments?a=%20b&c"
    http.raw_body = b'{"a":"\xff"}'
    for name, values in raw.items():
        for value in values:
            http.header_map.headers.append(base_pb2.HeaderValue(key=name.replace("_", "-"), raw_value=value))
    return request


def test_what_a_signature_covers_arrives_byte_for_byte() -> None:
    request = read_request(message(x_request_id=[b"rid"]))
    assert (request.method, request.target) == ("POST", "/v1/payments?a=%20b&c")
    assert (request.path, request.query) == ("/v1/payments", "a=%20b&c")
    assert request.body == b'{"a":"\xff"}'
    assert (request.route_name, request.client_address) == ("payments", "192.0.2.7")
    assert request.request_id == "rid"


def test_repeated_headers_stay_apart() -> None:
    request = read_request(message(authorization=[b"one", b"two"], paymesh_key=[b"caf\xe9"]))
    assert request.headers["authorization"] == ("one", "two")
    assert request.headers["paymesh-key"] == ("café",)


def test_without_raw_headers_the_merged_ones_are_read() -> None:
    plain = message()
    plain.attributes.request.http.headers["paymesh-key"] = "k"
    assert read_request(plain).headers == {"paymesh-key": ("k",)}


def test_a_mesh_that_names_no_route_leaves_it_to_our_matcher() -> None:
    unnamed = message()
    del unnamed.attributes.context_extensions[ROUTE_EXTENSION]
    assert read_request(unnamed).route_name is None
