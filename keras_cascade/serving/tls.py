"""TLS of the server: certificate, key and the authority of its clients."""

import dataclasses
import ssl
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """PEM files, read anew for each context.

    Args:
        certificate: path of the certificate with its chain.
        key: path of its key.
        client_ca: optional path of the authorities' certificates. With it,
            only clients with a certificate of theirs are served. Defaults to
            `None`.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def from_options(cls, certificate, key, client_ca):
        """Returns the files, or `None` where none is named.

        Raises:
            ValueError: files that do not belong together, or are missing.
        """
        if certificate is None and key is None and client_ca is None:
            return None
        if certificate is None or key is None:
            raise ValueError(
                "Expected both a certificate and its key. Received one or "
                "none. Pass --tls-cert and --tls-key together; "
                "--tls-client-ca needs both."
            )
        for path in (certificate, key, client_ca):
            if path is not None and not Path(path).is_file():
                raise ValueError(f"Expected a PEM file. There is no '{path}'.")
        return cls(Path(certificate), Path(key), client_ca and Path(client_ca))

    def http_context(self):
        """Returns an `ssl.SSLContext`.

        Raises:
            ValueError: a file is not PEM, or the key is another one's.
            OSError: a file cannot be read.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            # A password would be asked for at a terminal that is not there.
            context.load_cert_chain(self.certificate, self.key, password="")
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except ssl.SSLError as error:
            raise ValueError(
                "Expected a certificate and its key, as PEM. Received: "
                f"'{self.certificate}', '{self.key}'"
                + (f", '{self.client_ca}'" if self.client_ca else "")
                + f", which OpenSSL refuses ({error.reason or error})."
            ) from None
        return context

    def grpc_configuration(self):
        """Returns gRPC's `ServerCertificateConfiguration`."""
        import grpc

        authority = self.client_ca and self.client_ca.read_bytes()
        return grpc.ssl_server_certificate_configuration(
            [(self.key.read_bytes(), self.certificate.read_bytes())],
            authority or None,
        )
