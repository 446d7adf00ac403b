"""Owns certificates and keys as Envoy gets them (SDS): by name, and always as files that Envoy reads and watches.

So no private key passes through the control plane, and one that is rotated is in force without a change of ours: move
the new files over the old ones (as Kubernetes does with its volumes), and open connections keep what they began with.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterator

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any

from control_plane.resources.addresses import over_ads
from control_plane.settings import GatewaySettings, GatewayTls
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.upstreams import UpstreamTls

GATEWAY = "gateway"
"""The owner of the merchants' TLS; deciding services and the policy's services have names of their own."""
DECIDING = "paymesh"

_TLS = "envoy.transport_sockets.tls"
_MINIMUM = tls.TlsParameters(tls_minimum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_2)
"""PCI DSS 4.0.1, requirement 4.2.1: strong cryptography only."""


def build_secrets(policy: Policy, settings: GatewaySettings) -> dict[str, bytes]:
    """Every secret by name, serialised."""
    found = {secret.name: bytes(secret) for secret in _secrets(policy, settings)}
    return dict(sorted(found.items()))


def downstream_tls(settings: GatewayTls) -> core.TransportSocket:
    """The merchants' TLS.

    Nobody has to show a certificate: merchants that sign their requests need none, and the policy says where one is
    required. One that is shown must be of the named authorities, so that ext_authz only ever hears of verified ones.
    """
    common = tls.CommonTlsContext(
        tls_params=_MINIMUM,
        tls_certificate_sds_secret_configs=[_sds(_certificate_name(GATEWAY))],
        alpn_protocols=["h2", "http/1.1"],
    )
    if settings.client_ca is not None:
        common.validation_context_sds_secret_config = _sds(_authorities_name(GATEWAY))
    return core.TransportSocket(name=_TLS, typed_config=Any.pack(tls.DownstreamTlsContext(common_tls_context=common)))


def upstream_tls(owner: str, given: UpstreamTls, http2: bool) -> core.TransportSocket:
    """To a service: its certificate must be of `ca_file` and have one of the names."""
    names = [
        tls.SubjectAltNameMatcher(
            san_type=tls.SubjectAltNameMatcherSanType.URI if "://" in name else tls.SubjectAltNameMatcherSanType.DNS,
            matcher=matcher.StringMatcher(exact=name),
        )
        for name in given.subject_alt_names
    ]
    common = tls.CommonTlsContext(
        tls_params=_MINIMUM,
        combined_validation_context=tls.CommonTlsContextCombinedCertificateValidationContext(
            default_validation_context=tls.CertificateValidationContext(match_typed_subject_alt_names=names),
            validation_context_sds_secret_config=_sds(_authorities_name(owner)),
        ),
        alpn_protocols=["h2"] if http2 else ["http/1.1"],
    )
    if given.certificate_file is not None:
        common.tls_certificate_sds_secret_configs = [_sds(_certificate_name(owner))]
    context = tls.UpstreamTlsContext(common_tls_context=common, sni=given.sni)
    return core.TransportSocket(name=_TLS, typed_config=Any.pack(context))


def _secrets(policy: Policy, settings: GatewaySettings) -> Iterator[tls.Secret]:
    if settings.tls is not None:
        yield _certificate(GATEWAY, settings.tls.certificate, settings.tls.private_key)
        if settings.tls.client_ca is not None:
            yield _authorities(GATEWAY, settings.tls.client_ca)
    upstreams = {f"service/{one.name}": one.upstream.tls for one in policy.services.values()}
    for owner, given in {**upstreams, DECIDING: settings.deciding_tls}.items():
        if given is not None:
            yield _authorities(owner, given.ca_file)
            if given.certificate_file is not None and given.key_file is not None:
                yield _certificate(owner, given.certificate_file, given.key_file)


def _certificate(owner: str, certificate: str, key: str) -> tls.Secret:
    return tls.Secret(
        name=_certificate_name(owner),
        tls_certificate=tls.TlsCertificate(
            certificate_chain=core.DataSource(filename=certificate),
            private_key=core.DataSource(filename=key),
            watched_directory=core.WatchedDirectory(path=os.path.dirname(certificate)),
        ),
    )


def _authorities(owner: str, file: str) -> tls.Secret:
    return tls.Secret(
        name=_authorities_name(owner),
        validation_context=tls.CertificateValidationContext(
            trusted_ca=core.DataSource(filename=file),
            watched_directory=core.WatchedDirectory(path=os.path.dirname(file)),
        ),
    )


def _certificate_name(owner: str) -> str:
    return f"{owner}/certificate"


def _authorities_name(owner: str) -> str:
    return f"{owner}/authorities"


def _sds(name: str) -> tls.SdsSecretConfig:
    return tls.SdsSecretConfig(name=name, sds_config=over_ads())
