"""CURVE keys: one pair for the coordinator, one for each node, in folders to carry to each machine.

KEYS/coordinator/   coordinator.key_secret, and every node's public key
KEYS/east/          east.key_secret, and the coordinator's public key
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from testbed.errors import UserError
from testbed.scenario_domains import refuse_name

__all__ = ["COORDINATOR", "NodeKeys", "authenticated", "coordinator_keys", "node_keys", "write_keys"]

COORDINATOR = "coordinator"


@dataclass(frozen=True)
class NodeKeys:
    """What a node's agent proves itself with, and whom it believes."""

    public: bytes
    secret: bytes
    server: bytes


@dataclass(frozen=True)
class CoordinatorKeys:
    """What the coordinator proves itself with, and whom it believes."""

    public: bytes
    secret: bytes
    nodes: dict[str, str]
    """Name of the node that each public key belongs to."""


def write_keys(folder: Path, names: list[str]) -> list[Path]:
    """Folders written, the coordinator's first: nothing is replaced.

    A coordinator's folder that is there already is kept, and learns the new nodes.

    Raises
    ------
    UserError
        If a node has keys already, is named twice, or its name is none that a node can have.
    """
    for name in names:
        refuse_name("NODE", name)
        if name == COORDINATOR:
            raise UserError(f"{name!r} cannot be a node's name here: it is the coordinator's")
        if names.count(name) > 1:
            raise UserError(f"NODE is {name!r} twice: name each node once")
        if (folder / name).exists():
            raise UserError(f"{folder / name}: exists already: remove it to make new keys for {name!r}")
    home = folder / COORDINATOR
    if not (home / f"{COORDINATOR}.key_secret").is_file():
        _make(home, COORDINATOR)
    for name in names:
        _make(folder / name, name)
        shutil.copy(home / f"{COORDINATOR}.key", folder / name)
        shutil.copy(folder / name / f"{name}.key", home)
    return [home, *(folder / name for name in names)]


def node_keys(folder: Path, name: str) -> NodeKeys:
    """Keys of the node ``name`` in its folder.

    Raises
    ------
    UserError
        If they are not there.
    """
    public, secret = _pair(folder, name)
    return NodeKeys(public, secret, _public(folder / f"{COORDINATOR}.key"))


def coordinator_keys(folder: Path) -> CoordinatorKeys:
    """The coordinator's keys, and those of all nodes in its folder.

    Raises
    ------
    UserError
        If they are not there.
    """
    public, secret = _pair(folder, COORDINATOR)
    nodes = {
        _public(path).decode("ascii"): path.stem for path in sorted(folder.glob("*.key")) if path.stem != COORDINATOR
    }
    return CoordinatorKeys(public, secret, nodes)


def authenticated(
    context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], keys: CoordinatorKeys
) -> ThreadAuthenticator:
    """Authenticator, started, that lets only the known nodes speak to ``socket``; stop it after the socket."""

    class Known:
        def callback(self, domain: str, key: bytes) -> bool:
            return key.decode("ascii") in keys.nodes  # Z85, as in the files

    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback(domain="*", credentials_provider=Known())
    socket.curve_server = True
    socket.curve_publickey = keys.public
    socket.curve_secretkey = keys.secret
    return authenticator


def _make(folder: Path, name: str) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _, secret = zmq.auth.create_certificates(folder, name)
        Path(secret).chmod(0o600)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None


def _pair(folder: Path, name: str) -> tuple[bytes, bytes]:
    path = folder / f"{name}.key_secret"
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError):
        secret = None
    if secret is None:
        raise UserError(f"{path}: no secret key there: make keys with `isac keys` and give this node's folder")
    return public, secret


def _public(path: Path) -> bytes:
    try:
        return zmq.auth.load_certificate(path)[0]
    except (OSError, ValueError):
        raise UserError(f"{path}: no public key there: make keys with `isac keys`") from None
