"""OpenAI's API of embeddings over a real model of sentences, out of a wheel; `python embeddings.py PORT MODEL`.

The wheel is that of the package wordllama, whose weights are a vector for each token; a text's embedding is their mean,
of length one. It is strict: what the API does not know is answered with status 400.
"""

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

SIZE = 256
NAME = sys.argv[2]
FOLDER = Path(find_spec("wordllama").origin).parent
KEY = "sesame-open-1234"


class Embedder:
    """The model: `embed` takes texts and gives an array, a row each."""

    def __init__(self):
        (self.vectors,) = load_file(FOLDER / "weights" / "l2_supercat_256.safetensors").values()
        self.tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizers" / "l2_supercat_tokenizer_config.json"))
        self.tokenizer.no_padding()

    def embed(self, texts):
        """Vectors of length one, as float32."""
        tokens = [encoded.ids for encoded in self.tokenizer.encode_batch(texts, add_special_tokens=False)]
        means = np.stack([self.vectors[ids].astype(np.float32).mean(axis=0) for ids in tokens])
        return means / np.linalg.norm(means, axis=1, keepdims=True), sum(map(len, tokens))


class Handler(BaseHTTPRequestHandler):
    """The two addresses of the API."""

    protocol_version = "HTTP/1.1"
    model = Embedder()

    def do_GET(self):
        """GET /v1/models/NAME."""
        known = self.path == f"/v1/models/{NAME}"
        self.answer(
            {"id": NAME, "object": "model"} if known else refusal("model_not_found"), 200 if known else 404
        )

    def do_POST(self):
        """POST /v1/embeddings."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            return self.answer(refusal("invalid_api_key"), 401)
        if problem := self.problem(body):
            return self.answer(refusal("invalid_request", problem), 400)
        vectors, tokens = self.model.embed(body["input"])
        vectors = vectors[:, : body.get("dimensions", SIZE)]
        shown = self.packed if body.get("encoding_format") == "base64" else np.ndarray.tolist
        data = [
            {"object": "embedding", "index": index, "embedding": shown(vector)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return self.answer({"object": "list", "data": data, "model": NAME, "usage": usage})

    def problem(self, body):
        """What the API would not take."""
        if self.path != "/v1/embeddings" or self.headers["Content-Type"] != "application/json":
            return "there is no such thing"
        if unknown := set(body) - {"model", "input", "encoding_format", "dimensions"}:
            return f"unknown parameters {unknown}"
        if body.get("model") != NAME or not isinstance(body.get("input"), list) or len(body["input"]) > 2048:
            return "no such model, or no list of at most 2,048 texts"
        if not all(isinstance(text, str) and text for text in body["input"]):
            return "an input is empty, or no text"
        return None

    def packed(self, vector):
        """Floats of four bytes, in base64."""
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()

    def answer(self, document, status=200):
        """Send a document."""
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Say nothing."""


def refusal(code, message="see code"):
    """An error as the API has it."""
    return {"error": {"code": code, "type": "invalid_request_error", "message": message}}


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
