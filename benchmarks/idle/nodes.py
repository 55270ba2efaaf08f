"""Many idle sites in one process, with a thread each. `benchmarks/rounds.py memory` measures the
coordinator, so the number of processes of its sites does not matter.

    python benchmarks/idle/nodes.py SOCKET COUNT SHA256_OF_THE_BASE
"""

import sys
import threading
import time
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import (
    inflate_object_from_contents,
    pull_objects,
    push_object_contents_from_iterable,
)
from flwr.supernode.fleet_http_connection import http_request_response

from fedrad.flower.local_socket import LOCAL, use_socket

sys.path.insert(0, str(Path(__file__).parent))
import idle_app

AT_WORK = threading.Semaphore(2)
"""So many sites hold a model at a time."""


def main() -> None:
    """Run COUNT sites until killed."""
    socket, count, digest = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    use_socket(socket)
    for number in range(count):
        config = {"name": f"s{number:02}", "base": digest}
        threading.Thread(target=site, args=(config,), daemon=True).start()
    while True:
        time.sleep(60)


def site(config: dict[str, str]) -> None:
    """One site: pulls a message, answers it, pulls the next."""
    with http_request_response(LOCAL, insecure=True) as connection:
        node, receive, send, _, _, pull_object, push_object, confirm = connection
        while True:
            came = receive()
            if came is None:
                time.sleep(1)
                continue
            bare, tree = came
            run, about = bare.metadata.run_id, bare.metadata
            with AT_WORK:
                wanted = [leaf.object_id for leaf in iterate_object_tree(tree)]
                held = pull_objects(wanted, lambda name: pull_object(run, name))  # noqa: B023
                message = inflate_object_from_contents(about.message_id, held)
                confirm(run, about.message_id)
                assert isinstance(message, Message)
                message.metadata.__dict__["_message_id"] = about.message_id
                context = Context(
                    run_id=run,
                    node_id=node,
                    node_config=dict(config),
                    state=RecordDict(),
                    run_config={},
                )
                reply = idle_app.app(message, context)
                reply.metadata.__dict__["_message_id"] = reply.object_id
                parts = {
                    name: part.deflate() for name, part in get_all_nested_objects(reply).items()
                }
                asked, session = send(reply, get_object_tree(reply), 0.0)
                push_object_contents_from_iterable(
                    ((name, parts[name]) for name in asked),
                    lambda name, content: push_object(run, session, name, content),  # noqa: B023
                )


if __name__ == "__main__":
    main()
