"""The server of the page: who may call it, and with what."""

import functools
import http.client
import json
import signal
import subprocess
import sys
import threading

import pytest

from graftdet.models.editor.api import EditorApi
from graftdet.models.editor.edited_file import EditedFile
from graftdet.models.editor.server import MAX_BODY, TOKEN_HEADER, EditorServer
from graftdet.models.lint.rule import EXAMPLE_MODEL
from graftdet.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("restore_registry")  # a plugin leaves all rows to torch


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "model.yaml"
    file.write_text(EXAMPLE_MODEL)
    return file


@pytest.fixture
def server(path):
    server = EditorServer(EditorApi(EditedFile(str(path))))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def request(server, target, body=None, method="POST", **headers):
    """Status, headers and content of the answer; headers of the page unless `headers` gives others (None: without)."""
    usual = {
        "Host": f"127.0.0.1:{server.port}",
        "Origin": f"http://127.0.0.1:{server.port}",
        "Content-Type": "application/json",
        TOKEN_HEADER: server.token,
    }
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    data = json.dumps({} if body is None else body).encode() if not isinstance(body, bytes) else body
    connection.putrequest(method, target, skip_host=True)
    for name, value in {**usual, "Content-Length": str(len(data)), **given}.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(data)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    is_json = answer.getheader("Content-Type") == "application/json"
    return answer.status, answer.headers, json.loads(content) if is_json else content


def test_listens_on_this_machine_alone_and_the_token_is_no_part_of_requests(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url.endswith(f":{server.port}/#{server.token}") and len(server.token) >= 24
    other = EditorServer(server.api)
    assert other.token != server.token
    other.server_close()


def test_state_is_given_to_the_page(server, path):
    status, headers, state = request(server, "/api/state")
    assert status == 200 and state["text"] == EXAMPLE_MODEL and state["name"] == path.name
    assert "yolov5n.yaml" in state["models"]
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert request(server, "/api/state", Origin=None)[0] == 200  # a client that is no browser


@pytest.mark.parametrize("call", ["state", "modules", "check", "edit", "compare", "latency", "open", "save"])
@pytest.mark.parametrize("token", [None, "", "wrong", "\xe9"])
def test_every_call_needs_the_token(server, path, call, token):
    body = {"text": "nc: 1", "digest": server.api.file.digest()}
    status, _, answer = request(server, f"/api/{call}", body, **{TOKEN_HEADER: token})
    assert status == 403 and "token" in answer["error"]
    assert path.read_text() == EXAMPLE_MODEL


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_other_origins_are_refused(server, path, origin):
    body = {"text": "nc: 1", "digest": server.api.file.digest()}
    status, headers, _ = request(server, "/api/save", body, Origin=origin)
    assert status == 403 and path.read_text() == EXAMPLE_MODEL
    assert "Access-Control-Allow-Origin" not in headers
    assert request(server, "/", method="GET", Origin=origin)[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", None, "127.0.0.1", "127.0.0.1:1"])
def test_other_names_of_the_machine_are_refused(server, host):
    assert request(server, "/api/state", Host=host)[0] == 403
    assert request(server, "/", method="GET", Host=host)[0] == 403


def test_requests_of_other_sites_and_preflights_are_refused(server):
    assert request(server, "/api/state", Sec_Fetch_Site="cross-site")[0] == 403
    status, headers, _ = request(server, "/api/state", method="OPTIONS")
    assert status == 501 and "Access-Control-Allow-Origin" not in headers
    assert request(server, "/api/state", Content_Type="text/plain")[0] == 415


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Length": str(MAX_BODY + 1)}, 413),
        ({"Content_Length": None}, 411),
        ({"Content_Length": "-1"}, 411),
        ({"Transfer_Encoding": "chunked"}, 411),
    ],
)
def test_bodies_have_a_length_and_a_limit(server, headers, status):
    assert request(server, "/api/state", **headers)[0] == status


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_bodies_are_json_mappings(server, body):
    assert request(server, "/api/state", body)[0] == 400


@pytest.mark.parametrize("target", ["/../../graftdet/__init__.py", "/static/../api.py", "/server.py", "/editor.js/.."])
def test_only_the_files_of_the_page_are_served(server, target):
    assert request(server, target, method="GET")[0] == 404
    assert request(server, "/api/../api/state")[0] == 404
    assert request(server, "/state")[0] == 404


def test_page_has_a_policy_that_allows_no_other_source(server):
    status, headers, content = request(server, "/", method="GET")
    assert status == 200 and b"editor.js" in content and server.token.encode() not in content
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
    assert policy.split("'nonce-")[1].split("'")[0].encode() in content and b"STYLE-NONCE" not in content
    for target, kind in (("/editor.js", "text/javascript"), ("/editor.css", "text/css")):
        status, headers, content = request(server, target, method="GET")
        assert status == 200 and headers["Content-Type"].startswith(kind) and len(content) > 1000


@pytest.mark.parametrize("name", ["../../pyproject.toml", "/etc/passwd", "yolov5n", "..", "nul\0"])
def test_only_files_of_configs_models_are_opened(server, name):
    status, _, answer = request(server, "/api/open", {"name": name})
    assert status == 422 and "no such file" in answer["error"]
    assert request(server, "/api/open", {"name": "yolov5n.yaml"})[2]["text"].startswith("# YOLOv5n")
    assert request(server, "/api/open", {"name": ""})[2]["text"] == EXAMPLE_MODEL


def test_a_file_that_changed_on_disk_is_not_overwritten_unless_that_is_confirmed(server, path):
    digest = request(server, "/api/state")[2]["digest"]
    path.write_text("changed by somebody else")
    status, _, answer = request(server, "/api/save", {"text": "nc: 1\n", "digest": digest})
    assert status == 409 and answer["conflict"] and "changed on disk" in answer["error"]
    assert path.read_text() == "changed by somebody else"
    status, _, saved = request(server, "/api/save", {"text": "nc: 1\n", "digest": digest, "overwrite": True})
    assert status == 200 and path.read_text() == "nc: 1\n"
    assert request(server, "/api/save", {"text": "nc: 2\n", "digest": saved["digest"]})[0] == 200
    assert path.read_text() == "nc: 2\n" and sorted(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("check", {}),
        ("check", {"text": 5}),
        ("edit", {"text": EXAMPLE_MODEL}),
        ("edit", {"text": EXAMPLE_MODEL, "edit": {"kind": "train"}}),
        ("edit", {"text": EXAMPLE_MODEL, "edit": {"kind": "delete", "row": True}}),
        ("edit", {"text": "[", "edit": {"kind": "delete", "row": 1}}),
        ("compare", {"text": EXAMPLE_MODEL, "other": "../model.yaml"}),
        ("save", {"text": EXAMPLE_MODEL}),
    ],
)
def test_wrong_values_are_reported(server, call, body):
    status, _, answer = request(server, f"/api/{call}", body)
    assert status == 422 and answer["error"]


def test_a_port_in_use_is_reported(server):
    with pytest.raises(UserError, match=f"--port {server.port}: cannot be used"):
        EditorServer(server.api, server.port)


def test_command_prints_the_address_and_ends_on_interrupt(path):
    command = [sys.executable, "-m", "graftdet.models", "edit", str(path), "--no-open"]
    listen = functools.partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # ignored where tests run in the background
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    assert "Ctrl-C" in process.stdout.readline()
    line = process.stdout.readline()
    assert f"{path}: edit it at http://127.0.0.1:" in line
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.endswith("interrupted\n")
