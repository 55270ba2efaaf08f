"""One table of all internal parts of Flower that fedrad uses; no other module names them.

The public interface of Flower is `flwr.app`, `flwr.clientapp` and `flwr.serverapp`. All other parts
can change in any release of Flower. So they are imported here, when they are needed:

    from .internals import Run

imports the module of Flower that holds `Run`. It raises FlowerMovedError if `Run` is no longer
there, or if its source lacks lines that fedrad relies on.
"""

# ruff: noqa: PLC0414 (`import X as X` tells a type checker that other modules may import X)

import ast
import importlib
import importlib.metadata
import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fedrad.system.errors import UserError

if TYPE_CHECKING:  # types of the names below; a test compares the two lists
    from flwr.cli.build import build_fab_from_disk as build_fab_from_disk
    from flwr.cli.cli_client_interceptor import CliClientHttpInterceptor as CliClientHttpInterceptor
    from flwr.common.config import get_fused_config_from_fab as get_fused_config_from_fab
    from flwr.common.constant import APP_DIR as APP_DIR
    from flwr.common.constant import SUPERLINK_NODE_ID as SUPERLINK_NODE_ID
    from flwr.common.constant import SYSTEM_TIME_TOLERANCE as SYSTEM_TIME_TOLERANCE
    from flwr.common.constant import TIMESTAMP_TOLERANCE as TIMESTAMP_TOLERANCE
    from flwr.common.constant import TRANSPORT_TYPE_GRPC_RERE as TRANSPORT_TYPE_GRPC_RERE
    from flwr.common.constant import ErrorCode as ErrorCode
    from flwr.common.serde import user_config_to_proto as user_config_to_proto
    from flwr.proto.control_pb2 import ListNodesRequest as ListNodesRequest
    from flwr.proto.control_pb2 import RegisterNodeRequest as RegisterNodeRequest
    from flwr.proto.control_pb2 import StartRunRequest as StartRunRequest
    from flwr.proto.control_pb2 import StreamLogsRequest as StreamLogsRequest
    from flwr.proto.control_pb2 import UnregisterNodeRequest as UnregisterNodeRequest
    from flwr.proto.fab_pb2 import Fab as Fab
    from flwr.proto.fleet_pb2 import PullMessagesResponse as PullMessagesResponse
    from flwr.proto.fleet_pb2 import PushMessagesResponse as PushMessagesResponse
    from flwr.proto.message_pb2 import ObjectTree as ObjectTree
    from flwr.proto.runtime_pb2 import AcquireTaskRequest as AcquireTaskRequest
    from flwr.simulation.app import run_simulation_process as run_simulation_process
    from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER as FLEET_HTTP_PUBLIC_KEY_HEADER
    from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME as FLWR_IN_MEMORY_DB_NAME
    from flwr.supercore.constant import TaskType as TaskType
    from flwr.supercore.control import ControlHttpClient as ControlHttpClient
    from flwr.supercore.http_logging import get_uvicorn_log_config as get_uvicorn_log_config
    from flwr.supercore.inflatable.inflatable_object import (
        get_object_children_ids_from_object_content as get_object_children_ids_from_object_content,
    )
    from flwr.supercore.interceptors import (
        RuntimeVersionHttpInterceptor as RuntimeVersionHttpInterceptor,
    )
    from flwr.supercore.logger import console_handler as console_handler
    from flwr.supercore.logger import mirror_output_to_queue as mirror_output_to_queue
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes as public_key_to_bytes
    from flwr.supercore.protobuf.client import ProtobufCall as ProtobufCall
    from flwr.supercore.protobuf.client import ProtobufRequestContext as ProtobufRequestContext
    from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE as PROTOBUF_MEDIA_TYPE
    from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES as PROTOBUF_REQUEST_TYPES
    from flwr.supercore.retry import (
        make_simple_http_retry_invoker as make_simple_http_retry_invoker,
    )
    from flwr.supercore.run import Run as Run
    from flwr.supercore.runtime import RuntimeHttpClient as RuntimeHttpClient
    from flwr.supercore.runtime.tracing import (
        RuntimeTracingInterceptor as RuntimeTracingInterceptor,
    )
    from flwr.supercore.task_identity import TaskIdentity as TaskIdentity
    from flwr.supercore.utils import get_flwr_home as get_flwr_home
    from flwr.superlink.config_loader import (
        load_control_authn_plugin as load_control_authn_plugin,
    )
    from flwr.superlink.main import create_app as create_app
    from flwr.superlink.runtime.run_serverapp import run_serverapp as run_serverapp
    from flwr.supernode.cli.flower_supernode import flower_supernode as flower_supernode
    from flwr.supernode.node_auth_http_interceptor import (
        NodeAuthHttpInterceptor as NodeAuthHttpInterceptor,
    )
    from flwr.supernode.runtime.run_clientapp import run_clientapp as run_clientapp

TESTED = "1.42"
"""The version of Flower that fedrad was tested with; pyproject.toml pins the same."""


class FlowerPart(NamedTuple):
    """A part of Flower that fedrad relies on.

    Parameters
    ----------
    module
        Module that holds the part.
    name
        Name of the part in its module.
    lines
        Pieces of its source on which fedrad relies: calls of replaced names, parameters that fedrad
        passes, lines that print a message. Only for functions and classes.
    replaced
        Names that the part looks up in its module and that fedrad replaces there (`replace`).
    """

    module: str
    name: str
    lines: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


_OF_A_RUN = (
    "    runtime_api_address: str",
    "    log_queue: Queue[str | None]",
    "    token: str",
    "    insecure: bool",
    "    runtime_dependency_install: bool",
    "install_from_fab(fab.content, skip_prompt=True)",
)
"""Lines of both functions that work on the coordinator's part of a run."""
PARTS = {
    part.name: part
    for part in (
        # Times of a node's requests: signatures.py
        FlowerPart("flwr.common.constant", "SYSTEM_TIME_TOLERANCE"),
        FlowerPart("flwr.common.constant", "TIMESTAMP_TOLERANCE"),
        # Signatures of a node's requests: request_signing.py
        FlowerPart(
            "flwr.supernode.fleet_http_connection",
            "http_request_response",
            ("            NodeAuthHttpInterceptor(private_key, public_key),\n        ],",),
            replaced=("NodeAuthHttpInterceptor",),
        ),
        FlowerPart(
            "flwr.supernode.node_auth_http_interceptor",
            "NodeAuthHttpInterceptor",
            (
                "        private_key: ec.EllipticCurvePrivateKey,\n"
                "        public_key: ec.EllipticCurvePublicKey,\n",
                "        context: ProtobufRequestContext,\n        call_next: ProtobufCall,\n",
            ),
        ),
        FlowerPart("flwr.supercore.protobuf.client", "ProtobufCall"),
        FlowerPart(
            "flwr.supercore.protobuf.client",
            "ProtobufRequestContext",
            ("    request: httpx.Request",),
        ),
        # Content of a node's requests: fleet.py
        FlowerPart("flwr.proto.fleet_pb2", "PullMessagesResponse"),
        FlowerPart("flwr.proto.fleet_pb2", "PushMessagesResponse"),
        FlowerPart("flwr.supercore.constant", "FLEET_HTTP_PUBLIC_KEY_HEADER"),
        FlowerPart("flwr.supercore.protobuf.translation", "PROTOBUF_REQUEST_TYPES"),
        # A grid within one process: grid.py
        FlowerPart("flwr.common.constant", "SUPERLINK_NODE_ID"),
        FlowerPart("flwr.common.constant", "ErrorCode"),
        FlowerPart("flwr.supercore.run", "Run", ("def create_empty(",)),
        FlowerPart(
            "flwr.supercore.task_identity", "TaskIdentity", ("run_id:", "node_id:", "task_id:")
        ),
        # Clients over a socket, and to the coordinator: local_socket.py, coordinator_transport.py
        FlowerPart(
            "flwr.supercore.protobuf.client",
            "ProtobufClient",
            ("self._client = httpx.Client(\n            verify=verify,",),
            replaced=("httpx",),
        ),
        # Client of the SuperLink's own interface: control.py
        FlowerPart("flwr.cli.build", "build_fab_from_disk"),
        FlowerPart("flwr.cli.cli_client_interceptor", "CliClientHttpInterceptor"),
        FlowerPart("flwr.common.serde", "user_config_to_proto"),
        FlowerPart("flwr.proto.control_pb2", "ListNodesRequest"),
        FlowerPart("flwr.proto.control_pb2", "RegisterNodeRequest"),
        FlowerPart("flwr.proto.control_pb2", "StartRunRequest"),
        FlowerPart("flwr.proto.control_pb2", "StreamLogsRequest"),
        FlowerPart("flwr.proto.control_pb2", "UnregisterNodeRequest"),
        FlowerPart("flwr.proto.fab_pb2", "Fab"),
        FlowerPart("flwr.supercore.control", "ControlHttpClient"),
        FlowerPart("flwr.supercore.interceptors", "RuntimeVersionHttpInterceptor"),
        FlowerPart("flwr.supercore.primitives.asymmetric", "public_key_to_bytes"),
        # The SuperLink, at a socket and at a listener: superlink.py, own_interface.py
        FlowerPart("flwr.common.constant", "TRANSPORT_TYPE_GRPC_RERE"),
        FlowerPart("flwr.supercore.constant", "FLWR_IN_MEMORY_DB_NAME"),
        FlowerPart("flwr.supercore.http_logging", "get_uvicorn_log_config"),
        FlowerPart("flwr.supercore.logger", "console_handler"),
        FlowerPart("flwr.supercore.protobuf.constants", "PROTOBUF_MEDIA_TYPE"),
        FlowerPart("flwr.superlink.config_loader", "load_control_authn_plugin"),
        FlowerPart(
            "flwr.superlink.main",
            "create_app",
            (
                "is_simulation = config.simulation\n",
                "database = config.database\n",
                "superexec_auth_secret = config.superexec_auth_secret\n",
                "artifact_provider = config.artifact_provider\n",
                "fleet_api_type = config.fleet_api_type\n",
                "authn_plugin = config.authn_plugin\n",
                "event_log_plugin = config.event_log_plugin\n",
                "fleet_log_plugin = config.fleet_event_log_plugin\n",
                "config.enable_supernode_auth if config else False",
                "superlink_lifespan_class(config, linkstate_factory)",
                "superlink_lifespan.startup()",
                "superlink_lifespan.shutdown()",
            ),
        ),
        # The coordinator's part of a run: server_executor.py
        FlowerPart("flwr.common.constant", "APP_DIR"),
        FlowerPart("flwr.supercore.logger", "mirror_output_to_queue"),
        FlowerPart("flwr.supercore.utils", "get_flwr_home"),
        FlowerPart(
            "flwr.superlink.runtime.run_serverapp",
            "run_serverapp",
            _OF_A_RUN,
            replaced=("install_from_fab",),
        ),
        FlowerPart(
            "flwr.simulation.app",
            "run_simulation_process",
            _OF_A_RUN,
            replaced=("install_from_fab",),
        ),
        # Tasks in forks: task_loop.py, client_process.py
        FlowerPart("flwr.proto.runtime_pb2", "AcquireTaskRequest"),
        FlowerPart("flwr.supercore.constant", "TaskType"),
        FlowerPart("flwr.supercore.retry", "make_simple_http_retry_invoker"),
        FlowerPart("flwr.supercore.runtime", "RuntimeHttpClient"),
        FlowerPart("flwr.supercore.runtime.tracing", "RuntimeTracingInterceptor"),
        # The SuperNode: supernode.py
        FlowerPart(
            "flwr.supernode.cli.flower_supernode",
            "flower_supernode",
            (
                "objectstore_factory = ObjectStoreFactory()",
                "_start_supernode_http_api(config, state_factory)",
                "http_server.should_exit = True",
                "start_client_internal(",
            ),
        ),
        FlowerPart(
            "flwr.supernode.cli.flower_supernode",
            "_start_supernode_http_api",
            ("server = uvicorn.Server(", "uvicorn.Config(", "threading.Thread(target=server.run"),
            replaced=("uvicorn",),
        ),
        # It reads the node's key from the path that it is given, which may be memory: service.py
        FlowerPart(
            "flwr.supernode.cli.flower_supernode",
            "_try_setup_client_authentication",
            ("Path(args.auth_supernode_private_key).expanduser().read_bytes()",),
        ),
        FlowerPart("flwr.common.config", "get_fused_config_from_fab"),
        FlowerPart(
            "flwr.supernode.start_client_internal",
            "start_client_internal",
            (
                "time.sleep(3)",
                "run_id = _pull_and_store_message(\n",
                "_push_messages(\n",
                "register_signal_handlers(\n",
            ),
            replaced=(
                "time",
                "_pull_and_store_message",
                "_push_messages",
                "register_signal_handlers",
            ),
        ),
        FlowerPart(
            "flwr.supernode.start_client_internal",
            "_push_messages",
            (
                "time.sleep(0.5)",
                "reply_messages := state.get_messages_legacy(is_reply=True)",
                "for message in reply_messages:",
                "object_tree = object_store.get_object_tree(message.metadata.message_id)",
                "content := object_store.get(tree.object_id)",
                "send(message, object_tree, clientapp_runtime)",
                "yield_object_contents(object_tree, ids_obj_to_send)",
            ),
        ),
        FlowerPart(
            "flwr.supernode.start_client_internal",
            "_pull_and_store_message",
            (
                "get_fused_config_from_fab(fab.content, run_info)",
                "(recv := receive()) is None",
                "message, object_tree = recv",
                "state.store_message(message)",
            ),
            replaced=("get_fused_config_from_fab",),
        ),
        # What the SuperNode sends: last_check.py
        FlowerPart("flwr.proto.message_pb2", "ObjectTree"),
        FlowerPart(
            "flwr.supercore.inflatable.inflatable_object",
            "get_object_children_ids_from_object_content",
        ),
        FlowerPart(
            "flwr.supercore.inflatable.inflatable_object",
            "get_object_id",
            ("return hashlib.sha256(object_content).hexdigest()",),
        ),
        FlowerPart(
            "flwr.supercore.object_store.object_store_factory",
            "ObjectStoreFactory",
            ("self.store_instance = InMemoryObjectStore()",),
        ),
        FlowerPart(
            "flwr.supercore.object_store.in_memory_object_store",
            "InMemoryObjectStore",
            (
                "verify: bool = True",
                "if object_id != object_id_from_content:",
                "if obj_id not in self.store:",
                "self.store[child_id].ref_count += 1",
                "if object_entry.ref_count == 0:",
            ),
        ),
        FlowerPart(
            "flwr.app.message.message",
            "Message",
            (
                "return {self.content.object_id: self.content} if self.has_content() else None",
                "reply_to_message_id=reply_to.metadata.message_id",
                "message_type=reply_to.metadata.message_type",
            ),
        ),
        # The process that works on a message: client_process.py
        FlowerPart(
            "flwr.supernode.runtime.run_clientapp",
            "run_clientapp",
            (
                "    runtime_api_address: str",
                "    token: str",
                "    insecure: bool",
                "    parent_pid: int",
                "    runtime_dependency_install: bool",
                "install_from_fab(fab.content, skip_prompt=True)",
                "push_message(client, reply_message, context)",
                "push_task_output(\n            client=client,",
            ),
            replaced=("install_from_fab", "push_message", "push_task_output"),
        ),
        # Parts that fedrad does not call, but on whose behaviour it relies
        FlowerPart(
            "flwr.app.metadata", "Metadata", ('return cast(str, self.__dict__["_message_id"])',)
        ),
        FlowerPart(
            "flwr.superlink.routers.fleet.node_auth",
            "authenticate_node",
            (
                "not -SYSTEM_TIME_TOLERANCE\n            < age\n"
                "            < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE",
            ),
        ),
        FlowerPart(
            "flwr.superlink.servicer.fleet.fleet_handlers",
            "push_messages",
            ("message_from_proto(message_proto=request.messages_list[0])",),
        ),
        FlowerPart(
            "flwr.server.superlink.linkstate.sql_linkstate",
            "SqlLinkState",
            ('int64_to_uint64(msg_ins["dst_node_id"]) != res_metadata.src_node_id',),
        ),
    )
}


class FlowerMovedError(UserError):
    """A part of Flower has moved, or has changed where fedrad relies on it."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"flwr {importlib.metadata.version('flwr')}: {what}. fedrad was tested with flwr "
            f"{TESTED}: install the versions of its lock file (`pip install "
            "--require-hashes --no-deps -r requirements.lock`)"
        )


def __getattr__(name: str) -> Any:
    """A part of the table by its name. Raises FlowerMovedError."""
    if name not in PARTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(PARTS[name])


def load(part: FlowerPart) -> Any:
    """A part of Flower, whose source has the lines that are relied on. Raises FlowerMovedError."""
    check_source(part)
    for used in part.replaced:
        _attribute(part.module, used)
    return _attribute(part.module, part.name)


def replace(name: str, used: str, new: object) -> Any:
    """Replace a name that a part of Flower uses.

    Parameters
    ----------
    name
        Name of the part in the table.
    used
        The name that it looks up in its module, one of the part's `replaced`.
    new
        The new value.

    Returns
    -------
    Any
        The value before.

    Raises
    ------
    FlowerMovedError
        If the part does not use that name as fedrad expects.
    """
    part = PARTS[name]
    assert used in part.replaced
    check_source(part)
    if used in PARTS:
        check_source(PARTS[used])
    before = _attribute(part.module, used)
    setattr(importlib.import_module(part.module), used, new)
    return before


def check_source(part: FlowerPart) -> None:
    """Raise FlowerMovedError if the source of a part lacks lines that fedrad relies on. Flower is
    not imported."""
    if not part.lines:
        return
    source = _definitions(part.module).get(part.name)
    if source is None:
        raise FlowerMovedError(f"{part.module} has no {part.name}")
    for line in part.lines:
        if line not in source:
            raise FlowerMovedError(f"{part.module}.{part.name} has no line {line!r}")


def _attribute(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise FlowerMovedError(f"{module} cannot be imported ({error})") from error
    except AttributeError as error:
        raise FlowerMovedError(f"{module} has no {name}") from error


@cache
def _definitions(module: str) -> dict[str, str]:
    """Source of each function and class of a module of Flower; empty if there is no such module."""
    flower = importlib.util.find_spec("flwr")
    if flower is None or flower.origin is None:
        return {}
    file = Path(flower.origin).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    if not file.is_file():
        return {}
    text = file.read_text(encoding="utf-8")
    return {
        node.name: ast.get_source_segment(text, node) or ""
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
