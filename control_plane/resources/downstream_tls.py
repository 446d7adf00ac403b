"""Owns the merchants' TLS: the gateway's certificate, and which client certificates are believed.

Nobody has to show one: merchants that sign their requests need none, and the policy says where one is required. One
that is shown must be of the named authorities, so that ext_authz only ever hears of verified ones.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.google.protobuf import Any

from control_plane.settings import GatewayTls


def downstream_tls(settings: GatewayTls) -> core.TransportSocket:
    """TLS 1.2 and newer (PCI DSS 4.0.1, requirement 4.2.1: strong cryptography only)."""
    common = tls.CommonTlsContext(
        tls_params=tls.TlsParameters(tls_minimum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_2),
        tls_certificates=[
            tls.TlsCertificate(
                certificate_chain=core.DataSource(filename=settings.certificate),
                private_key=core.DataSource(filename=settings.private_key),
            )
        ],
        alpn_protocols=["h2", "http/1.1"],
    )
    if settings.client_ca is not None:
        common.validation_context = tls.CertificateValidationContext(
            trusted_ca=core.DataSource(filename=settings.client_ca)
        )
    return core.TransportSocket(
        name="envoy.transport_sockets.tls",
        typed_config=Any.pack(tls.DownstreamTlsContext(common_tls_context=common)),
    )
