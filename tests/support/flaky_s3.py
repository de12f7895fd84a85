"""An S3 server that fails a share of its requests, on purpose and by a seed."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

BUCKET = "archive"
_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>injected</Message></Error>"
KINDS = ("500 InternalError", "503 SlowDown", "stall")


class FlakyS3:
    """WSGI application: moto's S3 in which a share of requests fails.

    Args:
        share: Of requests that fail, 0..1; may be changed while it runs.
        kinds: How; one is drawn for each.
        stall_s: How long a stalled request waits before it fails.
    """

    def __init__(
        self, *, share: float, kinds: tuple[str, ...] = KINDS, stall_s: float = 30.0, seed: int = 0
    ) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app  # a second to import

        self.share = share
        self.injected: Counter[str] = Counter()
        self.requests: list[tuple[str, str]] = []
        """Method and path of each request."""
        self._kinds, self._stall_s = kinds, stall_s
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            kind = self._random.choice(self._kinds) if self._random.random() < self.share else None
            self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
            if kind:
                self.injected[kind] += 1
        if kind is None:
            return self._moto(environ, start_response)
        if kind == "stall":
            time.sleep(self._stall_s)
            kind = "503 SlowDown"
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(kind, [("Content-Type", "application/xml")])
        body = _ERROR.format(kind.split()[1]).encode()
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


@contextmanager
def serving(app: FlakyS3) -> Iterator[str]:
    """Serve ``app`` with an empty bucket; yields a URI with ``{}`` where a key goes."""
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        host = f"127.0.0.1:{server.server_port}"
        share, app.share = app.share, 0.0
        client(f"http://{host}").create_bucket(Bucket=BUCKET)
        app.requests.clear()
        app.share = share
        yield f"s3://{BUCKET}/{{}}?endpoint_override={host}&scheme=http&region=us-east-1"
    finally:
        server.shutdown()
        thread.join()


def client(endpoint: str) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
