"""A gRPC server with the teacher's service."""

from pathlib import Path

import grpc

from keras_cascade.serving.grpc_service import GrpcService


def grpc_server(service, host, port, tls=None):
    """Makes the server, on its address; call in the event loop it runs in.

    Args:
        service: `TeacherService`.
        host: str.
        port: int, or 0 for any free one.
        tls: tuple of the certificate's path and its key's, or `None`.

    Returns:
        Tuple of `grpc.aio.Server` and its port.

    Raises:
        OSError: the address cannot be listened on.
    """
    limits = service.limits
    server = grpc.aio.server(
        handlers=[GrpcService(service)],
        maximum_concurrent_rpcs=limits.max_connections,
        options=[
            ("grpc.max_receive_message_length", limits.max_request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a second server must fail
        ],
    )
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if tls is None:
            return server, server.add_insecure_port(address)
        certificate, key = (Path(path).read_bytes() for path in tls)
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        return server, server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise OSError(
            f"Expected an address for gRPC to listen on. Received: {address}, "
            f"which cannot be used ({error}). Choose another --grpc-port or "
            "--host."
        ) from None
