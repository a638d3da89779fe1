"""A door before the schema registry: asks for credentials, speaks TLS, is slow, or shut, as a test wants; counts what is asked."""

import base64
import http.server
import ssl
import threading
import time
import urllib.error
import urllib.request


class Door:
    """Passes requests on to `registry` (a URL)."""

    def __init__(self, registry, *, user=None, token=None, tls=None, delay=0):
        self.registry, self.asked, self.delay, self.port = registry, [], delay, 0
        self.wanted = f"Basic {base64.b64encode(':'.join(user).encode()).decode()}" if user else f"Bearer {token}" if token else None
        self.tls = tls
        self.open()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shut()

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://localhost:{self.port}"

    def open(self):
        """Lets people in, at the same port as before."""
        door = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_any(self):
                door.pass_on(self)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

        http.server.ThreadingHTTPServer.allow_reuse_address = True
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def shut(self):
        """Refuses connections."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def pass_on(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0)) or None
        self.asked.append(f"{request.command} {request.path}")
        time.sleep(self.delay)
        if self.wanted and request.headers.get("Authorization") != self.wanted:
            status, answer = 401, b'{"error_code": 40101, "message": "Unauthorized"}'
        else:
            status, answer = self.ask(request, body)
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(answer)))
        request.send_header("Connection", "close")
        request.end_headers()
        request.wfile.write(answer)
        request.close_connection = True

    def ask(self, request, body):
        headers = {name: request.headers[name] for name in ("Accept", "Content-Type") if request.headers[name]}
        asked = urllib.request.Request(self.registry + request.path, body, headers, method=request.command)
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
