"""A Unix socket instead of a loopback port: open to this user, and to nobody else."""

import os
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fedrad.flower.local_socket import SocketError, listen_at

CLIENT = """
    import sys, threading, uvicorn
    from pathlib import Path
    from fedrad.flower.local_socket import LOCAL, listen_at, use_socket
    from fedrad.flower.internals import RuntimeHttpClient, AcquireTaskRequest

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 418, "headers": []})
            await send({"type": "http.response.body", "body": scope["path"].encode()})

    path = Path(sys.argv[1])
    listener = listen_at(path)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    while not server.started:
        pass
    use_socket(path)
    client = RuntimeHttpClient.from_server_address(LOCAL, True, None, [])
    try:
        client.AcquireTask(AcquireTaskRequest())
    except Exception as error:
        print(error.response.status_code, error.response.text)
"""


def private_folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True)
    return path


@pytest.mark.parametrize(
    ("name", "proxy"),
    [
        ("short", {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}),
        ("long-" * 40, {"ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "[::1],fd00::/8"}),
        ("no URL", {"http_proxy": "http://proxy:port"}),
    ],
)
def test_flowers_client_reaches_a_server_over_the_socket_whatever_its_path_and_proxy(
    tmp_path, name, proxy
):
    path = private_folder(tmp_path / name) / "runtime.sock"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CLIENT), str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **proxy},
    )
    assert done.stdout.strip() == "418 /v1/runtime/acquire-task", done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_others_can_enter_is_refused_with_the_command_that_mends_it(tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(SocketError, match=rf"chmod 700 {tmp_path}"):
        listen_at(tmp_path / "runtime.sock")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no file system without sockets")
def test_a_file_system_without_sockets_is_named():
    with pytest.raises(SocketError, match=r"other users|no socket can be made there"):
        listen_at(Path("/sys/kernel/runtime.sock"))


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("runuser"), reason="needs root")
def test_another_user_of_the_machine_cannot_connect(tmp_path):
    path = private_folder(tmp_path / "state") / "runtime.sock"
    with listen_at(path) as listener:
        listener.listen()
        for folder in (path.parent, *path.parent.parents):  # even if the folders were open
            if folder.stat().st_uid == os.getuid() and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o055)
        reach = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
        tried = subprocess.run(
            ["runuser", "-u", "nobody", "--", "/usr/bin/python3", "-c", reach],
            check=False,
            capture_output=True,
            text=True,
        )
    assert "PermissionError" in tried.stderr
