"""All of Flower that is not its public interface, in one table: nothing else in fedrad names it.

Public are `flwr.app`, `flwr.clientapp` and `flwr.serverapp`. What fedrad uses besides them may move
in any release of Flower, so it is looked up here, at the moment somebody asks for it:

    from .internals import Run

imports the module of Flower that holds `Run`, or raises FlowerMovedError where it is not there any
more, or does not read as fedrad relies on.
"""

# ruff: noqa: PLC0414 (`import X as X` is how a type checker is told that others may import X)

import ast
import importlib
import importlib.metadata
import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fedrad.system.errors import UserError

if TYPE_CHECKING:  # types of the names below; a test holds the two lists together
    from flwr.cli.cli_client_interceptor import CliClientHttpInterceptor as CliClientHttpInterceptor
    from flwr.common.config import get_fused_config_from_fab as get_fused_config_from_fab
    from flwr.common.constant import SUPERLINK_NODE_ID as SUPERLINK_NODE_ID
    from flwr.common.constant import SYSTEM_TIME_TOLERANCE as SYSTEM_TIME_TOLERANCE
    from flwr.common.constant import TIMESTAMP_TOLERANCE as TIMESTAMP_TOLERANCE
    from flwr.common.constant import ErrorCode as ErrorCode
    from flwr.proto.control_pb2 import ListNodesRequest as ListNodesRequest
    from flwr.proto.control_pb2 import RegisterNodeRequest as RegisterNodeRequest
    from flwr.proto.control_pb2 import UnregisterNodeRequest as UnregisterNodeRequest
    from flwr.proto.runtime_pb2 import AcquireTaskRequest as AcquireTaskRequest
    from flwr.supercore.app_utils import (
        start_parent_process_monitor as start_parent_process_monitor,
    )
    from flwr.supercore.constant import FLEET_HTTP_SIGNATURE_HEADER as FLEET_HTTP_SIGNATURE_HEADER
    from flwr.supercore.constant import TaskType as TaskType
    from flwr.supercore.control import ControlHttpClient as ControlHttpClient
    from flwr.supercore.http_logging import get_uvicorn_log_config as get_uvicorn_log_config
    from flwr.supercore.interceptors import (
        RuntimeVersionHttpInterceptor as RuntimeVersionHttpInterceptor,
    )
    from flwr.supercore.logger import console_handler as console_handler
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes as public_key_to_bytes
    from flwr.supercore.retry import (
        make_simple_http_retry_invoker as make_simple_http_retry_invoker,
    )
    from flwr.supercore.run import Run as Run
    from flwr.supercore.runtime import RuntimeHttpClient as RuntimeHttpClient
    from flwr.supercore.runtime.tracing import (
        RuntimeTracingInterceptor as RuntimeTracingInterceptor,
    )
    from flwr.supercore.task_identity import TaskIdentity as TaskIdentity
    from flwr.superlink.cli.flower_superlink import SuperLinkLifespan as SuperLinkLifespan
    from flwr.superlink.cli.flower_superlink import flower_superlink as flower_superlink
    from flwr.superlink.config_loader import SuperLinkLifespanConfig as SuperLinkLifespanConfig
    from flwr.superlink.main import create_app as create_app
    from flwr.supernode.cli.flower_supernode import flower_supernode as flower_supernode
    from flwr.supernode.runtime.run_clientapp import run_clientapp as run_clientapp

TESTED = "1.41"
"""The version of Flower that all of this was tested with; pyproject.toml pins the same."""


class Part(NamedTuple):
    """A part of Flower that fedrad relies on.

    Parameters
    ----------
    module
        Where it is.
    name
        Its name there.
    lines
        Pieces of its source on which fedrad relies: the calls in which something is replaced, the
        parameters that are given, the line that prints a message. Of functions and classes only.
    replaced
        Names that it looks up in its module, and in whose place fedrad puts something (`replace`).
    """

    module: str
    name: str
    lines: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


PARTS = {
    part.name: part
    for part in (
        # Times and signatures of a node's requests: signatures.py
        Part("flwr.common.constant", "SYSTEM_TIME_TOLERANCE"),
        Part("flwr.common.constant", "TIMESTAMP_TOLERANCE"),
        Part("flwr.supercore.constant", "FLEET_HTTP_SIGNATURE_HEADER"),
        # A grid within one process: grid.py
        Part("flwr.common.constant", "SUPERLINK_NODE_ID"),
        Part("flwr.common.constant", "ErrorCode"),
        Part("flwr.supercore.run", "Run", ("def create_empty(",)),
        Part("flwr.supercore.task_identity", "TaskIdentity", ("run_id:", "node_id:", "task_id:")),
        # The SuperLink's own control interface: control.py
        Part("flwr.cli.cli_client_interceptor", "CliClientHttpInterceptor"),
        Part("flwr.proto.control_pb2", "ListNodesRequest"),
        Part("flwr.proto.control_pb2", "RegisterNodeRequest"),
        Part("flwr.proto.control_pb2", "UnregisterNodeRequest"),
        Part("flwr.supercore.control", "ControlHttpClient"),
        Part("flwr.supercore.interceptors", "RuntimeVersionHttpInterceptor"),
        Part("flwr.supercore.primitives.asymmetric", "public_key_to_bytes"),
        # The SuperLink, with a second listener: superlink.py
        Part(
            "flwr.superlink.cli.flower_superlink",
            "flower_superlink",
            ("_run_superlink_http_api(lifespan_config=config)",),
            replaced=("_run_superlink_http_api",),
        ),
        Part("flwr.superlink.cli.flower_superlink", "_run_superlink_http_api", ("uvicorn.run(",)),
        Part("flwr.superlink.cli.flower_superlink", "SuperLinkLifespan"),
        Part(
            "flwr.superlink.config_loader",
            "SuperLinkLifespanConfig",
            ("    host:", "    port:", "    ssl_certfile:", "    ssl_keyfile:"),
        ),
        Part("flwr.superlink.main", "create_app"),
        Part("flwr.supercore.http_logging", "get_uvicorn_log_config"),
        Part("flwr.supercore.logger", "console_handler"),
        # The SuperNode: supernode.py
        Part(
            "flwr.supernode.cli.flower_supernode", "flower_supernode", ("start_client_internal(",)
        ),
        Part("flwr.supercore.app_utils", "start_parent_process_monitor"),
        Part("flwr.common.config", "get_fused_config_from_fab"),
        Part(
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
        Part("flwr.supernode.start_client_internal", "_push_messages", ("time.sleep(0.5)",)),
        Part(
            "flwr.supernode.start_client_internal",
            "_pull_and_store_message",
            ("get_fused_config_from_fab(fab.content, run_info)",),
            replaced=("get_fused_config_from_fab",),
        ),
        # The process that works on a message: client_process.py
        Part(
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
        Part("flwr.proto.runtime_pb2", "AcquireTaskRequest"),
        Part("flwr.supercore.constant", "TaskType"),
        Part("flwr.supercore.retry", "make_simple_http_retry_invoker"),
        Part("flwr.supercore.runtime", "RuntimeHttpClient"),
        Part("flwr.supercore.runtime.tracing", "RuntimeTracingInterceptor"),
        # Of which fedrad relies on what they do, and does not call them
        Part("flwr.app.metadata", "Metadata", ('return cast(str, self.__dict__["_message_id"])',)),
        Part(
            "flwr.superlink.routers.fleet.node_auth",
            "authenticate_node",
            (
                "not -SYSTEM_TIME_TOLERANCE\n            < age\n"
                "            < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE",
            ),
        ),
    )
}


class FlowerMovedError(UserError):
    """A part of Flower is not where, or not what, fedrad relies on."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"flwr {importlib.metadata.version('flwr')}: {what}. fedrad was tested with flwr "
            f"{TESTED}: install fedrad with its constraints (`pip install --constraint "
            "constraints.txt`)"
        )


def __getattr__(name: str) -> Any:
    """A part of the table by its name. Raises FlowerMovedError."""
    if name not in PARTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    part = PARTS[name]
    check_source(part)
    for used in part.replaced:
        _held(part.module, used)
    return _held(part.module, part.name)


def replace(name: str, used: str, new: object) -> Any:
    """Have a part of Flower use something of ours in the place of its own.

    Parameters
    ----------
    name
        The part, in the table.
    used
        The name that it looks up in its module, one of the part's `replaced`.
    new
        What it is to find there.

    Returns
    -------
    What it found there before.

    Raises
    ------
    FlowerMovedError
        Where the part does not use that name as fedrad relies on.
    """
    part = PARTS[name]
    assert used in part.replaced
    check_source(part)
    if used in PARTS:
        check_source(PARTS[used])
    before = _held(part.module, used)
    setattr(importlib.import_module(part.module), used, new)
    return before


def check_source(part: Part) -> None:
    """Raise FlowerMovedError where the source of a part has not the lines that fedrad relies on.
    Imports nothing of Flower."""
    if not part.lines:
        return
    source = _definitions(part.module).get(part.name)
    if source is None:
        raise FlowerMovedError(f"{part.module} has no {part.name}")
    for line in part.lines:
        if line not in source:
            raise FlowerMovedError(f"{part.module}.{part.name} has no line {line!r}")


def _held(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise FlowerMovedError(f"{module} cannot be imported ({error})") from error
    except AttributeError as error:
        raise FlowerMovedError(f"{module} has no {name}") from error


@cache
def _definitions(module: str) -> dict[str, str]:
    """Source of each function and class of a module of Flower; none where there is no module."""
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
