"""Answers signed again: verified as each protocol's SDKs do it, and nothing changed but the signature."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st
from wechatpayv3 import WeChatPay, WeChatPayType

from paymesh.cli.demo.alipay_signing import AlipayProvider
from paymesh.payments.answer_signing import AnswerNotSignable, SignedAnswer, sign_answer
from paymesh.payments.policy.compiled import Protocol
from paymesh.payments.signers import Signer

NOW_S, NONCE = 1_800_000_000, "0123456789abcdef0123456789abcdef"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
GBK = "text/html;charset=GBK"


def signed(protocol: Protocol, body: bytes, content_type: str | None = None, serial: str = "") -> SignedAnswer:
    return sign_answer(protocol, Signer(KEY, serial), body, content_type, NOW_S, NONCE)


def v2(body: str, serial: str = "", charset: str = "utf-8") -> str:
    """The signed body as text, its signature replaced by SIG once it was found to be the answer's own."""
    found = signed(Protocol.ALIPAY_V2, body.encode(charset), f"text/html; charset={charset}", serial)
    assert (found.headers, found.headers_removed) == ((), ())
    text = found.body.decode(charset)
    sign = json.loads(text)["sign"]
    told = next(value for name, value in _raw_members(text).items() if name.endswith("_response"))
    verify(sign, told.encode(charset))
    return text.replace(f'"{sign}"', '"SIG"')


def _raw_members(text: str) -> dict[str, str]:
    """The text of each member of an object, found another way than the code under test finds it."""
    members, position, decoder = {}, text.index("{") + 1, json.JSONDecoder()
    while True:
        name, position = decoder.raw_decode(text, _black(text, position))
        start = _black(text, _black(text, position) + 1)
        position = decoder.raw_decode(text, start)[1]
        members[name] = text[start:position]
        position = _black(text, position) + 1
        if text[position - 1] == "}":
            return members


def _black(text: str, position: int) -> int:
    while text[position].isspace():
        position += 1
    return position


def verify(signature: str, text: bytes, key: rsa.RSAPrivateKey = KEY) -> None:
    key.public_key().verify(base64.b64decode(signature), text, padding.PKCS1v15(), SHA256())


# -- Alipay v2 ---------------------------------------------------------------------------------------------------------

ANSWER = '"alipay_trade_query_response":{"code":"10000", "who" : "138****1234"}'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f'{{{ANSWER},"sign":"old"}}', f'{{{ANSWER},"sign":"SIG"}}'),
        (f'{{ {ANSWER} ,\r\n\t"sign" : "o\\u006cd" }}\n', f'{{ {ANSWER} ,\r\n\t"sign" : "SIG" }}\n'),
        (f'{{{ANSWER},"\\u0073ign":null,"z":1}}', f'{{{ANSWER},"\\u0073ign":"SIG","z":1}}'),
        (f"{{{ANSWER}}}", f'{{{ANSWER},"sign":"SIG"}}'),
        (f'{{{ANSWER}, "z": [1, {{}}]}}', f'{{{ANSWER},"sign":"SIG", "z": [1, {{}}]}}'),
        (f'{{"sign":"old",{ANSWER}}}', f'{{{ANSWER},"sign":"SIG"}}'),
        (f'{{"z":0, "sign":"old", {ANSWER} }}', f'{{"z":0, {ANSWER},"sign":"SIG" }}'),
        ('{"error_response":{},"sign":""}', '{"error_response":{},"sign":"SIG"}'),
        ('{"a_b_response":"QUJD/+=","sign":""}', '{"a_b_response":"QUJD/+=","sign":"SIG"}'),
    ],
)
def test_v2_the_signature_stands_after_the_answer_and_nothing_else_changes(body: str, expected: str) -> None:
    assert v2(body) == expected


@pytest.mark.parametrize(
    ("body", "named", "unnamed"),
    [
        (
            f'{{{ANSWER},"alipay_cert_sn":"c","sign":"o"}}',
            f'{{{ANSWER},"alipay_cert_sn":"ours","sign":"SIG"}}',
            f'{{{ANSWER},"sign":"SIG"}}',
        ),
        (
            f'{{"alipay_cert_sn":"c" ,{ANSWER} , "sign":"o"}}',
            f'{{"alipay_cert_sn":"ours" ,{ANSWER} , "sign":"SIG"}}',
            f'{{{ANSWER} , "sign":"SIG"}}',
        ),
        (
            f'{{"sign":"o","alipay_cert_sn":"c",{ANSWER}}}',
            f'{{"alipay_cert_sn":"ours",{ANSWER},"sign":"SIG"}}',
            f'{{{ANSWER},"sign":"SIG"}}',
        ),
        (
            f'{{{ANSWER},"sign":"o", "alipay_cert_sn":"c" }}',
            f'{{{ANSWER},"sign":"SIG", "alipay_cert_sn":"ours" }}',
            f'{{{ANSWER},"sign":"SIG"}}',
        ),
        (
            f'{{{ANSWER},"alipay_cert_sn":"c"}}',
            f'{{{ANSWER},"sign":"SIG","alipay_cert_sn":"ours"}}',
            f'{{{ANSWER},"sign":"SIG"}}',
        ),
        (f'{{{ANSWER},"sign":"o"}}', f'{{{ANSWER},"sign":"SIG"}}', f'{{{ANSWER},"sign":"SIG"}}'),
    ],
)
def test_v2_the_certificate_is_named_as_ours_or_not_at_all(body: str, named: str, unnamed: str) -> None:
    """Only where the upstream named one: a caller outside certificate mode does not read it."""
    assert v2(body, "ours") == named
    assert v2(body) == unnamed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9999, 9999) | st.text(st.characters(codec="gbk"), max_size=8),
    # Names that differ in case only are refused, whatever they say.
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(
            st.tuples(st.text(max_size=4), inner), max_size=3, unique_by=lambda member: member[0].casefold()
        ).map(dict)
    ),
    max_leaves=8,
)


@given(
    answer=st.dictionaries(st.sampled_from(["code", "sign", "买家", "x_response"]), json_values, max_size=3),
    order=st.permutations(["t_response", "sign", "alipay_cert_sn", "extra"]),
    left_out=st.sets(st.sampled_from(["sign", "alipay_cert_sn", "extra"])),
    indent=st.sampled_from([None, 1]),
    serial=st.sampled_from(["", "ours"]),
    charset=st.sampled_from(["utf-8", "gbk"]),
)
def test_v2_any_answer_keeps_what_it_says(
    answer: dict[str, object], order: list[str], left_out: set[str], indent: int | None, serial: str, charset: str
) -> None:
    members = {"t_response": answer, "sign": "old", "alipay_cert_sn": "theirs", "extra": {"sign": "}"}}
    before = {name: members[name] for name in order if name not in left_out}
    body = json.dumps(before, ensure_ascii=charset == "gbk", indent=indent)
    text = v2(body, serial, charset)
    after = json.loads(text)
    expected = {**before, "sign": "SIG"} | ({"alipay_cert_sn": serial} if "alipay_cert_sn" in before else {})
    assert after == {name: value for name, value in expected.items() if value != ""}
    assert list(after).index("t_response") < list(after).index("sign")
    assert _raw_members(text)["t_response"] == _raw_members(body)["t_response"]


@pytest.mark.parametrize("content_type", ["text/html;charset=gbk", GBK, 'text/html; charset="GB2312"'])
def test_v2_in_gbk_is_signed_in_gbk(content_type: str) -> None:
    body = AlipayProvider(OTHER).answer("alipay.trade.query", {"buyer_user_name": "李*"}, charset="gbk")
    found = signed(Protocol.ALIPAY_V2, body, content_type)
    document = json.loads(found.body.decode("gbk"))
    verify(document["sign"], '{"buyer_user_name":"李*"}'.encode("gbk"))


@pytest.mark.parametrize("charset", ["gbk", "gb18030"])
@given(pairs=st.lists(st.binary(min_size=2, max_size=2), max_size=8))
def test_v2_bytes_beside_the_signature_stay_in_every_charset(charset: str, pairs: list[bytes]) -> None:
    """No two spellings of one character: what was decoded is written again as it was."""
    outside = b"".join(pair for pair in pairs if pair[0] > 0x80 and _text_of(pair, charset))
    body = b'{"a_response":{},"sign":"","extra":"' + outside + b'"}'
    found = signed(Protocol.ALIPAY_V2, body, f"text/html;charset={charset}").body
    assert found.endswith(b'"extra":"' + outside + b'"}')


def _text_of(pair: bytes, charset: str) -> bool:
    try:
        return pair.decode(charset).isprintable()
    except UnicodeDecodeError:
        return False


@pytest.mark.parametrize(
    ("body", "content_type", "why"),
    [
        (b"", None, "not JSON"),
        (b"<html>secret</html>", None, "not JSON"),
        (b'["secret"]', None, "no object"),
        (b'{"sign":"secret"}', None, "exactly one"),
        (b'{"a_response":{},"b_response":{}}', None, "exactly one"),
        (b'{"a_response":["secret"]}', None, "neither an object nor a text"),
        (b'{"a_response":{},"a_response":{}}', None, "twice"),
        (b'{"a_response":{}}', f"{GBK};charset=utf-8", "two charsets"),
        (b'{"a_response":{}}', "text/html;charset=big5", "the charset is none of"),
        (b'{"a_response":"\xff\xff"}', GBK, "not GBK"),
        (b'{"a_response":"\xc0\xee"}', None, "not UTF-8"),
    ],
)
def test_v2_what_has_no_answer_is_not_signed(body: bytes, content_type: str | None, why: str) -> None:
    with pytest.raises(AnswerNotSignable, match=why) as caught:
        signed(Protocol.ALIPAY_V2, body, content_type)
    assert "secret" not in str(caught.value)


# -- Alipay v3, WeChat Pay v3 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b'{"buyer_logon_id":"138****1234"}', "{'名'}".encode("gbk"), b""])
def test_alipay_v3_signs_whatever_bytes_by_headers(body: bytes) -> None:
    found = signed(Protocol.ALIPAY_V3, body, None, "c0ffee")
    headers = dict(found.headers)
    assert found.body is body
    assert (headers["alipay-timestamp"], headers["alipay-nonce"]) == (f"{NOW_S}000", NONCE)
    assert (headers["alipay-sn"], found.headers_removed) == ("c0ffee", ())
    verify(headers["alipay-signature"], f"{NOW_S}000\n{NONCE}\n".encode() + body + b"\n")


def test_alipay_v3_without_a_name_takes_the_upstreams_name_away() -> None:
    found = signed(Protocol.ALIPAY_V3, b"{}")
    assert "alipay-sn" not in dict(found.headers)
    assert found.headers_removed == ("alipay-sn",)


@pytest.fixture(scope="module")
def wechat_sdk(demo_keys: Path) -> WeChatPay:
    sdk = WeChatPay(
        wechatpay_type=WeChatPayType.NATIVE,
        mchid="1900007291",
        private_key=(demo_keys / "wechat_merchant.pem").read_text(),
        cert_serial_no="408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB",
        apiv3_key="a" * 32,
        appid="wx8888888888888888",
        public_key=(demo_keys / "wechat_platform_pub.pem").read_text(),
        public_key_id="PUB_KEY_ID_7",
    )
    sdk._core._public_key = KEY.public_key()
    return sdk


@pytest.mark.parametrize("body", ['{"payer":{"openid":"***"},"attach":"送货 138****1234"}', ""])
def test_wechat_v3_is_verified_by_its_sdk(wechat_sdk: WeChatPay, body: str) -> None:
    found = signed(Protocol.WECHAT_V3, body.encode(), None, "PUB_KEY_ID_7")
    assert found.body == body.encode()
    assert wechat_sdk._core._verify_signature(dict(found.headers), body)
    assert not wechat_sdk._core._verify_signature(dict(found.headers), body + " ")
    by_other = sign_answer(Protocol.WECHAT_V3, Signer(OTHER, "PUB_KEY_ID_7"), body.encode(), None, NOW_S, NONCE)
    assert not wechat_sdk._core._verify_signature(dict(by_other.headers), body)


def test_wechat_v3_needs_the_keys_name() -> None:
    with pytest.raises(AnswerNotSignable, match="no serial"):
        signed(Protocol.WECHAT_V3, b"{}")


# -- others -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "protocol", sorted(set(Protocol) - {Protocol.ALIPAY_V2, Protocol.ALIPAY_V3, Protocol.WECHAT_V3})
)
def test_other_protocols_sign_no_answers(protocol: Protocol) -> None:
    with pytest.raises(AnswerNotSignable, match="carry no signature"):
        signed(protocol, b"{}", None, "1234")
