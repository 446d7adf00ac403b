"""Owns the conformance suite: what every channel must do, through its adapter, at its provider. Nothing is mocked.

`test_conformance.py` runs it on the registry's adapters, `test_fifth_channel.py` on one that nobody here knows.
"""

from __future__ import annotations

import dataclasses
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.adapters.contract import ChannelIdentity, Expected, GenericQuery, GenericRefund
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.money import Money
from paymesh.payments.outcome import Outcome
from paymesh.payments.policy.compiled import Operation
from paymesh.payments.secrets import Secret
from tests.channels.harness import Channel, Provider, stamp, strangers

SUBJECTS = (
    "茶叶 250g",
    "a&b=c",
    "x&out_trade_no=9&orderId=99999999&total_amount=0.01",
    "🍵 + %2B %26 100%",
    "\"quoted\" \\ 'single' <b>",
    "{brace} [bracket]",
    "ＦＵＬＬ＝ｗｉｄｔｈ＆",
    " leading and trailing ",
)
NOTHING = (Outcome.UNKNOWN, "PENDING")


class Conformance:
    """Each test has its own provider with empty books."""

    async def test_an_order_is_taken_and_waits_for_its_payer(self, provider: Provider) -> None:
        order = provider.order()
        answer = await provider.pay(order)
        assert answer.outcome is Outcome.ACCEPTED, answer.why
        told = {name: answer.document.get(name) for name in ("order_no", "status", "channel", "operation")}
        assert told == {
            "order_no": order.order_no,
            "status": "ACCEPTED",
            "channel": "channel-1",
            "operation": "pay",
        }
        assert str(answer.document["code_url"]).partition("://")[0] in ("https", "weixin")
        (entry,) = await provider.books(order)
        assert (entry["amount"], entry["state"]) == ({"total": 1234, "currency": "CNY"}, "NOTPAY")

    async def test_a_repeat_is_the_same_order(self, provider: Provider) -> None:
        order = provider.order()
        first, second = await provider.pay(order), await provider.pay(order)
        assert first.document == second.document
        assert len(await provider.books(order)) == 1

    async def test_another_amount_under_the_same_number_changes_nothing(self, provider: Provider) -> None:
        order = provider.order()
        await provider.pay(order)
        answer = await provider.pay(dataclasses.replace(order, money=Money(1, "CNY")))
        # Refused or unknown: there IS an order of that number, and it may be paid.
        assert answer.outcome in (Outcome.REFUSED, Outcome.UNKNOWN)
        assert answer.document["code"]
        (entry,) = await provider.books(order)
        assert entry["amount"]["total"] == 1234

    async def test_a_query_tells_when_the_payer_has_paid(self, provider: Provider) -> None:
        order = provider.order()
        await provider.pay(order)
        assert (await provider.query(order)).outcome is Outcome.ACCEPTED
        assert await provider.payer_pays(order)
        answer = await provider.query(order)
        assert (answer.outcome, answer.document["status"]) == (Outcome.SUCCEEDED, "SUCCEEDED")
        assert answer.document["amount"] == {"total": 1234, "currency": "CNY"}
        assert answer.document["channel_order_no"]
        (entry,) = await provider.books(order)
        assert entry["paid_times"] == 1

    async def test_an_unknown_order_is_not_told_as_refused(self, provider: Provider) -> None:
        # The payment asked about may be on its way.
        answer = await provider.query(provider.order())
        assert (answer.outcome, answer.document["status"]) == NOTHING
        assert answer.document["code"]

    async def test_refunds_in_parts_each_once_and_never_more_than_was_paid(self, provider: Provider) -> None:
        order, numbers = provider.order(), [secrets.token_hex(8) for _ in range(2)]
        await provider.pay(order)
        await provider.payer_pays(order)
        first, again = [await provider.refund(order, 1000, numbers[0]) for _ in range(2)]
        for answer in (first, again):
            assert answer.outcome in (Outcome.SUCCEEDED, Outcome.ACCEPTED), answer.why
            assert (answer.document["order_no"], answer.document["refund_no"]) == (order.order_no, numbers[0])
            assert answer.document["operation"] == "refund"
        too_much = await provider.refund(order, 1000, numbers[1])
        assert too_much.outcome is Outcome.REFUSED, too_much.why
        assert too_much.document["fault"] == "merchant"
        (entry,) = await provider.books(order)
        assert entry["refunded"] == 1000

    async def test_a_closed_order_takes_no_more_money(self, provider: Provider) -> None:
        order = provider.order()
        await provider.pay(order)
        if provider.channel.closes_unpaid:
            assert (await provider.close(order)).outcome is Outcome.SUCCEEDED
            assert not await provider.payer_pays(order)
            assert (await provider.query(order)).outcome is Outcome.REFUSED
            return
        await provider.payer_pays(order)
        for _ in range(2):
            assert (await provider.close(order)).outcome in (Outcome.SUCCEEDED, Outcome.ACCEPTED)
        (entry,) = await provider.books(order)
        assert entry["refunded"] == 1234

    async def test_what_cannot_be_closed_is_not_said_to_be(self, provider: Provider) -> None:
        order = provider.order()
        await provider.pay(order)
        if provider.channel.closes_unpaid:
            await provider.payer_pays(order)
        assert (await provider.close(order)).outcome in (Outcome.REFUSED, Outcome.UNKNOWN)
        (entry,) = await provider.books(order)
        assert (entry["state"], entry["refunded"]) in (("SUCCESS", 0), ("NOTPAY", 0))

    async def test_the_provider_refuses_another_signature(self, provider: Provider) -> None:
        order, stranger = provider.order(), strangers(provider.identity)
        assert (await provider.pay(order, stranger)).outcome is Outcome.REFUSED
        assert await provider.books(order) == []
        await provider.pay(order)
        await provider.payer_pays(order)
        assert (await provider.query(order, stranger)).outcome is Outcome.UNKNOWN
        assert (await provider.refund(order, 1, secrets.token_hex(8), stranger)).outcome is Outcome.REFUSED
        assert (await provider.close(order, stranger)).outcome is Outcome.REFUSED
        (entry,) = await provider.books(order)
        assert (entry["state"], entry["refunded"]) == ("SUCCESS", 0)

    async def test_the_provider_refuses_a_changed_request(self, provider: Provider) -> None:
        order = provider.order(total=1234)
        request = provider.adapter.write_pay(order, provider.identity, stamp())
        assert not isinstance(request, Denial)
        body = request.body.replace(b"1234", b"1235").replace(b"12.34", b"12.35")
        assert body != request.body
        answer = await provider.ask(order, dataclasses.replace(request, body=body))
        assert answer.outcome is not Outcome.ACCEPTED
        assert await provider.books(order) == []

    async def test_a_tampered_answer_is_not_believed(self, provider: Provider) -> None:
        order = provider.order()
        await provider.fails("tampered")
        answer = await provider.pay(order)
        assert (answer.outcome, answer.document["status"]) == NOTHING
        assert "code_url" not in answer.document
        await provider.payer_pays(order)
        answer = await provider.query(order)
        assert (answer.outcome, answer.document["status"]) == NOTHING

    async def test_any_changed_byte_is_noticed(self, provider: Provider) -> None:
        order = provider.order()
        query = provider.query_of(order)
        await provider.pay(order)
        await provider.payer_pays(order)
        heard = await provider.send(provider.adapter.write_query(query, provider.identity, stamp()))
        expected = provider.expected(query)
        honest = provider.read(expected, heard)
        assert honest.outcome is Outcome.SUCCEEDED
        for at in range(0, len(heard.body), 7):
            changed = heard.body[:at] + bytes([heard.body[at] ^ 1]) + heard.body[at + 1 :]
            found = provider.read(expected, dataclasses.replace(heard, body=changed))
            # What no signature covers (a name of a key) may change; what is said may not.
            assert found.outcome is Outcome.UNKNOWN or found.document == honest.document, at

    async def test_an_unsigned_answer_is_not_believed(self, provider: Provider) -> None:
        order = provider.order()
        heard = await provider.send(provider.adapter.write_pay(order, provider.identity, stamp()))
        assert provider.read(provider.expected(order), heard).outcome is Outcome.ACCEPTED
        answer = provider.read(provider.expected(order), provider.channel.unsigned(heard))
        assert (answer.outcome, answer.document["status"]) == NOTHING

    async def test_an_answer_of_whom_we_do_not_trust_is_not_believed(self, provider: Provider) -> None:
        order = provider.order()
        heard = await provider.send(provider.adapter.write_pay(order, provider.identity, stamp()))
        trusting_nobody = ChannelIdentity(account=provider.identity.account, app_id=provider.identity.app_id)
        answer = provider.read(provider.expected(order), heard, trusting_nobody)
        assert (answer.outcome, answer.document["status"]) == NOTHING

    async def test_an_answer_about_another_order_is_not_believed(self, provider: Provider) -> None:
        paid, other = provider.order(), provider.order()
        for order in (paid, other):
            await provider.pay(order)
        await provider.payer_pays(paid)
        heard = await provider.send(provider.adapter.write_query(provider.query_of(paid), provider.identity, stamp()))
        expected = provider.expected(provider.query_of(paid))
        assert provider.read(expected, heard).outcome is Outcome.SUCCEEDED
        wrong = (
            dataclasses.replace(expected, order_no=other.order_no),
            dataclasses.replace(expected, money=Money(1, "CNY")),
        )
        for expected in wrong:
            assert provider.read(expected, heard).outcome is Outcome.UNKNOWN

    @pytest.mark.parametrize("kind", ["error", "lost", "page", "slow"])
    async def test_an_outage_leaves_it_unknown_and_a_repeat_pays_once(self, provider: Provider, kind: str) -> None:
        order = provider.order()
        await provider.fails(kind)
        answer = await provider.pay(order)
        assert (answer.outcome, answer.document["status"]) == NOTHING
        assert answer.fault.value == "channel"
        assert (await provider.query(order)).outcome is Outcome.UNKNOWN
        await provider.fails("none")
        assert (await provider.pay(order)).outcome is Outcome.ACCEPTED
        assert len(await provider.books(order)) == 1

    @pytest.mark.parametrize("total", [1, 10, 99, 100, 101, 1001, 99_999_999_999])
    async def test_amounts_arrive_to_the_fen(self, provider: Provider, total: int) -> None:
        order = provider.order(total)
        assert (await provider.pay(order)).outcome is Outcome.ACCEPTED
        (entry,) = await provider.books(order)
        assert entry["amount"] == {"total": total, "currency": "CNY"}
        await provider.payer_pays(order)
        assert (await provider.query(order)).document["amount"] == {"total": total, "currency": "CNY"}
        assert (await provider.refund(order, total, secrets.token_hex(8))).outcome is not Outcome.REFUSED
        (entry,) = await provider.books(order)
        assert entry["refunded"] == total

    @pytest.mark.parametrize("subject", SUBJECTS)
    async def test_subjects_arrive_as_they_are(self, provider: Provider, subject: str) -> None:
        order = provider.order(subject=subject)
        assert (await provider.pay(order)).outcome is Outcome.ACCEPTED
        (entry,) = await provider.books(order)
        assert entry["subject"] == provider.channel.shown(subject)
        assert entry["amount"]["total"] == 1234

    async def test_what_an_order_lacks_is_said_by_field(self, provider: Provider) -> None:
        order = provider.order(product="no_such_product", money=Money(1, "XTS"), order_no="!")
        problems = provider.adapter.problems(order, provider.identity)
        for field in ("/product", "/amount/currency", "/order_no"):
            assert any(problem.startswith(f"{field}: ") for problem in problems), field
        assert "no_such_product" not in str(problems)
        written = provider.adapter.write_pay(order, provider.identity, stamp())
        assert isinstance(written, Denial)
        assert (written.reason, written.told) == (Reason.FIELD_INVALID, problems)
        refund = GenericRefund("!", "!", Money(1, "XTS"), None, 0)
        assert isinstance(provider.adapter.write_refund(refund, provider.identity, stamp()), Denial)
        assert isinstance(provider.adapter.write_query(GenericQuery("!", 0), provider.identity, stamp()), Denial)

    def test_what_it_can_do_is_told(self, channel: Channel) -> None:
        capabilities = channel.adapter.capabilities
        assert capabilities.operations == {Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE}
        assert channel.product in capabilities.products
        assert "CNY" in capabilities.currencies

    def test_what_an_identity_lacks_is_said_by_member(self, provider: Provider) -> None:
        assert provider.adapter.identity_problems(provider.identity) == ()
        assert provider.adapter.identity_problems(ChannelIdentity(account=""))

    def test_nothing_secret_is_printed(self, provider: Provider) -> None:
        order = provider.order(auth_code=Secret(b"287612345678901234"), payer_id=Secret(b"oUpF8uMuAJO_M2pxb1"))
        request = provider.adapter.write_pay(order, provider.identity, stamp())
        assert not isinstance(request, Denial)
        shown = f"{provider.identity!r} {order!r} {request!r}"
        for hidden in ("287612345678901234", "oUpF8uMuAJO", "sign", provider.identity.account):
            assert hidden not in shown

    @given(
        operation=st.sampled_from([Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE]),
        status=st.sampled_from([200, 204, 301, 400, 401, 404, 429, 500, 502]),
        body=st.binary(max_size=200) | st.text(max_size=100).map(str.encode),
        headers=st.dictionaries(st.sampled_from(["content-type", "x-bank-signature", "wechatpay-nonce"]), st.text()),
    )
    def test_nothing_unsigned_is_believed_or_raises(
        self, channel: Channel, operation: Operation, status: int, body: bytes, headers: dict[str, str]
    ) -> None:
        expected = Expected(operation, "c", "12345678", Money(1, "CNY"), channel.product, "87654321")
        nobody = ChannelIdentity(account="1")
        answer = channel.adapter.read_answer(expected, status, headers, body, nobody, stamp())
        assert (answer.outcome, answer.document["status"]) == NOTHING
