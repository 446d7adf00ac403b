-- The merchants' table, for SQLite and PostgreSQL alike. The gateway only reads: grant it SELECT on both tables.
-- Whoever may write here decides who may pay: guard it as the policy itself.

create table merchants (
    id text primary key,
    -- A merchant as in the policy's `merchants`, in JSON, credentials included. Secrets only by reference:
    -- {"env": "NAME"}, or {"file": "PATH"} relative to the policy's folder.
    document text not null,
    -- Changed with every change of the document, in the same transaction.
    revision bigint not null
);

-- What requests call a merchant's keys and the merchant itself (`paymesh.payments.merchant_table.schema.key_rows`
-- computes them). kind and name, by credential:
--   wechat_v3       wechat_v3: MCHID/SERIAL                          mchid: MCHID
--   alipay          alipay: APP_ID, or APP_ID/APP_CERT_SN            app_id: APP_ID
--   unionpay        unionpay: MER_ID/CERT_ID, or MER_ID/unionpay-sha256 and MER_ID/unionpay-sm3      mer_id: MER_ID
--   hmac            hmac: KEY_ID
--   http_signature  http_signature: KEY_ID
--   mtls            mtls: SPIFFE_ID, or sha256:FINGERPRINT
--   jwt             jwt: ISSUER/SUBJECT
-- A row alone lets nobody in: the merchant's document must have that very key.
create table merchant_keys (
    kind text not null,
    name text not null,
    merchant_id text not null references merchants (id) on delete cascade,
    primary key (kind, name, merchant_id)
);

create index merchant_keys_by_merchant on merchant_keys (merchant_id);
