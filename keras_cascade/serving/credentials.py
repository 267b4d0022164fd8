"""Tokens and certificates of a running server, which SIGHUP reads anew."""

from keras_cascade.serving.settings import Tokens


class Credentials:
    """Tokens, and TLS of both protocols, as their files said last.

    Args:
        token_file: optional path of the tokens.
        tls: `TlsFiles` or `None`.

    Attributes:
        tokens: `Tokens`.
        http_context: `ssl.SSLContext` or `None`.

    Raises:
        OSError: a file cannot be read.
        ValueError: invalid tokens, certificates or keys.
    """

    def __init__(self, token_file, tls):
        self._token_file = token_file
        self._tls = tls
        self._grpc_configuration = None
        self.reload()

    def reload(self):
        """Reads all files; an invalid one changes nothing."""
        tokens = Tokens.from_file(self._token_file)
        context = configuration = None
        if self._tls is not None:
            context = self._tls.http_context()
            configuration = self._tls.grpc_configuration()
        self.tokens = tokens
        self.http_context = context
        self._grpc_configuration = configuration

    @property
    def grpc_credentials(self):
        """gRPC's server credentials, which follow `reload`; or `None`."""
        if self._tls is None:
            return None
        import grpc

        return grpc.dynamic_ssl_server_credentials(
            self._take_grpc_configuration(),
            self._take_grpc_configuration,
            require_client_authentication=self._tls.client_ca is not None,
        )

    def _take_grpc_configuration(self):
        """Returns a new configuration once; gRPC asks per connection."""
        configuration, self._grpc_configuration = self._grpc_configuration, None
        return configuration
