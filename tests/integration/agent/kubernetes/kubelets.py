"""A kubelet: its pod-resources API over real gRPC, its list of pods over real HTTPS."""

import socket
import ssl
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc

from proto.podresources.v1 import podresources_pb2 as pb
from proto.podresources.v1 import podresources_pb2_grpc as service

TOKEN = "eyJhbGciOiJSUzI1NiJ9.secret"


class Resources(service.PodResourcesListerServicer):
    """Answers as it is told to; `fails` aborts the method of that name with that status."""

    def __init__(self) -> None:
        self.listed = pb.ListPodResourcesResponse()
        self.allocatable = pb.AllocatableResourcesResponse()
        self.fails: dict[str, tuple[grpc.StatusCode, str]] = {}
        self.hangs = threading.Event()  # set = does not answer
        self.requests: list[object] = []

    def List(  # noqa: N802  the interface's name
        self, request: pb.ListPodResourcesRequest, context: grpc.ServicerContext
    ) -> pb.ListPodResourcesResponse:
        self.requests.append(request)
        self._answer("List", context)
        return self.listed

    def GetAllocatableResources(  # noqa: N802  the interface's name
        self, request: pb.AllocatableResourcesRequest, context: grpc.ServicerContext
    ) -> pb.AllocatableResourcesResponse:
        self.requests.append(request)
        self._answer("GetAllocatableResources", context)
        return self.allocatable

    def _answer(self, method: str, context: grpc.ServicerContext) -> None:
        if self.hangs.is_set():
            ended = threading.Event()
            context.add_callback(ended.set)
            ended.wait(30)
        if method in self.fails:
            context.abort(*self.fails[method])

    def holds(self, name: str, *ids: str, resource: str = "nvidia.com/gpu") -> None:
        """The pod `team/name` holds these."""
        devices = [pb.ContainerDevices(resource_name=resource, device_ids=ids)] if ids else []
        container = pb.ContainerResources(name="main", devices=devices)
        self.listed.pod_resources.add(name=name, namespace="team", containers=[container])


@contextmanager
def serve_resources(path: Path, resources: Resources) -> Generator[None]:
    """Serve on a Unix socket as the kubelet does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    server = grpc.server(
        ThreadPoolExecutor(max_workers=4), options=[("grpc.max_send_message_length", -1)]
    )
    add: Callable[[Resources, grpc.Server], None] = service.add_PodResourcesListerServicer_to_server  # pyright: ignore[reportUnknownVariableType]
    add(resources, server)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()
        path.unlink(missing_ok=True)


class Answer:
    """What the HTTPS side says: `respond` replaces everything else."""

    def __init__(self) -> None:
        self.body = b'{"kind":"PodList","items":[]}'
        self.status = 200
        self.token: str | None = TOKEN
        self.needs_certificate = False
        self.respond: Callable[[Handler], None] | None = None
        self.requests: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    """One request; the server holds the answer."""

    protocol_version = "HTTP/1.1"
    answer: Answer

    def do_GET(self) -> None:
        """Check the token, then answer."""
        said = self.headers.get("Authorization")
        self.answer.requests.append((self.path, said))
        if self.answer.respond is not None:
            self.answer.respond(self)
        elif self.answer.token is not None and said != f"Bearer {self.answer.token}":
            self.reply(401, b"Unauthorized")
        else:
            self.reply(self.answer.status, self.answer.body)

    def reply(self, status: int, body: bytes) -> None:
        """A whole answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Answer, context: ssl.SSLContext) -> None:
        handler = type("BoundHandler", (Handler,), {"answer": answer})
        super().__init__(("127.0.0.1", 0), handler)
        self._context = context

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        connection.settimeout(30)
        return self._context.wrap_socket(connection, server_side=True), address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


@contextmanager
def serve_pods(
    answer: Answer, certificate: tuple[Path, Path], clients: Path | None = None
) -> Generator[str]:
    """Serve `/pods`; gives the URL. `clients`: who must have signed the client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    server = _Server(answer, context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
