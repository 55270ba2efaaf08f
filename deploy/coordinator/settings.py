"""The settings of a coordinator, and whether this machine can serve them."""

import socket
from pathlib import Path

from cryptography import x509
from pydantic import BaseModel, Field

from fedrad.deploy.refused import Refused

from .authority import certificate_names


class CoordinatorSettings(BaseModel):
    """Address, port and certificate of a coordinator. Older files have `control_port` too."""

    address: str
    """`HOST:PORT` at which hospitals reach the coordinator."""
    listen: str = "0.0.0.0"
    """IP address of this machine at which to listen for hospitals."""
    port: int = Field(ge=1, le=65535)
    names: list[str] = Field(default_factory=list)
    """Further host names and IP addresses of the server certificate."""
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    """Files of the coordinating centre, if it does not use certificates of fedrad."""


def check_port(settings: CoordinatorSettings) -> None:
    """Raise Refused unless the port for hospitals is available."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.listen, settings.port))
        except OSError as error:
            raise Refused(
                f"{settings.listen}:{settings.port} cannot be had ({error.strerror}): is another "
                "`fedrad serve` running? Ports below 1024 need rights"
            ) from error


def check_certificate(host: str, own: tuple[Path, Path, Path]) -> None:
    """Raise Refused unless the certificate, private key and authority of a centre are files, and
    the certificate is for the host that hospitals look for."""
    for file in own:
        if not file.is_file():
            raise Refused(f"{file}: no such file")
    certificate, _, ca = own
    try:
        names = certificate_names(certificate)
        x509.load_pem_x509_certificate(ca.read_bytes())
    except ValueError as error:
        raise Refused(f"{certificate} or {ca}: no certificate in PEM: {error}") from error
    wild = "*." + host.partition(".")[2]
    if host not in names and wild not in names:
        raise Refused(
            f"{certificate}: is for {', '.join(sorted(names)) or 'no name'}, and hospitals will "
            f"look for {host}"
        )
